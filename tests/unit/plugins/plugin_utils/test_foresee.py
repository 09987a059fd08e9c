# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a canary can show, from the traffic as it is."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.foresee import Measured, foresee, measured


def history(hours: float, rate: int = 40, errors: float = 0.005) -> list[dict[str, Any]]:
    """An hour apart."""
    count = rate * 3600
    return [
        {"at": 3600.0 * hour, "members": [{"requests": count, "errors": int(count * errors)}]}
        for hour in range(int(hours) + 1)
    ]


def test_the_sentence_of_the_manual() -> None:
    found = foresee(Measured(200, 1, 5.0), history(12), 10.0, {"max_duration": 3000})
    assert found["sentence"].startswith(
        "40 requests/s, 10 % canary, 0.5 % errors: a doubling is found in 41 min with 80 % probability; 25 % canary: 21 min"
    )
    assert not found["warning"]


def test_it_warns_when_the_time_does_not_tell() -> None:
    found = foresee(Measured(200, 1, 5.0), history(12), 10.0, {"max_duration": 600})
    assert "The 10 min that are set (max_duration) cannot tell." in found["warning"]
    assert not found["enough"]


def test_no_traffic_is_said() -> None:
    found = foresee(Measured(0, 0, 5.0), history(12), 10.0, {})
    assert "without traffic a canary shows nothing" in found["warning"]


def test_no_errors_is_said() -> None:
    found = foresee(Measured(1500, 0, 5.0), [], 10.0, {})
    assert "no errors" in found["warning"]


def test_polls_that_do_not_count_are_left_out() -> None:
    rows = [{"requests": 50, "errors": 1}, {"requests": 70, "errors": 0}]
    polls = [
        {"at": 10.0, "members": rows},
        {"at": 20.0, "members": rows},
        {"at": 30.0, "members": rows, "skip": "reload"},
        {"at": 45.0, "members": rows},
    ]
    assert measured(polls) == Measured(240, 2, 25.0)
    assert measured(polls, first=10.0) == Measured(360, 3, 35.0)


@given(st.integers(0, 10**6), st.floats(0, 1), st.floats(0.5, 60), st.floats(1, 99), st.integers(0, 5))
def test_it_always_says_something(requests: int, bad: float, seconds: float, share: float, hours: int) -> None:
    found = foresee(Measured(requests, int(bad * requests), seconds), history(hours), share, {})
    assert found["sentence"]
    assert bool(found["warning"]) == (not found["enough"])
