# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of client beyond a plain GET: WebSocket, session, POST, stream, slow, TLS."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Event, Ping, Pong, TextMessage
from wsproto.events import Request as Handshake

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness import (
    reconcile,
    sent_posts,
)
from ansible_collections.zerodrop.rollout.tests.unit.plugins.plugin_utils.witness.server import (
    Handler,
    Peer,
    polite,
    watch,
)

VERSION = [(b"X-Version", b"1.0"), (b"X-Host", b"a")]


class Echo:
    """The server's side of one WebSocket."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.ws = WSConnection(ConnectionType.SERVER)

    async def next(self) -> Event | None:
        while True:
            for event in self.ws.events():
                return event
            data = await self.peer.reader.read(65536)
            if not data:
                return None
            self.ws.receive_data(data)

    async def send(self, event: Event) -> None:
        await self.peer.send(self.ws.send(event))

    async def accept(self) -> None:
        assert isinstance(await self.next(), Handshake)
        await self.send(AcceptConnection(extra_headers=VERSION))

    async def until_closed(self) -> None:
        while (event := await self.next()) is not None:
            if isinstance(event, TextMessage):
                await self.send(TextMessage(data=event.data))
            elif isinstance(event, CloseConnection):
                await self.send(event.response())
                return


async def echo(peer: Peer) -> None:
    ws = Echo(peer)
    await ws.accept()
    await ws.until_closed()


async def pings(peer: Peer) -> None:
    ws = Echo(peer)
    await ws.accept()
    await ws.send(Ping(payload=b"there?"))
    while (event := await ws.next()) is not None:
        if isinstance(event, Pong):
            peer.server.state["ponged"] = bytes(event.payload)
        elif isinstance(event, TextMessage):
            await ws.send(TextMessage(data=event.data))
        elif isinstance(event, CloseConnection):
            await ws.send(event.response())
            return


async def hangs_up_on_close(peer: Peer) -> None:
    ws = Echo(peer)
    await ws.accept()
    while (event := await ws.next()) is not None:
        if isinstance(event, CloseConnection):
            return
        if isinstance(event, TextMessage):
            await ws.send(TextMessage(data=event.data))


async def gone_without_a_frame(peer: Peer) -> None:
    ws = Echo(peer)
    await ws.accept()
    await ws.next()


async def reset_while_open(peer: Peer) -> None:
    ws = Echo(peer)
    await ws.accept()
    await asyncio.sleep(0.1)
    peer.reset()


async def says_going_away(peer: Peer) -> None:
    ws = Echo(peer)
    await ws.accept()
    await ws.send(CloseConnection(code=1001))


async def goes_away_between_messages(peer: Peer) -> None:
    ws = Echo(peer)
    await ws.accept()
    event = await ws.next()
    assert isinstance(event, TextMessage)
    await ws.send(TextMessage(data=event.data))
    await asyncio.sleep(0.05)


async def wrong_echo(peer: Peer) -> None:
    ws = Echo(peer)
    await ws.accept()
    await ws.next()
    await ws.send(TextMessage(data="something else"))
    await peer.forever()


async def no_echo(peer: Peer) -> None:
    ws = Echo(peer)
    await ws.accept()
    await peer.forever()


async def unasked_message(peer: Peer) -> None:
    ws = Echo(peer)
    await ws.accept()
    event = await ws.next()
    assert isinstance(event, TextMessage)
    await ws.send(TextMessage(data=event.data))
    await ws.send(TextMessage(data="buy now"))
    await peer.forever()


async def broken_frame(peer: Peer) -> None:
    ws = Echo(peer)
    await ws.accept()
    await peer.send(b"\xff\xff\xff\xff")
    await peer.forever()


async def unavailable(peer: Peer) -> None:
    await peer.request()
    await peer.answer(503, X_Version="1.0")


async def plain_answer(peer: Peer) -> None:
    await peer.request()
    await peer.answer(200)


async def closed_in_the_handshake(peer: Peer) -> None:
    await peer.request()


async def reset_in_the_handshake(peer: Peer) -> None:
    await peer.request()
    peer.reset()


@pytest.mark.parametrize(
    ("handler", "wanted", "counts"),
    [
        (echo, "ok", {"opened": 1, "closed": 1}),
        (pings, "ok", {"opened": 1, "closed": 1}),
        (hangs_up_on_close, "ok", {"opened": 1, "closed": 1}),
        (gone_without_a_frame, "cut", {"opened": 1, "cut": 1}),
        (goes_away_between_messages, "cut", {"opened": 1, "cut": 1}),
        (reset_while_open, "reset", {"opened": 1, "cut": 1}),
        (says_going_away, "cut", {"opened": 1, "closed_by_server": 1}),
        (wrong_echo, "bad_answer", {"opened": 1}),
        (unasked_message, "bad_answer", {"opened": 1}),
        (broken_frame, "bad_answer", {"opened": 1}),
        (no_echo, "timed_out", {"opened": 1}),
        (unavailable, "http_5xx", {}),
        (plain_answer, "bad_answer", {}),
        (closed_in_the_handshake, "cut", {}),
        (reset_in_the_handshake, "reset", {}),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_websocket(handler: Handler, wanted: str, counts: dict[str, int]) -> None:
    seen = watch(handler, mix={"websocket": 1}, websocket_hold=0.4, websocket_every=0.1, timeout=0.5)
    assert seen.classes == [wanted]
    empty = {"opened": 0, "most_open": 0, "closed": 0, "closed_by_server": 0, "cut": 0}
    assert seen.summary.websockets == {**empty, **counts, "most_open": counts.get("opened", 0)}
    assert seen.server.connections == 1
    if counts:
        assert (seen.first.version, seen.first.host, seen.first.status) == ("1.0", "a", 101)
    if handler is pings:
        assert seen.server.state["ponged"] == b"there?"


def test_a_websocket_is_held_as_long_as_asked() -> None:
    seen = watch(echo, mix={"websocket": 1}, websocket_hold=0.5, websocket_every=0.1)
    held = seen.first.ended - seen.first.started
    assert 0.5 <= held < 3
    # The latency of a WebSocket is that of its opening.
    assert seen.first.latency < held
    assert seen.first.size > 30


# Sessions.


def session_server(forget_at: int | None = None) -> Handler:
    """Counts visits under a cookie, beside a cookie of the balancer; may forget all at a request."""

    async def handler(peer: Peer) -> None:
        known: set[str] = peer.server.state.setdefault("known", set())
        while request := await peer.request():
            if len(peer.server.requests) == forget_at:
                known.clear()
            cookies = dict(pair.split("=") for pair in request.headers.get("cookie", "").split("; ") if pair)
            if cookies.get("SHOPSESSION") in known:
                assert cookies["SERVERID"] == "s1"
                await peer.answer()
                continue
            key = f"k{len(peer.server.requests)}"
            known.add(key)
            body = b"hello"
            await peer.send(
                b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nSet-Cookie: SERVERID=s1; path=/\r\n"
                b"Set-Cookie: SHOPSESSION=" + key.encode() + b"; Path=/; HttpOnly\r\n\r\n" + body
            )

    return handler


@pytest.mark.parametrize(("forget_at", "lost"), [(None, 0), (7, 2)])
def test_sessions(forget_at: int | None, lost: int) -> None:
    seen = watch(session_server(forget_at), mix={"session": 1}, sessions=2, max_requests=12)
    assert seen.summary.sessions_lost == lost
    assert seen.summary.failed == 0
    cookies = Counter("cookie" in request.headers for request in seen.server.requests)
    assert cookies == {True: 10, False: 2}
    assert {request.path for request in seen.server.requests} == {"/session"}


# POSTs.


async def orders(peer: Peer) -> None:
    """Executes every order; the third is cut after that, the fifth before, the seventh is twice."""
    executed: list[str] = peer.server.state.setdefault("executed", [])
    while request := await peer.request():
        ident = json.loads(request.body)["id"]
        number = len(peer.server.requests)
        if number == 5:
            return
        if number != 9:
            executed.append(ident)
        if number == 7:
            executed.append(ident)
        if number == 3:
            return
        await peer.answer(Connection="close")


def test_posts_are_reconciled_from_the_log(tmp_path: Path) -> None:
    log = str(tmp_path / "log.tsv.gz")
    seen = watch(orders, mix={"post": 1}, max_requests=10, rate=50, log=log)
    sent = sent_posts(log)
    ids = [json.loads(request.body)["id"] for request in seen.server.requests]
    assert sorted(sent) == sorted(ids)
    found = reconcile(sent, seen.server.state["executed"])
    assert (found.failed_but_executed, found.executed_twice, found.lost) == ([ids[2]], [ids[6]], [ids[8]])
    assert (found.sent, found.executed, found.unknown) == (10, 8, 0)
    assert not found.clean
    assert seen.summary.posts == 10
    assert seen.summary.by_class["cut"] == 2


def test_ids_of_two_runs_differ() -> None:
    first, second = (watch(polite, mix={"post": 1}).first.id for _unused in range(2))
    assert first
    assert first != second


# Streams, slow requests, other settings.


@pytest.mark.parametrize(("size", "wanted"), [(1000, "ok"), (999, "bad_answer"), (1001, "bad_answer")])
def test_a_stream_has_the_length_that_was_asked_for(size: int, wanted: str) -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.answer(body=b"." * size)

    seen = watch(handler, mix={"stream": 1}, stream_path="/stream/1000/2")
    assert seen.classes == [wanted]
    assert seen.server.requests[0].path == "/stream/1000/2"


def test_a_slow_request_may_take_what_it_is_expected_to() -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        await asyncio.sleep(0.6)
        await peer.answer()

    settings: dict[str, Any] = {"mix": {"slow": 1}, "late_after": 0.3, "timeout": 0.3}
    assert watch(handler, slow_path="/slow/0.5", **settings).classes == ["ok"]
    assert watch(handler, slow_path="/slow/0.1", **settings).classes == ["timed_out"]
    assert watch(handler, slow_path="/wait", slow_seconds=0.5, **settings).classes == ["ok"]


def test_headers_paths_and_names_are_those_of_the_settings() -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.answer(X_Release="7", X_Node="n1")

    seen = watch(
        handler,
        headers={"Authorization": "Bearer secret", "Host": "shop.example.com"},
        version_header="X-Release",
        host_header="X-Node",
    )
    assert seen.server.requests[0].headers["authorization"] == "Bearer secret"
    assert seen.server.requests[0].headers["host"] == "shop.example.com"
    assert (seen.first.version, seen.first.host) == ("7", "n1")
    assert "secret" not in json.dumps(seen.summary.to_dict())


def test_the_query_of_the_url_is_sent_and_not_shown() -> None:
    import ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.settings as module

    target = module.parse_url("http://shop.example.com/a?token=secret")
    assert target.path == "/a?token=secret"
    assert target.shown == "http://shop.example.com/a?..."


# A certificate for 127.0.0.1, valid until 2126, that nothing but these tests knows.
HERE = Path(__file__).parent


def server_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(HERE / "certificate.pem")
    return context


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [({"ca_file": str(HERE / "certificate.pem")}, "ok"), ({"insecure": True}, "ok"), ({}, "bad_answer")],
)
@pytest.mark.parametrize("kind", ["keepalive", "close"])
def test_tls(settings: dict[str, Any], wanted: str, kind: str) -> None:
    seen = watch(polite, tls=server_tls(), mix={kind: 1}, max_requests=3, keepalive_connections=1, **settings)
    assert seen.classes == [wanted] * 3
    if wanted == "ok":
        assert len(seen.server.requests) == 3
        assert seen.server.connections == (1 if kind == "keepalive" else 3)
    else:
        assert seen.server.requests == []
        assert "certificate" in seen.first.detail.lower()


@pytest.mark.parametrize("dumb", [False, True])
def test_tls_closed_while_idle(dumb: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.answer()

    seen = watch(
        handler,
        tls=server_tls(),
        insecure=True,
        keepalive_connections=1,
        max_requests=2,
        rate=4,
        dumb=dumb,
    )
    assert seen.classes == (["ok", "closed_idle"] if dumb else ["ok", "ok"])
    assert caplog.messages == []  # asyncio complains when TLS is asked to stay half open


def test_tls_cut_in_the_body() -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")

    assert watch(handler, tls=server_tls(), insecure=True).classes == ["cut"]
