# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The access logs that real balancers write, read while they write them."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils import _pool_operations as operations
from ansible_collections.zerodrop.rollout.plugins.module_utils._access_log.haproxy import JSON_FORMAT
from ansible_collections.zerodrop.rollout.plugins.module_utils._access_log.nginx import FORMAT
from ansible_collections.zerodrop.rollout.plugins.module_utils._access_log.read import access_log_read
from tests.conformance.haproxy import HAProxy
from tests.conformance.harness import App, Balancer, Load, PoolSpec, wait_for

pytestmark = pytest.mark.balancer

NAMES = ("s1", "s2")
SOUND = 30  # requests without a fault
# By path, how often it is asked for, and what it is. HAProxy retries nothing here, and nginx goes to no other member.
FAULTS = {"/status/500": (5, "status_5xx"), "/cut": (4, "cut"), "/hang-up": (3, "response")}


class Syslog:
    """What rsyslog does with HAProxy's messages: a line each, in a file."""

    def __init__(self, folder: Path) -> None:
        self.path, self.socket = folder / "haproxy.log", folder / "log.sock"
        self.path.touch()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.socket))
        self._socket.settimeout(0.1)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with self.path.open("a") as file:
            while not self._end.is_set():
                try:
                    message = self._socket.recv(65536).decode()
                except TimeoutError:
                    continue
                file.write(message.partition(">")[2].replace("haproxy[", "lb1 haproxy[", 1).rstrip("\n") + "\n")
                file.flush()

    def stop(self) -> None:
        self._end.set()
        self._thread.join()
        self._socket.close()


@pytest.fixture
def logging(balancer: Balancer, apps: dict[str, App]) -> Iterator[Callable[..., tuple[PoolSpec, dict[str, Any]]]]:
    """Starts two members with a log; the pool, and what the operation is to be told."""
    stops: list[Callable[[], None]] = []

    def start(log_format: str = "", **more: Any) -> tuple[PoolSpec, dict[str, Any]]:
        pool = PoolSpec("shop", [(name, apps[name].port) for name in NAMES], checked=False)
        params: dict[str, Any] = {**balancer.params("shop")}
        if isinstance(balancer, HAProxy):
            syslog = Syslog(balancer.folder)
            stops.append(syslog.stop)
            balancer.start([pool], log=str(syslog.socket), log_format=log_format, **more)
            params["logs"] = [str(syslog.path)]
        else:
            path = balancer.folder / "access.log"
            balancer.start([pool], log=str(path), log_format=log_format or FORMAT, **more)
            params["logs"] = [str(path)]
            params["members"] = {name: f"127.0.0.1:{apps[name].port}" for name in NAMES}
            params["log_format"] = log_format or None
        return pool, params

    if balancer.kind == "apache":
        pytest.skip("no reader of Apache's log")
    yield start
    for stop in stops:
        stop()


def ask(port: int, path: str) -> int:
    """A request on a connection of its own; 0 where there was no whole answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        with connection.getresponse() as answer:
            answer.read()
            return answer.status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def give_up(port: int, path: str, after: float) -> None:
    """A client that goes away in the middle."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        time.sleep(after)


def read_until(params: dict[str, Any], requests: int) -> dict[str, Any]:
    """Read again and again until so many requests were logged; everything together."""
    total: dict[str, Any] = {"requests": 0, "kinds": {}, "client_aborts": 0, "retries": 0, "answers": 0}

    def more() -> bool:
        found = access_log_read(params, False)
        params["positions"] = found["positions"]
        for one in found["members"].values():
            for name in ("requests", "client_aborts", "retries"):
                total[name] += one[name]
            for kind, count in one["kinds"].items():
                if count:
                    total["kinds"][kind] = total["kinds"].get(kind, 0) + count
            total["answers"] += sum(one["latency"])
        return bool(total["requests"] >= requests)

    wait_for(more)
    return total


@pytest.mark.parametrize("form", ["usual", "json"])
def test_every_ending_counts_once(balancer: Balancer, logging: Any, form: str) -> None:
    if form == "json" and not isinstance(balancer, HAProxy):
        pytest.skip("nginx's format is the documented one")
    escaped = JSON_FORMAT.replace('"', '\\"')
    pool, params = logging(log_format=f'"{escaped}"' if form == "json" else "")
    params["positions"] = access_log_read(params, False)["positions"]
    for _unused in range(SOUND):
        assert ask(pool.port, "/") == 200
    for path, (times, _kind) in FAULTS.items():
        for _unused in range(times):
            assert ask(pool.port, path) != 200
    give_up(pool.port, "/slow/0.4", 0.1)
    give_up(pool.port, "/drip/5", 0.3)
    expected = SOUND + sum(times for times, _kind in FAULTS.values()) + 2
    found = read_until(params, expected)
    assert found["requests"] == expected
    assert found["kinds"] == {kind: times for times, kind in FAULTS.values()}
    # HAProxy lets a request that was sent run to its end, and says so where nobody is left to take the answer.
    assert found["client_aborts"] in ((1, 2) if isinstance(balancer, HAProxy) else (2,))
    assert found["answers"] >= SOUND + 5  # those without an answer have no time either
    time.sleep(0.5)
    assert access_log_read(params, False)["lines"] == 0


def test_a_member_that_is_not_there_is_an_error_of_its_own_and_of_no_other(
    balancer: Balancer, apps: dict[str, App], logging: Any
) -> None:
    more: dict[str, Any] = {} if isinstance(balancer, HAProxy) else {"next_upstream": "error timeout"}
    pool, params = logging(**more)
    params["positions"] = access_log_read(params, False)["positions"]
    apps["s2"].kill()
    answers = [ask(pool.port, "/") for _unused in range(10)]
    wait_for(lambda: Path(params["logs"][0]).read_text().count("\n") >= 10)
    found = access_log_read(params, False)["members"]
    assert found["s1"]["errors"] == 0
    assert found["s2"]["kinds"]["connect"] == found["s2"]["errors"] >= 4
    if not isinstance(balancer, HAProxy):
        assert answers == [200] * 10  # nginx asked the other one, and the client saw nothing
        assert found["s1"]["requests"] == 10
        assert found["s2"]["retries"] == found["s2"]["requests"]


def look(balancer: Balancer, params: dict[str, Any], requests: int = 40) -> dict[str, Any]:
    """A member goes out and comes back, with a look at it."""
    names = {**balancer.params("shop"), "members": ["s1"]}
    operations.pool_drain(names, False)
    operations.pool_return(names, False)
    order = {"requests": requests, "seconds": 0, "timeout": 8, "max_errors": 0}
    settings = {"s1": {"admin": "ready", "weight": 1}}
    log = {"access_log": params["logs"], "access_log_format": params.get("log_format")}
    result = operations.pool_put_back({**names, **log, "settings": settings, "look": order}, False)
    return dict(result["members"]["s1"])


def test_a_look_tells_a_sound_member_from_one_that_serves_errors(
    balancer: Balancer, apps: dict[str, App], logging: Any
) -> None:
    pool, params = logging()
    with Load(pool.port).running(clients=4):
        sound = look(balancer, params)
    assert sound["look"] == "pass"
    assert sound["requests"] >= 40
    apps["s1"].switch("shaky")
    with Load(pool.port).running(clients=4):
        shaky = look(balancer, params)
    assert shaky["look"] == "fail"
    assert 0 < shaky["errors"] <= shaky["requests"] / 2


def test_a_log_that_cannot_be_read_is_no_pass(balancer: Balancer, logging: Any) -> None:
    pool, params = logging()
    with Load(pool.port).running(clients=4):
        found = look(balancer, {**params, "logs": [str(balancer.folder / "nothing.log")]})
    assert found["look"] == "inconclusive"
    assert "the access log could not be read" in found["reason"]


def test_failures_that_haproxy_neither_logs_nor_calls_errors_are_seen(haproxy: HAProxy, apps: dict[str, App]) -> None:
    """On a connection on which the client was served before, HAProxy closes in silence when a member hangs up."""
    pool = PoolSpec("shop", [("s1", apps["s1"].port)], checked=False)
    syslog = Syslog(haproxy.folder)
    haproxy.start([pool], log=str(syslog.socket))
    params = {**haproxy.params("shop"), "logs": [str(syslog.path)]}
    params["positions"] = access_log_read(params, False)["positions"]
    try:
        for _unused in range(6):
            client = http.client.HTTPConnection("127.0.0.1", pool.port, timeout=10)
            client.request("GET", "/")
            client.getresponse().read()
            client.request("GET", "/hang-up")
            with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
                client.getresponse()
            client.close()
        time.sleep(0.5)
        logged = access_log_read(params, False)["members"]["s1"]
        assert (logged["requests"], logged["errors"]) == (6, 0)
        assert wait_for(lambda: haproxy.driver().read("shop").member("s1").counters.unanswered) == 6
    finally:
        syslog.stop()
