"""Measure one run: start the way's program under load, and look at everything from outside."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import lab

from . import fleet, machine
from .load import under_load
from .outage import most_out, seconds_out
from .scenario import Scenario
from .watch import eyes, watching
from .ways import Command, Run, Way

LIMIT = 600.0
RATE = 300.0
_BEFORE = 0.3  # seconds of quiet sampling before a run


@dataclass
class Measured:
    """One run of one way."""

    way: str
    seconds: float
    ok: bool
    trouble: str = ""
    requests: int = 0
    failed: int = 0
    closed_idle: int = 0
    late: int = 0
    not_sent: int = 0
    classes: dict[str, int] = field(default_factory=dict)
    out_seconds: dict[str, float] = field(default_factory=dict)  # by member
    most_out: int = 0
    idle_before: float = 1.0  # share of the processors that nobody used just before the load began

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def measure(
    way: Way,
    up: lab.Lab,
    scenario: Scenario,
    releases: Mapping[str, lab.Release],
    directory: Path,
    peers: Path,
    settings: Mapping[str, Any] | None = None,
    patience: float = 0.0,
) -> Measured:
    """One run, from a fleet that is whole to a fleet that is whole."""
    directory.mkdir(parents=True, exist_ok=True)
    out = fleet.in_service(up, 30)
    if out:
        raise fleet.NotRestored(f"out of service before the run: {', '.join(out)}")
    present = set(fleet.versions(up).values())
    version = next(each for each in fleet.VERSIONS if each not in present)
    idle = machine.calm(patience)
    sockets = Path(tempfile.mkdtemp(prefix="zdb-"))  # a short path: a socket's may not be long
    try:
        run = Run(up, scenario, releases[version], directory, sockets, peers, settings or {})
        command = way.command(run)
        urls = [f"http://{host.address}/" for host in up.balancers]
        with (
            under_load(urls, RATE, scenario.slow, directory) as counts,
            watching(eyes(up)) as samples,
        ):
            time.sleep(_BEFORE)
            seconds, code = _time(command, directory)
    finally:
        _close(sockets)
    measured = Measured(
        way=way.name,
        seconds=round(seconds, 3),
        ok=True,
        **asdict(counts),
        out_seconds={
            name: round(value, 2) for name, value in seconds_out(samples, [h.name for h in up.members]).items()
        },
        most_out=most_out(samples),
        idle_before=idle,
    )
    measured.trouble = _trouble(up, version, code)
    if measured.trouble:
        measured.ok = False
        fleet.restore(up, version)
    return measured


def _trouble(up: lab.Lab, version: str, code: int) -> str:
    if code:
        return f"ended with {code}"
    behind = sorted(name for name, found in fleet.versions(up).items() if found != version)
    if behind:
        return f"not upgraded: {', '.join(behind)}"
    out = fleet.in_service(up, 5)
    return f"left out of service: {', '.join(out)}" if out else ""


def _time(command: Command, directory: Path) -> tuple[float, int]:
    """Seconds from its start to its end."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "PYTHON"))}
    collections = os.environ.get("ANSIBLE_COLLECTIONS_PATH", "")
    environment = {**inherited, "ANSIBLE_COLLECTIONS_PATH": collections, **command.environment}
    with (directory / "output.log").open("wb") as output:
        begun = time.monotonic()
        process = subprocess.Popen(
            command.argv,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(LIMIT)
        except BaseException:
            _end(process)
            raise
        return time.monotonic() - begun, code


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill it with all it started: Ansible's workers have sessions of their own and outlive it."""
    family = [process.pid]
    for pid in family:
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            with suppress(OSError):
                family += map(int, children.read_text(encoding="ascii").split())
    for pid in family:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def _close(sockets: Path) -> None:
    """End the shared connections, so that the next run opens its own."""
    for path in sockets.iterdir():
        subprocess.run(
            ["ssh", "-O", "exit", "-o", f"ControlPath={path}", "nobody"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    shutil.rmtree(sockets, ignore_errors=True)
