# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Idle clients of a process that leaves, and clients that are tied to a member: their own limits, exact counts."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils import _pool_operations as operations
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import TimedOut
from tests.conformance.haproxy import HAProxy
from tests.conformance.harness import App, Balancer, PoolSpec, needs, wait_for
from tests.conformance.test_kinds import Clients

pytestmark = pytest.mark.balancer

COUNT = 7


class Idle:
    """Clients that have had one answer and keep their connection."""

    def __init__(self, port: int) -> None:
        self.clients = [http.client.HTTPConnection("127.0.0.1", port, timeout=10) for _unused in range(COUNT)]
        for client in self.clients:
            assert ask(client)[0] == 200

    def closed(self) -> int:
        """How many connections the balancer has closed."""
        count = 0
        for client in self.clients:
            assert client.sock is not None
            client.sock.settimeout(0.2)
            try:
                count += client.sock.recv(1) == b""
            except TimeoutError:
                pass
            except OSError:
                count += 1
        return count

    def close(self) -> None:
        for client in self.clients:
            client.close()


def ask(client: http.client.HTTPConnection, **headers: str) -> tuple[int, str, str]:
    client.request("GET", "/", headers=headers)
    with client.getresponse() as answer:
        return answer.status, answer.read().decode(), answer.getheader("Set-Cookie", "")


@pytest.fixture
def idle(balancer: Balancer, apps: dict[str, App]) -> Iterator[Idle]:
    """Idle clients of a process that somebody has just told to leave, where one keeps them."""
    needs(balancer, "idle")
    more = {"keepalive": "keepalive_min_timeout 9s;"} if balancer.kind == "nginx" else {}
    pool = PoolSpec("shop", [(name, app.port) for name, app in apps.items()])
    balancer.start([pool], **more)
    found = Idle(pool.port)
    old = balancer.driver().identity()
    balancer.reload()
    wait_for(lambda: balancer.driver().read("shop").identity != old)
    yield found
    found.close()


def drain(balancer: Balancer, **params: Any) -> dict[str, Any]:
    return operations.pool_drain({**balancer.params("shop"), "members": ["s1", "s2"], **params}, False)


def test_idle_clients_are_cut_and_counted_once(balancer: Balancer, idle: Idle) -> None:
    result = drain(balancer, idle_timeout=0.3, on_idle_timeout="cut")["members"]
    assert result["s1"]["cut_kinds"] == {"idle": COUNT}
    assert result["s2"]["cut_kinds"] == {}
    assert result["s1"]["undecided"] == 0
    assert idle.closed() == COUNT


def test_idle_clients_that_may_not_be_cut_put_the_member_back(balancer: Balancer, idle: Idle) -> None:
    with pytest.raises(TimedOut, match=f"{COUNT} idle clients of an older process") as error:
        drain(balancer, idle_timeout=0.3)
    assert error.value.facts["idle"] == COUNT
    assert error.value.facts["undone"] is True
    assert idle.closed() == 0
    wait_for(lambda: balancer.driver().read("shop").member("s1").in_service)


def test_idle_clients_may_be_waited_for(balancer: Balancer, idle: Idle) -> None:
    speaker = threading.Timer(1.0, lambda: [ask(client) for client in idle.clients])
    speaker.start()
    result = drain(balancer, timeout=0.2, idle_timeout=0.2, on_idle_timeout="wait")["members"]
    speaker.join()
    assert result["s1"]["cut"] == 0
    assert result["s1"]["waited"] > 0.8


def test_a_process_that_serves_another_member_is_not_ended(haproxy: HAProxy, apps: dict[str, App]) -> None:
    """A WebSocket to another member lives in the same process as the idle clients."""
    pool = PoolSpec("shop", [(name, app.port) for name, app in apps.items()])
    haproxy.start([pool])
    sockets = Clients(pool.port)
    sockets.websockets(1)
    (there,) = [member.name for member in haproxy.driver().read("shop").members if member.in_flight]
    idle = Idle(pool.port)
    old = haproxy.driver().identity()
    haproxy.reload()
    wait_for(lambda: haproxy.driver().read("shop").identity != old)
    other = next(name for name in apps if name != there)
    params = {**haproxy.params("shop"), "members": [other], "idle_timeout": 0.2, "on_idle_timeout": "cut"}
    with pytest.raises(TimedOut, match=f"{COUNT} idle clients"):
        operations.pool_drain({**params, "timeout": 1}, False)
    assert sockets.ended() == 0
    assert idle.closed() == 0
    threading.Timer(0.5, sockets.close).start()
    result = operations.pool_drain({**params, "timeout": 10}, False)["members"]
    assert result[other]["cut_kinds"] == {"idle": COUNT}
    idle.close()


@pytest.fixture
def tied(haproxy: HAProxy, apps: dict[str, App]) -> Iterator[tuple[http.client.HTTPConnection, str, str]]:
    """A client with a cookie, the cookie, and the member that it is tied to."""
    pool = PoolSpec("shop", [(name, app.port) for name, app in apps.items()], sticky=True)
    haproxy.start([pool])
    client = http.client.HTTPConnection("127.0.0.1", pool.port, timeout=10)
    _status, name, cookie = ask(client)
    yield client, cookie.partition(";")[0], name
    client.close()


@pytest.mark.parametrize("stays", [False, True])
def test_what_tied_clients_do_in_their_grace_is_counted(
    haproxy: HAProxy, tied: tuple[http.client.HTTPConnection, str, str], stays: bool
) -> None:
    client, cookie, name = tied
    sent: list[float] = []

    def use() -> None:
        wait_for(lambda: haproxy.driver().read("shop").member(name).admin.value == "drain")
        time.sleep(0.3)
        while len(sent) < 12 or stays:
            answered_by = ask(client, Cookie=cookie)[1]
            if answered_by != name:
                return
            sent.append(time.monotonic())
            time.sleep(0.1)

    thread = threading.Thread(target=use)
    thread.start()
    params = {**haproxy.params("shop"), "members": [name], "session_grace": 4}
    result = operations.pool_drain(params, False)["members"][name]["tied"]
    thread.join()
    if stays:
        # One may fall between the last look and the end of the grace.
        assert len(sent) - 1 <= result["requests"] <= len(sent)
        assert 5 <= result["at_end"] <= 14
    else:
        assert result == {"requests": 12, "at_end": 0}
