# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What preflight plans and refuses, from a fleet that answers: zones, the calendar, the data migration; and a bake."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils._access_log.counts import BUCKETS
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput, Refused
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout import foresee
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.ending import decide_back, sentence
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.migration import Migration, Step
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.preflight import preflight
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import Record
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.roll import roll
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import STRATEGIES, Settings
from tests.unit.plugins.plugin_utils.test_batch import BALANCERS, MEMBERS, FakeRemote

ZONES = {"web1": "north", "web2": "south", "web3": "north"}


class Fleet(FakeRemote):
    """Three members that run a version, and what the ledgers know of a migration."""

    def __init__(self, migration: Migration | None = None, version: str = "1.0") -> None:
        super().__init__()
        self.version = version
        self.ill: set[str] = set()
        self.migration = migration
        self.served = 0

    def copy_to(self, _source: str, _targets: Mapping[str, str]) -> dict[str, Any]:
        return {}

    def _pool_read(self, balancer: str, params: Mapping[str, Any]) -> dict[str, Any]:
        told = self.migration and {"revision": 1, "told": self.migration.to_dict(), "age": None}
        ledger = {"lease": None, "migration": told, "last": None, "switched": None, "members": {}, "interrupted": None}
        found = super()._pool_read(balancer, params)
        capabilities = {"runtime_changes": True, "max_weight": 256}
        return {**found, "ledger": ledger, "lasting": {}, "ties": {}, "capabilities": capabilities}

    def _observe(self, balancer: str, params: Mapping[str, Any]) -> dict[str, Any]:
        self.served += 1
        row = {"requests": 500, "errors": 1, "kinds": {}, "latency": [499, 0]}
        members = dict.fromkeys(params["members"], row) if params["cursor"] else {}
        return {"members": members, "cursor": {"source": "log"}, "reset": "", "notes": [], "buckets": [5]}

    def _observe_past(self, balancer: str, params: Mapping[str, Any]) -> dict[str, Any]:
        row = {"requests": 9000, "errors": 18, "latency": [0] * (len(BUCKETS) + 1)}
        empty = {name: {**row, "requests": 0, "errors": 0} for name in params["members"]}
        pieces = [empty, *[dict.fromkeys(params["members"], row)] * 3]
        return {"pieces": pieces, "seconds": 1200.0, "buckets": [5], "notes": []}

    def _unit_restarts(self, host: str, params: Mapping[str, Any]) -> dict[str, Any]:
        return {"restarts": 0, "seconds": 5.0, "cursor": {"restarts": 0, "at": 1.0}}

    def _member_info(self, host: str, params: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "release": self.version,
            "runs": self.version,
            "healthy": host not in self.ill,
            "reason": "it answers 503",
            "unit": None,
            "keeps_record": True,
            "releases": [self.version],
            "staged": [],
        }


def settings(strategy: str = "rolling", **more: Any) -> Settings:
    needed = {
        "rollout_service": "shop",
        "rollout_hosts": "shop",
        "rollout_balancers": "lb",
        "rollout_pool": "shop",
        "rollout_version": "2.0",
        "rollout_health_url": "http://127.0.0.1/",
        "rollout_upgrade_tasks": "up.yml",
        "rollout_batches": [2],
        "rollout_floor": 1,
    }
    values = {**needed, **{f"rollout_{name}": value for name, value in more.items()}}
    return STRATEGIES[strategy].from_vars({name: value for name, value in values.items() if value is not None})


def planned(given: Settings, fleet: Fleet, zones: Mapping[str, Any] | None = None, check: bool = False) -> Record:
    variables: dict[str, Any] = {host: {} for host in (*MEMBERS, *BALANCERS)}
    for host, zone in (zones or {}).items():
        variables[host]["rollout_zone"] = zone
    return preflight(given, MEMBERS, [BALANCERS], variables, fleet, "up.yml", check)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _three_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake members share one address, which preflight refuses of real ones."""
    name = "ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.preflight._refuse_twins"
    monkeypatch.setattr(name, lambda *_arguments: None)
    clock = iter(range(0, 1000, 5)).__next__
    look = partial(foresee.look_at_traffic, sleep=lambda _seconds: None, now=clock)
    monkeypatch.setattr(foresee, "look_at_traffic", look)


def test_zones_are_planned_one_after_the_other() -> None:
    record = planned(settings(), Fleet(), ZONES)
    assert record.batches == [["web1", "web3"], ["web2"]]
    assert {host: member.zone for host, member in record.members.items()} == ZONES
    assert record.later == []
    record = planned(settings(zone_approval=True), Fleet(), ZONES)
    assert (record.batches, record.later) == ([["web1", "web3"]], ["south"])
    assert planned(settings(), Fleet()).batches == [["web1", "web2"], ["web3"]]


def test_a_canary_says_beforehand_what_it_can_show_and_knows_its_members_past() -> None:
    fleet = Fleet()
    record = planned(settings("canary", batches=[1]), fleet)
    (said,) = [note for note in record.notes if "canary can show" in note]
    # Three members at 500 requests in 5 s on each of two balancers; one of them is the canary.
    assert said.startswith(
        "what the canary can show: 600 requests/s, 33.3 % canary, 0.2 % errors: a doubling is found in "
    )
    history = record.canary["stored"]["history"]
    assert [sum(member["requests"] for member in poll["members"]) for poll in history] == [54000] * 3
    assert {member["name"] for member in history[0]["members"] if member["arm"] == "canary"} == {"web1"}
    assert {call.params["seconds"] for _host, call in fleet.calls if call.operation == "observe_past"} == {43200.0}
    short = planned(
        settings("canary", batches=[1], canary_min_duration=60, canary_max_duration=100, canary_history=0), Fleet()
    )
    assert any("cannot show" in note and "cannot tell" in note for note in short.notes)
    assert short.canary["stored"]["history"] == []


def test_a_canary_that_nobody_could_see_is_refused_before_anything() -> None:
    fleet = Fleet()
    fleet.errors["lb2", "observe"] = BadInput("This balancer counts no requests by member")
    with pytest.raises(BadInput, match="lb2: This balancer counts no requests"):
        planned(settings("canary", batches=[1]), fleet)


@pytest.mark.parametrize("wrong", ["a\nb", "x" * 65, ["a"], True])
def test_a_zone_that_is_no_word_is_refused(wrong: Any) -> None:
    with pytest.raises(BadInput, match="rollout_zone of web2"):
        planned(settings(), Fleet(), {"web2": wrong})


def test_a_freeze_is_passed_by_a_reason_alone() -> None:
    frozen = {"freeze_until": "2099-01-01"}
    with pytest.raises(Refused, match="freeze until 2099-01-01"):
        planned(settings(**frozen), Fleet())
    with pytest.raises(Refused, match="rollout_override"):
        planned(settings("maintain", version=None, tasks="t.yml", **frozen), Fleet())
    record = planned(settings(**frozen, override="the login is broken"), Fleet())
    assert record.override == "the login is broken"
    assert any("2099-01-01" in note and "the login is broken" in note for note in record.notes)
    assert planned(settings(**frozen), Fleet(version="2.0")).batches == []  # nothing begins
    assert planned(settings("rollback", version=None, rollback_to="1.0", **frozen), Fleet(version="2.0")).batches
    assert planned(settings(override="x"), Fleet()).override == ""


def test_a_migration_is_taken_up_or_refused() -> None:
    record = planned(settings(expand="up"), Fleet())
    assert record.migration is not None
    assert (record.migration["name"], record.migrate_on) == ("2.0", "web1")
    assert planned(settings(), Fleet()).migration is None
    with pytest.raises(BadInput, match="rollout_migrate_host 'nobody'"):
        planned(settings(expand="up", migrate_host="nobody"), Fleet())
    unknown = Migration("2.0", "1.0", ("2.0",), 1, {"expand": Step("running", "r0", "web1")})
    with pytest.raises(Refused, match="rollout_settle='expand ran'"):
        planned(settings(expand="up"), Fleet(unknown))
    assert planned(settings(expand="up", settle="expand ran"), Fleet(unknown)).migration is not None


def test_a_contract_as_a_run_of_its_own() -> None:
    done = Migration("2.0", "1.0", ("2.0",), 1, {"expand": Step("done", "r0", "web1")}, contract=True)
    with pytest.raises(Refused, match=r"The members run 1\.0"):
        planned(settings("contract", version=None, contract="c.yml", contract_after=0), Fleet(done))
    with pytest.raises(Refused, match="not known since when"):
        planned(settings("contract", version=None, contract="c.yml"), Fleet(done, "2.0"))
    record = planned(settings("contract", version=None, contract="c.yml", contract_after=0), Fleet(done, "2.0"))
    assert (record.to_version, record.batches) == ("2.0", [])
    with pytest.raises(BadInput, match="rollout_contract is not set"):
        settings("contract", version=None)


def rolled(tmp_path: Path, ill: set[str]) -> Record:
    given = settings(
        upgrade_tasks=None,
        upgrade_method="archive",
        archive_src="shop.tgz",
        archive_checksum="sha256:00",
        zone_bake=0.2,
        lease_seconds=60,
    )
    fleet = Fleet()
    record = planned(given, fleet, ZONES)
    record.path, record.to_stage = str(tmp_path / "record.json"), []
    fleet.ill = ill
    roll(given, fleet, record, "", False, lambda _text: None)  # type: ignore[arg-type]
    return Record.load(record.path)


def test_the_first_zone_bakes_before_the_next_one_begins(tmp_path: Path) -> None:
    record = rolled(tmp_path, set())
    assert record.stop is None
    phases = [(event["phase"], event["members"]) for event in record.events]
    assert phases.index(("bake", ["web1", "web3"])) == phases.index(("drain", ["web2"])) - 1
    baked = next(event for event in record.events if event["phase"] == "bake")
    assert baked["seconds"] >= 0.2


def test_a_zone_that_does_not_stay_well_goes_back_and_the_next_one_does_not_begin(tmp_path: Path) -> None:
    record = rolled(tmp_path, {"web3"})
    assert record.stop is not None
    assert record.stop.phase == "bake"
    assert "web3 did not stay well in the bake of its zone north: it answers 503" in record.stop.message
    assert record.members["web2"].state == "untouched"
    assert record.back_batches == [["web3"], ["web1"]]


def test_zones_to_come_are_said() -> None:
    record = planned(settings(zone_approval=True), Fleet(), ZONES)
    assert decide_back(settings(), record) == "nothing to take back"
    data = {
        "strategy": "rolling",
        "service": "shop",
        "from_version": "1.0",
        "to_version": "2.0",
        "outcome": "succeeded",
    }
    more = {"batches": record.batches, "check": True, "stop": None, "skipped_balancers": [], "members": {}}
    report: dict[str, Any] = {**data, **more, "duration_seconds": 1.0, "later": record.later, "migration": None}
    assert sentence(report).endswith("Zones to come: south. To approve them, run the same playbook again.")
