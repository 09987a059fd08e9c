# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bad input is refused with what was found and what was expected."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict import verdict
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.planner import plan

from .made import polls, with_latency


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"share": 0}, "share must be a percentage of the traffic between 0 and 100, both excluded, got 0"),
        ({"share": 101}, "got 101"),
        ({"share": 100}, "got 100"),
        ({"share": "a lot"}, "share must be a number"),
        ({"share": "-5%"}, "got '-5%'"),
        ({"false_alarm": 0}, "false_alarm must be a probability between 0 and 0.5, both excluded, got 0"),
        ({"false_alarm": 0.5}, "got 0.5"),
        ({"missed_regression": 1}, "missed_regression must be a probability"),
        ({"false_alarm": "few"}, "got 'few'"),
        ({"unacceptable": 1}, "unacceptable must be a number from 1.01 to 100"),
        ({"tolerate": 0.5}, "tolerate must be a number from 1 to 100, got 0.5"),
        ({"tolerate": {"latencies": 1}}, "tolerate has latencies, which it does not know; it knows errors, latency"),
        ({"min_increase": 0}, "min_increase"),
        ({"warmup": -1}, "warmup must be a number from 0"),
        ({"min_requests": 1.5}, "min_requests must be a whole number"),
        ({"min_duration": 3600}, r"min_duration \(3600 s\) must not be above max_duration \(1800 s\)"),
        ({"weights": {"errors": 0}}, "at least one metric a weight"),
        ({"weights": {"4xx": 1}}, "weights has 4xx"),
        ({"weights": [1]}, "weights must name metrics"),
        ({"on_inconclusive": "maybe"}, "on_inconclusive must be one of ask, promote, roll_back, got 'maybe'"),
        ({"on_no_data": "promote"}, "on_no_data must be one of wait, inconclusive, got 'promote'"),
        ({"guards": "some"}, "guards must be true or false"),
        ({"alpha": 0.05}, "verdict does not know alpha"),
        ({"polls": "none"}, r"polls must be a list of polls \{at"),
        ({"history": 3}, "history must be a list of polls"),
    ],
)
def test_setting(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        verdict({"polls": polls(3, (100, 1)), **settings})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"requests": -1}, r"polls\[1\].members\[0\] \(web1\): requests must be a whole number from 0 up, got -1"),
        ({"errors": -1}, "errors must be a whole number from 0 up, got -1"),
        ({"errors": 101}, "101 errors of 100 requests; errors are a part of the requests"),
        ({"requests": "100"}, "requests must be a whole number from 0 up, got '100'"),
        ({"requests": True}, "got True"),
        ({"arm": "control"}, "arm must be canary or baseline, got 'control'"),
        ({"name": "web2"}, "has the member web2 twice"),
        ({"name": 7}, "name must be a text, got 7"),
        ({"colour": "blue"}, r"polls\[1\].members\[0\] has colour, which a member does not have"),
        ({"restarts": -2}, "restarts must be a whole number from 0 up, got -2"),
        ({"restarts": 1}, "some of the .* members have restarts|$"),
        ({"host_seconds": -1}, "host_seconds must be a number from 0 up, got -1"),
        ({"latency": "fast"}, "latency must be a list of counts, one for each bucket, got 'fast'"),
        ({"latency": [1, -1]}, "latency must be whole numbers from 0 up, got -1"),
        ({"latency": [99, 2]}, "latency counts 101 of 100 requests"),
    ],
)
def test_member(change: dict[str, Any], words: str) -> None:
    rows = polls(3, (100, 1))
    rows[1]["members"][0].update(change)
    if change == {"restarts": 1}:
        rows[1]["members"][1]["restarts"] = 1  # of one host of the baseline, not of the others
    with pytest.raises(BadInput, match=words):
        verdict({"polls": rows})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"at": 10}, r"polls\[1\].at is 10, which is not after the poll before it, at 10"),
        ({"at": 5}, "Polls go forward"),
        ({"at": "noon"}, r"polls\[1\].at must be a number of seconds, got 'noon'"),
        ({"at": float("nan")}, "must be a number of seconds"),
        ({"members": {}}, "members must be a list"),
        ({"members": ["web1"]}, r"members\[0\] must be a member"),
        ({"members": [{"name": "web1", "arm": "canary"}]}, "has no requests, errors"),
        ({"when": 3}, "has when, which a poll does not have"),
    ],
)
def test_poll(change: dict[str, Any], words: str) -> None:
    rows = polls(3, (100, 1))
    rows[1].update(change)
    with pytest.raises(BadInput, match=words):
        verdict({"polls": rows})


def test_histograms_of_several_kinds() -> None:
    rows = with_latency(polls(3, (100, 1)), [10, 2], [10, 2])
    rows[2]["members"][0]["latency"] = [1, 2, 3]
    with pytest.raises(BadInput, match="histograms of 2 and 3 buckets"):
        verdict({"polls": rows})
    rows = with_latency(polls(3, (100, 1)), [10, 2], [10, 2])
    rows[2]["members"][1]["latency"] = [1, 2, 3]
    with pytest.raises(BadInput, match="histograms of 2 and 3 buckets"):
        verdict({"polls": rows})


def test_latency_of_one_member_only() -> None:
    rows = polls(3, (100, 1))
    rows[1]["members"][2]["latency"] = [100]
    with pytest.raises(BadInput, match="some of the baseline members have latency, others have not"):
        verdict({"polls": rows})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"share": None}, "share must be a percentage"),
        ({"rate": 0}, "rate must be a number from 0.001"),
        ({"errors": 100}, "errors must be a number from 0 to 99"),
        ({"chance": 100}, "chance must be a number from 1 to 99"),
        ({"increase": 1}, "increase must be a number"),
        ({"history": "long"}, "history must be a number"),
    ],
)
def test_plan(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        plan({"rate": 40, "share": 10, "errors": 0.5, **settings})
