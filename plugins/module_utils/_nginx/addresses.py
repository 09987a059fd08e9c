# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Where a server of an upstream is: ``host:port``, ``[::1]:port``, a bare host or ``unix:/path``."""

from __future__ import annotations

import re
import socket
from typing import NamedTuple

# What the resolver may know is the resolver's business; what nginx or a template would read as something else is not.
_NO_HOST = re.compile(r"[\s\"'\\/?:;{}\[\]$#]")
_PORT = re.compile(r"[0-9]{1,9}\Z")
_SOCKET_PATH_LIMIT = 107  # bytes in sockaddr_un, without the last zero


class Address(NamedTuple):
    """One of ``host`` (with a port, or None where DNS says it) and ``socket`` is set."""

    host: str
    port: int | None
    socket: str


def parse(text: str, default_port: int | None) -> Address:
    """The address as nginx reads it (``ngx_parse_url``); raises ``ValueError`` with what is wrong."""
    if not text.isprintable():
        raise ValueError("it has characters that cannot be printed")
    if text[:5].lower() == "unix:":
        path = text[5:]
        if not path or len(path.encode("utf-8")) > _SOCKET_PATH_LIMIT:
            raise ValueError("the socket's path is empty or too long")
        return Address("", None, path)
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")) or not _is_ipv6(host):
            raise ValueError("it is no IPv6 address")
        return Address(host, _port(rest[1:]) if rest else default_port, "")
    host, colon, port = text.partition(":")
    if not host or _NO_HOST.search(host):
        raise ValueError("it names no host")
    return Address(host, _port(port) if colon else default_port, "")


def _port(text: str) -> int:
    if not _PORT.match(text) or not 0 < int(text) < 65536:
        raise ValueError("its port is not a number from 1 to 65535")
    return int(text)


def _is_ipv6(text: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET6, text)
    except (OSError, ValueError):
        return False
    return True
