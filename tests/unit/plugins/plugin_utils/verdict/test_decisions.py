# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which decision falls when, and what its sentence says."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict import verdict

from .made import polls, with_latency


def decide(rows: list[dict[str, Any]], **settings: Any) -> dict[str, Any]:
    return verdict({"polls": rows, **settings})


def test_a_worse_canary_is_rolled_back() -> None:
    found = decide(polls(40, (100, 3)))
    assert (found["decision"], found["rule"]) == ("roll_back", "evidence")
    assert found["metrics"]["errors"]["at_least"] > 1.2
    assert "canary 102 of 3,400 requests failed, baseline 204 of 91,800: 13.5x (at least" in found["sentence"]
    assert "with probability below 1 %" in found["sentence"]


def test_a_good_canary_is_promoted() -> None:
    found = decide(polls(120, lambda number: (100, int(number % 10 == 0)), (900, 1)))
    assert (found["decision"], found["next"]) == ("promote", "promote")
    assert "An increase of 2x or more is ruled out" in found["sentence"]
    assert found["metrics"]["errors"]["at_most"] <= 2.0


def test_too_little_traffic_is_no_promotion() -> None:
    rows = polls(180, (2, 0), (18, 0))
    assert decide(rows[:100])["decision"] == "wait"
    found = decide(rows)
    assert (found["decision"], found["next"]) == ("inconclusive", "ask")
    assert found["sentence"].startswith("INCONCLUSIVE: after 30 min")
    assert decide(rows, on_inconclusive="roll_back")["next"] == "roll_back"


@pytest.mark.parametrize("canary", [(0, 0), lambda number: (100, 0) if number < 60 else (0, 0)])
def test_a_canary_without_traffic_is_no_data(canary: Any) -> None:
    rows = polls(120, canary)
    found = decide(rows)
    assert found["decision"] == "no_data"
    assert "the canary has had 0 requests" in found["sentence"]
    assert decide(rows, on_no_data="inconclusive")["decision"] == "inconclusive"


def test_data_that_never_come_are_inconclusive_in_the_end() -> None:
    assert decide(polls(200, (0, 0)))["decision"] == "inconclusive"
    assert decide([])["decision"] == "no_data"


def test_a_silent_baseline_is_no_data() -> None:
    found = decide(polls(60, (100, 0), (0, 0)))
    assert found["decision"] == "no_data"
    assert "the baseline has had 0 requests" in found["sentence"]


def test_the_circuit_breaker_needs_neither_warm_up_nor_statistics() -> None:
    found = decide(polls(1, (30, 30)))
    assert (found["decision"], found["rule"]) == ("roll_back", "circuit_breaker")
    assert "30 of the canary's latest 30 requests failed" in found["sentence"]
    assert decide(polls(1, (19, 19)))["decision"] == "wait"
    assert decide(polls(1, (30, 30), (900, 100)))["decision"] == "wait"  # the fault is elsewhere
    late = polls(60, lambda number: (1000, 0) if number < 59 else (30, 16))
    assert decide(late)["rule"] == "circuit_breaker"


def test_warm_up_does_not_count() -> None:
    rows = polls(60, lambda number: (100, 40 if number < 6 else 0))
    assert decide(rows)["decision"] == "promote"
    assert decide(rows, warmup=0, burst=0)["decision"] == "roll_back"
    assert decide(rows)["polls"]["skipped"] == {"warm-up": 6}


def test_a_blip_of_a_minute_does_not_roll_back() -> None:
    rows = polls(60, lambda number: (100, 45 if 20 <= number < 26 else 0))
    assert decide(rows)["decision"] == "wait"
    assert decide(rows, burst=0)["decision"] == "roll_back"


def test_a_host_that_was_always_so_is_not_rolled_back() -> None:
    rows = polls(60, (1000, 4), (1000, 2))
    assert decide(rows)["decision"] == "roll_back"
    history = polls(2, (500_000, 2000), (500_000, 1000))
    found = decide(rows, history=history)
    assert found["decision"] == "wait"
    assert found["metrics"]["errors"]["margin"] > 2.0
    assert found["metrics"]["errors"]["history_used"]


def test_history_knows_the_canary_by_its_name() -> None:
    history = polls(2, (500_000, 2000), (500_000, 1000))
    for poll in history:
        for member in poll["members"]:
            member["arm"] = "baseline"
    assert decide(polls(60, (1000, 4), (1000, 2)), history=history)["metrics"]["errors"]["margin"] > 2.0


def test_a_thin_history_is_not_used_and_said() -> None:
    found = decide(polls(60, (1000, 2), (1000, 2)), history=polls(1, (1000, 1), (1000, 3)))
    assert found["metrics"]["errors"]["margin"] == 1.0
    assert "too few errors (10)" in found["sentence"]


def test_noisy_hosts_are_a_discount() -> None:
    rows = polls(60, (1000, 3))
    for number, poll in enumerate(rows):
        for index, member in enumerate(poll["members"][1:]):
            member.update(requests=1000, errors=30 if (number // 6) % 3 == index else 0)
    found = decide(rows)
    assert found["discount"]["errors"] > 5
    assert "NOISY: baseline hosts differ" in found["sentence"]
    assert decide(rows, guards=False)["discount"]["errors"] == 1.0


def test_tolerance_is_never_a_reason() -> None:
    rows = polls(60, (1000, 3), (1000, 2))
    assert decide(rows, min_increase=1)["decision"] == "roll_back" or decide(rows)["metrics"]["errors"]["ratio"] == 1.5
    assert decide(rows, tolerate=1.5)["decision"] != "roll_back"


def test_a_small_increase_does_not_roll_back_however_sure() -> None:
    rows = polls(100, (10_000, 1150), (10_000, 1000))
    assert decide(rows, min_increase=1.0)["decision"] == "roll_back"
    assert decide(rows)["decision"] != "roll_back"


def test_a_slower_canary_is_rolled_back_by_latency() -> None:
    usual, slower = [40, 30, 20, 9, 1, 0], [25, 30, 25, 14, 5, 1]
    rows = with_latency(polls(40, (100, 0), (100, 0)), slower, usual)
    found = decide(rows)
    assert (found["decision"], found["rule"]) == ("roll_back", "evidence")
    assert "requests were slow" in found["sentence"]
    assert found["metrics"]["slow"]["thresholds"] == [2, 3, 4]
    fine = decide(with_latency(polls(100, lambda n: (100, int(n % 5 == 0)), (100, 1)), usual, usual))
    assert fine["decision"] == "promote"


def test_a_metric_without_weight_has_no_say_however_loud() -> None:
    usual = [40, 30, 20, 9, 1, 0]
    rows = with_latency(polls(60, (1000, 400), (1000, 1)), usual, usual)
    found = decide(rows, weights={"slow": 1})
    assert found["log_evidence"]["roll_back"]["errors"][-1] > 800
    assert found["log_evidence"]["roll_back"]["combined"][-1] < 0
    assert found["decision"] == "wait"


def test_a_canary_that_restarts_is_rolled_back() -> None:
    rows = polls(80, (100, 0), restarts=0, host_seconds=10)
    for number in (10, 17, 24, 31, 38):
        rows[number]["members"][0]["restarts"] = 1
    assert decide(rows)["decision"] == "wait"  # though its errors alone would let it pass
    for number in (45, 52, 59, 66):
        rows[number]["members"][0]["restarts"] = 1
    found = decide(rows)
    assert found["decision"] == "roll_back"
    assert "canary restarted 9 times in 740 host-seconds, baseline 0 in 2,220" in found["sentence"]


def test_polls_that_were_marked_do_not_count() -> None:
    rows = polls(40, (100, 3))
    for poll in rows:
        poll["skip"] = "reload"
    found = decide(rows)
    assert found["decision"] == "wait"
    assert found["polls"] == {"counted": 0, "skipped": {"reload": 40}}


def test_a_share_far_from_the_one_that_was_set_is_no_verdict() -> None:
    rows = polls(60, (1000, 30), (900, 2))
    found = decide(rows, share="10%")
    assert (found["decision"], found["rule"]) == ("wait", "share")
    assert "27.0 % of the requests, where 10 % were set" in found["sentence"]
    assert decide(rows, share=25)["decision"] == "roll_back"


def test_roll_back_stays_and_promotion_does_not() -> None:
    bad = polls(120, lambda number: (100, 3 if number < 40 else 0))
    assert decide(bad)["decision"] == "roll_back"
    good_then_gone = polls(130, lambda number: (100, int(number % 10 == 0)) if number < 120 else (0, 0), (900, 1))
    assert decide(good_then_gone[:120])["decision"] == "promote"
    assert decide(good_then_gone)["decision"] == "no_data"


def test_the_same_polls_give_the_same_verdict_after_any_journey() -> None:
    rows = polls(50, (100, 2))
    assert decide(json.loads(json.dumps(rows))) == decide(rows)


counts = st.tuples(st.integers(0, 300), st.integers(0, 300), st.integers(0, 900), st.integers(0, 900))


@given(st.lists(counts, min_size=1, max_size=30))
def test_evidence_of_a_prefix_is_a_prefix(rows: list[tuple[int, int, int, int]]) -> None:
    """What was known at a poll does not change with those that follow; polls without an arm add nothing."""
    made = [polls(1, (n_c, min(x_c, n_c)), (n_b, min(x_b, n_b)))[0] for n_c, x_c, n_b, x_b in rows]
    for number, poll in enumerate(made):
        poll["at"] = 10 * (number + 1)
    whole = decide(made, warmup=0)["log_evidence"]
    part = decide(made[: len(made) // 2 + 1], warmup=0)["log_evidence"]
    for direction, metrics in part.items():
        for name, values in metrics.items():
            assert whole[direction][name][: len(values)] == values
    before = 0.0
    for poll, now in zip(made, decide(made, guards=False)["log_evidence"]["roll_back"]["errors"], strict=True):
        if not poll["members"][0]["requests"] or not poll["members"][1]["requests"]:
            assert now == pytest.approx(before, abs=1e-12)
        before = now


@given(st.lists(counts, min_size=1, max_size=10))
def test_guards_make_no_evidence(rows: list[tuple[int, int, int, int]]) -> None:
    made = [polls(1, (n_c, min(x_c, n_c)), (n_b, min(x_b, n_b)))[0] for n_c, x_c, n_b, x_b in rows]
    for number, poll in enumerate(made):
        poll["at"] = 10 * (number + 1)
    guarded = decide(made, warmup=0)["log_evidence"]["roll_back"]["combined"]
    plain = decide(made, guards=False)["log_evidence"]["roll_back"]["combined"]
    assert all(a <= max(b, 0.0) + 1e-9 for a, b in zip(guarded, plain, strict=True))


def test_in_a_short_run_silence_is_seen_before_it_is_over() -> None:
    """Counters that stand still for the last ten of twenty seconds: a minute of it would never come."""
    made = [
        {
            "at": float(second),
            "members": [
                {"name": "canary", "arm": "canary", "requests": 25 * (second <= 10), "errors": 0},
                {"name": "baseline", "arm": "baseline", "requests": 125 * (second <= 10), "errors": 0},
            ],
        }
        for second in range(1, 23)
    ]
    short = {"interval": 1, "warmup": 2, "burst": 0, "min_requests": 50, "min_duration": 10, "max_duration": 20}
    found = verdict({"polls": made, **short})
    assert (found["decision"], found["rule"]) == ("inconclusive", "canary")
    assert "0 requests" in found["sentence"]
