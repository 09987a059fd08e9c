"""How busy the machine is with other work: a figure from a busy machine says little."""

from __future__ import annotations

import time
from pathlib import Path

CALM = 0.6  # share of the processors that is idle
_STAT = Path("/proc/stat")


def ticks(text: str) -> tuple[int, int]:
    """Idle and all ticks, out of /proc/stat."""
    fields = [int(word) for word in text.splitlines()[0].split()[1:9]]
    return fields[3] + fields[4], sum(fields)


def idle_share(before: tuple[int, int], after: tuple[int, int]) -> float:
    """The share of the time between two looks in which processors were idle."""
    passed = after[1] - before[1]
    return round((after[0] - before[0]) / passed, 2) if passed else 1.0


def idle(seconds: float = 1.0) -> float:
    """The share that is idle now, with nothing of ours running."""
    before = ticks(_STAT.read_text(encoding="ascii"))
    time.sleep(seconds)
    return idle_share(before, ticks(_STAT.read_text(encoding="ascii")))


def calm(patience: float) -> float:
    """Wait for a calm moment, not longer than this; the share that was idle in the end."""
    deadline = time.monotonic() + patience
    while True:
        share = idle()
        if share >= CALM or time.monotonic() >= deadline:
            return share
