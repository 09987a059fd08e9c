# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Configurations of HAProxy that are legal and rare."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils import _pool_operations as operations
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    FloorBroken,
    InvalidConfiguration,
    TimedOut,
)
from tests.conformance.haproxy import HAProxy
from tests.conformance.harness import App, Load, PoolSpec, Slow, free_port, wait_for
from tests.conformance.test_haproxy import agent

pytestmark = pytest.mark.balancer

READY = {"admin": "ready", "weight": 1}


def pool_of(apps: Mapping[str, App], **more: Any) -> PoolSpec:
    return PoolSpec("shop", [(app.name, app.port) for app in apps.values()], **more)


def round_trip(haproxy: HAProxy, pool: str, name: str, app: App) -> None:
    """Out, killed, started and back."""
    params = {**haproxy.params(pool), "members": [name], "timeout": 20}
    operations.pool_drain(params, False)
    app.kill()
    time.sleep(0.1)
    app.start()
    operations.pool_return(params, False)
    operations.pool_put_back({**params, "settings": {name: READY}}, False)
    wait_for(lambda: haproxy.driver().read(pool).member(name).in_service)


@pytest.mark.case(2)
def test_what_a_tracking_server_serves_is_waited_for(haproxy: HAProxy, apps: dict[str, App]) -> None:
    """It goes out with the one it tracks, in a pool of its own that nobody names."""
    port = free_port()
    extra = (
        f"frontend in_api\n  mode http\n  bind 127.0.0.1:{port}\n  default_backend api\n"
        f"backend api\n  mode http\n  server t1 127.0.0.1:{apps['s1'].port} track shop/s1\n"
        f"backend chain\n  mode http\n  server u1 127.0.0.1:{apps['s1'].port} track api/t1\n"
    )
    haproxy.start([pool_of(apps)], extra=extra)
    slow = Slow(port, 1.5)
    wait_for(lambda: haproxy.driver().read("api").member("t1").in_flight)
    root = haproxy.driver().read("shop").member("s1")
    assert root.in_flight == 1
    assert sorted(root.detail["followers"]) == ["api/t1", "chain/u1"]
    assert haproxy.driver().glance("shop", ["s1", "s2"]).busy == {"s1": 1, "s2": 0}
    old = haproxy.driver().identity()
    haproxy.reload()
    wait_for(lambda: haproxy.driver().read("shop").identity != old)
    assert haproxy.driver().read("shop").member("s1").in_flight == 1  # in the process that leaves
    operations.pool_drain({**haproxy.params("shop"), "members": ["s1"], "timeout": 20}, False)
    apps["s1"].kill()
    assert slow.wait() == "s1"
    assert haproxy.driver().read("api").member("t1").admin.value == "out"
    assert haproxy.driver().read("chain").member("u1").admin.value == "out"
    apps["s1"].start()
    operations.pool_member({**haproxy.params("shop"), "members": ["s1"], "state": "ready"}, False)
    assert haproxy.driver().read("chain").member("u1").admin.value == "ready"


@pytest.mark.case(13)
def test_an_agent_is_heard_again_when_a_drain_fails(haproxy: HAProxy, apps: dict[str, App]) -> None:
    with agent({"now": "up 100%"}) as port:
        server = f"  server a 127.0.0.1:{apps['s1'].port} check inter 50ms agent-check agent-port {port}"
        clients = free_port()
        front = f"frontend in_agents\n  mode http\n  bind 127.0.0.1:{clients}\n  default_backend agents\n"
        haproxy.start([pool_of(apps)], extra=f"{front}backend agents\n  mode http\n{server} agent-inter 50ms\n")
        slow = Slow(clients, 2.0)
        wait_for(lambda: haproxy.driver().read("agents").member("a").in_flight)
        with pytest.raises(TimedOut):
            operations.pool_drain({**haproxy.params("agents"), "members": ["a"], "timeout": 0.3}, False)
        member = haproxy.driver().read("agents").member("a")
        assert (member.admin.value, member.detail["agent"]) == ("ready", "enabled")
        assert slow.wait() == "s1"


@pytest.mark.case(11)
@pytest.mark.parametrize("redispatch", [False, True])
def test_a_queue_is_not_thrown_on_the_server_that_goes_out(
    haproxy: HAProxy, apps: dict[str, App], redispatch: bool
) -> None:
    pool = pool_of(apps, sticky=True, max_in_flight=1)
    haproxy.start([pool], redispatch=redispatch)
    slow = [Slow(pool.port, 0.3, {"Cookie": "MEMBER=s1"}) for _unused in range(6)]
    wait_for(lambda: haproxy.driver().read("shop").member("s1").queued == 5)
    most = [0]
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            most[0] = max(most[0], haproxy.driver().read("shop").member("s1").in_flight)

    thread = threading.Thread(target=watch)
    thread.start()
    operations.pool_drain({**haproxy.params("shop"), "members": ["s1"], "timeout": 20}, False)
    apps["s1"].kill()
    done.set()
    thread.join()
    assert all(each.wait() in apps for each in slow), [each.outcome for each in slow]
    assert most[0] == 1


@pytest.mark.case(16)
def test_backups_and_servers_without_weight_are_no_capacity(haproxy: HAProxy, apps: dict[str, App]) -> None:
    ports = {name: app.port for name, app in apps.items()}
    extra = (
        f"backend few\n  mode http\n  server a 127.0.0.1:{ports['s1']} check inter 50ms\n"
        f"  server b 127.0.0.1:{ports['s2']} check inter 50ms weight 0\n"
        f"  server c 127.0.0.1:{ports['s3']} check inter 50ms backup\n"
        f"  server d 127.0.0.1:{ports['s4']} check inter 50ms\n"
    )
    haproxy.start([pool_of(apps)], extra=extra)
    apps["s4"].kill()
    wait_for(lambda: not haproxy.driver().read("few").member("d").in_service)
    with pytest.raises(FloorBroken, match=r"b \(weight 0\), c \(backup\), d \(down\)"):
        operations.pool_drain({**haproxy.params("few"), "members": ["a"], "floor": 1}, False)
    round_trip(haproxy, "few", "a", apps["s1"])
    # A backup is taken out and put back like any other; it costs no capacity.
    params = {**haproxy.params("few"), "members": ["c"], "floor": 1}
    operations.pool_drain(params, False)
    operations.pool_return(params, False)
    operations.pool_put_back({**params, "settings": {"c": READY}}, False)
    member = haproxy.driver().read("few").member("c")
    assert (member.admin.value, member.health.value, member.backup) == ("ready", "up", True)


@pytest.mark.case(39)
def test_odd_but_legal_names(haproxy: HAProxy, apps: dict[str, App]) -> None:
    pool, names = "Shop_v1.2:eu-west", ("web.1:a", "-", "0", "web_1-b")
    servers = "".join(
        f"  server {name} 127.0.0.1:{app.port} check inter 50ms\n"
        for name, app in zip(names, apps.values(), strict=True)
    )
    haproxy.start([pool_of(apps)], extra=f"defaults {pool}\n  mode http\nbackend {pool} from {pool}\n{servers}")
    written = haproxy.config.read_bytes()
    for name, app in zip(names, list(apps.values()), strict=True):
        operations.pool_drain({**haproxy.params(pool), "members": [name], "lasting": "require"}, False)
        assert haproxy.config.read_bytes() != written
        assert [m.name for m in haproxy.driver().read(pool).members if m.admin.value == "out"] == [name]
        assert app.port == haproxy.driver().read(pool).member(name).port
        operations.pool_member({**haproxy.params(pool), "members": [name], "state": "ready"}, False)
        assert haproxy.config.read_bytes() == written


@pytest.mark.case(39)
def test_servers_of_a_template_and_servers_added_at_run_time(haproxy: HAProxy, apps: dict[str, App]) -> None:
    extra = f"backend made\n  mode http\n  server-template t 2 127.0.0.1:{apps['s1'].port} check inter 50ms\n"
    haproxy.start([pool_of(apps)], extra=extra)
    driver = haproxy.driver()
    experimental = "experimental-mode on;" if haproxy.version == "2.4" else ""
    answer = driver._socket.ask(f"{experimental}add server made/late 127.0.0.1:{apps['s2'].port} check inter 50ms")
    assert "New server registered" in answer
    driver._socket.ask("enable health made/late")
    assert driver.read("made").member("late").admin.value == "out"
    operations.pool_member({**haproxy.params("made"), "members": ["late"], "state": "ready"}, False)
    round_trip(haproxy, "made", "late", apps["s2"])
    round_trip(haproxy, "made", "t2", apps["s1"])
    assert "late has no line of its own" in driver.lasting("made")


@pytest.mark.case(31)
def test_two_haproxys_on_one_host(haproxy: HAProxy, apps: dict[str, App]) -> None:
    haproxy.start([pool_of(apps)])
    other = HAProxy(haproxy.folder / "o", haproxy.version)
    other.folder.mkdir()
    try:
        other.start([pool_of(apps)])
        written = other.config.read_bytes()
        operations.pool_drain({**haproxy.params("shop"), "members": ["s1"]}, False)
        assert haproxy.driver().read("shop").member("s1").admin.value == "out"
        assert other.driver().read("shop").member("s1").in_service
        assert other.config.read_bytes() == written
        operations.pool_member({**haproxy.params("shop"), "members": ["s1"], "state": "ready"}, False)
        assert haproxy.driver().read("shop").member("s1").in_service
    finally:
        other.stop()


@pytest.mark.case(9)
def test_a_tcp_pool_without_checks_comes_and_goes(haproxy: HAProxy, apps: dict[str, App]) -> None:
    pool = pool_of(apps, tcp=True, checked=False)
    haproxy.start([pool])
    with Load(pool.port).running(clients=4, keep_alive=False) as load:
        for name in ("s1", "s2"):
            round_trip(haproxy, "shop", name, apps[name])
    assert not load.failures


@pytest.mark.case(15)
def test_a_status_that_hides_what_was_asked_is_not_read(haproxy: HAProxy, apps: dict[str, App]) -> None:
    """A member that says 404 is shown as NOLB, whatever an operator asked of it."""
    checks = "  mode http\n  option httpchk GET /health\n  http-check disable-on-404\n"
    servers = "".join(f"  server {app.name} 127.0.0.1:{app.port} check inter 50ms\n" for app in apps.values())
    haproxy.start([pool_of(apps)], extra=f"backend leaving\n{checks}{servers}")
    driver = haproxy.driver()
    apps["s1"].switch("leaving")
    wait_for(lambda: driver.read("leaving").member("s1").detail["status"] == "NOLB")
    assert driver.read("leaving").member("s1").admin.value == "ready"
    assert not driver.read("leaving").member("s1").in_service
    driver.drain("leaving", ["s1"])
    wait_for(lambda: driver.read("leaving").member("s1").detail["status"] == "NOLB")
    assert driver.read("leaving").member("s1").admin.value == "drain"
    apps["s2"].switch("ill")
    wait_for(lambda: driver.read("leaving").member("s2").health.value == "down")
    driver.drain("leaving", ["s2"])
    member = driver.read("leaving").member("s2")
    assert (member.admin.value, member.detail["status"].split()[0]) == ("drain", "DOWN")


@pytest.mark.case(8)
def test_clients_of_a_stick_table_are_moved_when_it_is_held_out(haproxy: HAProxy, apps: dict[str, App]) -> None:
    port = free_port()
    servers = "".join(f"  server {app.name} 127.0.0.1:{app.port} check inter 50ms\n" for app in apps.values())
    extra = (
        f"frontend in_stuck\n  mode http\n  bind 127.0.0.1:{port}\n  default_backend stuck\n"
        "backend stuck\n  mode http\n  stick-table type string size 1k expire 1m\n  stick on hdr(X-Client)\n" + servers
    )
    haproxy.start([pool_of(apps)], extra=extra)
    who = {"X-Client": "one"}
    home = Slow(port, 0, who).wait()
    assert {Slow(port, 0, who).wait() for _unused in range(4)} == {home}
    operations.pool_member({**haproxy.params("stuck"), "members": [home], "state": "draining"}, False)
    assert Slow(port, 0, who).wait() == home
    slow = Slow(port, 1.0, who)
    wait_for(lambda: haproxy.driver().read("stuck").member(home).in_flight)
    with pytest.raises(TimedOut) as error:
        operations.pool_drain({**haproxy.params("stuck"), "members": [home], "timeout": 0.2}, False)
    assert [piece["client"].split(":")[0] for piece in error.value.facts["work"]] == ["127.0.0.1"]
    assert slow.wait() == home
    operations.pool_drain({**haproxy.params("stuck"), "members": [home]}, False)
    assert Slow(port, 0, who).wait() != home


@pytest.mark.case(39)
def test_servers_at_ipv6_addresses_and_unix_sockets(haproxy: HAProxy, apps: dict[str, App]) -> None:
    servers = f"  server six [::1]:8080\n  server sock unix@{haproxy.folder}/app.sock\n  server bare 127.0.0.1:8080\n"
    haproxy.start([pool_of(apps)], extra=f"backend mixed\n  mode http\n{servers}")
    driver = haproxy.driver()
    pool = driver.read("mixed")
    assert [(m.name, m.address, m.port) for m in pool.members] == [
        ("six", "::1", 8080),
        ("sock", "unix", 0),
        ("bare", "127.0.0.1", 8080),
    ]
    assert [m.name for m in pool.at_address("0:0:0:0:0:0:0:1", 8080)] == ["six"]
    assert driver.lasting("mixed") == ""
    written = haproxy.config.read_bytes()
    params = {**haproxy.params("mixed"), "members": ["six", "sock"], "lasting": "require"}
    operations.pool_member({**params, "state": "drained"}, False)
    assert haproxy.config.read_bytes() != written
    operations.pool_member({**params, "state": "ready"}, False)
    assert haproxy.config.read_bytes() == written


@pytest.mark.case(30)
def test_a_name_that_does_not_resolve_is_said_and_nothing_is_left_by_halves(
    haproxy: HAProxy, apps: dict[str, App]
) -> None:
    haproxy.start([pool_of(apps)])
    haproxy.config.write_text(haproxy.config.read_text() + "backend far\n  server a shop.invalid:80\n")
    written = haproxy.config.read_bytes()
    with pytest.raises(InvalidConfiguration, match=r"shop\.invalid"):
        operations.pool_drain({**haproxy.params("shop"), "members": ["s1"], "lasting": "require"}, False)
    wait_for(lambda: haproxy.driver().read("shop").member("s1").in_service)
    assert haproxy.config.read_bytes() == written
    operations.pool_drain({**haproxy.params("shop"), "members": ["s1"]}, False)
    assert haproxy.config.read_bytes() == written
