# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Which TCP connections a process has, from /proc/<pid>/net/tcp and the process's open files."""

from __future__ import annotations

import functools
import ipaddress
import os
import re
import sys
from collections.abc import Iterable
from typing import NamedTuple

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import PermissionDenied

ESTABLISHED, SYN_SENT, LISTEN = 0x01, 0x02, 0x0A
# Half closed by the peer: nginx may still read an answer from it, so it counts as open.
_CLOSE_WAIT = 0x08
_OPEN = (ESTABLISHED, SYN_SENT, _CLOSE_WAIT)
# A busy balancer has tens of thousands of lines, nearly all of connections that wait for their end: 06.
_LINE = re.compile(
    r"^ *[0-9]+: [0-9A-F]+:([0-9A-F]{4}) ([0-9A-F]+):([0-9A-F]{4}) (01|02|08|0A) \S+ \S+ \S+ +[0-9]+ +[0-9]+ ([0-9]+)",
    re.MULTILINE,
)


class Connection(NamedTuple):
    """One line of /proc/net/tcp."""

    local_port: int
    remote: str  # IP address
    remote_port: int
    state: int
    inode: int

    @property
    def is_open(self) -> bool:
        return self.state in _OPEN


def connections(text: str) -> list[Connection]:
    """The lines of /proc/net/tcp or tcp6 that are open or listen. A line that is cut off or odd is left out."""
    found = []
    for local_port, remote, remote_port, state, inode in _LINE.findall(text):
        try:
            address = _address(remote)
        except ValueError:
            continue
        found.append(Connection(int(local_port, 16), address, int(remote_port, 16), int(state, 16), int(inode)))
    return found


@functools.lru_cache(maxsize=4096)
def _address(text: str) -> str:
    """An address as the kernel prints it: words of 32 bits in the machine's own byte order."""
    if len(text) not in (8, 32):
        raise ValueError("this is no address")
    raw = b"".join(int(text[i : i + 8], 16).to_bytes(4, sys.byteorder) for i in range(0, len(text), 8))
    if len(raw) == 4:
        return str(ipaddress.IPv4Address(raw))
    address = ipaddress.IPv6Address(raw)
    return str(address.ipv4_mapped or address)


def read(pid: int) -> list[Connection]:
    """All TCP connections in the network namespace of this process."""
    found = []
    for name in ("tcp", "tcp6"):
        try:
            with open(f"/proc/{pid}/net/{name}", encoding="ascii", errors="replace") as file:
                found += connections(file.read())
        except FileNotFoundError:
            continue  # no IPv6 here, or the process is gone
        except OSError:
            continue
    return found


def on_unix_socket(pid: int, path: str) -> int:
    """Connections that were taken at this UNIX socket; the kernel does not tell whose they are."""
    try:
        with open(f"/proc/{pid}/net/unix", encoding="utf-8", errors="surrogateescape") as file:
            return connected(file.read(), path)
    except OSError:
        return 0


def connected(text: str, path: str) -> int:
    """How many lines of /proc/net/unix are connections at this path."""
    rows = (line.split(None, 7) for line in text.splitlines()[1:])
    return sum(1 for row in rows if len(row) == 8 and row[5] == "03" and row[7] == path)


def owned(pid: int, among: Iterable[Connection]) -> list[Connection]:
    """Those that this process has open; raises ``PermissionDenied`` where that is not shown to us."""
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)
    except PermissionError:
        raise PermissionDenied(
            f"The open connections of nginx's worker {pid} may not be seen.", "Become root on the balancer."
        ) from None
    except OSError:
        return []  # it is gone
    inodes = set()
    for name in names:
        try:
            target = os.readlink(f"{folder}/{name}")
        except OSError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    return [one for one in among if str(one.inode) in inodes]
