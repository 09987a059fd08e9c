# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of client: how each sends its one request and what it expects."""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
import ssl
from typing import TYPE_CHECKING

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.classify import (
    Outcome,
    of_connect_error,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.connector import Connector
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.libraries import h11
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.pool import Pool
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.schedule import Kind
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.sessions import User
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.settings import (
    WitnessSettings,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.websocket import (
    Session,
    Sockets,
    SocketWire,
    converse,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.wire import Result, Wire

if TYPE_CHECKING:
    from h11 import Request

_AGENT = "zerodrop-rollout-witness"


class Clients:
    """All clients of one run. ``perform`` sends one request and always returns what it came to."""

    def __init__(self, settings: WitnessSettings, tls: ssl.SSLContext | None) -> None:
        self._settings = settings
        self._target = settings.target
        self._connector = Connector(self._target, tls)
        self._names = (
            settings.version_header.lower().encode(),
            settings.host_header.lower().encode(),
        )
        self._extra = [("User-Agent", _AGENT)]
        given = {name.lower() for name in settings.headers}
        self._extra = [pair for pair in self._extra if pair[0].lower() not in given]
        self._extra += list(settings.headers.items())
        self._authority = next(
            (value for name, value in settings.headers.items() if name.lower() == "host"),
            self._target.authority,
        )
        self._extra = [pair for pair in self._extra if pair[0].lower() != "host"]
        quick, long = (Pool(settings.keepalive_connections, dumb=settings.dumb) for _unused in range(2))
        # Long requests are clients of their own, or the quick ones would find few idle connections.
        self._pools: dict[Kind, Pool] = {
            kind: long if kind in (Kind.SLOW, Kind.STREAM) else quick
            for kind in Kind
            if kind not in (Kind.CLOSE, Kind.WEBSOCKET)
        }
        # A request without a changing part is built and checked once.
        self._fixed = {
            Kind.KEEPALIVE: self._request("GET", self._target.path),
            Kind.CLOSE: self._request("GET", self._target.path, [("Connection", "close")]),
            Kind.SLOW: self._request("GET", settings.slow_path),
            Kind.STREAM: self._request("GET", settings.stream_path),
        }
        self._limits = {kind: settings.timeout + settings.expected(kind) for kind in Kind}
        self._users = [User(settings.session_cookie) for _unused in range(settings.sessions)]
        self._next_user = itertools.cycle(self._users)
        # Ids differ between runs, so that one log of a service can serve several.
        self._run = secrets.token_hex(4)
        self.sockets = Sockets()
        self.sessions_lost = 0

    @property
    def idle_closed_seen(self) -> int:
        return sum(pool.idle_closed_seen for pool in set(self._pools.values()))

    @property
    def connect_fallbacks(self) -> int:
        return self._connector.fallbacks

    def ident(self, kind: Kind, number: int) -> str:
        """The id a request carries, so that it is known even when it is interrupted."""
        return f"{self._run}-{number}" if kind is Kind.POST else ""

    async def perform(self, kind: Kind, number: int) -> Result:
        """Send request ``number`` once."""
        if kind is Kind.WEBSOCKET:
            return await self._websocket(number)
        if kind is Kind.POST:
            return await self._post(number)
        if kind is Kind.SESSION:
            return await self._session()
        result = await self._exchange(kind, self._fixed[kind], None)
        if kind is Kind.STREAM:
            wanted = self._settings.expected_stream_bytes
            if result.outcome is Outcome.OK and wanted is not None and result.size != wanted:
                result.outcome = Outcome.BAD_ANSWER
                result.detail = f"{result.size} bytes instead of {wanted}"
        return result

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()

    def _request(self, method: str, path: str, headers: list[tuple[str, str]] | None = None) -> Request:
        return h11.Request(
            method=method,
            target=path,
            headers=[("Host", self._authority), *self._extra, *(headers or [])],
        )

    async def _exchange(self, kind: Kind, request: Request, body: bytes | None) -> Result:
        loop = asyncio.get_running_loop()
        limit = self._limits[kind]
        pool = self._pools.get(kind)
        wire = pool.take() if pool is not None else None
        kept = False
        try:
            if wire is None:
                started = loop.time()
                opened = await self._open(pool, started + limit)
                if isinstance(opened, Result):
                    return opened
                wire = opened
                limit = max(0.001, limit - (loop.time() - started))
            result = await wire.exchange(request, body, limit)
            kept = wire.reusable and pool is not None
            return result
        finally:
            if pool is None:
                if wire is not None:
                    wire.let_close()
            elif kept and wire is not None:
                pool.give(wire)
            else:
                pool.drop()
                if wire is not None:
                    wire.close()

    async def _open(self, pool: Pool | None, deadline: float) -> Wire | Result:
        def make() -> Wire:
            if pool is None:
                return Wire(self._names)
            return Wire(self._names, dumb=self._settings.dumb, on_idle_close=pool.idle_closed)

        try:
            async with asyncio.timeout_at(deadline):
                return await self._connector.open(make)
        except OSError as exc:
            return _not_connected(exc)

    async def _post(self, number: int) -> Result:
        ident = self.ident(Kind.POST, number)
        body = json.dumps({"id": ident}).encode()
        request = self._request(
            "POST",
            self._settings.post_path,
            [("Content-Type", "application/json"), ("Content-Length", str(len(body)))],
        )
        return await self._exchange(Kind.POST, request, body)

    async def _session(self) -> Result:
        user = next(self._next_user)
        sent = user.session
        cookies = user.header()
        request = self._request("GET", self._settings.session_path, [("Cookie", cookies)] if cookies else None)
        result = await self._exchange(Kind.SESSION, request, None)
        if result.outcome is Outcome.OK and user.answered(sent, result.cookies):
            self.sessions_lost += 1
            result.detail = "session lost"
        return result

    async def _websocket(self, number: int) -> Result:
        loop = asyncio.get_running_loop()
        settings = self._settings
        try:
            async with asyncio.timeout_at(loop.time() + settings.timeout):
                wire = await self._connector.open(SocketWire)
        except OSError as exc:
            return _not_connected(exc)
        session = Session(
            authority=self._authority,
            path=settings.websocket_path,
            headers=[(name.encode(), value.encode()) for name, value in self._extra],
            names=self._names,
            hold=settings.websocket_hold,
            every=settings.websocket_every,
            timeout=settings.timeout,
            ident=f"{self._run}-{number}",
        )
        return await converse(wire, session, self.sockets)


def _not_connected(exc: OSError) -> Result:
    outcome = of_connect_error(exc)
    what = "no connection in time" if outcome is Outcome.TIMED_OUT else str(exc)
    return Result(outcome=outcome, detail=what)
