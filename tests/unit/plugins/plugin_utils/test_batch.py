# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The phases of a batch on a fleet that is made of answers: who goes on, who is set aside, what is undone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    FloorBroken,
    Refused,
    RolloutError,
    TimedOut,
    Unhealthy,
    Unreachable,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Admin, Health, Member, Pool
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Call, Reply
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout import ending, outside
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.batch import Phases
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import MemberRecord, Place, Record
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.step import Batch
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import Maintenance, Settings
from tests.unit.plugins.plugin_utils.lines import LINES

MEMBERS = ("web1", "web2", "web3")
BALANCERS = ("lb1", "lb2")
LOST = Unreachable("web1 cannot be reached: gone.", lost=True)


class FakeRemote:
    """Answers like a fleet where all is well, but for the errors it was given; remembers every call."""

    def __init__(self) -> None:
        self.errors: dict[tuple[str, str], RolloutError] = {}  # by host and operation
        self.looks: dict[str, str] = {}  # by member
        self.busy: dict[str, dict[str, int]] = {}  # connections that a member still has, by balancer
        self.strangers: dict[str, dict[str, int]] = {}
        self.calls: list[tuple[str, Call]] = []
        self.open: set[str] = set()  # hosts with a program that answers again and again
        self.identities: dict[str, list[str]] = {}  # of each balancer: before and after each operation in turn
        self.admin = {(balancer, name): "ready" for balancer in BALANCERS for name in MEMBERS}

    def run(self, calls: Mapping[str, Call], check: bool = False) -> dict[str, Reply]:
        return {host: self._answer(host, call) for host, call in calls.items()}

    def prepare(self, hosts: Iterable[str]) -> None:
        """There are no variables to read."""

    def is_open(self, name: str) -> bool:
        return name in self.open

    def _answer(self, host: str, call: Call) -> Reply:
        self.calls.append((host, call))
        error = self.errors.get((host, call.operation))
        if error is not None:
            return Reply(host, error=error)
        answer: Callable[..., dict[str, Any]] = getattr(self, "_" + call.operation, lambda *_: {"changed": True})
        try:
            result = answer(host, call.params)
        except RolloutError as refusal:
            return Reply(host, error=refusal)
        if host in self.identities:
            before, after = self.identities[host].pop(0), self.identities[host].pop(0)
            result.update(identity_before=before, identity=after)
        return Reply(host, result=result)

    def _pool_drain(self, balancer: str, params: Mapping[str, Any]) -> dict[str, Any]:
        before = {name: {"admin": self.admin[balancer, name], "weight": 7} for name in params["members"]}
        for name in params["members"]:
            self.admin[balancer, name] = "out"
        for name, setting in params.get("returning", {}).items():
            self.admin[balancer, name] = setting["admin"]
        return {
            "changed": True,
            **({"exchanged_after": 0.0} if "returning" in params else {}),
            "before": before,
            "return_to": before,
            "members": {name: {"cut": 0} for name in before},
            "towards": {name: {"addresses": [f"10.1.1.{balancer[-1]}"], "pooled": 2} for name in before},
        }

    def _member_sockets(self, host: str, params: Mapping[str, Any]) -> dict[str, Any]:
        return {"busy": self.busy.get(host, {}), "strangers": self.strangers.get(host, {}), "listens": True}

    def _pool_read(self, balancer: str, params: Mapping[str, Any]) -> dict[str, Any]:
        members = [Member(name, "10.0.0.1", 80, Admin.READY, Health.UP, 7, 0, 0) for name in MEMBERS]
        out = {name: {"admin": "ready", "weight": 7} for name in MEMBERS if self.admin[balancer, name] == "out"}
        return {"pools": [Pool("shop", "p", tuple(members)).to_dict()], "held_out": out}

    def _pool_return(self, balancer: str, params: Mapping[str, Any]) -> dict[str, Any]:
        return {"changed": True, "members": {name: {} for name in params["members"]}}

    def _pool_put_back(self, balancer: str, params: Mapping[str, Any]) -> dict[str, Any]:
        for name, setting in params["settings"].items():
            self.admin[balancer, name] = setting["admin"]
        looks = {name: {"look": self.looks.get(name, "pass"), "errors": 3} for name in params["settings"]}
        return {"changed": True, "members": looks}

    def ran(self, operation: str) -> list[str]:
        return [host for host, call in self.calls if call.operation == operation]

    def in_service(self, name: str) -> bool:
        return all(self.admin[balancer, name] == "ready" for balancer in BALANCERS)


@pytest.fixture
def remote() -> FakeRemote:
    return FakeRemote()


@pytest.fixture
def settings() -> Settings:
    return Settings.from_vars(LINES)


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return Record(
        rollout_id="r1",
        service="shop",
        strategy="rolling",
        pool="shop",
        from_version="1.0",
        to_version="2.0",
        started_at=0.0,
        check=False,
        method="archive",
        upgrade="",
        floor=1,
        balancers=list(BALANCERS),
        batches=[["web1", "web2"], ["web3"]],
        members={name: MemberRecord(name, dict.fromkeys(BALANCERS, name), True, "1.0", "1.0") for name in MEMBERS},
        path=str(tmp_path / "record.json"),
    )


def phases(settings: Settings, remote: FakeRemote, record: Record, *hosts: str, back: bool = False) -> Phases:
    return Phases(settings, remote, record, Batch(hosts, back), check=False)  # type: ignore[arg-type]


def run_batch(batch: Phases) -> None:
    batch.drain()
    batch.upgrade()
    batch.gate()
    batch.put_back()


def states(record: Record) -> dict[str, str]:
    return {name: member.state for name, member in record.members.items()}


def test_a_batch_goes_through_and_returns_to_the_weight_it_had(
    settings: Settings, remote: FakeRemote, record: Record
) -> None:
    run_batch(phases(settings, remote, record, "web1", "web2"))
    assert states(record) == {"web1": "finished", "web2": "finished", "web3": "untouched"}
    assert record.stop is None
    returned = [call.params["settings"] for _host, call in remote.calls if call.operation == "pool_put_back"]
    assert returned == [{name: {"admin": "ready", "weight": 7} for name in ("web1", "web2")}] * 2
    assert record.members["web1"].release == "2.0"
    assert set(record.members["web1"].seconds) == {"drain", "upgrade", "gate", "look"}


def test_each_phase_is_one_call_per_host(settings: Settings, remote: FakeRemote, record: Record) -> None:
    run_batch(phases(settings, remote, record, "web1", "web2"))
    for operation in ("pool_drain", "pool_return", "pool_put_back"):
        assert remote.ran(operation) == list(BALANCERS)
    for operation in ("release_switch", "member_gate"):
        assert remote.ran(operation) == ["web1", "web2"]


@pytest.mark.case(19)
def test_a_balancer_that_refuses_undoes_the_drain_on_the_others(
    settings: Settings, remote: FakeRemote, record: Record
) -> None:
    remote.errors["lb2", "pool_drain"] = TimedOut("Still in flight after 5 s.")
    outcome = phases(settings, remote, record, "web1").drain()
    assert outcome.error is not None
    assert "lb2: Still in flight" in str(outcome.error)
    assert remote.admin["lb1", "web1"] == "ready"
    assert states(record)["web1"] == "untouched"
    assert record.stop is not None
    assert record.stop.phase == "drain"


@pytest.fixture
def at_port(record: Record) -> Record:
    """The same, where the members' addresses are known."""
    for number, member in enumerate(record.members.values(), 1):
        member.addresses = dict.fromkeys(BALANCERS, (f"10.0.0.{number}", 8080))
    return record


def test_members_are_asked_once_beside_the_drain_and_once_after_it(
    settings: Settings, remote: FakeRemote, at_port: Record
) -> None:
    phases(settings, remote, at_port, "web1", "web2").drain()
    asked = [(host, call.params) for host, call in remote.calls if call.operation == "member_sockets"]
    assert [host for host, _params in asked] == ["web1", "web2"] * 2
    assert asked[0][1] == {"port": 8080, "limit": 0}
    assert asked[2][1]["balancers"] == {f"lb{n}": {"addresses": [f"10.1.1.{n}"], "pooled": 2} for n in (1, 2)}
    assert 290 < asked[2][1]["limit"] <= 300
    assert at_port.notes == []


def test_a_member_with_an_open_connection_is_asked_after_the_drain_alone(
    settings: Settings, remote: FakeRemote, at_port: Record
) -> None:
    remote.open = {"web2"}
    phases(settings, remote, at_port, "web1", "web2").drain()
    assert remote.ran("member_sockets") == ["web1", "web1", "web2"]


def test_busy_connections_undo_the_drain(settings: Settings, remote: FakeRemote, at_port: Record) -> None:
    remote.busy["web2"] = {"lb1": 3}
    outcome = phases(settings, remote, at_port, "web1", "web2").drain()
    assert "web2 (3 from lb1)" in str(outcome.error)
    assert at_port.stop is not None
    assert (at_port.stop.phase, at_port.stop.code) == ("drain", "timed_out")
    assert all(remote.in_service(name) for name in MEMBERS)
    assert states(at_port)["web1"] == "untouched"


def test_busy_connections_may_be_cut_or_only_noted(settings: Settings, remote: FakeRemote, at_port: Record) -> None:
    remote.busy["web1"] = {"lb1": 3}
    phases(replace(settings, on_drain_timeout="cut"), remote, at_port, "web1").drain()
    assert at_port.members["web1"].cut_kinds == {"unknown": 3}
    assert "web1 (3 from lb1)" in at_port.notes.pop()
    remote.busy["web2"] = {"lb2": 1}
    phases(replace(settings, busy_sockets="note"), remote, at_port, "web2").drain()
    assert at_port.members["web2"].cut == 0
    assert "web2 (1 from lb2)" in at_port.notes.pop()
    assert at_port.stop is None


def test_who_comes_without_a_balancer_is_named(settings: Settings, remote: FakeRemote, at_port: Record) -> None:
    remote.strangers["web1"] = {"10.9.9.9": 2}
    phases(settings, remote, at_port, "web1").drain()
    assert "web1 has connections" in at_port.notes[0]
    assert "10.9.9.9 (2)" in at_port.notes[0]
    assert at_port.stop is None


def test_nobody_is_asked_where_that_is_switched_off_or_the_port_is_not_known(
    settings: Settings, remote: FakeRemote, at_port: Record
) -> None:
    phases(replace(settings, busy_sockets="ignore"), remote, at_port, "web1").drain()
    at_port.members["web2"].addresses = dict.fromkeys(BALANCERS, ("unix", 0))
    phases(settings, remote, at_port, "web2").drain()
    assert remote.ran("member_sockets") == []


def test_a_member_that_does_not_answer_is_left_to_its_own_phase(
    settings: Settings, remote: FakeRemote, at_port: Record
) -> None:
    remote.errors["web1", "member_sockets"] = LOST
    assert phases(settings, remote, at_port, "web1").drain().error is None


def outside_says(monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    monkeypatch.setattr(outside, "now", lambda *_: reason)


def test_a_service_that_does_not_answer_from_outside_takes_the_batch_back(
    settings: Settings, remote: FakeRemote, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    record.outside_well = True
    outside_says(monkeypatch, "it does not answer.")
    run_batch(phases(settings, remote, record, "web1", "web2"))
    assert record.stop is not None
    assert (record.stop.phase, record.stop.code) == ("outside", "unhealthy")
    assert states(record) == {"web1": "failed", "web2": "failed", "web3": "untouched"}
    ending.decide_back(settings, record)
    assert sorted(host for batch in record.back_batches for host in batch) == ["web1", "web2"]


@pytest.mark.parametrize(("well_before", "back"), [(False, False), (True, True)])
def test_what_was_so_before_or_cannot_be_taken_back_is_noted(
    settings: Settings,
    remote: FakeRemote,
    record: Record,
    monkeypatch: pytest.MonkeyPatch,
    well_before: bool,
    back: bool,
) -> None:
    record.outside_well = well_before
    outside_says(monkeypatch, "it does not answer.")
    run_batch(phases(settings, remote, record, "web1", back=back))
    assert record.stop is None
    assert record.notes == ["after web1: it does not answer."]


def test_each_place_is_told_what_to_ask_of_whom(settings: Settings, remote: FakeRemote, record: Record) -> None:
    for mode, expected in (("auto", False), ("always", True), ("never", None)):
        remote.calls.clear()
        run_batch(phases(replace(settings, health_from_balancer=mode), remote, record, "web1"))
        views = [call.params["view"] for _host, call in remote.calls if call.operation == "pool_return"]
        assert [view and view["always"] for view in views] == [expected] * 2
        assert all(view is None or set(view["health"]) == {"web1"} for view in views)
        record.members["web1"].state = "untouched"


def test_a_member_is_warmed_at_the_port_of_the_innermost_pool(
    settings: Settings, remote: FakeRemote, record: Record
) -> None:
    record.members["web1"].addresses = {"lb1": ("10.0.0.1", 80), "lb2": ("10.0.0.1", 8080), "lb3": ("unix", 0)}
    run_batch(phases(replace(settings, warm_up=("/a",), warm_up_count=3), remote, record, "web1"))
    (call,) = [call for _host, call in remote.calls if call.operation == "member_gate"]
    assert call.params["warm_up"] == {
        "paths": ["/a"],
        "port": 8080,
        "count": 3,
        "concurrency": 1,
        "timeout": 30.0,
        "required": True,
    }
    assert call.limit == settings.health_timeout + 30


def test_undoing_a_drain_puts_no_broken_member_into_service(
    settings: Settings, remote: FakeRemote, record: Record
) -> None:
    member = record.members["web1"]
    member.state, member.before = "failed", {each: {"admin": "ready", "weight": 7} for each in BALANCERS}
    remote.admin["lb1", "web1"] = remote.admin["lb2", "web1"] = "out"
    remote.errors["lb2", "pool_drain"] = Refused("no")
    phases(settings, remote, record, "web1", back=True).drain()
    assert remote.admin["lb1", "web1"] == "out"
    assert member.state == "failed"


@pytest.fixture
def skipping(settings: Settings) -> Settings:
    return replace(settings, dead_balancer="skip")


@pytest.mark.parametrize("operation", ["pool_drain", "pool_return", "pool_put_back"])
def test_a_balancer_that_is_down_can_be_skipped(
    skipping: Settings, remote: FakeRemote, record: Record, operation: str
) -> None:
    remote.errors["lb2", operation] = LOST
    run_batch(phases(skipping, remote, record, "web1"))
    assert record.stop is None
    assert states(record)["web1"] == "finished"
    assert (record.balancers, record.dead) == (["lb1"], ["lb2"])
    assert "lb2 was left out" in record.notes[0]


def test_the_last_balancer_is_never_skipped(skipping: Settings, remote: FakeRemote, record: Record) -> None:
    for balancer in BALANCERS:
        remote.errors[balancer, "pool_drain"] = LOST
    run_batch(phases(skipping, remote, record, "web1"))
    assert record.stop is not None
    assert states(record)["web1"] == "untouched"
    assert record.balancers == list(BALANCERS)


def test_a_balancer_that_refuses_is_not_one_that_is_down(
    skipping: Settings, remote: FakeRemote, record: Record
) -> None:
    remote.errors["lb2", "pool_drain"] = Refused("no")
    run_batch(phases(skipping, remote, record, "web1"))
    assert record.stop is not None
    assert record.dead == []


def test_a_balancer_that_comes_back_is_brought_in_line_before_it_counts(
    skipping: Settings, remote: FakeRemote, record: Record
) -> None:
    remote.errors["lb2", "pool_put_back"] = LOST
    run_batch(phases(skipping, remote, record, "web1"))
    assert remote.admin["lb2", "web1"] == "out"
    remote.errors["lb2", "pool_read"] = LOST
    run_batch(phases(skipping, remote, record, "web2"))
    assert record.dead == ["lb2"]
    assert remote.admin["lb2", "web2"] == "ready"
    remote.errors.clear()
    remote.errors["web3", "member_gate"] = Unhealthy("status 503, not 200")
    run_batch(phases(skipping, remote, record, "web3"))
    assert (record.balancers, record.dead) == (list(BALANCERS), [])
    assert [remote.admin["lb2", name] for name in MEMBERS] == ["ready", "ready", "out"]


def test_a_member_that_is_left_out_is_not_put_back_on_a_balancer_that_comes_back(
    skipping: Settings, remote: FakeRemote, record: Record
) -> None:
    remote.errors["lb2", "pool_put_back"] = LOST
    run_batch(phases(skipping, remote, record, "web1"))
    record.members["web1"].state = "left_out"
    remote.errors.clear()
    remote.calls.clear()
    run_batch(phases(skipping, remote, record, "web2"))
    assert record.dead == []
    put_back = [call.params["settings"] for host, call in remote.calls if call.operation == "pool_put_back"]
    assert put_back
    assert all("web1" not in settings for settings in put_back)


def test_a_reload_by_someone_else_is_named(settings: Settings, remote: FakeRemote, record: Record) -> None:
    record.identities = dict.fromkeys(BALANCERS, "p1")
    remote.identities = {"lb1": ["p1"] * 6, "lb2": ["p1", "p1", "p2", "p2", "p2", "p2"]}
    run_batch(phases(settings, remote, record, "web1"))
    assert len(record.notes) == 1
    assert record.notes[0].startswith("lb2 was reloaded or restarted by someone else before or in the gate of web1")


@pytest.fixture
def layered(settings: Settings, record: Record) -> Settings:
    """The members are in two pools, an outer one on lb1 and an inner one on lb2."""
    record.places = {"lb1": Place("lb1", 0, 2), "lb2": Place("lb2", 1, 1)}
    return replace(settings, pools=({"balancers": "a", "pool": "outer"}, {"balancers": "b", "pool": "inner"}))


def test_pools_are_drained_outermost_first_and_put_back_innermost_first(
    layered: Settings, remote: FakeRemote, record: Record
) -> None:
    run_batch(phases(layered, remote, record, "web1"))
    assert remote.ran("pool_drain") == ["lb1", "lb2"]
    assert remote.ran("pool_put_back") == ["lb2", "lb1"]
    asked = {host: call.params for host, call in remote.calls if call.operation == "pool_drain"}
    assert [(asked[name]["pool"], asked[name]["floor"]) for name in BALANCERS] == [("outer", 2), ("inner", 1)]


def test_a_member_that_an_inner_pool_does_not_take_back_stays_out_of_the_outer(
    layered: Settings, remote: FakeRemote, record: Record
) -> None:
    remote.errors["lb2", "pool_put_back"] = Refused("no")
    run_batch(phases(layered, remote, record, "web1"))
    assert remote.admin["lb1", "web1"] == "out"
    assert record.members["web1"].trouble == "still out of service on lb1, lb2"


def test_an_outer_pool_goes_back_when_an_inner_one_refuses_the_drain(
    layered: Settings, remote: FakeRemote, record: Record
) -> None:
    remote.errors["lb2", "pool_drain"] = TimedOut("Still in flight after 5 s.")
    run_batch(phases(layered, remote, record, "web1"))
    assert remote.admin["lb1", "web1"] == "ready"
    assert states(record)["web1"] == "untouched"


def test_batches_after_a_stop_do_not_start(settings: Settings, remote: FakeRemote, record: Record) -> None:
    record.halt("gate", Unhealthy("web1 is ill."), ["web1"])
    outcome = phases(settings, remote, record, "web3").drain()
    assert "not started" in outcome.message
    assert not outcome.changed
    assert remote.calls == []


def test_a_member_that_is_not_healthy_stays_out_and_the_others_go_back(
    settings: Settings, remote: FakeRemote, record: Record
) -> None:
    remote.errors["web1", "member_gate"] = Unhealthy("status 503, not 200")
    run_batch(phases(settings, remote, record, "web1", "web2"))
    assert states(record) == {"web1": "failed", "web2": "finished", "web3": "untouched"}
    assert not remote.in_service("web1")
    assert remote.in_service("web2")
    assert record.members["web1"].trouble == "web1: status 503, not 200"


def test_a_balancer_that_sees_a_member_ill_is_enough(settings: Settings, remote: FakeRemote, record: Record) -> None:
    remote.errors["lb2", "pool_return"] = Unhealthy("not healthy", members={"web2": "L4CON: refused"})
    run_batch(phases(settings, remote, record, "web1", "web2"))
    assert states(record) == {"web1": "finished", "web2": "failed", "web3": "untouched"}
    assert "lb2 does not see web2 healthy: L4CON: refused" in record.members["web2"].trouble


def test_a_member_lost_in_its_upgrade_is_named_and_left_out(
    settings: Settings, remote: FakeRemote, record: Record
) -> None:
    remote.errors["web1", "release_switch"] = LOST
    run_batch(phases(settings, remote, record, "web1", "web2"))
    assert states(record) == {"web1": "lost", "web2": "finished", "web3": "untouched"}
    assert not remote.in_service("web1")
    assert ending.outcome(record) == "failed"


@pytest.mark.case(45)
def test_a_balancer_lost_at_the_end_is_tried_again_then_named(
    settings: Settings, remote: FakeRemote, record: Record
) -> None:
    remote.errors["lb2", "pool_put_back"] = Unreachable("lb2 cannot be reached: gone.", lost=True)
    run_batch(phases(settings, remote, record, "web1"))
    assert remote.ran("pool_put_back") == ["lb1", "lb2", "lb2"]
    assert record.members["web1"].state == "left_out"
    assert record.members["web1"].trouble == "still out of service on lb2"


def test_a_member_that_fails_under_traffic_stops_the_rollout_and_goes_back_first(
    settings: Settings, remote: FakeRemote, record: Record
) -> None:
    remote.looks["web2"] = "fail"
    run_batch(phases(settings, remote, record, "web1", "web2"))
    assert states(record)["web2"] == "failed"
    ending.decide_back(settings, record)
    assert record.back_batches[0] == ["web2"]
    assert sorted(name for batch in record.back_batches for name in batch) == ["web1", "web2"]


def test_the_way_back_ends_with_the_old_release_in_service(
    settings: Settings, remote: FakeRemote, record: Record
) -> None:
    remote.errors["web2", "member_gate"] = Unhealthy("status 503, not 200")
    run_batch(phases(settings, remote, record, "web1", "web2"))
    remote.errors.clear()
    ending.decide_back(settings, record)
    for batch in record.back_batches:
        run_batch(phases(settings, remote, record, *batch, back=True))
    assert states(record) == {"web1": "rolled_back", "web2": "rolled_back", "web3": "untouched"}
    assert [member.release for member in record.members.values()] == ["1.0"] * 3
    assert all(remote.in_service(name) for name in MEMBERS)
    assert ending.outcome(record) == "rolled_back"


def test_a_member_that_cannot_go_back_is_left_out(settings: Settings, remote: FakeRemote, record: Record) -> None:
    remote.errors["web1", "member_gate"] = Unhealthy("status 503, not 200")
    run_batch(phases(settings, remote, record, "web1"))
    ending.decide_back(settings, record)
    run_batch(phases(settings, remote, record, "web1", back=True))
    assert states(record)["web1"] == "left_out"
    assert not remote.in_service("web1")
    assert ending.outcome(record) == "failed"


def test_the_user_s_own_upgrade_tells_failed_from_lost(settings: Settings, remote: FakeRemote, record: Record) -> None:
    batch = phases(settings, remote, record, "web1", "web2", "web3")
    batch.drain()
    batch.users_upgrade_ended(alive=["web1", "web3"], failures={"web3": "unit failed"})
    assert states(record) == {"web1": "upgraded", "web2": "lost", "web3": "failed"}
    assert record.members["web3"].trouble == "The upgrade failed on web3: unit failed"


def test_the_record_survives_its_file(record: Record, settings: Settings, remote: FakeRemote) -> None:
    remote.looks["web2"] = "fail"
    run_batch(phases(settings, remote, record, "web1", "web2"))
    record.save()
    assert Record.load(record.path) == record


# --- maintenance ---


@pytest.fixture
def maintenance(record: Record) -> Settings:
    record.strategy, record.to_version, record.method = "maintain", "", "tasks"
    return Maintenance.from_vars(
        {
            "rollout_service": "shop",
            "rollout_hosts": "shop",
            "rollout_balancers": "lb",
            "rollout_pool": "shop",
            "rollout_health_url": "http://127.0.0.1/health",
            "rollout_health_version_key": "version",
            "rollout_tasks": "reboot.yml",
        }
    )


def maintain(batch: Phases, **failures: str) -> None:
    batch.drain()
    batch.users_upgrade_ended(batch.batch.hosts, failures)
    batch.gate()
    batch.put_back()


def test_maintenance_leaves_a_member_on_the_version_that_it_has(
    maintenance: Settings, remote: FakeRemote, record: Record
) -> None:
    maintain(phases(maintenance, remote, record, "web1", "web2"))
    assert states(record) == {"web1": "finished", "web2": "finished", "web3": "untouched"}
    gates = [call.params for _host, call in remote.calls if call.operation == "member_gate"]
    assert [(each["release"], each["health"]["version"]) for each in gates] == [("1.0", "1.0")] * 2
    assert record.members["web1"].release == "1.0"


def test_maintenance_that_fails_on_one_member_leaves_that_one_out(
    maintenance: Settings, remote: FakeRemote, record: Record
) -> None:
    maintain(phases(maintenance, remote, record, "web1", "web2"), web1="no space left")
    assert states(record) == {"web1": "failed", "web2": "finished", "web3": "untouched"}
    assert record.stop is not None
    assert (record.stop.phase, record.stop.members) == ("maintenance", ["web1"])
    assert not remote.in_service("web1")
    assert remote.in_service("web2")


def test_a_maintained_member_that_does_badly_under_traffic_is_taken_out_again(
    maintenance: Settings, remote: FakeRemote, record: Record
) -> None:
    remote.looks["web1"] = "fail"
    maintain(phases(maintenance, remote, record, "web1", "web2"))
    assert states(record)["web1"] == "failed"
    assert not remote.in_service("web1")
    assert remote.in_service("web2")
    assert record.members["web1"].out_at is not None


# --- joined batches ---


@pytest.fixture
def joining(settings: Settings, record: Record) -> Settings:
    """Both balancers reload for each change, and the user gives up the look between batches."""
    record.places = {name: Place(name, 0, 1, by_reload=True) for name in BALANCERS}
    return replace(settings, join_batches=True)


def test_a_batch_goes_back_with_the_drain_of_the_next(joining: Settings, remote: FakeRemote, record: Record) -> None:
    run_batch(phases(joining, remote, record, "web1", "web2"))
    assert states(record) == {"web1": "healthy", "web2": "healthy", "web3": "untouched"}
    assert remote.ran("pool_put_back") == []
    run_batch(phases(joining, remote, record, "web3"))
    assert states(record) == dict.fromkeys(MEMBERS, "finished")
    assert all(remote.in_service(name) for name in MEMBERS)
    ready = {"admin": "ready", "weight": 7}
    assert [call.params.get("returning") for _host, call in remote.calls if call.operation == "pool_drain"] == [
        None,
        None,
        {"web1": ready, "web2": ready},
        {"web1": ready, "web2": ready},
    ]
    assert remote.ran("pool_put_back") == list(BALANCERS)  # the last batch
    assert record.members["web1"].out_at is None


def test_only_balancers_that_reload_wait(joining: Settings, remote: FakeRemote, record: Record) -> None:
    record.places["lb1"].by_reload = False
    run_batch(phases(joining, remote, record, "web1", "web2"))
    assert remote.ran("pool_put_back") == ["lb1"]
    assert remote.admin["lb1", "web1"] == "ready"
    assert remote.admin["lb2", "web1"] == "out"
    run_batch(phases(joining, remote, record, "web3"))
    assert all(remote.in_service(name) for name in MEMBERS)
    returning = [host for host, call in remote.calls if call.params.get("returning")]
    assert returning == ["lb2"]


def test_a_member_that_does_badly_on_one_balancer_does_not_wait_on_the_other(
    joining: Settings, remote: FakeRemote, record: Record
) -> None:
    record.places["lb1"].by_reload = False
    remote.looks["web1"] = "fail"
    run_batch(phases(joining, remote, record, "web1", "web2"))
    assert states(record) == {"web1": "failed", "web2": "finished", "web3": "untouched"}
    assert record.stop is not None


@pytest.mark.parametrize("back", [True, False])
def test_a_batch_that_waited_is_put_back_whatever_becomes_of_the_next(
    joining: Settings, remote: FakeRemote, record: Record, back: bool
) -> None:
    """The next drain fails on one balancer, after it let them in, or before."""
    run_batch(phases(joining, remote, record, "web1", "web2"))
    remote.errors["lb2", "pool_drain"] = TimedOut("Still in flight.", returned=back)
    phases(joining, remote, record, "web3").drain()
    assert states(record) == {"web1": "finished", "web2": "finished", "web3": "untouched"}
    assert record.stop is not None
    assert record.stop.phase == "drain"
    assert remote.in_service("web3")
    assert remote.ran("pool_put_back") == (["lb1"] if back else ["lb1", "lb2", "lb1"])


def test_a_batch_that_waited_is_put_back_after_a_stop(joining: Settings, remote: FakeRemote, record: Record) -> None:
    run_batch(phases(joining, remote, record, "web1", "web2"))
    record.halt("witness", Refused("too many failed requests"), [])
    outcome = phases(joining, remote, record, "web3").drain()
    assert states(record) == {"web1": "finished", "web2": "finished", "web3": "untouched"}
    assert "web1, web2 in service; not started" in outcome.message
    assert "pool_drain" not in [call.operation for _host, call in remote.calls[-2:]]


def test_a_floor_that_is_waited_for_keeps_no_healthy_batch_out(
    joining: Settings, remote: FakeRemote, record: Record
) -> None:
    """The exchange is refused at once; then the batch goes back by itself, and the next drain may wait."""
    run_batch(phases(joining, remote, record, "web1", "web2"))
    waits: list[float] = []
    answer = remote._pool_drain

    def drain(balancer: str, params: Mapping[str, Any]) -> dict[str, Any]:
        waits.append(params["wait_for_floor"])
        if balancer == "lb2" and "returning" in params:
            raise FloorBroken("The floor would break.", returned=False)
        return answer(balancer, params)

    remote._pool_drain = drain  # type: ignore[method-assign]
    phases(joining, remote, record, "web3").drain()
    assert record.stop is None
    assert states(record) == {"web1": "finished", "web2": "finished", "web3": "drained"}
    assert waits == [0, 0, 60.0, 60.0]
    assert record.members["web3"].before == {name: {"admin": "ready", "weight": 7} for name in BALANCERS}


def test_batches_go_their_own_way_when_it_is_not_asked_for(
    settings: Settings, remote: FakeRemote, record: Record
) -> None:
    record.places = {name: Place(name, 0, 1, by_reload=True) for name in BALANCERS}
    run_batch(phases(settings, remote, record, "web1", "web2"))
    assert states(record)["web1"] == "finished"


@pytest.mark.parametrize(
    ("lasting", "forward", "back"),
    [("require", "require", "accept"), ("accept", "accept", "accept"), ("never", "never", "never")],
)
def test_a_way_back_is_not_refused_because_it_would_not_outlive_a_reload(
    settings: Settings, remote: FakeRemote, record: Record, lasting: str, forward: str, back: str
) -> None:
    chosen = replace(settings, lasting=lasting)
    remote.errors["web2", "member_gate"] = Unhealthy("status 503, not 200")
    run_batch(phases(chosen, remote, record, "web1", "web2"))
    drains = [call.params["lasting"] for _host, call in remote.calls if call.operation == "pool_drain"]
    assert drains == [forward, forward, back, back]  # the ill member goes out again in any case
    remote.calls.clear()
    remote.errors.clear()
    ending.decide_back(chosen, record)
    run_batch(phases(chosen, remote, record, *record.back_batches[0], back=True))
    assert {call.params["lasting"] for _host, call in remote.calls if call.operation == "pool_drain"} == {back}


def test_a_member_that_failed_keeps_the_next_zone_waiting(
    settings: Settings, remote: FakeRemote, record: Record
) -> None:
    """A budget lets the rest of its own zone go on, and no two zones are out at once."""
    for host, zone in zip(MEMBERS, ("north", "north", "south"), strict=True):
        record.members[host].zone = zone
    failed = record.members["web1"]
    failed.state, failed.out_at = "failed", 1.0
    assert phases(settings, remote, record, "web3").drain().message == "not started: web1 of another zone is out"
    assert remote.ran("pool_drain") == []
    assert phases(settings, remote, record, "web2").drain().error is None
    assert record.stop is None
