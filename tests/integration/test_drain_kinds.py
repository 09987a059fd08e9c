# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""WebSockets and downloads that outlast their limit: cut exactly as configured, counted exactly, or not touched."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from .rig import Rig

pytestmark = pytest.mark.lab

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def open_connection(address: str, request: bytes, awaited: bytes) -> socket.socket:
    connection = socket.create_connection((address, 80), 10)
    connection.sendall(request)
    answer = b""
    while awaited not in answer:
        piece = connection.recv(4096)
        assert piece, answer
        answer += piece
    return connection


def ended(connections: list[socket.socket]) -> int:
    """How many were closed on the other side."""
    count = 0
    for connection in connections:
        connection.settimeout(0.1)
        try:
            while connection.recv(65536):
                pass
            count += 1
        except TimeoutError:
            pass
        except OSError:
            count += 1
    return count


@contextmanager
def websockets(rig: Rig, count: int) -> Iterator[list[socket.socket]]:
    address = rig.lab.balancers[0].address
    held = [open_connection(address, UPGRADE, b" 101 ") for _unused in range(count)]
    try:
        yield held
    finally:
        for connection in held:
            connection.close()


def kinds_cut(report: dict[str, dict[str, dict[str, dict[str, int]]]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for member in report["members"].values():
        total.update(member["cut_kinds"])
    return total


def test_websockets_that_outlast_their_limit_are_cut_and_counted(rig: Rig) -> None:
    with websockets(rig, 24) as held:
        run = rig.rollout(
            rig.archive("2.0"),
            rollout_batches=[6],
            rollout_floor=0,
            rollout_long_timeout=1,
            rollout_on_long_timeout="cut",
            rollout_look_requests=0,
        )
        assert run.rc == 0, str(run)
        assert kinds_cut(run.report) == {"websocket": 24}
        assert sum(member["cut"] for member in run.report["members"].values()) == 24
        assert ended(held) == 24
    assert "24 cut at the drain's limit" in run.report["sentence"]
    assert rig.in_service() == set(rig.hosts)


def test_a_download_is_cut_and_counted_as_what_it_is(rig: Rig) -> None:
    address = rig.lab.balancers[0].address
    download = open_connection(address, b"GET /stream/400000/120 HTTP/1.1\r\nHost: shop\r\n\r\n", b"\r\n\r\n")
    with download, websockets(rig, 5) as held:
        run = rig.rollout(
            rig.archive("2.0"),
            rollout_batches=[6],
            rollout_floor=0,
            rollout_long_after=1,
            rollout_long_timeout=2,
            rollout_on_long_timeout="cut",
            rollout_look_requests=0,
        )
        assert run.rc == 0, str(run)
        assert kinds_cut(run.report) == {"websocket": 5, "long_request": 1}
        assert ended([download, *held]) == 6


def test_websockets_that_may_not_be_cut_stop_the_rollout_and_live(rig: Rig) -> None:
    with websockets(rig, 6) as held:
        run = rig.rollout(rig.archive("2.0"), rollout_batches=[6], rollout_floor=0, rollout_long_timeout=1)
        assert run.rc != 0
        assert run.report["stop"]["phase"] == "drain"
        assert "6 WebSockets" in run.report["stop"]["message"]
        assert kinds_cut(run.report) == {}
        assert ended(held) == 0
    assert rig.in_service() == set(rig.hosts)
    assert rig.current() == rig.all_on("1.0")


def test_a_download_may_be_waited_for(rig: Rig) -> None:
    address = rig.lab.balancers[0].address
    download = open_connection(address, b"GET /stream/40000/6 HTTP/1.1\r\nHost: shop\r\n\r\n", b"\r\n\r\n")
    with download:
        run = rig.rollout(
            rig.archive("2.0"),
            rollout_batches=[6],
            rollout_floor=0,
            rollout_drain_timeout=1,
            rollout_long_after=0,
            rollout_long_timeout=1,
            rollout_on_long_timeout="wait",
            rollout_look_requests=0,
        )
        assert run.rc == 0, str(run)
        assert kinds_cut(run.report) == {}
        assert max(member["seconds"]["drain"] for member in run.report["members"].values()) > 1
