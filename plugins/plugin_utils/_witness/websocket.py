# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One WebSocket: opened, held for a while with messages that must come back, and closed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, cast

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.classify import (
    Outcome,
    of_loss,
    of_status,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.libraries import wsproto
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.wire import Result

_EVENTS_KEPT = 1000


@dataclass(slots=True)
class Sockets:
    """Counts of the WebSockets of a run."""

    opened: int = 0
    open_now: int = 0
    most_open: int = 0
    closed: int = 0
    """Closed by the witness at the end of their hold."""
    closed_by_server: int = 0
    """Ended early by the server with a close frame."""
    cut: int = 0
    """Ended early without a close frame."""

    def to_dict(self) -> dict[str, int]:
        return {
            "opened": self.opened,
            "most_open": self.most_open,
            "closed": self.closed,
            "closed_by_server": self.closed_by_server,
            "cut": self.cut,
        }


class _Ended(Exception):
    """The exchange is over, with this outcome."""

    def __init__(self, outcome: Outcome, detail: str, *, by_frame: bool = False) -> None:
        super().__init__(detail)
        self.outcome = outcome
        self.detail = detail
        self.by_frame = by_frame
        """The server said so with a close frame."""


class SocketWire(asyncio.Protocol):
    """The connection of one WebSocket; bytes become events in a bounded list."""

    def __init__(self) -> None:
        self._ws = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        self._transport: asyncio.Transport | None = None
        self._events: list[Any] = []
        self._wake: asyncio.Future[None] | None = None
        self._ended: _Ended | None = None
        self._begun = False

    def send(self, event: Any) -> None:
        if self._ended is not None or self._transport is None:
            return
        try:
            data = self._ws.send(event)
        except wsproto.utilities.LocalProtocolError:
            # The server's close frame is here already; reading on finds it.
            return
        self._transport.write(data)

    async def next(self) -> Any:
        """The next event; raises ``_Ended`` when the connection is gone and all events are read."""
        while not self._events:
            if self._ended is not None:
                raise self._ended
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        return self._events.pop(0)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._begun = True
        if self._ended is not None:
            return
        try:
            self._ws.receive_data(data)
            for event in self._ws.events():
                if isinstance(event, wsproto.events.Ping):
                    self.send(event.response())
                    continue
                if isinstance(event, wsproto.events.CloseConnection):
                    if self._ws.state is wsproto.connection.ConnectionState.OPEN:
                        # Not a frame of the server but what wsproto makes of one it cannot read.
                        self._end(_Ended(Outcome.BAD_ANSWER, f"not a WebSocket: {event.reason}"))
                        break
                    self.send(event.response())
                self._events.append(event)
        except wsproto.utilities.ProtocolError as exc:
            self._end(_Ended(Outcome.BAD_ANSWER, f"not a WebSocket: {exc}"))
        if len(self._events) > _EVENTS_KEPT:
            self._end(_Ended(Outcome.BAD_ANSWER, "more messages than were asked for"))
        self._notify()

    def connection_lost(self, exc: Exception | None) -> None:
        outcome = of_loss(reused=False, answer_begun=self._begun, error=exc)
        self._end(_Ended(outcome, f"connection lost: {exc}" if exc else "connection closed"))

    def _end(self, ended: _Ended) -> None:
        if self._ended is None:
            self._ended = ended
        self._notify()

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)


@dataclass(frozen=True, slots=True)
class Session:
    """What one WebSocket has to do."""

    authority: str
    path: str
    headers: list[tuple[bytes, bytes]]
    names: tuple[bytes, bytes]
    hold: float
    every: float
    timeout: float
    ident: str


async def converse(wire: SocketWire, session: Session, sockets: Sockets) -> Result:
    """Run one WebSocket to its end, which is always in bounded time."""
    result = Result()
    loop = asyncio.get_running_loop()
    deadline = loop.time() + session.timeout
    opened = False
    try:
        wire.send(wsproto.events.Request(host=session.authority, target=session.path, extra_headers=session.headers))
        await _open(wire, session, result, deadline)
        opened = True
        result.answered = loop.time()
        sockets.opened += 1
        sockets.open_now += 1
        sockets.most_open = max(sockets.most_open, sockets.open_now)
        await _hold(wire, session, result)
        await _close(wire, deadline=loop.time() + session.timeout)
        sockets.closed += 1
    except _Ended as ended:
        result.outcome = ended.outcome
        result.detail = ended.detail
        if opened and ended.by_frame:
            sockets.closed_by_server += 1
        elif opened and ended.outcome in (Outcome.CUT, Outcome.RESET):
            sockets.cut += 1
    finally:
        if opened:
            sockets.open_now -= 1
        wire.close()
    return result


async def _open(wire: SocketWire, session: Session, result: Result, deadline: float) -> None:
    event = await _next(wire, deadline, "the handshake had no answer")
    if isinstance(event, wsproto.events.AcceptConnection):
        result.status = 101
        result.read_headers([*event.extra_headers], *session.names)
        return
    if isinstance(event, wsproto.events.RejectConnection):
        result.status = event.status_code
        result.read_headers([*event.headers], *session.names)
        outcome = of_status(event.status_code)
        refused = f"the handshake was refused with {event.status_code}"
        raise _Ended(Outcome.BAD_ANSWER if outcome is Outcome.OK else outcome, refused)
    raise _Ended(Outcome.BAD_ANSWER, f"the handshake was answered with {type(event).__name__}")


async def _hold(wire: SocketWire, session: Session, result: Result) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + session.hold
    number = 0
    while True:
        number += 1
        text = f"{session.ident} {number}"
        wire.send(wsproto.events.TextMessage(data=text))
        await _echo(wire, text, result, loop.time() + session.timeout)
        pause_end = min(end, loop.time() + session.every)
        # Listening while it waits: an early end is seen when it happens.
        try:
            async with asyncio.timeout_at(pause_end):
                event = await wire.next()
        except TimeoutError:
            if loop.time() >= end - 1e-3:
                return
            continue
        _must_not_close(event)
        raise _Ended(Outcome.BAD_ANSWER, "a message that was not asked for")


async def _echo(wire: SocketWire, text: str, result: Result, deadline: float) -> None:
    got = ""
    while True:
        event = await _next(wire, deadline, "a message did not come back")
        _must_not_close(event)
        if isinstance(event, wsproto.events.TextMessage):
            got += event.data
            result.size += len(event.data)
            # A service may say something around what it repeats, such as its name.
            if event.message_finished:
                if text in got:
                    return
                raise _Ended(Outcome.BAD_ANSWER, f"sent {text!r}, got back {got[:80]!r}")
            if len(got) > 65536:
                raise _Ended(Outcome.BAD_ANSWER, "an endless message")
        else:
            raise _Ended(Outcome.BAD_ANSWER, f"expected the message back, got {type(event).__name__}")


async def _close(wire: SocketWire, deadline: float) -> None:
    wire.send(wsproto.events.CloseConnection(code=1000))
    try:
        while not isinstance(
            await _next(wire, deadline, "the close was not answered"),
            wsproto.events.CloseConnection,
        ):
            pass
    except _Ended as ended:
        # We asked for the end; a server that just hangs up has lost nothing.
        if ended.outcome not in (Outcome.CUT, Outcome.RESET):
            raise


async def _next(wire: SocketWire, deadline: float, what: str) -> Any:
    try:
        async with asyncio.timeout_at(deadline):
            return await wire.next()
    except TimeoutError:
        raise _Ended(Outcome.TIMED_OUT, what) from None


def _must_not_close(event: Any) -> None:
    if isinstance(event, wsproto.events.CloseConnection):
        raise _Ended(Outcome.CUT, f"closed by the server with code {int(event.code)}", by_frame=True)
