# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Short requests, downloads, WebSockets and TCP sessions: told apart, each with its own limit, counted exactly."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils import _pool_operations as operations
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import TimedOut
from tests.conformance.harness import App, Balancer, PoolSpec, Slow, needs, wait_for

pytestmark = pytest.mark.balancer

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Clients:
    """Connections that stay open."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.open: list[socket.socket] = []

    def send(self, data: bytes, awaited: bytes) -> None:
        connection = socket.create_connection(("127.0.0.1", self._port), 10)
        self.open.append(connection)
        connection.sendall(data)
        answer = b""
        while awaited not in answer:
            piece = connection.recv(4096)
            assert piece, answer
            answer += piece

    def websockets(self, count: int) -> None:
        for _unused in range(count):
            self.send(UPGRADE, b" 101 ")

    def download(self, seconds: float) -> None:
        self.send(b"GET /drip/%d HTTP/1.1\r\nHost: shop\r\n\r\n" % seconds, b"\r\n\r\n.")

    def close(self) -> None:
        for connection in self.open:
            connection.close()

    def ended(self) -> int:
        """How many the other side has closed."""
        count = 0
        for connection in self.open:
            connection.settimeout(0.2)
            try:
                while connection.recv(4096):
                    pass
                count += 1
            except TimeoutError:
                pass
            except OSError:
                count += 1
        return count


@pytest.fixture
def one(balancer: Balancer, apps: dict[str, App]) -> Iterator[Clients]:
    """Clients of a pool with a single member."""
    needs(balancer, "work")
    needs(balancer, "cut")
    pool = PoolSpec("shop", [("s1", apps["s1"].port)])
    balancer.start([pool])
    clients = Clients(pool.port)
    yield clients
    clients.close()


def drain(balancer: Balancer, **params: object) -> dict[str, object]:
    return operations.pool_drain({**balancer.params("shop"), "members": ["s1"], **params}, False)


def test_each_piece_of_work_is_known_for_what_it_is(balancer: Balancer, one: Clients) -> None:
    one.websockets(3)
    one.download(30)
    slow = Slow(one._port, 2.0)
    wait_for(lambda: balancer.driver().read("shop").member("s1").in_flight == 5)
    kinds = [piece["kind"] for piece in balancer.driver().work("shop", ["s1"])]
    assert sorted(kinds) == ["request", "request", "websocket", "websocket", "websocket"]
    assert slow.wait() == "s1"


@pytest.mark.case(9)
def test_websockets_and_a_download_are_cut_and_counted_by_kind(balancer: Balancer, one: Clients) -> None:
    one.websockets(7)
    one.download(30)
    time.sleep(2.1)
    slow = Slow(one._port, 1.5)
    wait_for(lambda: balancer.driver().read("shop").member("s1").in_flight == 9)
    result = drain(balancer, timeout=20, long_timeout=0.3, on_long_timeout="cut", long_after=2)
    member = result["members"]["s1"]  # type: ignore[index]
    assert member["cut_kinds"] == {"websocket": 7, "long_request": 1}
    assert member["cut"] == 8
    assert one.ended() == 8
    assert slow.wait() == "s1"  # the short request was left to end


def test_long_lived_work_of_an_older_process_is_cut_and_counted_too(balancer: Balancer, one: Clients) -> None:
    one.websockets(4)
    old = balancer.driver().identity()
    balancer.reload()
    wait_for(lambda: balancer.driver().read("shop").identity != old)
    one.websockets(2)
    result = drain(balancer, timeout=20, long_timeout=0.2, on_long_timeout="cut")
    assert result["members"]["s1"]["cut_kinds"] == {"websocket": 6}  # type: ignore[index]
    assert one.ended() == 6


@pytest.mark.case(9)
def test_long_lived_work_that_may_not_be_cut_puts_the_member_back(balancer: Balancer, one: Clients) -> None:
    one.websockets(2)
    with pytest.raises(TimedOut, match="2 WebSockets") as error:
        drain(balancer, timeout=20, long_timeout=0.3)
    assert error.value.facts["undone"] is True
    assert [piece["kind"] for piece in error.value.facts["work"]] == ["websocket"] * 2
    assert one.ended() == 0
    wait_for(lambda: balancer.driver().read("shop").member("s1").in_service)


def test_long_lived_work_may_be_waited_for(balancer: Balancer, one: Clients) -> None:
    one.download(2)
    result = drain(balancer, timeout=0.2, long_timeout=0.2, on_long_timeout="wait", long_after=0)
    assert result["members"]["s1"]["cut"] == 0  # type: ignore[index]
    assert result["members"]["s1"]["waited"] > 1  # type: ignore[index]


@pytest.mark.case(9)
def test_tcp_sessions_are_long_lived(balancer: Balancer, apps: dict[str, App]) -> None:
    for feature in ("tcp", "work", "cut"):
        needs(balancer, feature)
    pool = PoolSpec("shop", [("s1", apps["s1"].port)], tcp=True)
    balancer.start([pool])
    clients = Clients(pool.port)
    clients.websockets(5)
    result = drain(balancer, timeout=20, long_timeout=0.2, on_long_timeout="cut")
    assert result["members"]["s1"]["cut_kinds"] == {"tcp": 5}  # type: ignore[index]
    assert clients.ended() == 5
    clients.close()
