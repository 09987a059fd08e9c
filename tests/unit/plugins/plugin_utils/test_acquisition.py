# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lease over a fleet: real ledgers, one for each balancer, and controllers that race for them."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.module_utils import _ledger_operations as operations
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    LeaseHeld,
    RolloutError,
    Unreachable,
    from_dict,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._ledger import Ledger
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Call, Reply
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.lease import (
    Acquisition,
    Balancers,
    Granted,
    Request,
    quorum,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.owner import are_dead, name_processes, owner


class Fleet:
    """Balancers with real ledgers in folders; some of them cut off."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cut: set[str] = set()
        self.asked: list[tuple[str, str]] = []

    def run(self, calls: Mapping[str, Call], check: bool = False) -> dict[str, Reply]:
        return {name: self._answer(name, call) for name, call in calls.items()}

    def _answer(self, name: str, call: Call) -> Reply:
        self.asked.append((name, call.operation))
        if call.host in self.cut:
            return Reply(name, error=Unreachable(f"{call.host} cannot be reached.", lost=True))
        params = {**call.params, "marks": str(self.folder / call.host)}
        try:
            return Reply(name, getattr(operations, call.operation)(params, False))
        except RolloutError as error:
            return Reply(name, error=from_dict(error.to_dict()))

    def holder(self, host: str) -> str:
        with Ledger("shop", str(self.folder / host)).look() as tables:
            lease = tables.lease() if tables else None
        return lease.holder if lease and not lease.released else ""


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


def acquisition(
    fleet: Fleet,
    name: str,
    hosts: list[str],
    total: int = 3,
    seconds: float = 60.0,
    process: str = "",
    needed: int = 0,
    sleep: Any = lambda _seconds: None,
    take_over: bool = False,
) -> Acquisition:
    request = Request("shop", name, f"{name}@here", "rolling", seconds, process)
    balancers = Balancers(fleet, request, {host: host for host in hosts})  # type: ignore[arg-type]
    return Acquisition(balancers, total, needed or quorum(total, False), take_over, sleep=sleep)


ALL = ["lb1", "lb2", "lb3"]


def test_all_balancers_give_it_in_two_steps(fleet: Fleet) -> None:
    granted = acquisition(fleet, "a", ALL).run(0)
    assert granted == Granted(1, ALL, waited=False)
    assert fleet.asked == [(host, "lease_acquire") for host in ALL]


def test_a_run_that_lives_is_not_taken_over_from(fleet: Fleet) -> None:
    acquisition(fleet, "a", ALL, seconds=5).run(0)

    def renew(_seconds: float) -> None:
        fleet.run({"lb1": Call("ledger_note", {"service": "shop", "lease": {"number": 1, "holder": "a"}}, host="lb1")})

    with pytest.raises(LeaseHeld, match="a@here"):
        acquisition(fleet, "b", ALL, sleep=renew).run(1)
    assert {fleet.holder(host) for host in ALL} == {"a"}


def test_a_silent_one_is_waited_for_and_taken_over_from(fleet: Fleet) -> None:
    acquisition(fleet, "a", ALL, seconds=1).run(0)
    granted = acquisition(fleet, "b", ALL, sleep=time.sleep).run(1)
    assert granted.waited
    assert granted.number > 1
    assert {fleet.holder(host) for host in ALL} == {"b"}


def test_a_dead_process_of_this_machine_is_not_waited_for(fleet: Fleet) -> None:
    pid = os.fork()
    if not pid:
        signal_free = threading.Event()
        signal_free.wait(60)
        os._exit(0)
    name = name_processes([pid])
    assert name
    assert not are_dead(name)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    assert are_dead(name)
    acquisition(fleet, "a", ALL, process=name).run(0)
    assert acquisition(fleet, "b", ALL, sleep=pytest.fail).run(1).waited


@pytest.mark.parametrize("name", ["", "elsewhere/pid:[1] 12:34", "nonsense"])
def test_of_another_machine_nobody_knows_who_is_dead(name: str) -> None:
    assert not are_dead(name)


def test_it_is_taken_over_where_the_user_says_so(fleet: Fleet) -> None:
    acquisition(fleet, "a", ALL).run(0)
    assert acquisition(fleet, "b", ALL, take_over=True).run(1).number == 2
    assert {fleet.holder(host) for host in ALL} == {"b"}


def test_less_than_a_majority_is_refused_and_given_back(fleet: Fleet) -> None:
    with pytest.raises(Unreachable, match="needs 2 of its balancers, and 1 can be reached"):
        acquisition(fleet, "a", ["lb1"]).run(0)
    assert fleet.holder("lb1") == ""
    fleet.cut = {"lb3"}
    with pytest.raises(Unreachable, match="lb3 cannot be reached"):
        acquisition(fleet, "a", ALL).run(0)
    assert {fleet.holder(host) for host in ALL} == {""}


def test_what_a_failed_run_left_on_a_few_does_not_stand_in_the_way_of_a_majority(fleet: Fleet) -> None:
    fleet.cut = {"lb1", "lb2"}
    acquisition(fleet, "a", ["lb3"], total=1).run(6)
    fleet.cut = set()
    granted = acquisition(fleet, "b", ALL, sleep=pytest.fail).run(0)
    assert granted.number == 8
    assert {fleet.holder(host) for host in ALL} == {"b"}


@given(total=st.integers(1, 9))
def test_two_majorities_always_meet(total: int) -> None:
    assert 2 * quorum(total, False) > total
    assert quorum(total, False) <= total
    assert quorum(total, True) == (1 if total == 2 else quorum(total, False))


@pytest.mark.parametrize("balancers", [1, 2, 3])
def test_of_controllers_that_begin_at_once_one_goes_on(fleet: Fleet, balancers: int) -> None:
    """Fifty rounds; the balancers are asked in one order, or each controller has its own."""
    hosts = ALL[:balancers]

    def begin(name: str, order: list[str], barrier: threading.Barrier) -> Granted | None:
        waits: list[float] = []

        def sleep(seconds: float) -> None:
            waits.append(seconds)
            if len([each for each in waits if each >= 0.5]) > 15:
                raise LeaseHeld("it was held for long", number=0)
            threading.Event().wait(min(seconds, 0.01) * random.random())

        request = Request("shop", name, name, "a round", 60.0)
        asked = Balancers(fleet, request, dict(zip(ALL, order, strict=False)))  # type: ignore[arg-type]
        barrier.wait()
        try:
            return Acquisition(asked, balancers, quorum(balancers, False), sleep=sleep).run(0)
        except LeaseHeld:
            return None

    for number in range(50):
        barrier = threading.Barrier(2)
        orders = [hosts, hosts[::-1] if number % 2 else hosts]
        names = [f"a{number}", f"b{number}"]
        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(begin, names, orders, [barrier] * 2))
        owners = [name for name, granted in zip(names, found, strict=True) if granted]
        assert len(owners) == 1, f"round {number}: {found}"
        assert {fleet.holder(host) for host in hosts} == set(owners)
        granted = next(each for each in found if each)
        lease = {"number": granted.number, "holder": owners[0]}
        fleet.run({h: Call("ledger_note", {"service": "shop", "lease": lease, "release": True}, host=h) for h in hosts})


def test_the_owner_is_a_user_or_a_job() -> None:
    assert f"process {os.getpid()}" in owner({}, os.getpid())
    assert owner({"awx_job_id": 12, "awx_user_name": "kim\nx"}, 1) == "AWX job 12 of kim x"
    assert owner({"tower_job_id": 12}, 1) == "AWX job 12"
