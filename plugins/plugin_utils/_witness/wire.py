# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One HTTP/1.1 connection: one exchange at a time, no retry, every ending told apart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.classify import (
    Outcome,
    of_loss,
    of_status,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.libraries import h11
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.record import clean

if TYPE_CHECKING:
    from h11 import Request

_LINGER = 1.0


@dataclass(slots=True)
class Result:
    """What one exchange came to, before lateness is judged."""

    outcome: Outcome = Outcome.OK
    status: int = 0
    version: str = ""
    host: str = ""
    size: int = 0
    detail: str = ""
    id: str = ""
    cookies: list[str] = field(default_factory=list)
    answered: float | None = None
    """Loop time at which a WebSocket was open."""

    def read_headers(self, headers: Iterable[tuple[bytes, bytes]], version_header: bytes, host_header: bytes) -> None:
        for name, value in headers:
            if name == version_header:
                self.version = clean(value.decode("latin-1"), 128)
            elif name == host_header:
                self.host = clean(value.decode("latin-1"), 128)
            elif name == b"set-cookie":
                self.cookies.append(value.decode("latin-1"))


class Wire(asyncio.Protocol):
    """A connection of its own or from the pool.

    ``on_idle_close`` is called when the other side ends the connection between two exchanges.
    """

    __slots__ = (
        "_begun",
        "_dumb",
        "_error",
        "_http",
        "_loop",
        "_names",
        "_on_idle_close",
        "_plain",
        "_result",
        "_timer",
        "_transport",
        "_waiter",
        "closed",
        "exchanges",
        "reusable",
    )

    def __init__(
        self,
        names: tuple[bytes, bytes],
        *,
        dumb: bool = False,
        on_idle_close: Callable[[Wire], None] | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._names = names
        self._dumb = dumb
        self._on_idle_close = on_idle_close
        self._http = h11.Connection(h11.CLIENT)
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[Result] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._result = Result()
        self._begun = False
        self._plain = True
        self._error: Exception | None = None
        self.closed: str | None = None
        """How the other side ended the connection, once it has."""
        self.exchanges = 0
        self.reusable = False
        """The last answer was complete and allows another request."""

    def exchange(self, request: Request, body: bytes | None, seconds: float) -> asyncio.Future[Result]:
        """Send one request; the future holds its result within ``seconds``, and never an error."""
        self._result = Result()
        self._begun = False
        self.reusable = False
        waiter = self._waiter = self._loop.create_future()
        http = self._http
        data = http.send(request) or b""
        if body is not None:
            data += http.send(h11.Data(data=body)) or b""
        data += http.send(h11.EndOfMessage()) or b""
        if self._transport is None or self._transport.is_closing() or self.closed is not None:
            # A dumb client writes into the closed connection and only then learns of it.
            if self._transport is not None and not self._transport.is_closing():
                self._transport.write(data)
            self._lose(self._error, self.closed or "closed before it was used")
            return waiter
        self._timer = self._loop.call_later(seconds, self._time_out, seconds)
        self._transport.write(data)
        return waiter

    def close(self) -> None:
        """Close for good, at once."""
        self.reusable = False
        self._on_idle_close = None
        if self._transport is not None:
            self._transport.abort()

    def let_close(self) -> None:
        """Leave the closing to the server for a moment, so that our port is not held after it."""
        self._on_idle_close = None
        self._dumb = False
        if self._transport is None or self.closed is not None:
            self.close()
        else:
            self._loop.call_later(_LINGER, self.close)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._plain = transport.get_extra_info("ssl_object") is None

    def data_received(self, data: bytes) -> None:
        if self._waiter is None:
            # Nobody asked: some servers say 408 before they close an idle connection.
            self._idle_end("sent something unasked while idle")
            return
        self._begun = True
        try:
            self._http.receive_data(data)
            self._read()
        except h11.RemoteProtocolError as exc:
            self._finish(Outcome.BAD_ANSWER, f"not HTTP: {exc}")

    def eof_received(self) -> bool:
        if self._waiter is None:
            self._idle_end("closed while idle")
            # A dumb client does not notice, so its side stays open; TLS knows no half-open.
            return self._dumb and self._plain
        try:
            self._http.receive_data(b"")
            self._read()
        except h11.RemoteProtocolError:
            pass
        if self._waiter is not None:
            self._lose(None, "connection closed")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiter is not None:
            self._lose(exc, f"connection lost: {exc}" if exc else "connection closed")
        else:
            self._error = exc
            self._idle_end(f"lost while idle: {exc}" if exc else "closed while idle")
        self._transport = None

    # inside

    def _read(self) -> None:
        http, result = self._http, self._result
        while True:
            event = http.next_event()
            if isinstance(event, h11.Data):
                result.size += len(event.data)
            elif isinstance(event, h11.Response):
                result.status = event.status_code
                result.read_headers(event.headers, *self._names)
            elif isinstance(event, h11.EndOfMessage):
                self._complete()
                return
            elif isinstance(event, h11.InformationalResponse):
                if event.status_code == 101:
                    self._finish(Outcome.BAD_ANSWER, "switched protocols unasked")
                    return
            else:
                return

    def _complete(self) -> None:
        http = self._http
        self.exchanges += 1
        if http.trailing_data[0]:
            self._finish(Outcome.BAD_ANSWER, "more bytes than the answer said")
            return
        if http.our_state is h11.DONE and http.their_state is h11.DONE:
            http.start_next_cycle()
            self.reusable = True
        self._finish(of_status(self._result.status), "")

    def _lose(self, error: Exception | None, how: str) -> None:
        outcome = of_loss(reused=self.exchanges > 0, answer_begun=self._begun, error=error)
        when = f"after {self._result.size} bytes of the body" if self._begun else "before the answer"
        self._finish(outcome, f"{how} {when}")

    def _time_out(self, seconds: float) -> None:
        what = f"after {self._result.size} bytes of the body" if self._begun else "no answer"
        self._finish(Outcome.TIMED_OUT, f"{what} in {seconds:g} s")

    def _finish(self, outcome: Outcome, detail: str) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiter, self._waiter = self._waiter, None
        self._result.outcome = outcome
        self._result.detail = detail
        if waiter is not None and not waiter.done():
            waiter.set_result(self._result)

    def _idle_end(self, how: str) -> None:
        if self.closed is not None:
            return
        self.closed = how
        if self._on_idle_close is not None:
            self._on_idle_close(self)
        if not self._dumb and self._transport is not None:
            self._transport.abort()
