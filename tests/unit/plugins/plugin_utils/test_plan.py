# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Planning: batches, floor, the way back; by examples and by properties."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput, FloorBroken, Refused
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._plan import (
    Amount,
    Candidate,
    Upgraded,
    bake_seconds,
    cut_in_batches,
    first_zone_only,
    floor_members,
    mixed_versions_seconds,
    plan_back,
    plan_maintenance,
    plan_rolling,
    pool_differences,
)

HALF = Amount(50, True)


def fleet(count: int, release: str | None = "1.0") -> list[Candidate]:
    return [Candidate(f"web{number}", release, in_service=True) for number in range(1, count + 1)]


@pytest.mark.parametrize(
    ("given_value", "amount"),
    [(2, Amount(2, False)), ("2", Amount(2, False)), ("25%", Amount(25, True)), (" 25 % ", Amount(25, True))],
)
def test_an_amount_is_a_count_or_a_percentage(given_value: object, amount: Amount) -> None:
    assert Amount.parse(given_value, "rollout_batches", minimum=1) == amount


@pytest.mark.parametrize("wrong", [0, "0", "0%", "150%", -1, "-1", "two", "", None, True, 1.5, "1.5", "%", "²", [1]])
def test_a_wrong_amount_is_refused_by_its_setting_s_name(wrong: object) -> None:
    with pytest.raises(BadInput, match="rollout_batches"):
        Amount.parse(wrong, "rollout_batches", minimum=1)


def test_a_ramp_goes_on_with_its_last_value() -> None:
    ramp = (Amount(1, False), Amount(25, True))
    plan = plan_rolling(fleet(8), "2.0", ramp, HALF)
    assert [len(batch) for batch in plan.batches] == [1, 2, 2, 2, 1]
    assert (plan.floor, plan.from_version, plan.finished, plan.shrunk) == (4, "1.0", (), False)


def test_a_batch_shrinks_to_keep_the_floor() -> None:
    plan = plan_rolling(fleet(4), "2.0", (Amount(100, True),), Amount(75, True))
    assert [len(batch) for batch in plan.batches] == [1, 1, 1, 1]
    assert plan.shrunk


@pytest.mark.parametrize("floor", [Amount(100, True), Amount(4, False)])
def test_a_floor_that_no_batch_can_meet_is_refused(floor: Amount) -> None:
    with pytest.raises(FloorBroken, match="4 of 4 members are in service and the floor is 4"):
        plan_rolling(fleet(4), "2.0", (Amount(1, False),), floor)


def test_a_floor_above_the_members_is_refused() -> None:
    with pytest.raises(FloorBroken, match="only 4 members"):
        floor_members(Amount(5, False), 4)


def test_a_finished_rollout_has_nothing_left() -> None:
    plan = plan_rolling(fleet(4, "2.0"), "2.0", (Amount(1, False),), HALF)
    assert plan.batches == ()
    assert plan.finished == ("web1", "web2", "web3", "web4")


def test_repairs_come_first_and_cost_no_capacity() -> None:
    members = fleet(3) + [Candidate("web4", "2.0", in_service=False, healthy=False)]
    plan = plan_rolling(members, "2.0", (Amount(2, False),), HALF)
    assert plan.batches[0] == ("web4", "web1")


def test_a_third_version_is_refused_and_says_who_runs_what() -> None:
    members = [*fleet(2), Candidate("web3", "1.5", in_service=True)]
    with pytest.raises(Refused, match=r"third version.*1\.0 on web1, web2; 1\.5 on web3"):
        plan_rolling(members, "2.0", (Amount(1, False),), HALF)


amounts = st.one_of(
    st.integers(1, 40).map(lambda value: Amount(value, False)), st.integers(1, 100).map(lambda v: Amount(v, True))
)


@given(
    st.lists(st.tuples(st.sampled_from(["1.0", "2.0", None]), st.booleans(), st.booleans()), max_size=40),
    st.lists(amounts, min_size=1, max_size=4),
    st.integers(0, 100),
)
def test_every_plan_is_whole_and_keeps_the_floor(
    states: list[tuple[str | None, bool, bool]], batches: list[Amount], percent: int
) -> None:
    members = [
        Candidate(f"web{n}", release, in_service, healthy) for n, (release, in_service, healthy) in enumerate(states)
    ]
    try:
        plan = plan_rolling(members, "2.0", batches, Amount(percent, True))
    except FloorBroken:
        return
    planned = [name for batch in plan.batches for name in batch]
    assert sorted([*planned, *plan.finished]) == sorted(each.name for each in members)
    assert all(plan.batches), "no batch is empty"
    capacity = {each.name: each.in_service for each in members}
    for batch in plan.batches:
        out = sum(capacity[name] for name in batch)
        assert out == 0 or plan.in_service - out >= plan.floor


@given(st.lists(st.booleans(), max_size=30), st.lists(amounts, min_size=1, max_size=4), st.integers(1, 10))
def test_cutting_keeps_every_member_in_order(counts: list[bool], batches: list[Amount], spare: int) -> None:
    todo = [(str(number), counts_one) for number, counts_one in enumerate(counts)]
    result, _shrunk = cut_in_batches(todo, batches, len(todo), spare)
    assert [name for batch in result for name in batch] == [name for name, _unused in todo]
    assert all(sum(dict(todo)[name] for name in batch) <= spare for batch in result)


def changed(name: str, *, passed: bool = True, reachable: bool = True, target: str | None = "1.0") -> Upgraded:
    return Upgraded(name, passed=passed, reachable=reachable, target=target)


def test_a_failed_member_goes_back_first_then_the_newest() -> None:
    members = [changed("web1"), changed("web2"), changed("web3", passed=False)]
    assert plan_back(members, "rollback", (Amount(1, False),), 6, 3) == (("web3",), ("web2",), ("web1",))


def test_a_freeze_takes_back_only_what_failed() -> None:
    members = [changed("web1"), changed("web2", passed=False)]
    assert plan_back(members, "freeze", (Amount(1, False),), 6, 3) == (("web2",),)


def test_nothing_goes_back_that_is_lost_or_has_no_release_to_go_to() -> None:
    members = [changed("web1", passed=False, reachable=False), changed("web2", passed=False, target=None)]
    assert plan_back(members, "rollback", (Amount(1, False),), 6, 3) == ()


def test_mixed_versions_are_the_time_between_first_new_and_last_old() -> None:
    assert mixed_versions_seconds(2.0, 5.5) == 3.5
    assert mixed_versions_seconds(2.0, 1.0) == 0.0
    assert mixed_versions_seconds(None, 5.0) == 0.0


def test_pools_that_differ_are_told_row_by_row() -> None:
    same = {"web1": "10.0.0.1:80", "web2": "10.0.0.2:80", "web3": "10.0.0.3:80"}
    assert pool_differences({"lb1": same, "lb2": dict(reversed(same.items()))}) == ""
    other = {"web1": "10.0.0.1:80", "web2": "10.0.0.2:8080", "app3": "10.0.0.3:80"}
    assert pool_differences({"lb1": same, "balancer2": other}).split("\n") == [
        "member  lb1          balancer2",
        "web2    10.0.0.2:80  10.0.0.2:8080",
        "web3    10.0.0.3:80  missing",
        "app3    missing      10.0.0.3:80",
        "10.0.0.3:80 has different names: web3 on lb1, app3 on balancer2.",
    ]


def test_the_floor_is_of_the_whole_pool_also_when_only_a_part_is_upgraded() -> None:
    part = fleet(2)
    plan = plan_rolling(part, "2.0", (Amount(100, True),), Amount(75, True), others=[True] * 6)
    assert (plan.floor, plan.in_service, plan.batches) == (6, 8, (("web1", "web2"),))
    with pytest.raises(FloorBroken, match="6 of 8 members are in service and the floor is 6"):
        plan_rolling(part, "2.0", (Amount(1, False),), Amount(75, True), others=[True] * 4 + [False] * 2)


def test_maintenance_walks_through_every_member_whatever_it_runs() -> None:
    members = [Candidate("web1", "1.0", True), Candidate("web2", "2.0", True), Candidate("web3", "3.0", True)]
    plan = plan_maintenance(members, (Amount(1, False),), HALF)
    assert plan.batches == (("web1",), ("web2",), ("web3",))
    assert (plan.finished, plan.from_version, plan.floor) == ((), None, 2)
    assert plan_maintenance(fleet(2), (Amount(1, False),), HALF).from_version == "1.0"


def test_maintenance_begins_with_the_members_that_were_left_out() -> None:
    members = [
        *fleet(3),
        Candidate("ill", "1.0", in_service=True, healthy=False),
        Candidate("left", None, in_service=False, left_out=True),
    ]
    plan = plan_maintenance(members, (Amount(1, False), Amount(2, False)), HALF)
    assert plan.batches[0] == ("left",)
    assert plan.batches[1][0] == "ill"


def test_maintenance_keeps_the_floor() -> None:
    plan = plan_maintenance(fleet(4), (Amount(4, False),), Amount(3, False))
    assert [len(batch) for batch in plan.batches] == [1, 1, 1, 1]
    assert plan.shrunk
    with pytest.raises(FloorBroken):
        plan_maintenance(fleet(4), (Amount(1, False),), Amount(4, False))


# -- zones ----------------------------------------------------------------------


def zoned(*zones: str) -> list[Candidate]:
    return [Candidate(f"web{number}", "1.0", in_service=True, zone=zone) for number, zone in enumerate(zones, 1)]


def test_one_zone_goes_after_the_other() -> None:
    plan = plan_rolling(zoned("a", "b", "a", "b"), "2.0", (Amount(2, False),), HALF)
    assert plan.batches == (("web1", "web3"), ("web2", "web4"))
    plan = plan_rolling(zoned("a", "b", "a", "c"), "2.0", (Amount(3, False),), Amount(25, True))
    assert plan.batches == (("web1", "web3"), ("web2",), ("web4",))


def test_the_way_back_keeps_zones_apart() -> None:
    changed = [Upgraded(f"web{number}", True, True, "1.0") for number in range(1, 5)]
    zones = {"web1": "a", "web2": "a", "web3": "a", "web4": "b"}
    assert plan_back(changed, "rollback", (Amount(2, False),), 8, 4, zones) == (("web4",), ("web3", "web2"), ("web1",))


def test_with_approval_a_run_ends_after_its_first_zone() -> None:
    members = zoned("a", "a", "b", "c")
    zones = {each.name: each.zone for each in members}
    plan = first_zone_only(plan_rolling(members, "2.0", (Amount(1, False),), HALF), zones)
    assert (plan.batches, plan.later) == ((("web1",), ("web2",)), ("web3", "web4"))
    done = [replace(each, release="2.0") if each.zone == "a" else each for each in members]
    plan = first_zone_only(plan_rolling(done, "2.0", (Amount(1, False),), HALF), zones)
    assert (plan.batches, plan.later) == ((("web3",),), ("web4",))


def test_the_first_zone_bakes_longer() -> None:
    zones = {"web1": "a", "web2": "a", "web3": "b", "web4": "c"}
    batches = [["web1"], ["web2"], ["web3"], ["web4"]]
    assert [bake_seconds(batches, batch, zones, 600, 60) for batch in batches] == [0, 0, 600, 60]


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.booleans(), st.booleans(), st.sampled_from(["1.0", "2.0"])),
        min_size=1,
        max_size=12,
    ),
    st.integers(1, 6),
    st.integers(0, 6),
)
def test_no_two_zones_are_out_at_once(members: list[tuple[str, bool, bool, str]], size: int, floor: int) -> None:
    """By the rollout's doing: a member in service is taken out only when no other zone lacks one that we can give back."""
    candidates = [
        Candidate(f"web{number}", release, in_service, healthy=in_service, left_out=left and not in_service, zone=zone)
        for number, (zone, in_service, left, release) in enumerate(members)
    ]
    by_name = {each.name: each for each in candidates}
    for maintenance in (False, True):
        sizes, least = (Amount(size, False),), Amount(floor, False)
        try:
            if maintenance:
                plan = plan_maintenance(candidates, sizes, least)
            else:
                plan = plan_rolling(candidates, "2.0", sizes, least)
        except FloorBroken:
            continue
        several = len({by_name[name].zone for batch in plan.batches for name in batch}) > 1
        out = {name for batch in plan.batches for name in batch if not by_name[name].in_service}
        seen: list[str] = []
        for batch in plan.batches:
            zones = {by_name[name].zone for name in batch}
            assert len(zones) == 1
            taken = [name for name in batch if by_name[name].in_service]
            others = {by_name[name].zone for name in out - set(batch)} - zones
            assert not (several and taken and others), (batch, out)
            out -= set(batch)
            seen += [by_name[name].zone for name in taken][:1]
        order = [zone for number, zone in enumerate(seen) if number == 0 or seen[number - 1] != zone]
        assert len(order) == len(set(order)), "a zone that was done is not begun again"
