# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What balancers tell, added up into one poll: nothing is lost, and what is missing is said."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadReply, RolloutError, Unreachable
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._observed import Tale, added_up
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._observed_command import ask_command, since, totals_of
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.polls import read_polls

ARMS = {"web1": "canary", "web2": "baseline", "web3": "baseline"}
BUCKETS = 3


def row(requests: int = 10, errors: int = 0, **more: Any) -> dict[str, Any]:
    return {"requests": requests, "errors": errors, "kinds": {"cut": errors}, **more}


def tale(**more: Any) -> Tale:
    return Tale({host: row(latency=[5, 3, 2]) for host in ARMS}, buckets=BUCKETS, **more)


@st.composite
def rows(draw: st.DrawFn) -> dict[str, Any]:
    requests = draw(st.integers(0, 1000))
    errors = draw(st.integers(0, requests))
    fast = draw(st.integers(0, requests))
    return row(requests, errors, latency=[fast, 0, requests - fast])


tales = st.dictionaries(
    st.sampled_from(["lb1", "lb2", "lb3"]),
    st.one_of(
        st.builds(
            Tale,
            st.fixed_dictionaries({host: rows() for host in ARMS}),
            st.sampled_from(["", "it was reloaded"]),
            st.just(()),
            st.just(BUCKETS),
        ),
        st.builds(Unreachable, st.just("no answer")),
    ),
    min_size=1,
)


@given(tales)
def test_what_counts_is_the_sum_and_what_is_missing_is_said(told: dict[str, Tale | RolloutError]) -> None:
    seen = added_up(12.5, ARMS, told)
    (poll,) = read_polls([seen.poll], 10)  # the verdict takes it
    answers = [each for each in told.values() if isinstance(each, Tale)]
    for host, member in zip(ARMS, seen.poll["members"], strict=True):
        assert member["name"] == host
        assert member["requests"] == sum(each.members[host]["requests"] for each in answers)
        assert member["errors"] == sum(each.members[host]["errors"] for each in answers)
        assert sum(member.get("latency", [])) == member["requests"]
    reset = any(each.reset for each in answers)
    assert (seen.dropped is not None) == (reset or not answers)
    assert poll.skip == (seen.dropped or "")
    silent = len(told) - len(answers)
    assert bool(poll.partial) == bool(silent and answers and not reset)
    assert all(any(name in note for note in seen.notes) for name, each in told.items() if not isinstance(each, Tale))
    assert sum(seen.kinds["canary"].values()) == seen.poll["members"][0]["errors"]


def test_a_source_without_histograms_beside_one_that_has_them() -> None:
    counters = Tale({host: row() for host in ARMS})
    seen = added_up(1, ARMS, {"lb1": tale(), "lb2": counters})
    assert seen.poll["members"][0]["latency"] == [5, 3, 2]
    assert seen.poll["members"][0]["requests"] == 20
    assert "latency" not in added_up(1, ARMS, {"lb2": counters}).poll["members"][0]


def test_each_note_once() -> None:
    seen = added_up(1, ARMS, {"lb1": tale(notes=("blind", "blind")), "lb2": tale(notes=("blind",))})
    assert seen.notes == ("lb1: blind", "lb2: blind")


# -- a command of the user's ------------------------------------------------


def printed(**members: Any) -> str:
    return json.dumps({"members": members})


def test_a_command_is_asked_without_a_shell(tmp_path: Path) -> None:
    text = printed(web1={"requests": 5, "errors": 1})
    said = ask_command([sys.executable, "-c", "import sys; print(sys.argv[1])", text], 20)
    assert totals_of(said, ["web1"]) == {"web1": {"requests": 5, "errors": 1}}
    marker = tmp_path / "made"
    assert ask_command(["/bin/echo", f"$(touch {marker})"], 20).startswith("$(touch")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["/nothing/there"], "cannot be run"),
        ([sys.executable, "-c", "import sys; sys.exit('no database')"], "ended with 1 and said: no database"),
        ([sys.executable, "-c", "import time; time.sleep(20)"], "did not end within 0.3 s"),
    ],
)
def test_a_command_that_fails_is_no_count(argv: list[str], words: str) -> None:
    with pytest.raises(RolloutError, match=words):
        ask_command(argv, 0.3 if "sleep" in argv[-1] else 20)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nothing", "printed 'nothing'; expected"),
        ("[]", r"printed '\[\]'; expected"),
        (printed(), "printed no web1"),
        (printed(web1={"requests": 5}), "printed no errors"),
        (printed(web1={"requests": -5, "errors": 0}), "whole numbers from 0 up"),
        (printed(web1={"requests": 5, "errors": 6}), "parts of the requests"),
        (printed(web1={"requests": 5, "errors": True}), "whole numbers from 0 up"),
    ],
)
def test_what_a_command_prints_is_checked(text: str, words: str) -> None:
    with pytest.raises(BadReply, match=words):
        totals_of(text, ["web1"])


def test_totals_that_fall_are_said() -> None:
    before = {"web1": {"requests": 50, "errors": 2}, "web2": {"requests": 90, "errors": 0}}
    now = {"web1": {"requests": 4, "errors": 0}, "web2": {"requests": 100, "errors": 1}}
    told = since(before, now)
    assert told.reset == "the totals of web1 fell, or are new"
    assert told.members["web2"]["requests"] == 10


@given(st.lists(st.tuples(st.integers(0, 500), st.floats(0, 1)), min_size=2, max_size=20))
def test_differences_of_totals_are_the_whole(steps: list[tuple[int, float]]) -> None:
    total: dict[str, Any] = {"requests": 0, "errors": 0, "latency": [0, 0]}
    states = []
    for count, bad in steps:
        total = {
            "requests": total["requests"] + count,
            "errors": total["errors"] + int(count * bad),
            "latency": [total["latency"][0] + count, 0],
        }
        states.append(totals_of(printed(web1=total), ["web1"]))
    told = [since(one, other) for one, other in itertools.pairwise(states)]
    assert not any(each.reset for each in told)
    assert sum(each.members["web1"]["requests"] for each in told) == sum(count for count, _bad in steps[1:])
