# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The floor in load, in the drain of a batch: it shrinks, it waits, or it is refused with the figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput, FloorBroken, RolloutError
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Call, Reply
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout import load
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import Record
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import Settings
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._shown import shown
from tests.unit.plugins.plugin_utils.lines import LINES
from tests.unit.plugins.plugin_utils.test_batch import (  # noqa: F401  # pylint: disable=unused-import
    BALANCERS,
    MEMBERS,
    FakeRemote,
    phases,
    record,
)

TASKS = {"rollout_upgrade_tasks": "deploy.yml", **dict.fromkeys(("rollout_upgrade_method", "rollout_archive_src"), "")}
TASKS["rollout_archive_checksum"] = ""
OF_LOAD = {"rollout_floor": "load", "rollout_member_capacity": 100, "rollout_floor_wait": 0}


class Loaded(FakeRemote):
    """With a load on each balancer, which may be another one at every look."""

    def __init__(self, *rates: float) -> None:
        super().__init__()
        self.rates = list(rates)
        self.paused = 0.0

    def pause(self, seconds: float) -> None:
        self.paused += seconds

    def run(self, calls: Mapping[str, Call], check: bool = False) -> dict[str, Reply]:
        found = super().run(calls, check)
        if any(call.operation == "pool_load" for call in calls.values()) and len(self.rates) > 1:
            self.rates.pop(0)
        return found

    def _pool_load(self, balancer: str, params: Mapping[str, Any]) -> dict[str, Any]:
        serving = {name: self.admin[balancer, name] == "ready" for name in MEMBERS}
        return {
            "rate": self.rates[0],
            "in_flight": 1.0,
            "queued": 0.0,
            "response_ms": 10,
            "trouble": "",
            "members": {name: {"in_service": each, "weight": 1, "limit": 0} for name, each in serving.items()},
        }

    @property
    def drained(self) -> list[list[str]]:
        return [call.params["members"] for host, call in self.calls if call.operation == "pool_drain" and host == "lb1"]


@pytest.fixture
def loaded(record: Record) -> Record:  # noqa: F811  # pylint: disable=redefined-outer-name
    record.capacity = dict.fromkeys(MEMBERS, 100.0)
    return record


def of(**more: object) -> Settings:
    return Settings.from_vars({**LINES, **OF_LOAD, **more})


def test_a_batch_that_fits_goes_whole_and_each_balancer_gets_its_bound(loaded: Record) -> None:
    remote = Loaded(40)  # on each of two balancers
    outcome = phases(of(), remote, loaded, "web1", "web2").drain()
    assert outcome.error is None
    assert remote.drained == [["web1", "web2"]]
    bounds = [call.params["bounds"] for _host, call in remote.calls if call.operation == "pool_drain"]
    assert bounds == [{"rate": pytest.approx(50)}] * 2
    assert loaded.batches == [["web1", "web2"], ["web3"]]


def test_a_batch_shrinks_and_the_rest_is_the_next_one(loaded: Record) -> None:
    remote = Loaded(70)
    batch = phases(of(), remote, loaded, "web1", "web2")
    batch.drain()
    assert remote.drained == [["web1"]]
    assert [member.host for member in batch.members("drained")] == ["web1"]
    assert loaded.batches == [["web1"], ["web2"], ["web3"]]
    assert "web2 wait for another batch, for the load: 140 requests/s now" in loaded.notes[0]


def test_steps_of_a_canary_are_judged_after_as_many_members_as_before(loaded: Record) -> None:
    loaded.canary = {"judged_before": [1, 2], "end": ""}
    load.split_batch(loaded, ["web1", "web2"], 1, back=False)
    assert loaded.canary["judged_before"] == [2, 3]
    loaded.canary["judged_before"] = [1, 3]
    load.split_batch(loaded, ["web3"], 0, back=False)
    assert loaded.canary["judged_before"] == [1, 4]


def test_it_waits_until_the_load_falls(loaded: Record) -> None:
    remote = Loaded(120, 120, 40)
    outcome = phases(of(rollout_floor_wait=60), remote, loaded, "web1").drain()
    assert outcome.error is None
    assert remote.paused == 1.0
    assert remote.drained == [["web1"]]


def test_after_its_wait_it_is_refused_with_the_figures(loaded: Record) -> None:
    remote = Loaded(120)
    outcome = phases(of(), remote, loaded, "web1").drain()
    assert isinstance(outcome.error, FloorBroken)
    assert "240 requests/s now, and the 2 members that would stay carry 200" in str(outcome.error)
    assert loaded.stop is not None
    assert loaded.stop.code == "floor"
    assert remote.drained == []
    assert loaded.members["web1"].out_at is None


def test_a_batch_with_tasks_of_the_user_s_own_is_never_split(loaded: Record) -> None:
    settings = of(**TASKS)
    outcome = phases(settings, Loaded(70), loaded, "web1", "web2").drain()
    assert isinstance(outcome.error, FloorBroken)
    assert loaded.batches == [["web1", "web2"], ["web3"]]


def test_what_rises_between_the_look_and_the_change_is_decided_anew(loaded: Record) -> None:
    remote = Loaded(40, 70)
    too_much: list[RolloutError] = [FloorBroken("too little for the load", load="95 requests/s")]
    plain = remote._pool_drain

    def pool_drain(balancer: str, params: Mapping[str, Any]) -> dict[str, Any]:
        if balancer == "lb2" and too_much:
            raise too_much.pop()
        return plain(balancer, params)

    remote._pool_drain = pool_drain  # type: ignore[method-assign]
    outcome = phases(of(rollout_floor_wait=60), remote, loaded, "web1", "web2").drain()
    assert outcome.error is None
    assert remote.drained[-1] == ["web1"]
    assert loaded.batches[0] == ["web1"]


def test_a_member_that_is_out_already_may_always_go_on(loaded: Record) -> None:
    remote = Loaded(500)
    for balancer in BALANCERS:
        remote.admin[balancer, "web1"] = "out"
    assert phases(of(), remote, loaded, "web1").drain().error is None


def test_each_member_may_have_a_capacity_of_its_own() -> None:
    hostvars = {"web1": {"rollout_member_capacity": "80"}, "web2": {}}
    assert load.capacities(of(), list(hostvars), hostvars) == {"web1": 80.0, "web2": 100.0}
    with pytest.raises(BadInput, match="rollout_member_capacity of web1"):
        load.capacities(of(), ["web1"], {"web1": {"rollout_member_capacity": "much"}})


@pytest.mark.parametrize(
    ("given", "members", "counts"),
    [
        ("load", "50%", True),
        ({"members": 3, "load": True}, "3", True),
        ('{"load": true}', "50%", True),
        ({"members": "25%"}, "25%", False),
        ("25%", "25%", False),
    ],
)
def test_the_forms_of_a_floor(given: object, members: str, counts: bool) -> None:
    floor = of(rollout_floor=given).floor
    assert (str(floor).partition(" and")[0], floor.load) == (members, counts)


@pytest.mark.parametrize("wrong", ["loads", {"load": "much"}, {"zones": 1}, "{", {"members": "half"}, True])
def test_a_wrong_floor_is_refused(wrong: object) -> None:
    with pytest.raises(BadInput, match="rollout_floor"):
        of(rollout_floor=wrong)


@pytest.mark.parametrize("wrong", [20, "20", "-1%", "200%"])
def test_headroom_is_a_percentage(wrong: object) -> None:
    with pytest.raises(BadInput, match="rollout_headroom"):
        of(rollout_headroom=wrong)


def test_a_report_shows_it() -> None:
    assert shown(of())["rollout_floor"] == {"members": "50%", "load": True}
