# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Which TCP connections a process has: what the kernel tells of all of them, and the process's open files."""

from __future__ import annotations

import functools
import ipaddress
import os
import re
import sys
from collections.abc import Iterable
from typing import NamedTuple

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import PermissionDenied
from ansible_collections.zerodrop.rollout.plugins.module_utils._nginx import diag

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
    """One TCP connection."""

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
    return _packed(b"".join(int(text[i : i + 8], 16).to_bytes(4, sys.byteorder) for i in range(0, len(text), 8)))


@functools.lru_cache(maxsize=4096)
def _packed(raw: bytes) -> str:
    """An address as its bytes; one of IPv4 that came by IPv6 is one of IPv4."""
    if len(raw) == 4:
        return str(ipaddress.IPv4Address(raw))
    address = ipaddress.IPv6Address(raw)
    return str(address.ipv4_mapped or address)


def read(pid: int) -> list[Connection]:
    """All TCP connections in the network namespace of this process that are open or listen."""
    if _is_ours(pid):
        try:
            rows = diag.ask((*_OPEN, LISTEN))
        except diag.Unusable:
            pass
        else:
            return [
                Connection(row.local_port, _packed(row.remote), row.remote_port, row.state, row.inode) for row in rows
            ]
    return printed(pid)


def _is_ours(pid: int) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/ns/net") == os.readlink("/proc/self/ns/net")
    except OSError:
        return False


def printed(pid: int) -> list[Connection]:
    """The same from /proc/<pid>/net, which tells of any namespace, and is slow."""
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
    """Those that this process has open; raises ``PermissionDenied`` where that is not shown to us.

    Root may list the open files of another user's process, but without CAP_SYS_PTRACE not see what they are. That
    must not look like no connection at all.
    """
    folder = f"/proc/{pid}/fd"
    inodes = set()
    try:
        names = os.listdir(folder)
        targets = [_target(f"{folder}/{name}") for name in names]
    except PermissionError:
        raise PermissionDenied(
            f"The open connections of nginx's worker {pid} may not be seen, so what is in flight is not known.",
            "Become root on the balancer; in a container its root needs CAP_SYS_PTRACE for that.",
        ) from None
    except OSError:
        return []  # it is gone
    for target in targets:
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    return [one for one in among if str(one.inode) in inodes]


def _target(path: str) -> str:
    """What an open file is; empty when it has just been closed."""
    try:
        return os.readlink(path)
    except (FileNotFoundError, ProcessLookupError):
        return ""
