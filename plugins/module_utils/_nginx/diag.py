# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""TCP connections as the kernel tells them over netlink (sock_diag, what ``ss`` uses).

A busy balancer has tens of thousands of connections that only wait for their end. /proc/net/tcp prints them all,
which takes a fifth of a second; the kernel asked here leaves them out.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from typing import NamedTuple

_NETLINK_SOCK_DIAG = 4
# The older of two questions: it takes no family, so one walk through all connections tells both.
_TCPDIAG_GETSOCK = 18
_REQUEST_DUMP = 0x301
_ERROR, _DONE = 2, 3
_OVERRUN_OR_CUT_SHORT = 0x10  # NLM_F_DUMP_INTR: what was told does not fit together
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=4x48xI4x")
# family, state, local and remote port, their addresses, and the inode at the end
_ROW = struct.Struct("!BBxxHH16s16s12x")
_INODE = struct.Struct("=I")
_ROW_LENGTH = 72
_BUFFER = 1 << 18
_LIMIT = 5.0


class Row(NamedTuple):
    """One connection, its address as bytes."""

    state: int
    local_port: int
    remote: bytes
    remote_port: int
    inode: int


class Unusable(Exception):
    """This kernel does not answer such questions here."""


def ask(states: Iterable[int]) -> list[Row]:
    """All TCP connections of our network namespace that are in these states; raises ``Unusable``."""
    mask = sum(1 << state for state in states)
    rows: list[Row] = []
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
            kernel.settimeout(_LIMIT)
            body = _REQUEST.pack(mask)
            kernel.send(_HEADER.pack(_HEADER.size + len(body), _TCPDIAG_GETSOCK, _REQUEST_DUMP, 1, 0) + body)
            while not parse(kernel.recv(_BUFFER), rows):
                pass
    except OSError as error:
        raise Unusable(str(error)) from None
    return rows


def parse(data: bytes, rows: list[Row]) -> bool:
    """Add what one answer tells; whether it was the last. Raises ``Unusable`` for an error or what is no answer."""
    place = 0
    while place + _HEADER.size <= len(data):
        length, kind, flags, _number, _port = _HEADER.unpack_from(data, place)
        if length < _HEADER.size or place + length > len(data) or flags & _OVERRUN_OR_CUT_SHORT:
            raise Unusable("an answer that is cut off")
        if kind == _DONE:
            return True
        if kind == _ERROR:
            raise Unusable("the kernel refuses")
        if length >= _HEADER.size + _ROW_LENGTH:
            start = place + _HEADER.size
            family, state, local_port, remote_port, _local, remote = _ROW.unpack_from(data, start)
            (inode,) = _INODE.unpack_from(data, start + _ROW_LENGTH - _INODE.size)
            rows.append(Row(state, local_port, remote[:4] if family == socket.AF_INET else remote, remote_port, inode))
        place += (length + 3) & ~3
    return False
