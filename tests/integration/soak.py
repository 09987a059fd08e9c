# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``python -m tests.integration.soak``: write docs/soak.md from what the turns of ``make soak`` have measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median

from .kills import ROOT, table

RESULTS = ROOT / ".build" / "soak"
PAGE = ROOT / "docs" / "soak.md"
LEAST = 12  # rollouts of a turn from which on a growth can be told from the way things warm up

# What may not grow, and what is no growth: so much in all, and so much of what there was.
SLACK: Mapping[str, tuple[float, float]] = {
    "memory_mb": (30.0, 0.15),
    "open_files": (20.0, 0.10),
    "processes": (3.0, 0.05),
    "workers": (0.0, 0.0),
    "connections": (40.0, 0.30),
    "left_files": (0.0, 0.0),
    "timers": (0.0, 0.0),
}


@dataclass(frozen=True)
class After:
    """What there was after one rollout, on all hosts together."""

    turn: str
    strategy: str
    seconds: float
    outcome: str
    memory_mb: float  # of all processes
    open_files: int  # of all processes
    processes: int
    workers: int  # of the balancers
    connections: int  # established, to and from the balancers
    left_files: int  # of ours, in temporary places
    timers: int  # units of the dead man's switch
    ledger_kb: float


@dataclass(frozen=True)
class Turn:
    """One lab, some rollouts in a row, and what its clients saw."""

    requests: int
    failed: int
    closed_idle: int
    rows: list[After]


def write(name: str, turn: Turn) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(asdict(turn)) + "\n", encoding="utf-8")


def read() -> list[Turn]:
    turns = []
    for path in sorted(RESULTS.glob("*.json"), key=lambda path: path.stat().st_mtime):
        data = json.loads(path.read_text(encoding="utf-8"))
        turns.append(Turn(**{**data, "rows": [After(**row) for row in data["rows"]]}))
    return turns


def ends(values: Sequence[float]) -> tuple[float, float]:
    """The medians of the second quarter, when all is warm, and of the last one."""
    quarter = max(1, len(values) // 4)
    return median(values[quarter : 2 * quarter]), median(values[-quarter:])


def growth(rows: Sequence[After]) -> dict[str, str]:
    """What has grown in a turn by more than its slack, in words; too short a turn tells nothing."""
    found: dict[str, str] = {}
    if len(rows) < LEAST:
        return found
    for name, (most, share) in SLACK.items():
        first, last = ends([getattr(row, name) for row in rows])
        if last > first + max(most, share * first):
            found[name] = f"{name} grew from {first:g} to {last:g}"
    for strategy in dict.fromkeys(row.strategy for row in rows):
        own = [row.seconds for row in rows if row.strategy == strategy]
        first, last = ends(own)
        if len(own) >= 4 and last > 1.5 * first + 3:
            found[strategy] = f"{strategy} took {first:.1f} s and then {last:.1f} s"
    return found


def page(turns: Sequence[Turn]) -> str:
    rows = [row for turn in turns for row in turn.rows]
    lines = []
    for strategy in sorted({row.strategy for row in rows}):
        own = [row.seconds for row in rows if row.strategy == strategy]
        lines.append([strategy, str(len(own)), f"{median(own):.1f} s", f"{max(own):.1f} s"])
    long = [turn for turn in turns if len(turn.rows) >= LEAST]
    kept = []
    for number, turn in enumerate(long, 1):
        for name in (*SLACK, "ledger_kb"):
            first, last = ends([getattr(row, name) for row in turn.rows])
            kept.append([str(number), name.replace("_", " "), f"{first:g}", f"{last:g}"])
    return HEAD.format(
        rollouts=len(rows),
        turns=len(turns),
        requests=sum(turn.requests for turn in turns),
        failed=sum(turn.failed for turn in turns),
        idle=sum(turn.closed_idle for turn in turns),
        strategies=table(["strategy", "rollouts", "median", "longest"], lines),
        kept=table(["turn", "what", "when warm", "at the end"], kept),
    )


HEAD = """# Rollouts in a row

Written by `make soak`: on one lab, six members in two slots behind HAProxy 2.6, under load of every kind, one \
rollout after the other: a flip of blue/green, a rolling upgrade in batches, one in a window, a canary, and the \
rollback of that. The whole are 200 rollouts and a million requests; `ZERODROP_SOAK=25 make soak` runs a share, and \
what it measures is kept in `.build/soak` beside the other turns. A turn fails when a request fails, when a rollout \
does not succeed, or when something is more at its end than it was when all was warm.

So far: **{rollouts} rollouts in {turns} turns, {requests:,} requests, {failed} failed, {idle} closed while idle.**

{strategies}
## What is there after a rollout

Of all hosts together, the medians of the second and the last quarter of each turn of twelve rollouts or more.

{kept}"""

if __name__ == "__main__":
    PAGE.write_text(page(read()), encoding="utf-8")
