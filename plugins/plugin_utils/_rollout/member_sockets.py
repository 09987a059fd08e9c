# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The member's own word at the end of a drain: nothing busy comes from a balancer any more, and who else is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import TimedOut
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Call, Reply
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.fleet import Fleet
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import MemberRecord

_LEAST = 1.0  # seconds for a connection to be gone, however late the drain ended


def first_look(fleet: Fleet, members: Sequence[MemberRecord]) -> dict[str, Call]:
    """Calls to run beside the drain, so that the connection to each member is open when it counts."""
    if fleet.settings.busy_sockets == "ignore" or fleet.check:
        return {}
    return {
        member.host: Call("member_sockets", {"port": member.port, "limit": 0}, 1.0) for member in members if member.port
    }


def ask_members(
    fleet: Fleet, members: Sequence[MemberRecord], drained: Mapping[str, Reply], passed: float
) -> TimedOut | None:
    """Ask them all at once; why the drain has failed, where one is still busy at the drain's limit.

    A member that does not answer is left to the phase that is about it. What is cut is counted with the member.
    """
    settings, record = fleet.settings, fleet.record
    if settings.busy_sockets == "ignore" or fleet.check:
        return None
    limit = max(_LEAST, settings.drain_timeout - passed) if settings.busy_sockets == "wait" else 0.0
    calls = {}
    for member in members:
        balancers = _balancers(fleet, member, drained)
        if member.port and balancers:
            calls[member.host] = Call(
                "member_sockets", {"port": member.port, "balancers": balancers, "limit": limit}, limit
            )
    replies = fleet.remote.run(calls) if calls else {}
    still: dict[str, Mapping[str, int]] = {}
    for member in members:
        reply = replies.get(member.host)
        if reply is None or not reply.ok:
            continue
        if reply.result["strangers"]:
            named = ", ".join(f"{address} ({count})" for address, count in reply.result["strangers"].items())
            record.notes.append(
                f"{member.host} has connections that come to its port {member.port} without any balancer, and end with "
                f"its upgrade: {named}"
            )
        if reply.result["busy"]:
            still[member.host] = reply.result["busy"]
    if not still:
        return None
    words = ", ".join(f"{host} ({_words(busy)})" for host, busy in still.items())
    if settings.busy_sockets == "wait" and settings.on_drain_timeout == "fail":
        return TimedOut(
            f"The balancers have nothing in flight, but after {limit:.3g} s more connections from them are still busy on "
            f"{words}.",
            "Another pool or another program there sends to the same port. Drain that too, or set "
            "rollout_busy_sockets to note or ignore.",
            busy={host: dict(busy) for host, busy in still.items()},
        )
    record.notes.append(f"connections that were busy when the upgrade began: {words}")
    if settings.busy_sockets == "wait":
        for member in members:
            count = sum(still.get(member.host, {}).values())
            member.cut += count
            if count:
                member.cut_kinds["unknown"] = member.cut_kinds.get("unknown", 0) + count
    return None


def _balancers(fleet: Fleet, member: MemberRecord, drained: Mapping[str, Reply]) -> dict[str, dict[str, Any]]:
    """By balancer's host: the addresses that it may come from, and how many of its connections lie idle."""
    found: dict[str, dict[str, Any]] = {}
    for place, reply in drained.items():
        towards = fleet.by_host(place, reply.result.get("towards", {})).get(member.host)
        if towards:
            # Two places on one host count the same idle connections, where they have one address and port.
            known = found.setdefault(fleet.record.place(place).host, {"addresses": towards["addresses"], "pooled": 0})
            known["pooled"] = max(known["pooled"], towards["pooled"])
    return found


def _words(busy: Mapping[str, int]) -> str:
    return ", ".join(f"{count} from {name}" for name, count in busy.items())
