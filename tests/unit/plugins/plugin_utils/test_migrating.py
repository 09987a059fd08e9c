# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A step begins when every ledger has it, and only then; what became of it is kept, or is not known."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import Stopped, Unreachable
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout import migrating, migration
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.ending import decide_back
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.fleet import Fleet
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.migration import Migration, Step
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import LeaseRecord, Record
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import Settings
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._work import Work
from tests.unit.plugins.plugin_utils.test_batch import BALANCERS, FakeRemote, record, remote, settings

__all__ = ("record", "remote", "settings")  # fixtures

WORK = {name: Work(command=(name,)) for name in migration.STEPS}


class Fake(FakeRemote):
    """Its members run a version each."""

    def __init__(self) -> None:
        super().__init__()
        self.version = "1.0"

    def _member_info(self, host: str, params: Any) -> dict[str, Any]:
        return {"release": self.version, "runs": self.version, "healthy": True}


@pytest.fixture
def fake() -> Fake:
    return Fake()


@pytest.fixture
def fleet(settings: Settings, fake: Fake, record: Record) -> Fleet:
    request = {"service": "shop", "holder": "r1", "owner": "kim", "reason": "rolling", "seconds": 60.0, "process": ""}
    record.lease = LeaseRecord(
        4, "r1", request, 2, {name: name for name in BALANCERS}, time.clock_gettime(time.CLOCK_BOOTTIME)
    )
    record.migration = Migration("2.0", "1.0", ("2.0",), 1, contract=True).to_dict()
    record.migrate_on = "db1"
    return Fleet(replace(settings, **WORK), fake, record, False)  # type: ignore[arg-type]


def told(fake: Fake, balancer: str = "lb1") -> list[str]:
    """What a ledger heard of the steps, in turn."""
    notes = [
        call.params["migration"]["told"] for host, call in fake.calls if host == balancer and "migration" in call.params
    ]
    return [" ".join(f"{name} {step['state']}" for name, step in each["steps"].items()) for each in notes]


def begin(fleet: Fleet, step: str) -> migrating.Begun:
    return migrating.begin(fleet, step, ["migration", "db1"])


def all_are(fleet: Fleet, state: str) -> None:
    for member in fleet.record.members.values():
        member.state = state


def test_every_ledger_knows_before_it_begins_and_after_it(fleet: Fleet, fake: Fake) -> None:
    begun = begin(fleet, "expand")
    assert (begun.run, begun.work) == (True, Work(command=("expand",)))
    assert [told(fake, name) for name in BALANCERS] == [["expand running"]] * 2
    assert migrating.end(fleet, "expand", {"ok": True}, 0.0)[1] is None
    assert told(fake, "lb2") == ["expand running", "expand done"]
    assert not begin(fleet, "expand").run


def test_where_one_balancer_cannot_be_told_it_does_not_begin(fleet: Fleet, fake: Fake) -> None:
    fake.errors["lb2", "ledger_note"] = Unreachable("gone", lost=True)
    begun = begin(fleet, "expand")
    assert not begun.run
    assert "lb2: gone" in str(begun.error)
    assert fleet.record.stop is not None
    assert told(fake) == ["expand running", "expand failed"]  # nothing is unknown there


def test_a_host_that_is_lost_leaves_it_unknown(fleet: Fleet, fake: Fake) -> None:
    begin(fleet, "expand")
    message, error = migrating.end(fleet, "expand", {}, 0.0)
    assert isinstance(error, Unreachable)
    assert "rollout_settle='expand ran'" in message
    assert told(fake) == ["expand running"]
    assert not begin(fleet, "compat").run


@pytest.mark.parametrize(
    ("step", "hint"), [("expand", "rollout_settle='expand ran'"), ("compat", "take the expand back")]
)
def test_a_step_that_fails_stops_with_the_old_version_serving(fleet: Fleet, step: str, hint: str) -> None:
    begin(fleet, step)
    _message, error = migrating.end(fleet, step, {"ok": False, "said": "no room"}, 0.0)
    assert f"The {step} failed on db1: no room." in str(error)
    assert hint in str(error)
    assert "1.0 serves" in str(error)


def test_the_contract_waits_for_every_member_and_for_its_time(fleet: Fleet, fake: Fake) -> None:
    all_are(fleet, "finished")
    fake.version = "2.0"
    assert not begin(fleet, "contract").run  # an hour is not over
    at_once = replace(fleet, settings=replace(fleet.settings, contract_after=0.0))
    fake.version = "1.0"
    begun = begin(at_once, "contract")
    assert "1.0 on web1" in str(begun.error)
    assert told(fake) == []
    fleet.record.stop = None
    fake.version = "2.0"
    fake.errors["web3", "member_info"] = Unreachable("gone")
    assert "web3 cannot be asked" in str(begin(at_once, "contract").error)
    fleet.record.stop = None
    del fake.errors["web3", "member_info"]
    fleet.record.others = [True]
    assert "not in rollout_hosts" in str(begin(at_once, "contract").error)
    fleet.record.stop, fleet.record.others = None, []
    assert begin(at_once, "contract").run


def test_the_way_back_is_taken_back_only_where_nothing_new_is_left(fleet: Fleet, fake: Fake) -> None:
    fleet.record.migration = Migration("2.0", "1.0", ("2.0",), 1, {"expand": Step("done", "r1")}).to_dict()
    fleet.record.halt("gate", Unreachable("x"), [])
    all_are(fleet, "rolled_back")
    fleet.record.members["web1"].state = "finished"
    assert not begin(fleet, "expand_undo").run
    fleet.record.members["web1"].state = "rolled_back"
    assert begin(fleet, "expand_undo").run


def test_who_was_asked_to_stop_takes_nothing_back(fleet: Fleet) -> None:
    fleet.record.migration = Migration("2.0", "1.0", ("2.0",), 1, {"expand": Step("done", "r1")}).to_dict()
    fleet.record.halt("stop", Stopped("kim asked"), [])
    assert not begin(fleet, "expand_undo").run


def test_check_mode_says_so_and_tells_nobody(fleet: Fleet, fake: Fake) -> None:
    fleet.record.check = True
    begun = begin(fleet, "expand")
    assert (begun.run, begun.message) == (False, "would run the expand on db1: expand")
    assert fake.calls == []


def test_after_the_contract_a_stop_freezes_and_says_why(fleet: Fleet) -> None:
    found = Migration("2.0", "1.0", ("2.0",), 1).mark("contract", Step("done", "r0"))
    fleet.record.migration = found.to_dict()
    fleet.record.members["web1"].state = "failed"
    fleet.record.halt("gate", Unreachable("x"), ["web1"])
    assert decide_back(fleet.settings, fleet.record) == "nothing can or must be taken back"
    assert any("the contract of the migration 2.0 has run" in note for note in fleet.record.notes)
    fleet.record.migration = None
    assert decide_back(fleet.settings, fleet.record) == "going back: web1"


def test_members_within_the_budget_do_not_stop_the_others(fleet: Fleet) -> None:
    from tests.unit.plugins.plugin_utils.test_batch import phases

    budget = replace(fleet.settings, max_failed_members=1)
    batch = phases(budget, fleet.remote, fleet.record, "web1", "web2")  # type: ignore[arg-type]
    batch.set_aside(fleet.record.members["web1"], "gate", Unreachable("one"))
    assert fleet.record.stop is None
    batch.set_aside(fleet.record.members["web2"], "gate", Unreachable("two"))
    assert fleet.record.stop is not None
    assert "rollout_max_failed_members is 1" in fleet.record.stop.hint
    fleet.record.stop = None
    fleet.record.members["web2"].state = "finished"
    assert decide_back(budget, fleet.record) == "going back: web1"
    assert fleet.record.stop.message == "one"
