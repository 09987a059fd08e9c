# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When a rollout may begin: freezes and hours, over midnight, over a change of the clocks, in any zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._calendar import (
    Window,
    forbids,
    moment,
    next_open,
    time_zone,
)

BERLIN = ZoneInfo("Europe/Berlin")
WEEK = datetime(2026, 11, 23, tzinfo=UTC)  # a Monday


def at(day: int, time: str, zone: ZoneInfo = BERLIN) -> datetime:
    hour, minute = map(int, time.split(":"))
    return datetime(2026, 11, 23 + day, hour, minute, tzinfo=zone)


def windows(*texts: str) -> tuple[Window, ...]:
    return tuple(Window.parse(text, "rollout_allowed_hours") for text in texts)


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("Mon-Thu 09:00-16:00", [(0, "09:00"), (3, "15:59")], [(0, "08:59"), (3, "16:00"), (4, "10:00")]),
        ("Sat", [(5, "00:00"), (5, "23:59")], [(4, "23:59"), (6, "00:00")]),
        ("Fri-Mon", [(4, "00:00"), (0, "12:00"), (6, "12:00")], [(1, "12:00")]),
        ("Fri 22:00-04:00", [(4, "22:00"), (5, "03:59")], [(4, "03:00"), (5, "04:00"), (5, "22:30")]),
        ("sun 22:00-02:00", [(6, "23:00"), (0, "01:59")], [(0, "02:00"), (6, "01:00")]),
        ("08:00-24:00", [(2, "23:59")], [(2, "07:59")]),
    ],
)
def test_hours(text: str, inside: list[tuple[int, str]], outside: list[tuple[int, str]]) -> None:
    hours = windows(text)
    assert [each for each in inside if forbids(None, hours, BERLIN, at(*each))] == []
    assert [each for each in outside if not forbids(None, hours, BERLIN, at(*each))] == []


@pytest.mark.parametrize(
    "wrong", ["", "noon", "Mon-Foo", "25:00-26:00", "09:00-09:00", "9-17", "09:60-10:00", "mon 09:00"]
)
def test_what_are_no_hours_is_refused(wrong: str) -> None:
    with pytest.raises(BadInput, match="rollout_allowed_hours"):
        windows(wrong)


def test_the_time_zone_decides() -> None:
    hours, now = windows("Mon 09:00-10:00"), datetime(2026, 11, 23, 8, 30, tzinfo=UTC)
    assert forbids(None, hours, BERLIN, now) == ""
    assert "Monday 08:30 (UTC)" in forbids(None, hours, ZoneInfo("UTC"), now)
    assert "on Monday at 09:00" in forbids(None, hours, ZoneInfo("UTC"), now)
    summer = datetime(2026, 7, 6, 7, 30, tzinfo=UTC)
    assert forbids(None, hours, BERLIN, summer) == ""


def test_a_freeze_ends_at_its_moment() -> None:
    until = moment("2026-12-27T08:00", "rollout_freeze_until")
    assert "freeze until 2026-12-27 08:00" in forbids(until, (), BERLIN, datetime(2026, 12, 27, 6, 59, tzinfo=UTC))
    assert forbids(until, (), BERLIN, datetime(2026, 12, 27, 7, 0, tzinfo=UTC)) == ""
    with_offset = moment("2026-12-27T08:00+00:00", "rollout_freeze_until")
    assert forbids(with_offset, (), BERLIN, datetime(2026, 12, 27, 7, 30, tzinfo=UTC))
    assert forbids(moment("2026-12-27", "x"), (), BERLIN, datetime(2026, 12, 26, 22, 59, tzinfo=UTC))


@pytest.mark.parametrize("wrong", ["", "tomorrow", "27.12.2026", "2026-13-01"])
def test_what_is_no_moment_is_refused(wrong: str) -> None:
    with pytest.raises(BadInput, match="rollout_freeze_until"):
        moment(wrong, "rollout_freeze_until")


@pytest.mark.parametrize("wrong", ["", "Berlin", "../etc/passwd", "Europe/Nowhere", "/etc/localtime"])
def test_what_is_no_zone_is_refused(wrong: str) -> None:
    with pytest.raises(BadInput, match="rollout_time_zone"):
        time_zone(wrong, "rollout_time_zone")


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 1439), st.integers(1, 1440)), min_size=1, max_size=3),
    st.integers(0, 14 * 24 * 60),
)
def test_a_moment_is_allowed_exactly_when_a_window_began_that_has_not_ended(
    given_windows: list[tuple[int, int, int]], minutes: int
) -> None:
    hours = tuple(Window(frozenset({day}), start, start + length) for day, start, length in given_windows)
    now = WEEK + timedelta(minutes=minutes)
    week = 7 * 24 * 60
    expected = any((minutes - day * 1440 - start) % week < length for day, start, length in given_windows)
    assert (forbids(None, hours, ZoneInfo("UTC"), now) == "") is expected
    opens = next_open(hours, now)
    assert forbids(None, hours, ZoneInfo("UTC"), opens) == ""
    assert opens >= now
