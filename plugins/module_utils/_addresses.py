# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The addresses of this host, and the one that it shows to another."""

from __future__ import annotations

import ipaddress
import re
import socket

_LOCAL = re.compile(r"\|-- ([0-9.]+)\n +/32 host LOCAL")


def local_addresses() -> list[str]:
    """The addresses of this host but for loopback, as far as the kernel's tables show them."""
    found = []
    for path, parse in (("/proc/net/fib_trie", parse_fib_trie), ("/proc/net/if_inet6", parse_if_inet6)):
        try:
            with open(path, encoding="ascii", errors="replace") as file:
                found += parse(file.read())
        except OSError:
            continue
    return [each for each in dict.fromkeys(found) if not is_loopback(each)]


def parse_fib_trie(text: str) -> list[str]:
    """The local addresses in /proc/net/fib_trie."""
    return [address for address in _LOCAL.findall(text) if _is_address(address)]


def parse_if_inet6(text: str) -> list[str]:
    """The addresses in /proc/net/if_inet6."""
    found = []
    for line in text.splitlines():
        word = line.partition(" ")[0]
        if re.match(r"[0-9a-f]{32}\Z", word):
            found.append(str(ipaddress.IPv6Address(int(word, 16))))
    return found


def address_towards(host: str, port: int) -> str:
    """The address that this host shows to another; empty where it has no way there. Sends nothing."""
    try:
        rows = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return ""
    for family, kind, protocol, _name, where in rows:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.connect(where)
                return str(probe.getsockname()[0])
        except OSError:
            continue
    return ""


def is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _is_address(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True
