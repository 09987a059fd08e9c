# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A scripted server: each test says in a few lines how its connections behave."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness import (
    Record,
    Summary,
    WitnessSettings,
    run_async,
)


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Server:
    """What the server has seen."""

    port: int = 0
    connections: int = 0
    requests: list[Request] = field(default_factory=list)
    peers: list[Peer] = field(default_factory=list)
    state: dict[str, Any] = field(default_factory=dict)


class Peer:
    """One connection, from the server's side."""

    def __init__(self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.reader = reader
        self.writer = writer
        self.number = 0
        """How many requests have come over this connection."""

    async def request(self) -> Request | None:
        """The next request, or None when the client has closed."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _version = first.split(" ")
        headers = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if colon:
                headers[name.lower()] = value.strip()
        body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        self.number += 1
        found = Request(method, path, headers, body)
        self.server.requests.append(found)
        return found

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        with contextlib.suppress(ConnectionError):
            await self.writer.drain()

    async def answer(self, status: int = 200, body: bytes = b"hello", **headers: str) -> None:
        lines = [f"HTTP/1.1 {status} Because", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        await self.send("\r\n".join([*lines, "", ""]).encode() + body)

    def close(self) -> None:
        """End the connection with a FIN."""
        self.writer.close()

    def reset(self) -> None:
        """End the connection with an RST."""
        connection = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def forever(self) -> None:
        """Say nothing until the client goes away."""
        with contextlib.suppress(ConnectionError):
            await self.reader.read()


Handler = Callable[[Peer], Awaitable[None]]


async def polite(peer: Peer) -> None:
    """Answer everything well, and close when asked to."""
    while request := await peer.request():
        await peer.answer(X_Version="1.0", X_Host="a")
        if request.headers.get("connection") == "close":
            break


@contextlib.asynccontextmanager
async def serving(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """A server on a free port of 127.0.0.1 for as long as the context lasts."""
    server = Server()
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        server.connections += 1
        peer = Peer(server, reader, writer)
        server.peers.append(peer)
        try:
            await handler(peer)
        except asyncio.CancelledError:
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError, asyncio.CancelledError):
                await writer.wait_closed()
            tasks.discard(task)

    listener = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass
class Outcome:
    """All that a test looks at."""

    summary: Summary
    server: Server
    records: list[Record]

    @property
    def classes(self) -> list[str]:
        return [str(record.outcome) for record in self.records]

    @property
    def first(self) -> Record:
        return self.records[0]


def watch(handler: Handler, *, tls: ssl.SSLContext | None = None, **settings: Any) -> Outcome:
    """Run a witness against a scripted server; by default one quick keep-alive request."""

    async def both() -> Outcome:
        async with serving(handler, tls) as server:
            records: list[Record] = []
            scheme = "https" if tls else "http"
            given: dict[str, Any] = {
                "url": f"{scheme}://127.0.0.1:{server.port}/",
                "rate": 10,
                "duration": 60,
                "max_requests": 1,
                "mix": {"keepalive": 1},
                "timeout": 5.0,
                **settings,
            }
            summary = await run_async(WitnessSettings(**given), on_record=records.append)
            return Outcome(summary, server, records)

    return asyncio.run(both())


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
