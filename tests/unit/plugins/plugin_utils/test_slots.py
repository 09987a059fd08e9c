# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Blue/green on a fleet that is made of answers: what is planned, what is refused, and when it goes back."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    BadInput,
    Refused,
    RolloutError,
    RouteDiffers,
    Unhealthy,
    Unreachable,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Admin, Counters, Health, Member, Pool
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Call, Reply
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout import ending, migrating, outside
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.fleet import Fleet
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.flipping import Flip, end_of_a_flip
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.methods import method_of
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import Record
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.roll import roll
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.slots import plan_slots
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import STRATEGIES, BlueGreen

HOSTS = {"blue": ["web1", "web2"], "green": ["web3", "web4"]}
BALANCERS = ["lb1", "lb2"]
VARIABLES = {
    "rollout_service": "shop",
    "rollout_blue": "blue",
    "rollout_green": "green",
    "rollout_balancers": "lb",
    "rollout_version": "2.0",
    "rollout_health_url": "http://127.0.0.1/health",
    "rollout_upgrade_method": "package",
    "rollout_package_name": "shop",
    "rollout_bake": 0,
}


class FakeRemote:
    """Two balancers and four members."""

    def __init__(self) -> None:
        self.routes = {name: ["blue", "blue"] for name in BALANCERS}  # what runs, and the disk
        self.notes: dict[str, Any] = dict.fromkeys(BALANCERS)
        self.releases = {host: "1.0" for hosts in HOSTS.values() for host in hosts}
        self.ill: set[str] = set()
        self.errors: dict[tuple[str, str], RolloutError] = {}
        self.left: dict[str, int] = {}  # in flight, by pool
        self.failing: dict[str, int] = {}  # errors that a member's counters grow by, with each look
        self.looks = 0
        self.sessions = 0  # of each member
        self.calls: list[tuple[str, str]] = []

    def run(self, calls: Mapping[str, Call], check: bool = False) -> dict[str, Reply]:
        return {name: self._answer(name, call) for name, call in calls.items()}

    def _answer(self, name: str, call: Call) -> Reply:
        host = call.host or name
        self.calls.append((host, call.operation))
        error = self.errors.pop((host, call.operation), None)
        if error is not None:
            return Reply(name, error=error)
        found = getattr(self, f"_{call.operation}", lambda _host, _params: {"changed": True})(host, call.params)
        return Reply(name, result=found)

    @staticmethod
    def _of(host: str, params: Mapping[str, Any]) -> str:
        """Where the route of the service is kept that is asked about."""
        return host if params["service"] == "shop" else f"{host} {params['service']}"

    def _route_read(self, host: str, params: Mapping[str, Any]) -> dict[str, Any]:
        host = self._of(host, params)
        live, kept = self.routes[host]
        return {
            "live": live,
            "kept": kept,
            "live_pool": live,
            "kept_pool": kept,
            "noted": self.notes[host],
            "trouble": "",
        }

    def _route_prepare(self, host: str, params: Mapping[str, Any]) -> dict[str, Any]:
        host = self._of(host, params)
        self.notes[host] = {"live": self.routes[host][0], "to": params["to"], "number": 1}
        return {"now": 0.0}

    def _route_set(self, host: str, params: Mapping[str, Any]) -> dict[str, Any]:
        host = self._of(host, params)
        changed = self.routes[host] != [params["to"]] * 2
        self.routes[host] = [params["to"]] * 2
        return {"changed": changed, "late": 0.0}

    def _route_settle(self, host: str, params: Mapping[str, Any]) -> dict[str, Any]:
        host = self._of(host, params)
        self.notes[host] = {"live": params["to"], "to": "", "number": 1}
        return {"changed": False}

    def _pool_watch(self, host: str, params: Mapping[str, Any]) -> dict[str, Any]:
        left = self.left.get(params["pool"], 0)
        cut = left if params["on_timeout"] == "cut" else 0
        return {
            "left": {params["members"][0]: left} if left and not cut else {},
            "cut": cut,
            "work": [],
            "seconds": 0.0,
        }

    def _pool_read(self, host: str, params: Mapping[str, Any]) -> dict[str, Any]:
        self.looks += 1
        members = tuple(
            Member(
                *(name, f"10.0.0.{name[-1]}", 80, Admin.READY, Health.DOWN if name in self.ill else Health.UP, 1, 0, 0),
                counters=Counters(requests=10 * self.looks, errors=self.failing.get(name, 0) * self.looks),
            )
            for name in HOSTS[params["pool"].removeprefix("shop_")]
        )
        return {
            "pools": [Pool(params["pool"], "p", members).to_dict()],
            "held_out": {},
            "ledger": None,
            "capabilities": {"runtime_changes": True},
        }

    def _member_info(self, host: str, params: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "release": self.releases[host],
            "healthy": host not in self.ill,
            "unit": {"load": "loaded"},
            "keeps_record": True,
            "staged": [],
            "whole": True,
            "cannot_hold": "",
        }

    def _sessions_export(self, host: str, params: Mapping[str, Any]) -> dict[str, Any]:
        return {"sessions": self.sessions, "packed": "x"}

    def _package_switch(self, host: str, params: Mapping[str, Any]) -> dict[str, Any]:
        self.releases[host] = params["version"]
        return {"changed": True}


@pytest.fixture
def remote() -> FakeRemote:
    return FakeRemote()


@pytest.fixture
def two_services(remote: FakeRemote) -> FakeRemote:
    for name in BALANCERS:
        remote.routes[f"{name} cart"] = ["blue", "blue"]
        remote.notes[f"{name} cart"] = None
    return remote


def settings_of(strategy: str = "blue_green", **more: Any) -> BlueGreen:
    found = STRATEGIES[strategy].from_vars({**VARIABLES, **more})
    assert isinstance(found, BlueGreen)
    return found


def planned(remote: FakeRemote, settings: BlueGreen, tmp_path: Path) -> tuple[BlueGreen, Record]:
    hostvars: dict[str, Any] = {host: {} for host in [*HOSTS["blue"], *HOSTS["green"], *BALANCERS]}
    record = plan_slots(settings, HOSTS, BALANCERS, hostvars, remote, "", False)  # type: ignore[arg-type]
    record.path = str(tmp_path / "record.json")
    if settings.strategy == "flip_back":
        settings = settings.to(record.to_version)  # type: ignore[attr-defined]
    return settings.for_slot(record.slots["idle"]), record


def rolled(remote: FakeRemote, tmp_path: Path, strategy: str = "blue_green", **more: Any) -> Record:
    settings, record = planned(remote, settings_of(strategy, **more), tmp_path)
    flip = Flip(settings, remote, record, False, lambda _text: None)  # type: ignore[arg-type]
    flip.repair()
    roll(settings, remote, record, "", False, lambda _text: None)  # type: ignore[arg-type]
    flip.run()
    return record


def live(remote: FakeRemote) -> set[str]:
    return {slot for route in remote.routes.values() for slot in route}


def test_the_idle_slot_is_upgraded_and_then_all_flip(remote: FakeRemote, tmp_path: Path) -> None:
    record = rolled(remote, tmp_path)
    assert record.stop is None
    assert remote.releases == {"web1": "1.0", "web2": "1.0", "web3": "2.0", "web4": "2.0"}
    assert live(remote) == {"green"}
    assert not [each for each in remote.calls if each[1] in ("pool_drain", "pool_put_back", "pool_return")]
    data = ending._facts(
        record, ending.outcome(record), None, {"requests": 0, "failed": 0, "not_counted": [], "reloads": {}}
    )
    assert "went from 1.0 to 2.0 by a flip from blue to green" in data["sentence"]
    assert data["slots"] == {"before": "blue", "live": "green", "spread_ms": 0.0, "left": 0, "cut": 0}


def test_a_second_run_has_nothing_to_do(remote: FakeRemote, tmp_path: Path) -> None:
    rolled(remote, tmp_path)
    _settings, record = planned(remote, settings_of(), tmp_path)
    assert record.batches == []
    assert not record.unended


def test_the_way_back_installs_nothing_where_the_old_slot_is_warm(remote: FakeRemote, tmp_path: Path) -> None:
    rolled(remote, tmp_path)
    remote.calls.clear()
    record = rolled(remote, tmp_path, "flip_back", rollout_version="")
    assert record.stop is None
    assert live(remote) == {"blue"}
    assert "package_switch" not in {operation for _host, operation in remote.calls}


STEPS = {
    "rollout_expand": "e.yml",
    "rollout_contract": "c.yml",
    "rollout_expand_undo": "u.yml",
    "rollout_contract_after": 0,
}


def begun(remote: FakeRemote, settings: BlueGreen, record: Record, step: str) -> migrating.Begun:
    fleet = Fleet(settings, remote, record, False)  # type: ignore[arg-type]
    found = migrating.begin(fleet, step, [record.migrate_on])
    if found.run:
        migrating.end(fleet, step, {"ok": True}, 0.0)
    return found


def migrated(remote: FakeRemote, tmp_path: Path, strategy: str = "blue_green", **more: Any) -> tuple[BlueGreen, Record]:
    """A rollout with a data migration, up to where its last steps come; what ran before is known to its record."""
    settings, record = planned(remote, settings_of(strategy, **STEPS, **more), tmp_path)
    assert migrating.rows(settings, record)
    for step in ("expand", "compat"):
        begun(remote, settings, record, step)
    roll(settings, remote, record, "", False, lambda _text: None)  # type: ignore[arg-type]
    Flip(settings, remote, record, False, lambda _text: None).run()  # type: ignore[arg-type]
    return settings, record


def test_a_contract_waits_until_the_old_slot_answers_no_more(remote: FakeRemote, tmp_path: Path) -> None:
    settings, record = migrated(remote, tmp_path)
    assert record.migrate_on == "web1"
    assert record.migration is not None
    assert record.migration["steps"]["expand"]["state"] == "done"
    assert not begun(remote, settings, record, "expand_undo").run
    refused = begun(remote, settings, record, "contract")
    assert not refused.run
    assert "web1, web2 answers with another version than 2.0" in refused.message
    record.stop = None
    remote.ill = {"web1", "web2"}
    assert begun(remote, settings, record, "contract").run


def test_an_expand_is_taken_back_where_nothing_was_flipped(remote: FakeRemote, tmp_path: Path) -> None:
    remote.errors["web4", "member_gate"] = Unhealthy("web4 is ill.")
    settings, record = migrated(remote, tmp_path)
    assert record.stop is not None
    assert live(remote) == {"blue"}
    assert not begun(remote, settings, record, "contract").run
    assert begun(remote, settings, record, "expand_undo").run


def test_an_expand_stays_while_the_new_version_still_works(remote: FakeRemote, tmp_path: Path) -> None:
    remote.failing["web3"] = 5
    settings, record = migrated(remote, tmp_path, rollout_bake=0.6)
    assert live(remote) == {"blue"}
    remote.releases["web1"] = "2.0"
    assert "web1 of blue, which is live, needs" in begun(remote, settings, record, "expand_undo").message
    settings, record = migrated(FakeRemote(), tmp_path, rollout_bake=0.6, rollout_on_failure="freeze")
    assert not begun(remote, settings, record, "expand_undo").run


def test_a_contract_alone_wants_one_version_on_the_live_slot(remote: FakeRemote, tmp_path: Path) -> None:
    remote.releases["web2"] = "2.0"
    with pytest.raises(Refused, match="wants one version on blue, which is live"):
        planned(remote, settings_of("contract_slots", **STEPS, rollout_version=""), tmp_path)
    with pytest.raises(BadInput, match="rollout_contract is not set"):
        settings_of("contract_slots", rollout_version="")


def test_each_slot_can_be_told_from_the_other() -> None:
    settings = settings_of(rollout_green_settings={"health_url": "http://127.0.0.1:81/health"})
    green = settings.for_slot("green")
    assert green.health_url == "http://127.0.0.1:81/health"
    assert green.for_slot("blue").health_url == "http://127.0.0.1/health"


@pytest.mark.parametrize("strategy", ["flip_back", "recover_slots"])
def test_the_way_back_needs_no_archive(strategy: str) -> None:
    settings = settings_of(
        strategy,
        rollout_version="",
        rollout_upgrade_method="archive",
        rollout_package_name="",
        rollout_archive_src="gone.tgz",
        rollout_archive_checksum="sha256:" + "0" * 64,
    )
    assert method_of(settings).source(settings, ["/nowhere"]) == ""


def test_the_way_back_installs_the_old_release_where_it_is_gone(remote: FakeRemote, tmp_path: Path) -> None:
    rolled(remote, tmp_path)
    remote.releases["web1"] = "0.9"
    record = rolled(remote, tmp_path, "flip_back", rollout_version="", rollout_rollback_to="1.0")
    assert record.stop is None
    assert remote.releases["web1"] == "1.0"
    assert live(remote) == {"blue"}


@pytest.mark.parametrize("step", ["member_gate", "package_switch"])
def test_a_member_that_fails_leaves_the_traffic_where_it_is(remote: FakeRemote, tmp_path: Path, step: str) -> None:
    remote.errors["web4", step] = Unhealthy("web4 is ill.")
    record = rolled(remote, tmp_path)
    assert live(remote) == {"blue"}
    assert ending.outcome(record) == "rolled_back"
    assert "blue is live" in ending.decide_back(settings_of(), record)


@pytest.mark.parametrize("step", ["route_prepare", "route_set"])
def test_one_balancer_that_fails_leaves_all_where_they_were(remote: FakeRemote, tmp_path: Path, step: str) -> None:
    remote.errors["lb2", step] = Unreachable("lb2 is gone.")
    record = rolled(remote, tmp_path)
    assert record.stop is not None
    assert "lb2" in record.stop.message
    assert live(remote) == {"blue"}
    assert ending.outcome(record) == "rolled_back"


def test_a_slot_that_does_badly_is_left_again(remote: FakeRemote, tmp_path: Path) -> None:
    remote.failing["web3"] = 5
    record = rolled(remote, tmp_path, rollout_bake=0.6)
    assert record.stop is not None
    assert record.stop.phase == "bake"
    assert live(remote) == {"blue"}
    assert rolled(FakeRemote(), tmp_path, rollout_bake=0.1).stop is None


def test_it_stays_with_freeze(remote: FakeRemote, tmp_path: Path) -> None:
    remote.failing["web3"] = 5
    record = rolled(remote, tmp_path, rollout_bake=0.6, rollout_on_failure="freeze")
    assert live(remote) == {"green"}
    assert ending.outcome(record) == "frozen"


def test_tasks_that_fail_flip_nothing(remote: FakeRemote, tmp_path: Path) -> None:
    settings, record = planned(remote, settings_of(rollout_preview="host:a", rollout_preview_tasks="try.yml"), tmp_path)
    record.step_tasks = {"preview_tasks": "/try.yml"}
    roll(settings, remote, record, "", False, lambda _text: None)  # type: ignore[arg-type]
    flip = Flip(settings, remote, record, False, lambda _text: None)  # type: ignore[arg-type]
    flip.previewed = {"ok": False, "said": "no such page"}
    flip.run()
    assert record.stop is not None
    assert "rollout_preview_tasks failed on green: no such page" in record.stop.message
    assert live(remote) == {"blue"}
    record.stop = None
    flip.previewed = {"ok": True}
    flip.run()
    assert live(remote) == {"green"}


def test_a_slot_that_is_retired_by_tasks_waits_for_their_play(remote: FakeRemote, tmp_path: Path) -> None:
    record = rolled(remote, tmp_path, rollout_retire="retire.yml")
    assert record.slots["retiring"] == ["web1", "web2"]
    assert "unit_stop" not in {operation for _host, operation in remote.calls}
    remote.left = {"shop_green": 1}
    record = rolled(remote, tmp_path, rollout_version="3.0", rollout_retire="retire.yml", rollout_old_work_timeout=0)
    assert "retiring" not in record.slots
    assert any("was not retired" in note for note in record.notes)


def test_services_that_flip_along_go_there_and_back(two_services: FakeRemote, tmp_path: Path) -> None:
    record = rolled(two_services, tmp_path, rollout_services="cart")
    assert record.stop is None
    assert live(two_services) == {"green"}
    assert {note["live"] for note in two_services.notes.values()} == {"green"}
    record = rolled(two_services, tmp_path, "flip_back", rollout_version="", rollout_services=["cart"])
    assert record.stop is None
    assert live(two_services) == {"blue"}


@pytest.mark.parametrize("step", ["route_prepare", "route_set"])
def test_services_flip_together_or_not_at_all(two_services: FakeRemote, tmp_path: Path, step: str) -> None:
    fail = two_services._answer

    def answer(name: str, call: Call) -> Reply:
        if (name, call.operation) == ("lb2 (cart)", step) and call.params["to"] == "green":
            return Reply(name, error=Unhealthy("no member of cart can serve."))
        return fail(name, call)

    two_services._answer = answer  # type: ignore[method-assign]
    record = rolled(two_services, tmp_path, rollout_services="cart")
    assert record.stop is not None
    assert "no member of cart can serve" in record.stop.message
    assert live(two_services) == {"blue"}


def test_a_service_on_the_other_slot_is_refused_and_one_whose_flip_was_broken_off_is_mended(
    two_services: FakeRemote, tmp_path: Path
) -> None:
    two_services.routes["lb2 cart"] = ["green", "green"]
    with pytest.raises(RouteDiffers, match=r"cart flips along with shop .* not live for it on lb2"):
        planned(two_services, settings_of(rollout_services="cart"), tmp_path)
    two_services.notes["lb2 cart"] = {"live": "blue", "to": "green", "number": 1}
    record = rolled(two_services, tmp_path, rollout_services="cart")
    assert record.slots["repaired"]
    assert live(two_services) == {"green"}


def test_sessions_go_with_the_flip(remote: FakeRemote, tmp_path: Path) -> None:
    programs: dict[str, Any] = {"rollout_session_export": ["export"], "rollout_session_import": ["import"]}
    remote.sessions = 2
    record = rolled(remote, tmp_path, rollout_sessions="hand_over", **programs)
    done = [(host, operation) for host, operation in remote.calls if operation in ("route_set", "sessions_import")]
    once = [("web3", "sessions_import"), ("web4", "sessions_import")] * 2
    assert done == [*once, ("lb1", "route_set"), ("lb2", "route_set"), *once, *once]
    remote.errors["web1", "sessions_import"] = Unreachable("web1 is gone.")
    record = rolled(remote, tmp_path, rollout_version="3.0", rollout_sessions="hand_over", **programs)
    assert record.stop is not None
    assert live(remote) == {"green"}
    record = rolled(FakeRemote(), tmp_path, **{**programs, "rollout_session_import": ""})
    assert "0 sessions stayed behind on blue" in record.notes


def test_a_preview_that_fails_flips_nothing(remote: FakeRemote, tmp_path: Path) -> None:
    tries: dict[str, Any] = {
        "rollout_preview": "header:X-Preview=a",
        "rollout_preview_command": [sys.executable, "-c", "print('no'); exit(3)"],
    }
    record = rolled(remote, tmp_path, **tries)
    assert record.stop is not None
    assert "ended with 3 on green: no" in record.stop.message
    assert live(remote) == {"blue"}
    good = "import os; assert os.environ['ROLLOUT_PREVIEW_VALUE'] == 'a'"
    assert rolled(remote, tmp_path, **{**tries, "rollout_preview_command": [sys.executable, "-c", good]}).stop is None
    assert live(remote) == {"green"}


def test_old_work_on_the_idle_slot_keeps_it_from_being_upgraded(remote: FakeRemote, tmp_path: Path) -> None:
    remote.left["shop_green"] = 2
    record = rolled(remote, tmp_path, rollout_old_work_timeout=0)
    assert record.stop is not None
    assert "2 requests or connections are still in flight" in record.stop.message
    assert "package_switch" not in {operation for _host, operation in remote.calls}
    assert rolled(remote, tmp_path, rollout_old_work_timeout=0, rollout_old_work="cut").stop is None


def test_what_the_old_slot_still_does_is_said_and_keeps_it_from_being_stopped(
    remote: FakeRemote, tmp_path: Path
) -> None:
    remote.left["shop_blue"] = 1
    record = rolled(remote, tmp_path, rollout_retire="stop", rollout_old_work_timeout=0)
    assert record.slots["left"] == 2  # one on each balancer
    assert "blue was not retired, since it still has work in flight" in record.notes
    assert "unit_stop" not in {operation for _host, operation in remote.calls}


def test_a_flip_that_was_broken_off_is_taken_back_and_made_again(remote: FakeRemote, tmp_path: Path) -> None:
    remote.routes["lb1"] = ["green", "green"]
    remote.notes.update({name: {"live": "blue", "to": "green", "number": 1} for name in BALANCERS})
    remote.releases.update(web3="2.0", web4="2.0")
    record = rolled(remote, tmp_path)
    assert record.stop is None
    assert any("broken off" in note for note in record.notes)
    assert live(remote) == {"green"}


def test_a_flip_that_all_made_and_nobody_noted_is_finished(remote: FakeRemote, tmp_path: Path) -> None:
    remote.routes.update({name: ["green", "green"] for name in BALANCERS})
    remote.notes.update({name: {"live": "blue", "to": "green", "number": 1} for name in BALANCERS})
    remote.releases.update(web3="2.0", web4="2.0")
    record = rolled(remote, tmp_path)
    assert record.batches == []
    assert [each["live"] for each in remote.notes.values()] == ["green", "green"]


@pytest.mark.parametrize("routes", [{"lb1": ["green", "green"]}, {"lb2": ["blue", "green"]}])
def test_a_disagreement_that_nothing_explains_is_refused_and_recovered(
    remote: FakeRemote, tmp_path: Path, routes: dict[str, list[str]]
) -> None:
    remote.notes.update({name: {"live": "blue", "to": "", "number": 1} for name in BALANCERS})
    remote.routes.update(routes)
    with pytest.raises(RouteDiffers, match="lb1"):
        planned(remote, settings_of(), tmp_path)
    rolled(remote, tmp_path, "recover_slots", rollout_version="")
    assert live(remote) == {"blue"}


def test_a_flip_by_hand_on_all_is_refused_too(remote: FakeRemote, tmp_path: Path) -> None:
    remote.notes.update({name: {"live": "blue", "to": "", "number": 1} for name in BALANCERS})
    remote.routes.update({name: ["green", "green"] for name in BALANCERS})
    with pytest.raises(RouteDiffers, match="somebody has flipped by hand"):
        planned(remote, settings_of(), tmp_path)


def test_a_cancelled_flip_is_taken_back(remote: FakeRemote, tmp_path: Path) -> None:
    settings, record = planned(remote, settings_of(), tmp_path)
    remote.routes["lb1"] = ["green", "green"]
    end_of_a_flip(settings, remote, record)  # type: ignore[arg-type]
    assert live(remote) == {"blue", "green"}, "nothing was under way"
    record.slots["under_way"] = True
    end_of_a_flip(settings, remote, record)  # type: ignore[arg-type]
    assert live(remote) == {"blue"}


def test_the_live_slot_on_two_versions_is_refused(remote: FakeRemote, tmp_path: Path) -> None:
    remote.releases["web1"] = "2.0"
    with pytest.raises(RolloutError, match=r"web1 of the live slot blue is on 2\.0 already"):
        planned(remote, settings_of(), tmp_path)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"rollout_blue": ""}, "rollout_blue is not set"),
        ({"rollout_green_pool": "shop_blue"}, "are both 'shop_blue'"),
        ({"rollout_preview": "nothing"}, "is not a preview"),
        ({"rollout_preview_command": "true"}, "rollout_preview does not say"),
        ({"rollout_preview": "host:a", "rollout_preview_command": "'"}, "cannot be split"),
        ({"rollout_compat": "compat.yml"}, "rollout_compat is set without rollout_expand"),
        ({"rollout_dead_balancer": "skip"}, "rollout_dead_balancer is skip"),
        ({"rollout_pools": [{"balancers": "lb", "pool": "shop"}]}, "rollout_balancers and rollout_pools"),
        ({"rollout_blue_settings": {"batches": 1}}, "no slot can have of its own"),
        ({"rollout_green_settings": {"health_url": "ftp://a"}}, "health_url of rollout_green_settings"),
        ({"rollout_retire": "burn"}, "must be one of keep, stop, or a tasks file"),
        ({"rollout_preview_tasks": "try.yml"}, "rollout_preview does not say"),
        ({"rollout_old_work": "lose"}, "must be one of keep, cut"),
        ({"rollout_bake": "long"}, "rollout_bake must be a number"),
        ({"rollout_route_file": "here"}, "absolute path"),
        ({"rollout_services": "cart, shop"}, "which is rollout_service"),
        ({"rollout_services": ["cart", "cart"]}, "names a service twice"),
    ],
)
def test_settings_that_are_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        settings_of(**wrong)


@pytest.mark.parametrize(
    ("hosts", "words"),
    [
        ({"blue": [], "green": ["web3"]}, "rollout_blue 'blue' matches no host"),
        ({"blue": ["web3"], "green": ["web3"]}, "in rollout_blue and in rollout_green"),
        ({"blue": ["lb1"], "green": ["web3"]}, "in rollout_balancers at once"),
    ],
)
def test_groups_that_are_refused(remote: FakeRemote, hosts: dict[str, list[str]], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        plan_slots(settings_of(), hosts, BALANCERS, {}, remote, "", False)  # type: ignore[arg-type]


def test_the_view_from_outside_is_asked(remote: FakeRemote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "before", lambda *_: True)
    monkeypatch.setattr(outside, "now", lambda *_: "it does not answer.")
    record = rolled(remote, tmp_path, rollout_bake=0.05)
    assert record.stop is not None
    assert "With green live, it does not answer." in record.stop.message
    assert live(remote) == {"blue"}
