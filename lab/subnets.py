"""Pick a network nobody uses."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from .errors import LabError

# 198.18.0.0/15 is reserved for benchmarks, so it collides with nobody's LAN.
RANGE = IPv4Network("198.18.0.0/16")
_CANDIDATES = tuple(RANGE.subnets(new_prefix=24))


def choose(taken: Iterable[IPv4Network], start: int) -> IPv4Network:
    """The first free /24 at or after number `start`, going round.

    Callers pass a random start: a new lab then seldom gets the addresses of the last one, to
    which somebody's SSH may still hold a connection open.
    """
    used = tuple(taken)
    for offset in range(len(_CANDIDATES)):
        candidate = _CANDIDATES[(start + offset) % len(_CANDIDATES)]
        if not any(candidate.overlaps(network) for network in used):
            return candidate
    raise LabError(f"no free /24 is left in {RANGE}: take some labs down (python3 -m lab list)")


def parse_routes(text: str) -> list[IPv4Network]:
    """The networks in /proc/net/route, the default route left out."""
    found = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        address = int.from_bytes(bytes.fromhex(fields[1]), "little")
        mask = int.from_bytes(bytes.fromhex(fields[7]), "little")
        if mask:
            found.append(IPv4Network((address & mask, mask.bit_count())))
    return found


def routed() -> list[IPv4Network]:
    """The networks this machine already has a route to."""
    return parse_routes(Path("/proc/net/route").read_text(encoding="ascii"))


def balancer_address(subnet: IPv4Network, number: int) -> IPv4Address:
    """The address of balancer 1, 2, …: .11 and up."""
    return ipaddress.IPv4Address(int(subnet.network_address) + 10 + number)


def database_address(subnet: IPv4Network, number: int) -> IPv4Address:
    """The address of database 1, 2, …: .3 and up."""
    return ipaddress.IPv4Address(int(subnet.network_address) + 2 + number)


def member_address(subnet: IPv4Network, number: int) -> IPv4Address:
    """The address of member 1, 2, …: .21 and up."""
    return ipaddress.IPv4Address(int(subnet.network_address) + 20 + number)


def mac_address(address: str) -> str:
    """A locally administered hardware address that goes with this one."""
    return ":".join(["02", "5a", *(f"{byte:02x}" for byte in IPv4Address(address).packed)])
