# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``python -m tests.integration.kills``: write docs/kills.md from what ``make kills`` has measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / ".build" / "kills"
PAGE = ROOT / "docs" / "kills.md"


@dataclass(frozen=True)
class Row:
    """One controller that came to its end, and what was seen."""

    balancers: str
    ended_by: str
    moment: str
    requests: int
    failed: int
    closed_idle: int
    reloads: int | None  # of nginx; None where there is none
    least: int  # members in service, at any moment
    back: float  # seconds until all were back that can be
    stayed_out: list[str]  # members in mid-upgrade
    rerun: int  # members that the same playbook took in hand afterwards
    seconds: float  # for which it ran

    @property
    def cells(self) -> list[str]:
        idle = f"{self.closed_idle} in {self.reloads} reloads" if self.reloads else str(self.closed_idle)
        stayed = ", ".join(self.stayed_out) or "-"
        return [
            *(self.balancers, self.ended_by, self.moment, f"{self.requests:,}", str(self.failed), idle),
            *(str(self.least), f"{self.back:.1f} s", stayed, f"{self.rerun} of 6 in {self.seconds:.0f} s"),
        ]


def write(name: str, row: Row) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(asdict(row)) + "\n", encoding="utf-8")


def read() -> list[Row]:
    """In the order of their making: kind by kind, moment by moment."""
    paths = sorted(RESULTS.glob("*.json"), key=lambda path: path.stat().st_mtime)
    return [Row(**json.loads(path.read_text(encoding="utf-8"))) for path in paths]


def summary(rows: Sequence[Row]) -> list[list[str]]:
    """A line for each kind of balancers and way to end."""
    lines = []
    for kind, how in dict.fromkeys((row.balancers, row.ended_by) for row in rows):
        own = [row for row in rows if (row.balancers, row.ended_by) == (kind, how)]
        lines.append(
            [
                kind,
                how,
                str(len(own)),
                f"{sum(row.requests for row in own):,}",
                str(sum(row.failed for row in own)),
                str(sum(row.closed_idle for row in own)),
                str(min(row.least for row in own)),
                f"{max(row.back for row in own):.1f} s",
            ]
        )
    return lines


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)) + "\n"


def page(rows: Sequence[Row]) -> str:
    short = ["balancers", "ended by", "moments", "requests", "failed", "closed idle", "least in service", "back after"]
    long = ["balancers", "ended by", "moment", "requests", "failed", "closed idle", "least in service", "back after"]
    return HEAD.format(
        summary=table(short, summary(rows)),
        rows=table([*long, "stayed out", "the rerun took in hand"], [row.cells for row in rows]),
    )


HEAD = """# Controllers that died, moment by moment

Written by `make kills`, which takes the better part of an hour, or turns of some minutes (`TURN=240`): a rolling upgrade of six members, two at a time, \
under 150 requests a second of every kind, on the hosts of the lab. The controller comes to its end at generated \
moments, in every phase in turn:

* **SIGKILL**: every process of it at once, as when an AWX job's container is gone.
* **power**: the same, and no packet from or to it gets through from then on: nobody hears that its connections are\
 gone.
* **SIGTERM**: `ansible-playbook` is told to end.

Then members that can be back are waited for; with a lease of 6 seconds, after which the [dead man's switch](when-\
it-dies.md) fires. A member in mid-upgrade stays out. `recover --check` must change nothing, the same playbook must\
 finish the rollout, and a third run must change nothing. The load goes on all the while; *failed* counts every \
request without a good answer, and every order of a client that was lost or executed twice would fail the test. \
*Closed idle* are kept connections that nginx 1.22 closes in a reload just when a client uses them again. At least \
3 members must be in service at every moment. Behind `3 haproxy, one cut off` the controller does not reach one of \
the balancers, which has no clients then.

{summary}
## Every moment

*web3 upgraded +0.21 s* is 0.21 s after the run's record said that the upgrade of web3 began: `planned` is before \
the first member, `untouched` is in its drain, `upgraded` in its upgrade or gate, `healthy` while it is put back, \
`finished` after that.

{rows}"""

if __name__ == "__main__":
    PAGE.write_text(page(read()), encoding="utf-8")
