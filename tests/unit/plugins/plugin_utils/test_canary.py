# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of a canary, which members they take, the weights for a share, and what follows from a look."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput, Refused
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Admin, Health, Member, Pool
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._canary.look import Action, Policy, Seen, follow
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._canary.plan import (
    begin_state,
    next_step,
    plan_canary,
    unended,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._canary.steps import Step, steps, targets
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._canary.weights import weight_of
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._plan import Amount, Candidate
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import Canary, Promotion
from tests.unit.plugins.plugin_utils.lines import LINES

NAME = "rollout_canary_steps"
HALF = Amount(50, True)


def fleet(count: int, new: int = 0) -> list[Candidate]:
    return [Candidate(f"web{n}", "2.0" if n <= new else "1.0", in_service=True) for n in range(1, count + 1)]


# -- steps --------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        [{"members": 1}, {"members": "25%"}, {"members": "100%"}],
        '[{"members": 1}, {"members": "25%"}, {"members": "100%"}]',
        [{"members": "1"}, {"members": "25 %"}, {"members": "100%"}],
    ],
)
def test_steps_by_members(value: Any) -> None:
    found = steps(value, NAME)
    assert [each.members for each in found] == [Amount(1, False), Amount(25, True), Amount(100, True)]
    assert [(each.count, each.last) for each in targets(found, 12)] == [(1, False), (3, False), (12, True)]


def test_steps_by_share_with_a_hold_and_an_approval() -> None:
    found = steps([{"share": 5, "seconds": "60"}, {"share": "20%", "ask": True}], NAME)
    assert found == (Step(share=5.0, seconds=60.0), Step(share=20.0, ask=True))
    aims = targets(found, 20)
    assert [(each.count, each.share) for each in aims] == [(2, 5.0), (2, 20.0), (20, None)]


def test_nothing_is_a_tenth_of_the_members_and_then_all() -> None:
    assert [[each.count for each in targets((), total)] for total in (2, 9, 30)] == [[1, 2], [1, 9], [3, 30]]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([{"share": 0}], "above 0 and below 100, got 0"),
        ([{"share": 101}], "got 101"),
        ([{"share": 100}], "members: 100%"),
        ([{"share": "five"}], "got 'five'"),
        ([{"share": True}], "got True"),
        ([{"share": "nan"}], "got 'nan'"),
        ([{"members": 0}], "at least 1"),
        ([{"members": "two"}], "must be a count"),
        ([{"members": 2}, {"members": 1}], "members 1 comes after one with 2"),
        ([{"members": "25%"}, {"members": "25%"}], "steps must rise"),
        ([{"share": 20}, {"share": 5}], "share 5 comes after one with 20"),
        ([{"members": 1, "share": 5}], "either members or share"),
        ([{}], "either members or share"),
        ([{"member": 1}], "'member', which a step does not have"),
        ([{"members": 1, "seconds": "long"}], "seconds of rollout_canary_steps"),
        ([{"members": 1, "seconds": -1}], "seconds of rollout_canary_steps"),
        ([{"members": 1, "ask": "perhaps"}], "ask of rollout_canary_steps"),
        ("a lot", "no list of steps"),
        (5, "must be a list of steps"),
        (["1"], "must be a mapping"),
    ],
)
def test_what_is_no_step_is_refused_with_what_was_found(value: Any, said: str) -> None:
    with pytest.raises(BadInput) as refusal:
        steps(value, NAME)
    assert NAME in str(refusal.value)
    assert said in str(refusal.value)


@pytest.mark.parametrize(
    ("value", "total", "said"),
    [
        ([{"members": 3}, {"members": "25%"}], 4, "shrink"),
        ([{"share": 50}, {"members": "25%"}], 8, "shrink"),
        ([{"members": "100%"}], 4, "none would be left to compare"),
        ([{"members": 1}], 1, "1 member"),
        ([{"members": 2}, {"members": "100%"}, {"share": 99}], 4, "shrink"),
    ],
)
def test_steps_that_a_fleet_cannot_take_are_refused(value: Any, total: int, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        targets(steps(value, NAME), total)


# -- the plan -----------------------------------------------------------------


def test_the_canary_first_then_the_rest_as_in_rolling() -> None:
    found = plan_canary(fleet(10), "2.0", (), (Amount(1, False), Amount(25, True)), HALF)
    assert [len(batch) for batch in found.plan.batches] == [1, 2, 2, 2, 2, 1]
    assert found.judged_before == (1,)


def test_each_step_has_its_batches() -> None:
    given_steps = steps([{"members": 1}, {"members": "30%"}, {"share": 60}], NAME)
    found = plan_canary(fleet(10), "2.0", given_steps, (HALF,), HALF)
    assert [len(batch) for batch in found.plan.batches] == [1, 2, 5, 2]
    assert found.judged_before == (1, 2, 2)


def test_a_canary_is_no_member_that_takes_no_traffic() -> None:
    members = fleet(4)
    members[0] = Candidate("web1", "1.0", in_service=False)
    found = plan_canary(members, "2.0", (), (Amount(1, False),), HALF)
    assert found.plan.batches[0] == ("web2",)
    assert ("web1",) in found.plan.batches


def test_one_that_a_dead_run_left_out_is_taken_up_as_the_canary() -> None:
    members = fleet(4)
    members[2] = Candidate("web3", "2.0", in_service=False, left_out=True, unfinished=True)
    assert plan_canary(members, "2.0", (), (Amount(1, False),), HALF).plan.batches[0] == ("web3",)


def test_members_that_have_it_already_are_the_first_of_it() -> None:
    found = plan_canary(fleet(6, new=1), "2.0", (), (Amount(50, True),), HALF)
    assert (found.judged_before, found.plan.finished) == ((0,), ("web1",))
    state = begin_state(found, "r1", "1.0", None)
    assert next_step(state, 0) == 0
    state["step"] = 1
    assert next_step(state, 0) is None


def test_a_third_version_is_refused() -> None:
    with pytest.raises(Refused, match=r"3\.0 would be a third version"):
        plan_canary(fleet(4, new=1), "3.0", (), (Amount(1, False),), HALF)


@given(st.integers(2, 40), st.integers(0, 3), st.lists(st.integers(1, 99), max_size=4, unique=True))
def test_every_member_is_in_one_batch_and_every_step_ends_with_its_count(
    total: int, new: int, percents: list[int]
) -> None:
    new = min(new, total - 1)
    wanted = steps([{"members": f"{each}%"} for each in sorted(percents)], NAME)
    found = plan_canary(fleet(total, new), "2.0", wanted, (Amount(1, False), Amount(25, True)), HALF)
    hosts = [host for batch in found.plan.batches for host in batch]
    assert sorted([*hosts, *found.plan.finished]) == sorted(each.name for each in fleet(total))
    assert all(len(batch) <= max(1, total - found.plan.floor) for batch in found.plan.batches)
    for aim, ends in zip(found.targets, found.judged_before, strict=False):
        done = new + sum(len(batch) for batch in found.plan.batches[:ends])
        assert done == max(aim.count, new)
        assert ends < len(found.plan.batches)
    assert list(found.judged_before) == sorted(found.judged_before)


@pytest.mark.parametrize(
    ("last", "goes_on"),
    [
        ({}, True),
        ({"outcome": "held"}, True),
        ({"outcome": "frozen"}, True),
        ({"outcome": "interrupted"}, True),
        ({"strategy": "promote"}, True),
        ({"outcome": "succeeded"}, False),
        ({"outcome": "rolled_back"}, False),
        ({"strategy": "rolling"}, False),
        ({"strategy": "rollback"}, False),
        ({"plan": {}}, False),
    ],
)
def test_which_run_is_a_canary_to_go_on_with(last: dict[str, Any], goes_on: bool) -> None:
    entry = {
        "strategy": "canary",
        "outcome": None,
        "to_version": "2.0",
        "owner": "kim",
        "plan": {"canary": {"id": "r1", "from_version": "1.0"}},
        **last,
    }
    found = unended(entry)
    assert (found is not None) is goes_on
    assert found is None or (found.id, found.to_version, found.from_version) == ("r1", "2.0", "1.0")


# -- weights ------------------------------------------------------------------


def pool(*weights: int) -> Pool:
    return Pool(
        "shop",
        "1",
        tuple(Member(f"web{n}", "10.0.0.1", 80, Admin.READY, Health.UP, w, 0, 0) for n, w in enumerate(weights, 1)),
    )


@pytest.mark.parametrize(
    ("share", "canaries", "weight"), [(5, ["web1"], 16), (50, ["web1"], 300), (20, ["web1", "web2"], 25)]
)
def test_the_weight_for_a_share(share: float, canaries: list[str], weight: int) -> None:
    assert weight_of(pool(100, 100, 100, 100), canaries, share, 65535, "lb1") == weight


@pytest.mark.parametrize(("weights", "share", "highest"), [((1, 1, 1), 5, 256), ((100, 100, 100), 90, 256)])
def test_a_share_that_no_weight_gives_is_refused(weights: tuple[int, ...], share: float, highest: int) -> None:
    with pytest.raises(BadInput, match=f"A share of {share} % cannot be had on lb1.*larger weights"):
        weight_of(pool(*weights), ["web1"], share, highest, "lb1")


# -- what follows from a look -------------------------------------------------


def seen(decision: str, **more: Any) -> Seen:
    return Seen(**{"decision": decision, "rule": "evidence", "in_step": 100.0, "seconds": 60.0, **more})


@pytest.mark.parametrize(
    ("look", "policy", "action"),
    [
        (seen("promote"), {}, Action.PASS),
        (seen("promote"), {"end": "hold"}, Action.END),
        (seen("promote", in_step=59.0), {}, Action.WAIT),
        (seen("promote", dropped="lb2 is silent"), {}, Action.WAIT),
        (seen("promote", ask=True), {}, Action.ASK),
        (seen("promote", ask=True, asked=9.0), {"ask_timeout": 9.0}, Action.BACK),
        (seen("promote", ask=True, asked=9.0), {"ask_timeout": 9.0, "on_ask_timeout": "promote"}, Action.PASS),
        (seen("promote", ask=True, asked=9.0), {"ask_timeout": 9.0, "on_ask_timeout": "hold"}, Action.END),
        (seen("promote", ask=True, order="promote"), {}, Action.PASS),
        (seen("promote", order="rollback"), {}, Action.BACK),
        (seen("roll_back"), {}, Action.BACK),
        (seen("roll_back", order="promote"), {}, Action.BACK),
        (seen("wait"), {}, Action.WAIT),
        (seen("wait", order="promote"), {"end": "hold"}, Action.PASS),
        (seen("no_data", rule="canary"), {"on_inconclusive": "promote"}, Action.WAIT),
        (seen("inconclusive"), {}, Action.ASK),
        (seen("inconclusive"), {"end": "hold"}, Action.END),
        (seen("inconclusive"), {"on_inconclusive": "roll_back"}, Action.BACK),
        (seen("inconclusive"), {"on_inconclusive": "promote"}, Action.PASS),
        (seen("inconclusive"), {"on_inconclusive": "promote", "end": "hold"}, Action.END),
        (seen("inconclusive", rule="canary"), {"on_inconclusive": "promote"}, Action.BACK),
        (seen("inconclusive", rule="baseline"), {"on_inconclusive": "promote"}, Action.BACK),
        (seen("inconclusive", rule="data"), {"on_inconclusive": "promote"}, Action.BACK),
        (seen("inconclusive", dropped="lb2 is silent"), {"on_inconclusive": "promote"}, Action.BACK),
        (
            seen("inconclusive", rule="canary", asked=9.0),
            {"ask_timeout": 9.0, "on_ask_timeout": "promote"},
            Action.BACK,
        ),
    ],
)
def test_what_follows(look: Seen, policy: dict[str, Any], action: Action) -> None:
    assert follow(look, Policy(**policy)).action is action


LOOKS = st.builds(
    Seen,
    decision=st.sampled_from(["promote", "roll_back", "wait", "inconclusive", "no_data"]),
    rule=st.sampled_from(["evidence", "canary", "baseline", "data", "share"]),
    dropped=st.sampled_from(["", "lb2 is silent"]),
    order=st.sampled_from(["", "promote", "rollback"]),
    in_step=st.floats(0, 1000),
    seconds=st.floats(0, 1000),
    ask=st.booleans(),
    asked=st.floats(0, 1000),
)
POLICIES = st.builds(
    Policy,
    end=st.sampled_from(["promote", "hold"]),
    on_inconclusive=st.sampled_from(["ask", "promote", "roll_back"]),
    ask_timeout=st.floats(0, 1000),
    on_ask_timeout=st.sampled_from(["roll_back", "promote", "hold"]),
)


@given(LOOKS, POLICIES)
def test_what_was_not_seen_is_promoted_by_nobody_but_an_operator(look: Seen, policy: Policy) -> None:
    action = follow(look, policy).action
    if look.decision == "roll_back" or look.order == "rollback":
        assert action is Action.BACK
    elif look.order != "promote" and (look.dropped or look.decision in ("wait", "no_data")):
        assert action is not Action.PASS


@given(LOOKS, POLICIES)
def test_nobody_is_waited_for_beyond_the_deadline(look: Seen, policy: Policy) -> None:
    action = follow(look, policy).action
    assert action is not Action.ASK or look.asked < policy.ask_timeout


# -- settings -----------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"rollout_canary_false_alarm": 0.5},
        {"rollout_canary_false_alarm": 0},
        {"rollout_canary_missed_regression": "often"},
        {"rollout_canary_unacceptable": 1},
        {"rollout_canary_tolerate": {"speed": 2}},
        {"rollout_canary_weights": '{"errors": 0}'},
        {"rollout_canary_on_inconclusive": "hope"},
        {"rollout_canary_on_ask_timeout": "ask"},
        {"rollout_canary_end": "never"},
        {"rollout_canary_poll_seconds": 0},
        {"rollout_canary_breaker_seconds": 11},
        {"rollout_canary_min_duration": 3600},
        {"rollout_canary_steps": [{"share": 101}]},
        {"rollout_rollback_share_steps": ["50%", "25%"]},
        {"rollout_join_batches": True},
        {"rollout_canary_polls": 5},
    ],
)
def test_a_wrong_setting_is_refused_by_its_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        Canary.from_vars({**LINES, **wrong})


def test_settings_may_come_as_text() -> None:
    found = Canary.from_vars(
        {**LINES, "rollout_canary_tolerate": '{"errors": 1.2}', "rollout_canary_false_alarm": "0.02"}
    )
    assert found.verdict(5.0)["tolerate"] == {"errors": 1.2, "latency": 1.1}
    assert (found.verdict(5.0)["false_alarm"], found.verdict(5.0)["share"], found.verdict(None)["interval"]) == (
        0.02,
        5.0,
        10.0,
    )


def test_a_promotion_needs_neither_a_version_nor_where_it_comes_from() -> None:
    gone = ("rollout_version", "rollout_archive_src", "rollout_archive_checksum")
    found = Promotion.from_vars({name: value for name, value in LINES.items() if name not in gone})
    assert found.to("2.0").version == "2.0"
