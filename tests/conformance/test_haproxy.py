# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What only HAProxy has: its sockets and their levels, tracking, agents, cookies, many servers."""

from __future__ import annotations

import http.client
import socket
import statistics
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils import _pool_operations as operations
from ansible_collections.zerodrop.rollout.plugins.module_utils._drivers.haproxy import HAProxyDriver
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    BadReply,
    InvalidConfiguration,
    PermissionDenied,
    Refused,
    RolloutError,
    Unreachable,
)
from tests.conformance.haproxy import HAProxy
from tests.conformance.harness import App, Load, PoolSpec, Slow, free_port, wait_for

pytestmark = pytest.mark.balancer


def pool_of(apps: Mapping[str, App], **more: Any) -> PoolSpec:
    return PoolSpec("shop", [(app.name, app.port) for app in apps.values()], **more)


@pytest.mark.case(3)
@pytest.mark.parametrize("level", ["user", "operator"])
def test_a_socket_without_rights_is_refused_before_anything(haproxy: HAProxy, apps: dict[str, App], level: str) -> None:
    haproxy.start([pool_of(apps)])
    params = {**haproxy.params("shop"), "socket": f"{haproxy.folder}/{level}.sock"}
    assert operations.pool_read(params, False)["pools"][0]["members"][0]["in_service"] is True
    with pytest.raises(PermissionDenied, match=f"level '{level}'.*level admin"):
        operations.pool_read({**params, "rights": True}, False)
    with pytest.raises(PermissionDenied, match="level admin"):
        operations.pool_drain({**params, "members": ["s1"]}, False)
    assert all(member.in_service for member in haproxy.driver().read("shop").members)


@pytest.mark.case(2)
def test_a_tracking_server_says_why_it_cannot_be_put_back(haproxy: HAProxy, apps: dict[str, App]) -> None:
    extra = f"backend follower\n  server t1 127.0.0.1:{apps['s1'].port} track shop/s1\n"
    haproxy.start([pool_of(apps)], extra=extra)
    driver = haproxy.driver()
    driver.hold_out("shop", ["s1"])
    follower = driver.read("follower").member("t1")
    assert follower.admin.value == "out"
    assert follower.detail["tracked_by"] == "shop/s1"
    with pytest.raises(Refused, match="tracks shop/s1"):
        driver.put_back("follower", ["t1"])
    driver.prepare_return("shop", ["s1"])
    driver.put_back("shop", ["s1"])
    assert driver.read("follower").member("t1").admin.value == "ready"


@pytest.mark.case(2)
def test_a_tracking_server_can_be_taken_out_and_put_back(haproxy: HAProxy, apps: dict[str, App]) -> None:
    extra = f"backend follower\n  server t1 127.0.0.1:{apps['s1'].port} track shop/s1\n"
    haproxy.start([pool_of(apps)], extra=extra)
    params = {**haproxy.params("follower"), "members": ["t1"]}
    operations.pool_member({**params, "state": "drained"}, False)
    result = operations.pool_member({**params, "state": "ready"}, False)
    assert result["members"]["t1"]["checked"] is True


@pytest.mark.case(37)
def test_weights_of_a_static_algorithm_are_refused(haproxy: HAProxy, apps: dict[str, App]) -> None:
    extra = "backend fixed\n  balance static-rr\n  server a 127.0.0.1:1\n"
    haproxy.start([pool_of(apps)], extra=extra)
    with pytest.raises(Refused, match="static LB algorithm"):
        operations.pool_weigh({**haproxy.params("fixed"), "weights": {"a": 5}}, False)


def test_a_server_without_a_check_is_said_to_be_unchecked(haproxy: HAProxy, apps: dict[str, App]) -> None:
    haproxy.start([pool_of(apps, checked=False)])
    params = {**haproxy.params("shop"), "members": ["s1"]}
    operations.pool_member({**params, "state": "drained"}, False)
    result = operations.pool_member({**params, "state": "ready"}, False)
    assert result["members"]["s1"] == {"waited": pytest.approx(0, abs=1), "health": "unchecked", "checked": False}
    # `health down` would have left it down for ever.
    assert haproxy.driver().read("shop").member("s1").in_service


@contextmanager
def agent(words: dict[str, str]) -> Iterator[int]:
    """An agent that says what ``words["now"]`` is."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        stopping = threading.Event()

        def run() -> None:
            while not stopping.is_set():
                try:
                    connection, _address = server.accept()
                except OSError:
                    continue
                with connection, suppress(ConnectionError):  # HAProxy gives an agent that is late up
                    connection.sendall((words["now"] + "\n").encode())

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            stopping.set()
            thread.join()


@pytest.mark.case(13)
def test_an_agent_does_not_cancel_a_drain(haproxy: HAProxy, apps: dict[str, App]) -> None:
    with agent({"now": "ready up"}) as port:
        server = f"  server a 127.0.0.1:{apps['s1'].port} check inter 50ms agent-check agent-port {port}"
        haproxy.start([pool_of(apps)], extra=f"backend agents\n{server} agent-inter 50ms\n")
        params = {**haproxy.params("agents"), "members": ["a"]}
        for state in ("draining", "drained"):
            operations.pool_member({**params, "state": state}, False)
            time.sleep(0.3)
            member = haproxy.driver().read("agents").member("a")
            assert member.admin.value == {"draining": "drain", "drained": "out"}[state]
            assert member.detail["agent"] == "disabled"
        operations.pool_member({**params, "state": "ready"}, False)
        member = haproxy.driver().read("agents").member("a")
        assert (member.admin.value, member.detail["agent"]) == ("ready", "enabled")


@pytest.mark.case(8)
def test_clients_with_a_cookie_are_moved_when_it_is_held_out(haproxy: HAProxy, apps: dict[str, App]) -> None:
    pool = pool_of(apps, sticky=True)
    haproxy.start([pool])

    def ask() -> str:
        connection = http.client.HTTPConnection("127.0.0.1", pool.port, timeout=5)
        connection.request("GET", "/", headers={"Cookie": "MEMBER=s1"})
        with connection.getresponse() as answer:
            body = answer.read().decode()
        connection.close()
        return body

    params = {**haproxy.params("shop"), "members": ["s1"]}
    operations.pool_member({**params, "state": "draining"}, False)
    assert ask() == "s1"
    seen = []

    def watch() -> None:
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            seen.append(ask())
            time.sleep(0.01)

    watcher = threading.Thread(target=watch)
    watcher.start()
    operations.pool_member({**params, "state": "drained", "session_grace": 1}, False)
    watcher.join()
    assert set(seen) == {"s1"}
    assert ask() != "s1"


def test_a_slow_start_is_not_waited_for(haproxy: HAProxy, apps: dict[str, App]) -> None:
    haproxy.start([pool_of(apps)], check="inter 50ms rise 2 fall 2 slowstart 20s")
    params = {**haproxy.params("shop"), "members": ["s1"]}
    operations.pool_member({**params, "state": "drained"}, False)
    operations.pool_member({**params, "state": "ready"}, False)
    member = haproxy.driver().read("shop").member("s1")
    assert member.health.value == "starting"
    assert 0 < int(member.detail["throttle"]) < 100  # per cent of its weight


@pytest.mark.case(10)
def test_a_request_queued_for_a_member_that_is_held_out_is_not_lost(haproxy: HAProxy, apps: dict[str, App]) -> None:
    pool = pool_of(apps, sticky=True, max_in_flight=1)
    haproxy.start([pool])
    slow = [Slow(pool.port, 0.3, {"Cookie": "MEMBER=s1"}) for _unused in range(3)]
    wait_for(lambda: haproxy.driver().read("shop").member("s1").queued == 2)
    result = operations.pool_drain({**haproxy.params("shop"), "members": ["s1"]}, False)
    apps["s1"].kill()
    assert result["members"]["s1"]["in_flight_at_start"] == 3
    assert all(each.wait() in apps for each in slow), [each.outcome for each in slow]


def test_without_a_master_socket_it_works_and_says_what_is_missing(haproxy: HAProxy, apps: dict[str, App]) -> None:
    haproxy.start([pool_of(apps)])
    params = {**haproxy.params("shop"), "master_socket": ""}
    capabilities = operations.pool_read(params, False)["capabilities"]
    assert capabilities["exact_in_flight"] is False
    assert "not counted" in " ".join(capabilities["notes"])
    assert operations.pool_read(haproxy.params("shop"), False)["capabilities"]["exact_in_flight"] is True
    assert operations.pool_drain({**params, "members": ["s1"]}, False)["changed"] is True


@pytest.mark.case(31)
def test_a_master_socket_of_another_haproxy_is_noticed(haproxy: HAProxy, apps: dict[str, App], tmp_path: Path) -> None:
    other = HAProxy(haproxy.folder / "o", haproxy.version)
    other.folder.mkdir()
    haproxy.start([pool_of(apps)])
    try:
        other.start([pool_of(apps, checked=False)])
        params = {**haproxy.params("shop"), "master_socket": f"{other.folder}/master.sock"}
        with pytest.raises(InvalidConfiguration, match="different HAProxy"):
            operations.pool_drain({**params, "members": ["s1"]}, False)
    finally:
        other.stop()
    assert all(member.in_service for member in haproxy.driver().read("shop").members)


def test_a_haproxy_that_was_stopped_is_unreachable(haproxy: HAProxy, apps: dict[str, App]) -> None:
    haproxy.start([pool_of(apps)])
    haproxy.stop()
    with pytest.raises(Unreachable):
        operations.pool_drain({**haproxy.params("shop"), "members": ["s1"]}, False)


def test_a_frontend_of_the_same_name_does_not_get_in_the_way(haproxy: HAProxy, apps: dict[str, App]) -> None:
    extra = f"frontend shop\n  mode http\n  bind 127.0.0.1:{free_port()}\n  default_backend shop\n"
    haproxy.start([pool_of(apps)], extra=extra)
    assert [member.name for member in haproxy.driver().read("shop").members] == list(apps)


def test_numbers_of_pools_may_change_with_a_reload(haproxy: HAProxy, apps: dict[str, App]) -> None:
    pool = pool_of(apps)
    haproxy.start([pool])
    driver = haproxy.driver()
    slow = Slow(pool.port, 1.5)
    wait_for(lambda: any(member.in_flight for member in driver.read("shop").members))
    busy = next(member.name for member in driver.read("shop").members if member.in_flight)
    old = driver.identity()
    first = PoolSpec("first", [("x", apps["s2"].port), (busy, apps["s2"].port)], checked=False)
    haproxy.write([first, pool])
    haproxy.reload()
    wait_for(lambda: driver.identity() != old)
    assert [member.name for member in driver.read("shop").members] == list(apps)
    assert driver.read("shop").member(busy).in_flight == 1
    assert driver.glance("shop", [busy]).busy[busy] == 1
    assert driver.read("first").member(busy).in_flight == 0
    assert slow.wait() == busy


@contextmanager
def many(haproxy: HAProxy, count: int) -> Iterator[list[str]]:
    names = [f"m{number}" for number in range(count)]
    servers = "".join(f"  server {name} 127.0.0.1:1\n" for name in names)
    haproxy.start([], extra=f"backend crowd\n{servers}")
    wait_for((haproxy.folder / "admin.sock").exists)
    yield names


@pytest.mark.case(40)
def test_a_batch_of_three_hundred_costs_little(haproxy: HAProxy) -> None:
    with many(haproxy, 300) as names:
        started = time.monotonic()
        operations.pool_drain({**haproxy.params("crowd"), "members": names}, False)
        assert time.monotonic() - started < 3
        driver = haproxy.driver()
        driver.read("crowd")
        used = time.process_time()
        for _unused in range(20):
            driver.read("crowd")
        assert (time.process_time() - used) / 20 < 0.05


def test_waiting_costs_little(haproxy: HAProxy, apps: dict[str, App]) -> None:
    pool = pool_of(apps)
    haproxy.start([pool])
    slow = Slow(pool.port, 2.0)
    wait_for(lambda: any(member.in_flight for member in haproxy.driver().read("shop").members))
    used = time.process_time()
    started = time.monotonic()
    with pytest.raises(RolloutError):
        operations.pool_drain({**haproxy.params("shop"), "members": list(apps), "timeout": 1.5}, False)
    share = (time.process_time() - used) / (time.monotonic() - started)
    assert share < 0.1
    slow.wait()


def test_the_end_of_the_last_request_is_noticed_soon_and_cheaply(haproxy: HAProxy, apps: dict[str, App]) -> None:
    """Counted from the answer to the end of the drain, with its three samples, under load. ``-rP`` shows the figures."""
    pool = pool_of(apps)
    # Not down where a crowded machine answers a few checks late: this is not about them.
    haproxy.start([pool], check="inter 50ms rise 2 fall 20")
    late, shares = [], []
    with Load(pool.port).running(8, pause=0.05) as load:
        for number in range(7):
            slow = [Slow(pool.port, 2.5 + 0.037 * number) for _unused in range(2 * len(apps))]
            time.sleep(0.3)  # they are under way
            begun, used = time.monotonic(), time.thread_time()
            operations.pool_drain({**haproxy.params("shop"), "members": ["s1"]}, False)
            noticed = time.monotonic()
            shares.append((time.thread_time() - used) / (noticed - begun))
            ended = [one.ended for one in slow if one.wait() == "s1"]
            if ended:
                late.append(noticed - max(ended))
            operations.pool_member({**haproxy.params("shop"), "members": ["s1"], "state": "ready"}, False)
    assert not load.failures
    print(f"noticed after: median {statistics.median(late):.3f} s, {min(late):.3f} to {max(late):.3f}")
    print(f"share of a core: median {statistics.median(shares):.3f}, {min(shares):.3f} to {max(shares):.3f}")
    assert min(late) >= 0
    assert statistics.median(late) < 0.3
    assert statistics.median(shares) < 0.15


def test_a_pool_of_thousands_is_read_soon(haproxy: HAProxy, apps: dict[str, App]) -> None:
    names = [(f"m{number}", 20000 + number) for number in range(1996)]
    pool = PoolSpec("shop", [(app.name, app.port) for app in apps.values()] + names, checked=False)
    haproxy.start([pool])
    took = []
    for _unused in range(5):
        begun = time.monotonic()
        found = operations.pool_read(haproxy.params("shop"), False)
        took.append(time.monotonic() - begun)
        assert len(found["pools"][0]["members"]) == 2000
    print(f"2,000 members read: median {statistics.median(took):.3f} s, {min(took):.3f} to {max(took):.3f}")
    assert min(took) < 1.5


def test_another_programs_socket_is_not_taken_for_haproxy(haproxy: HAProxy, apps: dict[str, App]) -> None:
    haproxy.start([pool_of(apps)])
    with pytest.raises(BadReply):
        HAProxyDriver(f"{haproxy.folder}/master.sock", None).read("shop")
