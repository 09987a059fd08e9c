# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the members that stay can carry the traffic, by what balancers see and members are known to bear. Pure.

Two things are known of what can be carried. A member's capacity in requests per second, which somebody measured: each
member gets the share of every balancer's requests that its weight there gives it. And the limit that a balancer has for
each member (HAProxy's ``maxconn``): what is at work or waits now must find room within the limits of those that stay.
Both hold where both are known.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import Refused


@dataclass(frozen=True)
class Server:
    """A member as one balancer has it."""

    in_service: bool
    weight: int
    limit: int  # most that it is given at once; 0: no limit


@dataclass(frozen=True)
class Carried:
    """What one balancer carries now."""

    rate: float | None  # requests per second; None: it cannot tell
    in_flight: float  # at work, and waiting
    response_ms: float | None
    servers: Mapping[str, Server]  # by the inventory's name where there is one, else by the pool's

    @classmethod
    def from_result(cls, result: Mapping[str, Any], hosts: Mapping[str, str]) -> Carried:
        """From what ``pool_load`` returns; ``hosts`` are the inventory's names by the pool's."""
        members: Mapping[str, Mapping[str, Any]] = result["members"]
        return cls(
            rate=None if result["rate"] is None else float(result["rate"]),
            in_flight=float(result["in_flight"]),
            response_ms=None if result["response_ms"] is None else float(result["response_ms"]),
            servers={
                hosts.get(name, name): Server(bool(each["in_service"]), int(each["weight"]), int(each["limit"]))
                for name, each in members.items()
            },
        )

    @property
    def at_once(self) -> float:
        """What is at work: as it was seen, or as rate and response time have it (Little's law), whichever is more."""
        if self.rate is None or self.response_ms is None:
            return self.in_flight
        return max(self.in_flight, self.rate * self.response_ms / 1000)


@dataclass(frozen=True)
class Fit:
    """Whether what stays can carry what there is."""

    factor: float  # how many times the present traffic can be carried; below 1 + headroom it is too little
    words: str  # the figures


@dataclass(frozen=True)
class Room:
    """How many of some members may leave, and what each balancer may come to carry until then."""

    count: int
    words: str
    bounds: Mapping[str, Mapping[str, float]]


def capacity_is_known(layer: Mapping[str, Carried], capacity: Mapping[str, float]) -> bool:
    """Whether anything can be said of what the members carry."""
    return _rates_count(layer, capacity) or all(_limits_count(each) for each in layer.values())


def fit(
    layer: Mapping[str, Carried], out: Collection[str], back: Collection[str], capacity: Mapping[str, float]
) -> Fit:
    """How what stays compares with what there is, in one layer, without ``out`` and with ``back`` in service."""
    found: list[Fit] = []
    if _rates_count(layer, capacity):
        found.append(_by_rate(layer, out, back, capacity))
    for place, each in layer.items():
        if _limits_count(each):
            found.append(_by_limit(place, each, out, back))
    if not found:
        raise Refused(
            "What the members can carry is not known.",
            "rollout_floor counts the load: set rollout_member_capacity, in requests per second, or give each server "
            "line of HAProxy its maxconn. nginx counts requests only by its access log: name it in rollout_access_log.",
        )
    return min(found, key=lambda each: each.factor)


def room(
    layer: Mapping[str, Carried],
    leaving: Sequence[str],
    out: Collection[str],
    back: Collection[str],
    capacity: Mapping[str, float],
    headroom: float,
) -> Room:
    """How many of these members, in this order, may leave beside those that are out already.

    Whoever serves nowhere costs nothing. ``back`` are members that come back at the same moment.
    """
    count, words = 0, ""
    for number in range(1, len(leaving) + 1):
        going = leaving[:number]
        found = fit(layer, {*out, *going}, back, capacity)
        costs = any(each.servers[host].in_service for each in layer.values() for host in going if host in each.servers)
        if costs and found.factor < 1 + headroom:
            words = found.words
            break
        count, words = number, found.words
    return Room(count, words, {} if not count else _bounds(layer, {*out, *leaving[:count]}, back, capacity))


def most_out(
    layer: Mapping[str, Carried], members: Sequence[str], capacity: Mapping[str, float], headroom: float
) -> Room:
    """How many members may be out at a time, whichever these are: those that carry most are counted first."""
    serving = [
        host for host in members if any(host in c.servers and c.servers[host].in_service for c in layer.values())
    ]

    def carries(host: str) -> tuple[float, int]:
        return capacity.get(host, 0.0), sum(c.servers[host].limit for c in layer.values() if host in c.servers)

    return room(layer, sorted(serving, key=carries, reverse=True), (), (), capacity, headroom)


def figures(layer: Mapping[str, Carried]) -> str:
    """What the balancers see, for people."""
    words = []
    for place, each in layer.items():
        rate = "an unknown rate" if each.rate is None else f"{each.rate:.0f} requests/s"
        time = "" if each.response_ms is None else f", answered in {each.response_ms:.0f} ms"
        words.append(f"{place} {rate}, {each.in_flight:.0f} at once{time}")
    return "; ".join(words)


def _staying(carried: Carried, out: Collection[str], back: Collection[str]) -> dict[str, Server]:
    return {
        host: each
        for host, each in carried.servers.items()
        if host not in out and (each.in_service or host in back) and each.weight > 0
    }


def _rates_count(layer: Mapping[str, Carried], capacity: Mapping[str, float]) -> bool:
    hosts = {host for each in layer.values() for host in each.servers}
    return bool(hosts) and hosts <= set(capacity) and all(each.rate is not None for each in layer.values())


def _limits_count(carried: Carried) -> bool:
    return bool(carried.servers) and all(each.limit > 0 for each in carried.servers.values())


def _by_rate(
    layer: Mapping[str, Carried], out: Collection[str], back: Collection[str], capacity: Mapping[str, float]
) -> Fit:
    share: dict[str, float] = {}
    total = 0.0
    for each in layer.values():
        rate = each.rate or 0.0
        total += rate
        staying = _staying(each, out, back)
        weights = sum(one.weight for one in staying.values())
        if not weights and rate:
            return Fit(0.0, f"{total:.0f} requests/s, and no member would be left")
        for host, one in staying.items():
            share[host] = share.get(host, 0.0) + rate * one.weight / weights
    factor = min((capacity[host] / rate for host, rate in share.items() if rate > 0), default=math.inf)
    if not total:
        return Fit(math.inf, "no requests at all")
    return Fit(
        factor, f"{total:.0f} requests/s now, and the {len(share)} members that would stay carry {factor * total:.0f}"
    )


def _by_limit(place: str, carried: Carried, out: Collection[str], back: Collection[str]) -> Fit:
    staying = _staying(carried, out, back)
    limit = sum(each.limit for each in staying.values())
    now = carried.at_once
    words = f"{now:.0f} requests at once on {place} now, and the {len(staying)} members that would stay take {limit}"
    return Fit(limit / now if now else math.inf if limit else 0.0, words)


def _bounds(
    layer: Mapping[str, Carried], out: Collection[str], back: Collection[str], capacity: Mapping[str, float]
) -> dict[str, dict[str, float]]:
    """What each balancer may come to carry before the change: its own, and its part of what there is to spare.

    The headroom is not held back here: it is for what comes between the look and the change.
    """
    bounds: dict[str, dict[str, float]] = {place: {} for place in layer}
    if _rates_count(layer, capacity):
        factor = _by_rate(layer, out, back, capacity).factor
        total = sum(each.rate or 0.0 for each in layer.values())
        for place, each in layer.items() if not math.isinf(factor) else ():
            bounds[place]["rate"] = (each.rate or 0.0) + max(0.0, factor - 1) * total / len(layer)
    for place, each in layer.items():
        if _limits_count(each):
            bounds[place]["in_flight"] = float(sum(one.limit for one in _staying(each, out, back).values()))
    return bounds
