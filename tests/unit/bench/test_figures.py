# SPDX-License-Identifier: GPL-3.0-or-later
"""What the rounds come to, and how it is shown."""

from __future__ import annotations

from bench.figures import figures, ratio
from bench.measure import Measured
from bench.table import render, scenario_table


def run(way: str, seconds: float, ok: bool = True, failed: int = 0, **out: float) -> Measured:
    return Measured(
        way, seconds, ok, trouble="" if ok else "ended with 2", requests=100, failed=failed, out_seconds=out
    )


ROUNDS = [
    {"floor": run("floor", 1.0, a=0.5), "ours": run("ours", 2.0, a=1.0), "community": run("community", 8.0, a=2.0)},
    {"floor": run("floor", 3.0, a=0.5), "ours": run("ours", 9.0, a=3.0), "community": run("community", 9.0, a=2.0)},
    {
        "floor": run("floor", 2.0, a=0.5),
        "ours": run("ours", 3.0, failed=7, a=1.0),
        "community": run("community", 9.0, a=2.0),
    },
]


def test_a_ratio_is_taken_within_each_round() -> None:
    assert ratio(ROUNDS, "ours", "floor") == 2.0  # of 2.0, 3.0 and 1.5
    assert ratio(ROUNDS, "ours", "community") == 0.333
    assert ratio(ROUNDS, "ours", "nobody") is None


def test_a_run_that_failed_counts_for_requests_and_not_for_time() -> None:
    rounds = [*ROUNDS, {"floor": run("floor", 1.0), "ours": run("ours", 500.0, ok=False, failed=5)}]
    ours = figures(rounds)[1]
    assert (ours.rounds, ours.seconds, ours.slowest, ours.failed) == (4, 3.0, 9.0, 12)
    assert ours.to_floor == 2.0
    assert ours.trouble == "ended with 2"


def test_ways_stand_in_the_order_they_ran() -> None:
    assert [each.way for each in figures(ROUNDS)] == ["floor", "ours", "community"]


def test_members_out_over_all_rounds() -> None:
    ours = figures(ROUNDS)[1]
    assert (ours.out_median, ours.out_longest) == (1.0, 3.0)


def test_less_than_one_is_shown_as_a_fraction() -> None:
    lines = scenario_table(figures(ROUNDS)).splitlines()
    assert "| 2.00 " in lines[3]
    assert "| 1/3.0 " in lines[3]


def test_columns_are_even() -> None:
    lines = render(("a", "long head"), [("a long cell", "b")]).splitlines()
    assert len({len(line) for line in lines}) == 1
