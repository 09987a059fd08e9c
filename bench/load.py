"""The load: one witness for each balancer, started before a run and asked after it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_PACKAGE = "ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness"
_LONGEST = 3600
_SETTLED = 25  # requests that each witness has sent before a run begins
_TAIL = 0.5  # seconds of load after a run

MIX = {"keepalive": 0.8, "close": 0.2}
MIX_SLOW = {"keepalive": 0.78, "close": 0.2, "slow": 0.02}


class LoadError(Exception):
    """The witness did not do its work, so nothing was measured."""


@dataclass
class Counts:
    """What clients saw during one run."""

    requests: int = 0
    failed: int = 0
    closed_idle: int = 0
    late: int = 0
    not_sent: int = 0
    classes: dict[str, int] = field(default_factory=dict)

    def add(self, summary: dict[str, Any]) -> None:
        """Count one witness's summary."""
        self.requests += summary["requests_total"]
        self.failed += summary["failed"]
        self.closed_idle += summary["closed_idle"]
        self.late += summary["late"]
        self.not_sent += summary["not_sent"]
        for name, count in summary["by_class"].items():
            if count:
                self.classes[name] = self.classes.get(name, 0) + count


@contextmanager
def under_load(urls: Sequence[str], rate: float, slow: bool, directory: Path) -> Iterator[Counts]:
    """Load on every address for the length of a `with`; its counts are there after it."""
    counts = Counts()
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for number, url in enumerate(urls):
            processes.append(_start(url, rate / len(urls), slow, directory, number))
        for number in range(len(urls)):
            _wait(processes[number], directory, number)
        yield counts
        time.sleep(_TAIL)
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for number, process in enumerate(processes):
            process.wait(30)
            counts.add(json.loads(_file(directory, number, "summary").read_text(encoding="utf-8")))
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()


def _file(directory: Path, number: int, what: str) -> Path:
    return directory / f"witness-{number}-{what}.json"


def _start(url: str, rate: float, slow: bool, directory: Path, number: int) -> subprocess.Popen[bytes]:
    settings = {
        "url": url,
        "rate": rate,
        "duration": _LONGEST,
        "mix": MIX_SLOW if slow else MIX,
        "summary": str(_file(directory, number, "summary")),
        "status": str(_file(directory, number, "status")),
    }
    told = _file(directory, number, "settings")
    told.write_text(json.dumps(settings), encoding="utf-8")
    with (directory / f"witness-{number}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", _PACKAGE, "--settings", str(told), "--quiet"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def _wait(process: subprocess.Popen[bytes], directory: Path, number: int) -> None:
    """Until requests flow."""
    deadline = time.monotonic() + 20
    while True:
        try:
            status = json.loads(_file(directory, number, "status").read_text(encoding="utf-8"))
            if status["requests_total"] >= _SETTLED:
                return
        except (OSError, ValueError, KeyError):
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            said = (directory / f"witness-{number}.log").read_text(errors="replace").strip()
            raise LoadError(f"the witness did not start: {said[-500:]}")
        time.sleep(0.05)
