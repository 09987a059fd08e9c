# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What drained members are asked themselves: whether anything busy still comes from a balancer, and who else is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import TimedOut
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Call, Reply

LEAST = 1.0  # seconds for a connection to be gone, however late the drain ended


@dataclass
class Asked:
    """One member: the port of its service, and by balancer's host where that may come from and what it keeps idle."""

    port: int | None
    balancers: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, balancer: str, towards: Mapping[str, Any]) -> None:
        """What one pool of a balancer says of itself: ``addresses``, and ``pooled``, how many connections lie idle."""
        # Two pools on one host count the same idle connections, where they have one address and port.
        known = self.balancers.setdefault(balancer, {"addresses": towards["addresses"], "pooled": 0})
        known["pooled"] = max(known["pooled"], towards["pooled"])


def calls(members: Mapping[str, Asked], limit: float) -> dict[str, Call]:
    """The question to each member's host; nothing to one that no balancer has an address towards."""
    return {
        host: Call("member_sockets", {"port": one.port, "balancers": one.balancers, "limit": limit}, limit)
        for host, one in members.items()
        if one.port and one.balancers
    }


def still_busy(replies: Mapping[str, Reply]) -> dict[str, Mapping[str, int]]:
    """By member, its busy connections by balancer. One that does not answer is left to what comes next."""
    return {host: reply.result["busy"] for host, reply in replies.items() if reply.ok and reply.result["busy"]}


def strangers(replies: Mapping[str, Reply], members: Mapping[str, Asked]) -> list[str]:
    """In words, who comes without any balancer."""
    return [
        f"{host} has connections that come to its port {members[host].port} without any balancer, and end with its "
        "upgrade: " + ", ".join(f"{address} ({count})" for address, count in reply.result["strangers"].items())
        for host, reply in replies.items()
        if reply.ok and reply.result["strangers"]
    ]


def words(busy: Mapping[str, Mapping[str, int]]) -> str:
    """Who is busy with whom."""
    return ", ".join(
        f"{host} ({', '.join(f'{count} from {name}' for name, count in by_balancer.items())})"
        for host, by_balancer in busy.items()
    )


def too_long(busy: Mapping[str, Mapping[str, int]], limit: float, setting: str) -> TimedOut:
    """The error of a drain that ends with them."""
    return TimedOut(
        f"The balancers have nothing in flight, but after {limit:.3g} s more connections from them are still busy on "
        f"{words(busy)}.",
        f"Another pool or another program there sends to the same port. Drain that too, or set {setting} to note or ignore.",
        busy={host: dict(each) for host, each in busy.items()},
    )
