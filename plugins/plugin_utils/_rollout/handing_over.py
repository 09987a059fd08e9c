# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The sessions in the memory of members that leave: handed over to those that stay, or counted.

A member that leaves gets nobody new first, so that no session begins there any more. Then its sessions are written down
and taken in by every member that stays, since nobody knows which of them a client comes to. Once it has nothing in flight
that is done again, for what its last requests have changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import Refused, RolloutError
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Call, Remote, Reply
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import Settings

_OVERHEAD = 10.0  # seconds beside what the programs may take


@dataclass(frozen=True)
class Handed:
    """What became of it."""

    sessions: int = 0
    error: RolloutError | None = None


def hand_over(settings: Settings, remote: Remote, leaving: Sequence[str], staying: Sequence[str]) -> Handed:
    """Have the sessions of members that leave known to all that stay."""
    if not staying:
        return Handed(error=Refused(f"The sessions of {', '.join(leaving)} cannot be handed over: no member stays."))
    exported = remote.run({host: _export(settings, host) for host in leaving})
    failed = _failed(exported)
    if failed is not None:
        return Handed(error=failed)
    count = sum(int(reply.result["sessions"]) for reply in exported.values())
    for reply in exported.values():
        if not reply.result["sessions"]:
            continue
        params = {"command": list(settings.session_import), "packed": reply.result["packed"]}
        limit = {"timeout": settings.session_timeout}
        calls = {
            host: Call("sessions_import", {**params, **limit, "member": host}, settings.session_timeout + _OVERHEAD)
            for host in staying
        }
        failed = _failed(remote.run(calls))
        if failed is not None:
            return Handed(count, failed)
    return Handed(count)


def count_sessions(settings: Settings, remote: Remote, leaving: Sequence[str]) -> Handed:
    """How many sessions end with these members."""
    replies = remote.run({host: _export(settings, host, only_count=True) for host in leaving})
    return Handed(sum(int(each.result["sessions"]) for each in replies.values() if each.ok), _failed(replies))


def _export(settings: Settings, host: str, only_count: bool = False) -> Call:
    params = {"command": list(settings.session_export), "timeout": settings.session_timeout, "member": host}
    return Call("sessions_export", {**params, "only_count": only_count}, settings.session_timeout + _OVERHEAD)


def _failed(replies: dict[str, Reply]) -> RolloutError | None:
    for host, reply in replies.items():
        if reply.error is not None:
            reply.error.message = f"{host}: {reply.error.message}"
            return reply.error
    return None
