# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each class is produced by a server that really behaves that way."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness import (
    Kind,
    Outcome,
    WitnessSettings,
    run,
    run_async,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.classify import (
    FAILED,
    of_connect_error,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.pool import Pool
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.wire import Wire
from ansible_collections.zerodrop.rollout.tests.unit.plugins.plugin_utils.witness.server import (
    Handler,
    Peer,
    free_port,
    polite,
    watch,
)


async def not_found(peer: Peer) -> None:
    while await peer.request():
        await peer.answer(404)


async def broken(peer: Peer) -> None:
    while await peer.request():
        await peer.answer(500, X_Version="2.0", X_Host="b")


async def moved(peer: Peer) -> None:
    while await peer.request():
        await peer.answer(302, Location="http://192.0.2.1/")


async def reset_before_the_answer(peer: Peer) -> None:
    await peer.request()
    peer.reset()


async def closed_before_the_answer(peer: Peer) -> None:
    await peer.request()


async def cut_in_the_head(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-")


async def cut_in_the_body(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nX-Version: 1.0\r\n\r\nhalf")


async def cut_in_a_chunk(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")


async def reset_in_the_body(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    await asyncio.sleep(0.1)  # an RST overtakes what the client has not read yet
    peer.reset()


async def silent(peer: Peer) -> None:
    await peer.forever()


async def stalls_in_the_body(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    await peer.forever()


async def slow(peer: Peer) -> None:
    await peer.request()
    await asyncio.sleep(0.4)
    await peer.answer()


async def garbage(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"220 smtp.example.com ESMTP\r\n\r\n")
    await peer.forever()


async def too_long(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhello")
    await peer.forever()


async def early_hints(peer: Peer) -> None:
    while await peer.request():
        await peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
        await peer.answer()


async def until_closed(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\nX-Version: 1.0\r\n\r\nall of it")


CASES: list[tuple[Handler, dict[str, Any], str]] = [
    (polite, {}, "ok"),
    (moved, {}, "ok"),
    (early_hints, {}, "ok"),
    (until_closed, {}, "ok"),
    (not_found, {}, "http_4xx"),
    (broken, {}, "http_5xx"),
    (reset_before_the_answer, {}, "reset"),
    (closed_before_the_answer, {}, "cut"),
    (cut_in_the_head, {}, "cut"),
    (cut_in_the_body, {}, "cut"),
    (cut_in_a_chunk, {}, "cut"),
    (reset_in_the_body, {}, "reset"),
    (silent, {"timeout": 0.2}, "timed_out"),
    (stalls_in_the_body, {"timeout": 0.2}, "timed_out"),
    (slow, {"late_after": 0.2}, "late"),
    (slow, {"late_after": 2.0}, "ok"),
    (garbage, {}, "bad_answer"),
    (too_long, {}, "bad_answer"),
]


@pytest.mark.parametrize("kind", ["keepalive", "close"])
@pytest.mark.parametrize(("handler", "settings", "wanted"), CASES, ids=lambda value: getattr(value, "__name__", None))
def test_class(handler: Handler, settings: dict[str, Any], wanted: str, kind: str) -> None:
    seen = watch(handler, mix={kind: 1}, **settings)
    assert seen.classes == [wanted]
    assert seen.summary.by_class[wanted] == 1
    assert seen.summary.failed == (wanted in FAILED)
    assert seen.summary.exit_code == (wanted in FAILED)
    assert len(seen.server.requests) == (handler is not silent)
    assert seen.server.connections == 1


def test_refused() -> None:
    seen = watch(polite, url=f"http://127.0.0.1:{free_port()}/")
    assert seen.classes == ["refused"]
    assert seen.summary.failed == 1
    assert seen.server.connections == 0


def test_a_name_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_args: object, **_kwargs: object) -> object:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)

    records: list[str] = []
    settings = WitnessSettings(url="http://shop.invalid/", rate=50, max_requests=3, mix={Kind.KEEPALIVE: 1})
    run(settings, on_record=lambda record: records.append(str(record.outcome)))
    assert records == ["dns"] * 3


def test_a_name_with_a_dead_first_address_is_counted_as_a_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def two(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host != "shop.test":
            return real(host, port, *args, **kwargs)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in ("127.0.0.2", "127.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", two)
    port = free_port()

    async def scenario() -> tuple[list[str], int]:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            writer.close()

        listener = await asyncio.start_server(handle, "127.0.0.1", port)
        records: list[str] = []
        summary = await run_async(
            WitnessSettings(
                url=f"http://shop.test:{port}/",
                rate=20,
                max_requests=3,
                mix={Kind.CLOSE: 1},
            ),
            on_record=lambda record: records.append(str(record.outcome)),
        )
        listener.close()
        return records, summary.connect_fallbacks

    assert asyncio.run(scenario()) == (["ok"] * 3, 3)


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (OSError(113, "No route to host"), Outcome.UNREACHABLE),
        (OSError(101, "Network is unreachable"), Outcome.UNREACHABLE),
        (OSError(24, "Too many open files"), Outcome.NOT_SENT),
        (OSError(99, "Cannot assign requested address"), Outcome.NOT_SENT),
        (TimeoutError(110, "Connection timed out"), Outcome.TIMED_OUT),
        (ConnectionResetError(104, "Connection reset by peer"), Outcome.RESET),
        (ConnectionRefusedError(111, "Connection refused"), Outcome.REFUSED),
        (socket.gaierror(-2, "Name or service not known"), Outcome.DNS),
    ],
)
def test_connect_errors(error: OSError, wanted: Outcome) -> None:
    assert of_connect_error(error) is wanted


def test_failed_is_everything_but_what_is_shown_beside_it() -> None:
    beside = {Outcome.OK, Outcome.LATE, Outcome.CLOSED_IDLE, Outcome.NOT_SENT, Outcome.INTERRUPTED}
    assert set(Outcome) - beside == FAILED


# Connections that are used again.


def second_request_gets(end: str) -> Handler:
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.answer()
        await peer.request()
        if end == "RST":
            peer.reset()

    return handler


@pytest.mark.parametrize("end", ["FIN", "RST"])
def test_a_reused_connection_that_ends_before_the_answer_is_closed_idle(end: str) -> None:
    seen = watch(second_request_gets(end), keepalive_connections=1, max_requests=2, rate=5)
    assert seen.classes == ["ok", "closed_idle"]
    assert seen.summary.failed == 0
    assert seen.summary.closed_idle == 1
    assert seen.summary.exit_code == 0
    assert len(seen.summary.idle_closes) == 1
    # No hidden retry: the server saw exactly what the witness counted, over one connection.
    assert (len(seen.server.requests), seen.server.connections) == (2, 1)


def test_a_reused_connection_that_ends_in_the_answer_is_cut() -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.answer()
        await peer.request()
        await peer.send(b"HTTP/1.1 200")

    seen = watch(handler, keepalive_connections=1, max_requests=2, rate=5)
    assert seen.classes == ["ok", "cut"]


@pytest.mark.parametrize("ending", ["FIN", "RST", "408"])
@pytest.mark.parametrize("dumb", [False, True])
def test_a_connection_closed_while_idle(ending: str, dumb: bool) -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.answer()
        if ending == "RST":
            await asyncio.sleep(0.05)
            peer.reset()
        elif ending == "408":
            await asyncio.sleep(0.05)
            await peer.answer(408, Connection="close")

    seen = watch(handler, keepalive_connections=1, max_requests=2, rate=4, dumb=dumb)
    if dumb:
        assert seen.classes == ["ok", "closed_idle"]
        assert seen.server.connections == 1
    else:
        assert seen.classes == ["ok", "ok"]
        assert seen.server.connections == 2
        assert seen.summary.idle_closed_seen >= 1


def test_a_dumb_client_really_sends_into_the_closed_connection() -> None:
    async def half_closing(peer: Peer) -> None:
        await peer.request()
        await peer.answer()
        peer.writer.write_eof()
        await peer.request()

    seen = watch(half_closing, keepalive_connections=1, max_requests=2, rate=4, dumb=True)
    assert seen.classes == ["ok", "closed_idle"]
    assert len(seen.server.requests) == 2


def test_connections_are_kept_and_used_in_turn() -> None:
    seen = watch(polite, keepalive_connections=3, max_requests=9)
    assert seen.classes == ["ok"] * 9
    assert [peer.number for peer in seen.server.peers] == [3, 3, 3]


def test_slow_requests_take_no_connection_from_the_quick_ones() -> None:
    async def handler(peer: Peer) -> None:
        while request := await peer.request():
            if request.path == "/slow/3":
                await asyncio.sleep(1.5)
            await peer.answer()

    seen = watch(handler, mix={"keepalive": 1, "slow": 1}, keepalive_connections=2, max_requests=12)
    assert seen.classes == ["ok"] * 12
    assert sorted(peer.number for peer in seen.server.peers) == [1] * 6 + [3, 3]


def test_a_burst_leaves_no_more_idle_connections_than_there_are_clients() -> None:
    async def scenario() -> None:
        pool = Pool(4, dumb=False)
        assert [pool.take() for _unused in range(10)] == [None] * 10
        wires = [Wire((b"", b"")) for _unused in range(10)]
        for wire in wires:
            pool.give(wire)
        assert [pool.take() for _unused in range(5)] == [*wires[:4], None]

    asyncio.run(scenario())


def test_closing_clients_never_reuse() -> None:
    seen = watch(polite, mix={"close": 1}, max_requests=10, rate=200)
    assert seen.server.connections == 10
    assert all(request.headers["connection"] == "close" for request in seen.server.requests)


def test_an_answer_that_says_close_is_believed() -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.answer(Connection="close")

    seen = watch(handler, keepalive_connections=1, max_requests=5, dumb=True)
    assert seen.classes == ["ok"] * 5
    assert seen.server.connections == 5


def test_no_request_is_ever_repeated() -> None:
    """A server with every bad habit sees as many requests as the witness counts."""

    async def handler(peer: Peer) -> None:
        while await peer.request():
            match len(peer.server.requests) % 5:
                case 0:
                    peer.reset()
                    return
                case 1:
                    return
                case 2:
                    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
                    return
                case _:
                    await peer.answer()

    seen = watch(handler, mix={"keepalive": 3, "close": 1, "post": 1}, max_requests=200, rate=400)
    assert len(seen.server.requests) == seen.summary.requests_total == 200
    assert seen.summary.closed_idle > 0
    assert seen.summary.failed > 0
