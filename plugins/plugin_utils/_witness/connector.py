# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Opens connections to the one target, and to nothing else."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import TypeVar

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.settings import (
    SettingsError,
    Target,
    WitnessSettings,
)

_NAME_KEPT = 1.0
# Where nothing was sent yet, going on to the next address of a name is what every client does.
_NEXT_ADDRESS = (ConnectionRefusedError, ConnectionResetError)

ProtocolT = TypeVar("ProtocolT", bound=asyncio.Protocol)


def tls_context(settings: WitnessSettings) -> ssl.SSLContext | None:
    """The TLS settings of a run, or ``None`` for plain HTTP."""
    if not settings.target.secure:
        return None
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except (ssl.SSLError, OSError) as exc:
        raise SettingsError(f"ca_file: holds no usable certificate: {exc}") from None
    if settings.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context


class Connector:
    """Resolves the target's name (kept for a second) and connects.

    A name with several addresses is tried in order; an address that was skipped is counted in
    ``fallbacks``, so that it is not hidden.
    """

    def __init__(self, target: Target, tls: ssl.SSLContext | None) -> None:
        self._target = target
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._addresses: list[str] = []
        self._resolved_at = float("-inf")
        self._resolving: asyncio.Task[list[str]] | None = None
        self._literal = _is_address(target.host)
        self.fallbacks = 0

    async def open(self, factory: Callable[[], ProtocolT]) -> ProtocolT:
        addresses = [self._target.host] if self._literal else await self._resolve()
        for address in addresses[:-1]:
            try:
                return await self._connect(factory, address)
            except OSError as exc:
                if isinstance(exc, ssl.SSLError) or not _may_go_on(exc):
                    raise
                self.fallbacks += 1
        return await self._connect(factory, addresses[-1])

    async def _connect(self, factory: Callable[[], ProtocolT], address: str) -> ProtocolT:
        _transport, protocol = await self._loop.create_connection(
            factory,
            address,
            self._target.port,
            ssl=self._tls,
            server_hostname=self._target.host if self._tls is not None else None,
        )
        return protocol

    async def _resolve(self) -> list[str]:
        if self._loop.time() - self._resolved_at < _NAME_KEPT:
            return self._addresses
        if self._resolving is None:
            self._resolving = self._loop.create_task(self._look_up())
        # One look-up serves all that wait; one that gives up must not take it from the others.
        return await asyncio.shield(self._resolving)

    async def _look_up(self) -> list[str]:
        try:
            found = await self._loop.getaddrinfo(self._target.host, self._target.port, type=socket.SOCK_STREAM)
            self._addresses = list(dict.fromkeys(str(item[4][0]) for item in found))
            self._resolved_at = self._loop.time()
            return self._addresses
        finally:
            self._resolving = None


def _is_address(host: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return True
    return False


def _may_go_on(exc: OSError) -> bool:
    return isinstance(exc, _NEXT_ADDRESS) or not isinstance(exc, ConnectionError | TimeoutError)
