# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""HTTP with an exact time limit.

A socket's own timeout starts anew with every byte, so a peer that sends one
byte now and then holds a client for ever. Here every read and write gets only
what is left of one limit for the whole exchange.
"""

from __future__ import annotations

import base64
import io
import socket
import ssl
from typing import Any, Callable, NamedTuple
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput
from ansible_collections.zerodrop.rollout.plugins.module_utils._names import http_url

# Seconds that are left; raises socket.timeout when none are.
Left = Callable[[], float]


class Address(NamedTuple):
    """A URL, taken apart."""

    secure: bool
    host: str
    port: int
    path: str  # with the query
    headers: dict[str, str]  # Host, and Authorization where the URL has a password
    shown: str  # without password and query, which may hold secrets


def address(value: object, what: str) -> Address:
    """The parts of an HTTP URL; raises ``BadInput``."""
    parts = urlsplit(http_url(value, what))
    host = parts.hostname or ""
    try:
        host = host.encode("idna").decode("ascii")
    except UnicodeError:
        raise BadInput(f"{what} names a host that cannot exist: {host!r}.") from None
    port = parts.port or (443 if parts.scheme == "https" else 80)
    named = f"[{host}]" if ":" in host else host
    if parts.port:
        named += f":{parts.port}"
    headers = {"Host": named}
    if parts.username is not None:
        secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = "Basic " + base64.b64encode(secret.encode()).decode("ascii")
    path = quote(urlunsplit(SplitResult("", "", parts.path or "/", parts.query, "")), safe="/%:=&?~+!$,;'@()*[]|-._")
    shown = urlunsplit(SplitResult(parts.scheme, named, parts.path, "", ""))
    return Address(parts.scheme == "https", host, port, path, headers, shown)


def left_until(deadline: float, clock: Callable[[], float]) -> Left:
    """What is left until ``deadline`` on ``clock``."""

    def left() -> float:
        rest = deadline - clock()
        if rest <= 0:
            raise socket.timeout("timed out")
        return rest

    return left


def tls_context(validate_certs: bool) -> ssl.SSLContext:
    """The system's authorities, or no check at all."""
    context = ssl.create_default_context()
    if not validate_certs:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def connect(host: str, port: int, left: Left) -> socket.socket:
    """A connection to the first address of ``host`` that takes it."""
    problem: OSError = OSError(f"{host} has no address")
    for family, kind, protocol, _name, where in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(left())
            sock.connect(where)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
        except OSError as error:
            sock.close()
            problem = error
        except BaseException:
            sock.close()
            raise
    raise problem


class LimitedSocket:
    """What ``http.client`` needs of a socket, within one limit.

    Once ``makefile`` was called, the file owns the connection, as with a real
    socket: ``close`` here must not cut off an answer that is still being read.
    """

    def __init__(self, sock: socket.socket, left: Left) -> None:
        self._sock = sock
        self._left = left
        self._handed_on = False

    def sendall(self, data: Any) -> None:
        self._sock.settimeout(self._left())
        self._sock.sendall(data)

    def makefile(self, *_args: Any, **_named: Any) -> io.BufferedReader:
        self._handed_on = True
        return io.BufferedReader(_Answer(self._sock, self._left))

    def close(self) -> None:
        if not self._handed_on:
            self._sock.close()


class _Answer(io.RawIOBase):
    def __init__(self, sock: socket.socket, left: Left) -> None:
        super().__init__()
        self._sock = sock
        self._left = left

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(self._left())
        return self._sock.recv_into(buffer)

    def close(self) -> None:
        if not self.closed:
            self._sock.close()
        super().close()
