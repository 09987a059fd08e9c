# SPDX-License-Identifier: GPL-3.0-or-later

"""What counts as a growth in a row of rollouts."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration import soak

QUIET = soak.After("t", "batches", 5.0, "succeeded", 300.0, 900, 60, 1, 100, 0, 0, 80.0)


def rows(count: int = 20, **last: Any) -> list[soak.After]:
    """The same again and again, and something else in the last quarter."""
    values = vars(QUIET)
    return [soak.After(**{**values, **(last if number >= count * 3 // 4 else {})}) for number in range(count)]


def test_nothing_grows_where_all_stays_as_it_is() -> None:
    assert soak.growth(rows()) == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [("memory_mb", 360.0), ("open_files", 1000), ("processes", 64), ("workers", 2), ("left_files", 1), ("timers", 1)],
)
def test_a_growth_is_named(name: str, value: float) -> None:
    last: dict[str, Any] = {name: value}
    assert list(soak.growth(rows(**last))) == [name]


def test_a_rollout_that_takes_longer_and_longer_is_named() -> None:
    assert soak.growth(rows(seconds=12.0)) == {"batches": "batches took 5.0 s and then 12.0 s"}


def test_a_short_turn_tells_nothing_of_growth() -> None:
    assert soak.growth(rows(8, workers=9)) == {}


def test_the_page_says_what_was_run() -> None:
    text = soak.page([soak.Turn(5000, 0, 1, rows())])
    assert "20 rollouts in 1 turns, 5,000 requests, 0 failed, 1 closed while idle" in text
    assert "| 1 | workers | 1 | 1 |" in text
