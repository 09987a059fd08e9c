# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run takes over from one that died, and what it refuses to begin beside it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import FloorBroken, Refused
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._plan import (
    Amount,
    Candidate,
    plan_maintenance,
    plan_rolling,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.resume import (
    check_resume,
    done_before,
    read_ledgers,
    refuse_other_balancers,
)


def ledger(number: int = 1, ended: bool = False, left: float = 0.0, **phases: str) -> dict[str, Any]:
    rollout = {
        "id": f"r{number}",
        "strategy": "rolling",
        "owner": "kim on desk",
        "to_version": "2.0",
        "started": 0.0,
        "plan": {"upgrade": "x.yml", "balancers": ["lb1", "lb2"]},
    }
    return {
        "lease": {"number": number, "left": left},
        "interrupted": None if ended else rollout,
        "last": rollout,
        "members": {host: {"host": host, "phase": phase, "rollout": f"r{number}"} for host, phase in phases.items()},
    }


def test_without_any_ledger_there_was_nothing() -> None:
    earlier = read_ledgers({"lb1": None, "lb2": None})
    assert not earlier.touched
    check_resume(earlier, "rolling", "9.9")


def test_the_newest_ledgers_count() -> None:
    earlier = read_ledgers(
        {"lb1": ledger(1, web1="upgrading"), "lb2": ledger(2, web1="finished", web2="draining"), "lb3": None}
    )
    assert earlier.number == 2
    assert earlier.unfinished == {"web2"}
    assert earlier.finished == {"web1"}


def test_what_one_of_them_calls_unfinished_is_so() -> None:
    earlier = read_ledgers({"lb1": ledger(web1="finished"), "lb2": ledger(web1="healthy")})
    assert earlier.unfinished == {"web1"}
    assert not earlier.finished


def test_an_end_that_reached_one_ledger_is_an_end() -> None:
    earlier = read_ledgers({"lb1": ledger(web1="finished"), "lb2": ledger(ended=True, web1="finished")})
    assert not earlier.interrupted
    check_resume(earlier, "rolling", "3.0")


def test_another_version_is_refused_with_three_ways_out() -> None:
    earlier = read_ledgers({"lb1": ledger(web1="upgrading", web2="planned")})
    check_resume(earlier, "rolling", "2.0")
    for strategy, version in (("rolling", "1.0"), ("maintain", "")):
        with pytest.raises(
            Refused, match=r"The rollout of 2.0 that kim on desk began .* left by halves: web1"
        ) as error:
            check_resume(earlier, strategy, version)
        for way in ("rollout_version=2.0", "zerodrop.rollout.rollback", "zerodrop.rollout.recover"):
            assert way in error.value.hint


def test_one_that_touched_nothing_stands_in_nobodys_way() -> None:
    check_resume(read_ledgers({"lb1": ledger(web1="planned")}), "rolling", "3.0")


def test_while_it_may_live_the_lease_decides() -> None:
    check_resume(read_ledgers({"lb1": ledger(left=3.0, web1="upgrading")}), "rolling", "3.0")


def test_a_maintenance_goes_on_where_it_was() -> None:
    found = ledger(web1="finished", web2="upgrading")
    found["interrupted"].update(strategy="maintain", to_version=None)
    earlier = read_ledgers({"lb1": found})
    check_resume(earlier, "maintain", "")
    assert done_before(earlier, "maintain", "x.yml") == {"web1"}
    assert done_before(earlier, "maintain", "y.yml") == set()
    assert done_before(earlier, "rolling", "x.yml") == set()


@pytest.mark.parametrize("plan", [lambda *args: plan_rolling(args[0], "2.0", *args[1:]), plan_maintenance])
def test_what_a_dead_run_left_out_is_repaired_also_where_the_floor_leaves_no_room_without_it(plan: Any) -> None:
    """It serves again when its batch is over, so the next one may be taken out then, and not before."""
    members = [Candidate("web1", "1.0", in_service=True), Candidate("web2", "1.0", in_service=False, left_out=True)]
    found = plan(members, [Amount(2, False)], Amount(1, False))
    assert found.batches == (("web2",), ("web1",))
    with pytest.raises(FloorBroken):
        plan([members[0], Candidate("web2", "1.0", in_service=False)], [Amount(2, False)], Amount(1, False))


MEMBERS = st.lists(
    st.builds(
        Candidate,
        name=st.just("x"),
        release=st.sampled_from([None, "1.0", "2.0"]),
        in_service=st.booleans(),
        healthy=st.booleans(),
        left_out=st.booleans(),
        unfinished=st.booleans(),
        done=st.booleans(),
    ),
    min_size=1,
    max_size=8,
)


@given(MEMBERS)
def test_repairs_come_first_then_the_unknown_then_the_rest_and_the_finished_are_left(found: list[Candidate]) -> None:
    members = {f"web{number}": each for number, each in enumerate(found)}
    candidates = [Candidate(**{**vars(each), "name": name}) for name, each in members.items()]
    plan = plan_rolling(candidates, "2.0", [Amount(1, False)], Amount(0, False))
    order = [members[host] for batch in plan.batches for host in batch]
    ranks = [0 if each.needs_repair else 1 if each.release is None else 2 for each in order]
    assert ranks == sorted(ranks)
    for host in plan.finished:
        each = members[host]
        assert each.release == "2.0"
        assert each.healthy
        assert not each.left_out
        assert not each.unfinished


@given(MEMBERS)
def test_a_maintenance_that_goes_on_leaves_what_is_done_and_well(found: list[Candidate]) -> None:
    candidates = [Candidate(**{**vars(each), "name": f"web{number}"}) for number, each in enumerate(found)]
    plan = plan_maintenance(candidates, [Amount(1, False)], Amount(0, False))
    assert set(plan.finished) == {each.name for each in candidates if each.done and not each.needs_repair}
    assert {host for batch in plan.batches for host in batch} | set(plan.finished) == {each.name for each in candidates}


@pytest.mark.parametrize("ended", [False, True])
def test_a_part_of_the_balancers_is_refused(ended: bool) -> None:
    """As in a slice of a job, beside which another one would have the lease on the others."""
    earlier = read_ledgers({"lb1": ledger(ended=ended)})
    with pytest.raises(Refused, match="had lb2 among its balancers") as refusal:
        refuse_other_balancers(earlier, ["lb1"], [])
    assert "rollout_balancers_removed=lb2" in refusal.value.hint


@pytest.mark.parametrize(
    ("balancers", "removed"), [(["lb1", "lb2"], []), (["lb1"], ["lb2"]), (["lb1", "lb2", "lb3"], ["lb9"])]
)
def test_all_of_them_and_what_was_said_to_be_gone_are_not(balancers: list[str], removed: list[str]) -> None:
    refuse_other_balancers(read_ledgers({"lb1": ledger()}), balancers, removed)
    refuse_other_balancers(read_ledgers({"lb1": None}), balancers, removed)
