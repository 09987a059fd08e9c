# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the verdict must do in each kind of world, in percent of runs and in seconds."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict import VerdictSettings

from .canaries import World
from .trials import Rule, Trial, judged, only_roll_back, pooled_z, trial

HALF_A_DAY = 43200.0
ANY = (0.0, 100.0)


@dataclass(frozen=True)
class Cell:
    """One row of the table. ``quick``: how many runs of it the unit tests make; 0: none."""

    name: str
    world: World
    rule: Rule
    rolled_back: tuple[float, float] = ANY
    after: tuple[float, float] | None = None
    promoted: tuple[float, float] = ANY
    runs: int = 2000
    quick: int = 0

    def run(self, runs: int) -> Trial:
        return trial(self.world, self.rule, runs)

    def problems(self, found: Trial) -> list[str]:
        wrong = []
        if not self.rolled_back[0] <= found.rolled_back <= self.rolled_back[1]:
            wrong.append(f"rolled back {found.rolled_back:.2f} %, not within {self.rolled_back}")
        if self.after and not (found.after and self.after[0] <= found.after <= self.after[1]):
            wrong.append(f"after {found.after} s, not within {self.after}")
        if not self.promoted[0] <= found.promoted <= self.promoted[1]:
            wrong.append(f"promoted {found.promoted:.2f} %, not within {self.promoted}")
        return wrong


PLAIN = judged(only_roll_back(guards=False))
GUARDED = judged(only_roll_back(guards=True))
BOTH = judged(VerdictSettings())
AT_MARGIN = judged(only_roll_back(guards=False, tolerate={"errors": 1.5, "latency": 1.5}))  # type: ignore[arg-type]
PROMOTES = judged(VerdictSettings(guards=False, min_duration=0.0, min_requests=0))

TWO = World(hosts=2)  # one stands for the whole baseline: hosts do not matter
RAMP = World(hosts=2, stages=(0.05, 0.1, 0.25, 0.5), drift=4.0)
KNOWN = World(history=HALF_A_DAY)
KITCHEN = KNOWN.but(spread=0.1, drift=2.0, warmup=5.0, clump=2, outage=10.0)

NULL = [
    Cell(
        f"no worse: {rate:g}/s, {100 * share:g} % canary, {minutes} min",
        TWO.but(rate=rate, share=share, duration=60.0 * minutes),
        PLAIN,
        (0.0, 1.0),
        quick=200 if (rate, share, minutes) in ((50.0, 0.1, 30), (500.0, 0.1, 30)) else 0,
    )
    for rate in (50.0, 500.0, 5000.0)
    for share in (0.05, 0.1)
    for minutes in (5, 30)
]
FOUND = [
    Cell("2x worse, 500/s", TWO.but(worse=2.0), PLAIN, (99.0, 100.0), (300.0, 340.0), quick=150),
    Cell("5x worse, 500/s", TWO.but(worse=5.0), PLAIN, (99.0, 100.0), (30.0, 50.0), quick=150),
    Cell("exactly at a margin of 1.5", TWO.but(worse=1.5), AT_MARGIN, (0.0, 1.0)),
    Cell("2x worse, promoted in error", TWO.but(worse=2.0, duration=1800.0), PROMOTES, promoted=(0.0, 5.0)),
]
DRIFTING = [
    Cell("share 5 to 50 % while errors grow", RAMP, PLAIN, (0.0, 1.0), quick=150),
    Cell("the same, pooled z-test at 1 %", RAMP, pooled_z(0.01), (99.0, 100.0), quick=150),
    Cell("no worse, pooled z-test at 1 %, 10-s looks", TWO, pooled_z(0.01), (12.0, 18.0), quick=400),
    Cell("no worse, pooled z-test at 5 %, 10-s looks", TWO, pooled_z(0.05), (33.0, 42.0)),
]
HOSTS = [
    Cell("guarded: no worse", KNOWN, GUARDED, (0.0, 1.0), runs=1000),
    Cell("guarded: 2x worse", KNOWN.but(worse=2.0), GUARDED, (95.0, 100.0), (700.0, 900.0), runs=1000, quick=60),
    Cell("hosts differ by 0.3", KNOWN.but(spread=0.3), GUARDED, (0.0, 1.0), runs=1000, quick=60),
    Cell(
        "hosts differ by 0.3, 2x worse", KNOWN.but(spread=0.3, worse=2.0), GUARDED, (70.0, 100.0), runs=1000, quick=60
    ),
    Cell("hosts differ by 0.3, without guards", KNOWN.but(spread=0.3), PLAIN, (8.0, 100.0), runs=1000),
    Cell("canary host 1.5x by nature", KNOWN.but(nature=1.5), GUARDED, (0.0, 1.0), runs=1000, quick=60),
    Cell(
        "canary host 1.5x by nature, without guards", KNOWN.but(nature=1.5), PLAIN, (70.0, 100.0), runs=1000, quick=60
    ),
    Cell("canary host 1.5x by nature, 2x worse", KNOWN.but(nature=1.5, worse=2.0), GUARDED, (95.0, 100.0), runs=1000),
    Cell("cold for a minute, 10x", KNOWN.but(warmup=10.0), GUARDED, (0.0, 1.0), runs=1000, quick=60),
    Cell("cold for a minute, without guards", KNOWN.but(warmup=10.0), PLAIN, (99.0, 100.0), runs=1000, quick=40),
    Cell("clients that retry, 3 of each", KNOWN.but(clump=3), GUARDED, (0.0, 1.0), runs=1000),
    Cell("everything at once", KITCHEN, GUARDED, (0.0, 1.5), runs=2000, quick=60),
    Cell("everything at once, 2x worse", KITCHEN.but(worse=2.0), GUARDED, (40.0, 100.0), runs=1000),
]
THREE_WAY = [
    Cell("verdict: no worse", KNOWN, BOTH, (0.0, 1.0), promoted=(90.0, 100.0), runs=1000, quick=60),
    Cell("verdict: 2x worse", KNOWN.but(worse=2.0), BOTH, (90.0, 100.0), promoted=(0.0, 1.0), runs=1000),
    Cell("verdict: no worse, 50/s", KNOWN.but(rate=50.0), BOTH, (0.0, 1.0), promoted=(0.0, 25.0), runs=1000),
]
TIMED = KNOWN.but(slower=1.0, duration=600.0)
SLOW_PLAIN = judged(only_roll_back(guards=False), "slow")
SLOW_GUARDED = judged(only_roll_back(guards=True), "slow")
LATENCY = [
    Cell("as fast, without guards, 10 min", TIMED, SLOW_PLAIN, (0.0, 1.0), runs=400),
    Cell("as fast, 10 min", TIMED, SLOW_GUARDED, (0.0, 1.0), runs=400),
    Cell("1.1x slower, 10 min", TIMED.but(slower=1.1), SLOW_GUARDED, (60.0, 100.0), runs=200),
    Cell("1.5x slower, 10 min", TIMED.but(slower=1.5), SLOW_GUARDED, (99.0, 100.0), (130.0, 180.0), runs=200, quick=8),
    Cell(
        "1.5x slower, 50/s, 10 min",
        TIMED.but(slower=1.5, rate=50.0),
        SLOW_GUARDED,
        (99.0, 100.0),
        (130.0, 300.0),
        runs=200,
    ),
]
CELLS = [*NULL, *FOUND, *DRIFTING, *HOSTS, *THREE_WAY, *LATENCY]
