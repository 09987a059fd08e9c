# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pace of a member, out of a sliding average in whole milliseconds: bounds that hold, and doubts that are said."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Counters
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work.pace import (
    WINDOW,
    Pace,
    pace,
    slower,
    together,
)


def averaged(before: float, count_before: int, times: list[float]) -> tuple[Counters, Counters]:
    """What a balancer tells before and after these requests: its average slides, and is rounded up."""
    average, count = before, count_before
    for each in times:
        count += 1
        average += (each - average) / min(count, WINDOW)
    return Counters(count_before, response_ms=math.ceil(before)), Counters(count, response_ms=math.ceil(average))


@given(st.floats(0, 500), st.integers(1, 5000), st.integers(1, 3000), st.floats(0, 500))
def test_the_bounds_hold_whatever_was_before(before: float, count_before: int, count: int, time: float) -> None:
    found = pace(*averaged(before, count_before, [time] * count))
    assert found is not None
    assert found.low - 0.01 <= time <= found.high + 0.01
    assert found.requests == count


def test_the_bounds_get_close_with_the_requests() -> None:
    widths = []
    for count in (10, 100, 1000, 5000):
        found = pace(*averaged(40, 10000, [20.0] * count))
        assert found is not None
        widths.append(found.high - found.low)
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 1.1


def test_nothing_is_told_without_requests_or_a_figure() -> None:
    assert pace(Counters(5, response_ms=3), Counters(5, response_ms=3)) is None
    assert pace(Counters(5), Counters(500)) is None
    assert together([None, None]) is None


@pytest.mark.parametrize(
    ("member", "others", "expected"),
    [
        (Pace(500, 30, 32), Pace(500, 10, 12), True),
        (Pace(500, 18, 20), Pace(500, 10, 12), False),
        (Pace(500, 15, 40), Pace(500, 10, 12), None),
        (Pace(500, 0, 1.1), Pace(500, 0, 1.1), False),  # a millisecond is none
        (Pace(99, 300, 320), Pace(500, 10, 12), None),
        (Pace(500, 300, 320), Pace(99, 10, 12), None),
        (None, Pace(500, 10, 12), None),
    ],
)
def test_slower_only_when_there_is_no_doubt(member: Pace | None, others: Pace | None, expected: bool | None) -> None:
    found, words = slower(member, others, 100)
    assert found is expected
    assert words
