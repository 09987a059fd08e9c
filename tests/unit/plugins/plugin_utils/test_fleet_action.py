# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A module on a fleet with several pools, on balancers that are made of answers."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader

from ansible_collections.zerodrop.rollout.plugins.action.pool_member import ActionModule
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import Refused, Unreachable
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Admin, Health, Member, Pool
from ansible_collections.zerodrop.rollout.plugins.plugin_utils import _fleet_action
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Call, Reply

POOLS = [{"balancers": "edge", "pool": "front"}, {"balancers": "lb", "pool": "shop", "driver": "nginx"}]
VARIABLES = {
    "groups": {"all": ["lb1", "lb2", "lb3", "web1"], "edge": ["lb1"], "lb": ["lb2", "lb3"]},
    "hostvars": {"lb1": {}, "lb2": {}, "lb3": {}, "web1": {"ansible_host": "10.0.0.1"}},
}


class Balancers:
    """HAProxy's pool names its members, and nginx's has their addresses; keeps every call."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, dict[str, Any]]] = []
        self.refuses = ""
        self.busy: dict[str, int] = {}
        self.dead = ""

    def run(self, calls: Mapping[str, Call], _check: bool = False) -> dict[str, Reply]:
        return {name: self._answer(name, call) for name, call in calls.items()}

    def _answer(self, name: str, call: Call) -> Reply:
        params = dict(call.params)
        self.calls.append((name, call.operation, params))
        if name == self.dead:
            return Reply(name, {}, Unreachable("does not answer."))
        if call.operation == "pool_read":
            own = "web1" if params["driver"] == "haproxy" else "10.0.0.1:80"
            member = Member(own, "10.0.0.1", 80, Admin.READY, Health.UP, 1, 0, 0)
            return Reply(name, {"pools": [Pool(params["pool"], "1@1", (member,)).to_dict()]})
        if call.operation == "member_sockets":
            return Reply(name, {"busy": self.busy, "strangers": {"10.9.9.9": 1}})
        if name == self.refuses and call.operation == "pool_member":
            return Reply(name, {}, Refused("says no."))
        towards = {
            member: {"addresses": [f"10.0.1.{name[-1]}"], "port": 80, "pooled": 2}
            for member in params.get("members", ())
        }
        changed = {"changed": True, "before": {"x": {}}, "return_to": {}, "towards": towards}
        return Reply(name, {**changed, "diff": {"before": 1, "after": 2}})

    def of(self, operation: str) -> list[tuple[str, Any]]:
        return [(name, params.get("members")) for name, done, params in self.calls if done == operation]


@pytest.fixture
def balancers(monkeypatch: pytest.MonkeyPatch) -> Balancers:
    found = Balancers()
    monkeypatch.setattr(_fleet_action, "Remote", lambda *_arguments: found)
    return found


def run(**given: Any) -> dict[str, Any]:
    task: Any = SimpleNamespace(args={"service": "shop", **given}, check_mode=False, diff=True, async_val=0)
    connection: Any = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/nowhere"))
    nothing: Any = None
    return ActionModule(task, connection, nothing, DataLoader(), nothing, None).run(None, VARIABLES)


def test_members_leave_the_outermost_pool_first_and_return_to_the_innermost_first(balancers: Balancers) -> None:
    done = run(pools=POOLS, hosts=["web1"], state="drained")
    assert not done.get("failed"), done
    assert balancers.of("pool_member") == [("lb1", ["web1"]), ("lb2", ["10.0.0.1:80"]), ("lb3", ["10.0.0.1:80"])]
    assert (done["changed"], sorted(done["balancers"]), len(done["diff"])) == (True, ["lb1", "lb2", "lb3"], 3)
    balancers.calls.clear()
    run(pools=POOLS, hosts=["web1"], state="ready")
    assert [name for name, _members in balancers.of("pool_member")] == ["lb2", "lb3", "lb1"]


def test_each_pool_has_its_own_driver_and_the_rest_of_all(balancers: Balancers) -> None:
    run(pools=POOLS, hosts=["web1"], state="drained", socket="/run/x.sock", master_socket="none")
    found = {
        name: (params["driver"], params["pool"], params["socket"], params["master_socket"])
        for name, operation, params in balancers.calls
        if operation == "pool_member"
    }
    assert found["lb1"] == ("haproxy", "front", "/run/x.sock", "")
    assert found["lb3"] == ("nginx", "shop", "/run/x.sock", "")


def test_what_an_inner_pool_refuses_is_undone_in_all(balancers: Balancers) -> None:
    balancers.refuses = "lb3"
    done = run(pools=POOLS, hosts=["web1"], state="drained")
    assert done["failed"]
    assert "lb3: says no." in done["msg"]
    assert done["undone"] == {"lb1": True, "lb2": True}
    assert done["changed"] is False
    assert [name for name, _members in balancers.of("pool_put_back")] == ["lb2", "lb1"]
    assert [name for name, _members in balancers.of("pool_member")] == ["lb1", "lb2", "lb3"]


def test_an_inner_balancer_that_cannot_be_read_leaves_the_outer_pool_alone(balancers: Balancers) -> None:
    balancers.dead = "lb2"
    done = run(pools=POOLS, hosts=["web1"], state="drained")
    assert done["failed"]
    assert "lb2: does not answer." in done["msg"]
    assert balancers.of("pool_member") == []


def test_an_outer_pool_that_refuses_leaves_the_inner_alone(balancers: Balancers) -> None:
    balancers.refuses = "lb1"
    done = run(pools=POOLS, hosts=["web1"], state="drained")
    assert done["failed"]
    assert balancers.of("pool_member") == [("lb1", ["web1"])]
    assert balancers.of("pool_put_back") == []


def test_the_drained_members_are_asked_who_is_still_busy_with_them(balancers: Balancers) -> None:
    done = run(pools=POOLS, hosts=["web1"], state="drained", busy_sockets="wait", drain_timeout=7)
    assert not done.get("failed"), done
    ((name, _operation, params),) = [each for each in balancers.calls if each[1] == "member_sockets"]
    assert (name, params["port"], params["limit"]) == ("web1", 80, 7.0)
    assert params["balancers"] == {f"lb{i}": {"addresses": [f"10.0.1.{i}"], "pooled": 2} for i in (1, 2, 3)}
    assert done["busy_sockets"] == {}
    assert "10.9.9.9 (1)" in done["notes"][0]


def test_a_member_that_is_busy_at_the_limit_is_put_back_everywhere(balancers: Balancers) -> None:
    balancers.busy = {"lb2": 1}
    done = run(pools=POOLS, hosts=["web1"], state="drained", busy_sockets="wait")
    assert done["failed"]
    assert "web1 (1 from lb2)" in done["msg"]
    assert done["undone"] == {"lb1": True, "lb2": True, "lb3": True}
    assert done["changed"] is False


@pytest.mark.parametrize("given", [{"busy_sockets": "note"}, {"busy_sockets": "wait", "on_drain_timeout": "cut"}])
def test_what_is_busy_is_only_said_where_that_is_wanted(balancers: Balancers, given: dict[str, str]) -> None:
    balancers.busy = {"lb2": 1}
    done = run(pools=POOLS, hosts=["web1"], state="drained", **given)
    assert not done.get("failed"), done
    assert done["busy_sockets"] == {"web1": {"lb2": 1}}


@pytest.mark.parametrize("given", [{"state": "drained"}, {"state": "ready", "busy_sockets": "wait"}])
def test_members_are_asked_at_the_end_of_a_drain_alone_and_where_that_is_wanted(
    balancers: Balancers, given: dict[str, str]
) -> None:
    run(pools=POOLS, hosts=["web1"], **given)
    assert balancers.of("member_sockets") == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"pools": [{"balancers": "none", "pool": "x"}]}, "matches no host"),
        ({"pools": [{"pool": "x"}]}, "does not say its balancers"),
        ({"pools": "[{"}, "is not a list"),
        ({"pools": POOLS, "pool": "shop"}, "has its own balancers and pool"),
        ({"pools": POOLS, "members": ["web1"]}, "either members"),
        ({"pools": POOLS, "hosts": []}, "either members"),
        ({"pools": [POOLS[0], {"balancers": "none", "pool": "x"}]}, "matches no host"),
        ({"pools": POOLS, "hosts": ["web9"]}, "web9: not in the inventory"),
        ({"hosts": ["web1"]}, "give balancers or pools"),
    ],
)
def test_what_is_wrong_is_refused_before_any_balancer_is_touched(
    balancers: Balancers, given: dict[str, Any], said: str
) -> None:
    done = run(**{"hosts": ["web1"], "state": "drained", **given})
    assert done["failed"]
    assert said in done["msg"]
    assert balancers.calls == []


def test_an_operation_may_show_several_files(balancers: Balancers, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [{"before_header": each, "after_header": each, "before": "", "after": "x"} for each in ("/a", "/b")]
    monkeypatch.setattr(balancers, "_answer", lambda name, _call: Reply(name, {"changed": True, "diff": files}))
    done = run(pool="shop", balancers=["lb1", "lb2"], members=["web1"], state="drained")
    assert [each["after_header"] for each in done["diff"]] == ["lb1: /a", "lb1: /b", "lb2: /a", "lb2: /b"]
