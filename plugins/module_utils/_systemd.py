# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""One systemd unit: its state, its restart, its last words."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from typing import Any, Callable, NamedTuple

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import UpgradeFailed

# (arguments, seconds it may take) -> (exit status, what it printed). Raises subprocess.TimeoutExpired.
Run = Callable[[Sequence[str], float], "tuple[int, str]"]

_QUICK = 30.0
_JOURNAL_LINES = 15
_LINE_LENGTH = 300


def run_command(argv: Sequence[str], limit: float) -> tuple[int, str]:
    """Runs a program without a shell."""
    environment = {**os.environ, "LC_ALL": "C", "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": ""}
    try:
        done = subprocess.run(  # pylint: disable=ansible-bad-function  # also runs where there is no module
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=limit,
            env=environment,
            check=False,
        )
    except OSError as error:
        raise UpgradeFailed(
            f"{argv[0]} cannot be run: {error.strerror or error}.",
            "This host needs systemd for a unit to be restarted; leave the unit out otherwise.",
        ) from error
    return done.returncode, done.stdout.decode("utf-8", "replace")


class Unit(NamedTuple):
    """What systemd knows of a unit."""

    name: str
    load: str
    state: str
    sub: str
    result: str
    restarts: int  # by systemd itself, after crashes

    @property
    def active(self) -> bool:
        return self.state in ("active", "reloading", "refreshing")

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "active": self.active, "state": f"{self.state} ({self.sub})", "load": self.load}


def unit_state(name: str, run: Run) -> Unit:
    """The unit's state now; an unknown unit is a state too (``load`` is ``not-found``)."""
    argv = ["systemctl", "show", "--property=LoadState,ActiveState,SubState,Result,NRestarts", "--", name]
    try:
        status, said = run(argv, _QUICK)
    except subprocess.TimeoutExpired as error:
        raise UpgradeFailed(f"systemd does not say how unit {name} is within {_QUICK:g} s.") from error
    facts = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    if status or "ActiveState" not in facts:
        raise UpgradeFailed(f"systemd does not say how unit {name} is: {_last_line(said)}")
    return Unit(
        name,
        facts.get("LoadState", "unknown"),
        facts["ActiveState"],
        facts.get("SubState", "unknown"),
        facts.get("Result", "unknown"),
        int(facts["NRestarts"]) if facts.get("NRestarts", "").isdecimal() else 0,
    )


def environment_files(name: str, run: Run) -> list[str]:
    """The files from which a unit's environment comes, whether they are there or not."""
    argv = ["systemctl", "show", "--property=EnvironmentFiles", "--", name]
    try:
        _status, said = run(argv, _QUICK)
    except subprocess.TimeoutExpired as error:
        raise UpgradeFailed(f"systemd does not say how unit {name} is within {_QUICK:g} s.") from error
    files = [line.partition("=")[2] for line in said.splitlines() if line.startswith("EnvironmentFiles=")]
    return [each.rpartition(" (ignore_errors=")[0] or each for each in files if each]


def require_unit(name: str, run: Run) -> Unit:
    """The state of a unit that can be started; raises ``UpgradeFailed``."""
    unit = unit_state(name, run)
    if unit.load != "loaded":
        raise UpgradeFailed(
            f"Unit {name} cannot be started: systemd says {unit.load}.",
            "Install the unit's file on this host and run 'systemctl daemon-reload', or correct the unit's name.",
            unit=unit.to_dict(),
        )
    return unit


def restart(unit: Unit, limit: float, run: Run) -> Unit:
    """Restarts the unit and returns its state; raises ``UpgradeFailed`` with its last journal lines.

    systemd refuses to start what was started too often, and by that the very
    restart that repairs a crashing unit. It does not always say that this was
    the reason, so the count is cleared first where the unit has crashed.
    """
    since = time.time()
    if not unit.active or unit.restarts:
        _forget_failures(unit.name, run)
    status, said, after = _restart(unit.name, limit, run, since)
    if after.result == "start-limit-hit":
        _forget_failures(unit.name, run)
        status, said, after = _restart(unit.name, limit, run, since)
    if status:
        raise _failed(unit.name, _last_line(said), since, run, after)
    if not after.active:
        raise _failed(unit.name, "it ended right after its start", since, run, after)
    return after


def stop(name: str, limit: float, run: Run, check: bool) -> dict[str, Any]:
    """Stops the unit where it runs; raises ``UpgradeFailed``."""
    before = unit_state(name, run)
    if check or not before.active:
        return {"changed": before.active}
    try:
        status, said = run(["systemctl", "--no-ask-password", "stop", "--", name], limit)
    except subprocess.TimeoutExpired:
        raise UpgradeFailed(f"Unit {name} did not stop within {limit:g} s.") from None
    if status:
        raise UpgradeFailed(f"Unit {name} did not stop: {_last_line(said)}.")
    return {"changed": True}


def _forget_failures(name: str, run: Run) -> None:
    _quietly(["systemctl", "reset-failed", "--", name], run)


def _restart(name: str, limit: float, run: Run, since: float) -> tuple[int, str, Unit]:
    try:
        status, said = run(["systemctl", "--no-ask-password", "restart", "--", name], limit)
    except subprocess.TimeoutExpired:
        why = f"'systemctl restart' did not come back within {limit:g} s"
        raise _failed(name, why, since, run, unit_state(name, run)) from None
    return status, said, unit_state(name, run)


def unit_failed(name: str, why: str, since: float, run: Run) -> UpgradeFailed:
    """The error of a unit that did not come up, with its last words; ``since`` is when it was started."""
    return _failed(name, why, since, run, unit_state(name, run))


def _failed(name: str, why: str, since: float, run: Run, unit: Unit) -> UpgradeFailed:
    argv = ["journalctl", f"--unit={name}", f"--since=@{int(since)}", f"--lines={_JOURNAL_LINES}"]
    said = _quietly([*argv, "--no-pager", "--output=cat", "--quiet"], run)
    lines = [line[:_LINE_LENGTH] for line in said.splitlines() if line.strip()][-_JOURNAL_LINES:]
    return UpgradeFailed(
        f"Unit {name} did not restart: {why.rstrip('.')}. It is {unit.state} ({unit.sub}), result {unit.result}.",
        f"See 'journalctl --unit={name}' on this host.",
        unit=unit.to_dict(),
        journal=lines,
    )


def _quietly(argv: Sequence[str], run: Run) -> str:
    """For what helps but must not be the reason of a failure."""
    try:
        return run(argv, _QUICK)[1]
    except (subprocess.TimeoutExpired, UpgradeFailed):
        return ""


def _last_line(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    # systemctl ends with advice ("See ... for details"); the reason stands before it.
    reasons = [line for line in lines if not line.startswith(("See ", "Run "))]
    return (reasons or lines or ["it said nothing"])[-1][:_LINE_LENGTH]
