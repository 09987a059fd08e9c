# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The member's own word at the end of a drain: nothing busy comes from a balancer any more, and who else is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import TimedOut
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._member_sockets import (
    LEAST,
    Asked,
    calls,
    still_busy,
    strangers,
    too_long,
    words,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Call, Reply
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.fleet import Fleet
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import MemberRecord


def first_look(fleet: Fleet, members: Sequence[MemberRecord]) -> dict[str, Call]:
    """Calls to run beside the drain, so that the connection to each member is open when it counts."""
    if fleet.settings.busy_sockets == "ignore" or fleet.check:
        return {}
    return {
        member.host: Call("member_sockets", {"port": member.port, "limit": 0}, 1.0)
        for member in members
        if member.port and not fleet.remote.is_open(member.host)
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
    limit = max(LEAST, settings.drain_timeout - passed) if settings.busy_sockets == "wait" else 0.0
    asked = {member.host: _asked(fleet, member, drained) for member in members}
    questions = calls(asked, limit)
    replies = fleet.remote.run(questions) if questions else {}
    record.notes += strangers(replies, asked)
    busy = still_busy(replies)
    if not busy:
        return None
    if settings.busy_sockets == "wait" and settings.on_drain_timeout == "fail":
        return too_long(busy, limit, "rollout_busy_sockets")
    record.notes.append(f"connections that were busy when the upgrade began: {words(busy)}")
    if settings.busy_sockets == "wait":
        for member in members:
            count = sum(busy.get(member.host, {}).values())
            member.cut += count
            if count:
                member.cut_kinds["unknown"] = member.cut_kinds.get("unknown", 0) + count
    return None


def _asked(fleet: Fleet, member: MemberRecord, drained: Mapping[str, Reply]) -> Asked:
    found = Asked(member.port)
    for place, reply in drained.items():
        towards = fleet.by_host(place, reply.result.get("towards", {})).get(member.host)
        if towards:
            found.add(fleet.record.place(place).host, towards)
    return found
