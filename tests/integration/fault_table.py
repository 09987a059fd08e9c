# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``python -m tests.integration.fault_table``: write docs/faults.md from what ``make faults`` has measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from .kills import table

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / ".build" / "faults"
PAGE = ROOT / "docs" / "faults.md"


@dataclass(frozen=True)
class Row:
    """One fault at one step, and what was seen."""

    balancers: str
    fault: str
    step: str
    requests: int
    failed: int  # without what was cut
    cut: int  # on a process that the fault ended, or on a member that it took away
    least: int  # members in service at any moment, but for the one that the fault took away
    whole: float | None  # seconds from the fault until all members were in service; None: not before it was mended
    came_to: str  # how the run ended
    rerun: int  # members that the same playbook took in hand afterwards

    @property
    def cells(self) -> list[str]:
        whole = "when mended" if self.whole is None else f"{self.whole:.1f} s"
        return [
            *(self.fault, self.balancers, self.step, f"{self.requests:,}", str(self.failed), str(self.cut)),
            *(str(self.least), whole, self.came_to, f"{self.rerun} of 4"),
        ]


def write(name: str, row: Row) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"row-{name}.json").write_text(json.dumps(asdict(row)) + "\n", encoding="utf-8")


def read() -> list[Row]:
    found = [Row(**json.loads(path.read_text(encoding="utf-8"))) for path in sorted(RESULTS.glob("row-*.json"))]
    return sorted(found, key=lambda row: (row.fault, row.balancers, row.step))


def summary(rows: Sequence[Row]) -> list[list[str]]:
    """A line for each fault."""
    lines = []
    for fault in dict.fromkeys(row.fault for row in rows):
        own = [row for row in rows if row.fault == fault]
        ends = sorted({row.came_to for row in own})
        lines.append(
            [
                *(fault, str(len(own)), f"{sum(row.requests for row in own):,}"),
                *(str(sum(row.failed for row in own)), str(sum(row.cut for row in own))),
                *(str(min(row.least for row in own)), ", ".join(ends)),
            ]
        )
    return lines


def page(rows: Sequence[Row]) -> str:
    short = ["fault", "steps", "requests", "failed", "cut", "least in service", "the run"]
    long = ["fault", "balancers", "step", "requests", "failed", "cut", "least in service", "whole after", "the run"]
    return HEAD.format(
        summary=table(short, summary(rows)),
        rows=table([*long, "the rerun took in hand"], [row.cells for row in rows]),
    )


HEAD = """# One fault at a time

Written by `make faults`: a rolling upgrade of four members, two at a time, under 100 requests a second of every kind, \
on the hosts of the lab, behind two HAProxy 2.6 or one nginx 1.22 by reloads. One thing goes wrong at a step; the steps \
are taken from a run without any fault: every change of the first member of each batch in the run's own record, and \
two moments between it and the next one. `web1 out, drained +0.10 s` is 0.1 s after web1 was drained. When the run has \
ended, the fault is mended, the same playbook must finish the rollout, and a third run must change nothing.

*Failed* are requests without a good answer that no dead process had in hand. *Cut* are those that were in flight on, \
or sent to, a process or a member that the fault itself ended. At least two members must be in service at every moment, \
or one where the fault took away another one. What a controller comes to that dies is in [kills](kills.md).

{summary}
## Every step

{rows}"""

if __name__ == "__main__":
    PAGE.write_text(page(read()), encoding="utf-8")
