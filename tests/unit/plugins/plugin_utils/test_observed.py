# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What balancers tell, added up into one poll: nothing is lost, and what is missing is said."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import RolloutError, Unreachable
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._observed import Tale, added_up
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
