# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The dead man's switch of a run on one balancer: a timer of systemd's, armed before any member is held out.

It starts a program that lies on this host whole, so that it needs nobody. What
that does is in ``_switch_fire.py``. The lease's renewals are the signs of life
that keep it from doing anything.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils import _params
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput, RolloutError
from ansible_collections.zerodrop.rollout.plugins.module_utils._files import replace
from ansible_collections.zerodrop.rollout.plugins.module_utils._ledger import Ledger
from ansible_collections.zerodrop.rollout.plugins.module_utils._names import service as checked_service
from ansible_collections.zerodrop.rollout.plugins.module_utils._systemd import Run, run_command

FLAG = "switch"  # in the ledger: what it did, for the next run to say

_LIMIT = 20.0
_BOOTED_WITH_SYSTEMD = "/run/systemd/system"
_DAY = 86400.0

# What the interpreter is started with: the program's file in the place of standard input, which it reads.
_START = (
    "import sys,zlib;sys.stdin=open(sys.argv[1]);i=sys.stdin.buffer;exec(zlib.decompress(i.read(int(i.readline()))))"
)


def lacking() -> str:
    """Why no switch can be armed on this host; empty when one can."""
    if not os.path.isdir(_BOOTED_WITH_SYSTEMD):
        return "it does not run systemd"
    if os.geteuid() != 0:
        return "this user may not set a timer of systemd's there (become is needed)"
    return ""


def unit(service: str, number: int) -> str:
    """The timer's name: of one lease, so that it cannot be taken for another's."""
    return f"zerodrop-switch-{checked_service(service)}-{int(number)}"


def arm(ledger: Ledger, number: int, holder: str, wanted: Mapping[str, Any], run: Run = run_command) -> str:
    """Arm it for a lease; why not, where it cannot be, and empty where it is. Raises ``BadInput``.

    ``wanted`` has ``program``, what starts ``switch_fire`` (in base64), and ``params``, what that is given beside the lease.
    """
    params = wanted.get("params")
    if not isinstance(params, Mapping):
        raise BadInput("The switch has no parameters.")
    after = _params.number(params, "after", 60.0, 1.0, _DAY)
    try:
        program = base64.b64decode(str(wanted["program"]), validate=True)
    except (KeyError, ValueError) as error:
        raise BadInput("The switch has no program.") from error
    reason = lacking()
    if reason:
        return reason
    request = {"operation": "switch_fire", "params": {**params, "number": number, "holder": holder}, "check": False}
    path = _path(ledger, number)
    _sweep(ledger, run)
    try:
        replace(path, program + json.dumps({**request, "sources": {}}).encode() + b"\n", mode=0o600)
    except OSError as error:
        return f"its program cannot be written: {error}"
    name = unit(os.path.basename(ledger.folder), number)
    command = ["systemd-run", "--quiet", "--collect", f"--unit={name}", f"--on-active={after:.3f}s"]
    command += ["--timer-property=AccuracySec=100ms", f"--description=Put back what a dead run left out ({name})"]
    return _said([*command, "--", sys.executable, "-I", "-S", "-c", _START, path], run)


def disarm(ledger: Ledger, number: int, run: Run = run_command) -> None:
    """The run has ended: nothing of its switch is left. What cannot be stopped sees by itself that it is over."""
    path = _path(ledger, number)
    if os.path.exists(path):
        name = unit(os.path.basename(ledger.folder), number)
        _said(["systemctl", "stop", "--no-block", "--", f"{name}.timer", f"{name}.service"], run)
        with suppress(OSError):
            os.unlink(path)


def _path(ledger: Ledger, number: int) -> str:
    return os.path.join(ledger.folder, f"switch-{int(number)}")


def _sweep(ledger: Ledger, run: Run) -> None:
    """Remove what earlier leases left: a program that was started has read its file, and the others are not needed."""
    with suppress(OSError):
        found = [name for name in os.listdir(ledger.folder) if name.startswith("switch-")]
        service = os.path.basename(ledger.folder)
        timers = [f"{unit(service, int(name[7:]))}.timer" for name in found if name[7:].isdigit()]
        if timers:
            _said(["systemctl", "stop", "--no-block", "--", *timers], run)
        for name in found:
            os.unlink(os.path.join(ledger.folder, name))


def _said(command: Sequence[str], run: Run) -> str:
    """Why a command failed, in one line; empty when it did not."""
    try:
        status, said = run(command, _LIMIT)
    except subprocess.TimeoutExpired:
        return f"{command[0]} did not come back within {_LIMIT:g} s"
    except RolloutError as error:
        return error.message
    return "" if not status else (" ".join(said.split())[-300:] or f"{command[0]} ended with {status}")
