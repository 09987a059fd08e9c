# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The end of a rollout that was cancelled: what is safe to put back is put back, at once; the rest is named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import Enum
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import Cancelled
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Remote
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.batch import Phases
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.fleet import Fleet
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.flipping import end_of_a_flip
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import MemberRecord, Record
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.step import Batch
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import BlueGreen, Settings

# Whoever cancels waits for ten seconds.
GATE_LIMIT = 4.0
_UNDO_LIMIT = 3.0
_READ_LIMIT = 2.0
_SWITCH_LIMIT = 3.0
_LEASE_LIMIT = 5.0  # a reload that was begun before has the lock


class Fate(Enum):
    """What becomes of a member that is out of service when the run is cancelled."""

    UNDO = "undo"  # nothing was done on it
    GATE = "gate"  # it has its release; if it is healthy, it serves
    STAY_OUT = "stay out"


def fate(state: str, ours: bool) -> Fate:
    """By the member's state; ``ours`` says that its release is changed by us, and not by tasks of the user's."""
    if state in ("untouched", "finished"):
        return Fate.UNDO  # the drain had not come to its end
    if state == "drained":
        # Tasks of the user's begin when the drain ends: nobody can tell how far they got.
        return Fate.UNDO if ours else Fate.STAY_OUT
    if state in ("upgraded", "healthy"):
        return Fate.GATE
    return Fate.STAY_OUT


def cancel(settings: Settings, remote: Remote, record: Record, why: str) -> None:
    """Put members back where that is safe, and say in the record how each stands."""
    hurried = _in_a_hurry(settings)
    going_back = record.stop is not None and bool(record.back_batches)
    record.halt("cancel", Cancelled(f"The run was cancelled: {why}."), [])
    if going_back:
        record.notes.append(f"the way back was cancelled: {why}")
    out = [member for member in record.members.values() if member.out_at is not None]
    if out:
        Fleet(hurried, remote, record, False).have_lease_anew(_LEASE_LIMIT)
        _find_settings(Fleet(hurried, remote, record, False), record)
        fates = {member.host: fate(member.state, settings.ready_method) for member in out}
        backwards = {host for batch in record.back_batches for host in batch} if going_back else set()
        for back in (False, True):
            batch = Batch(tuple(each.host for each in out if (each.host in backwards) is back), back)
            _end_batch(Phases(hurried, remote, record, batch, False), fates)
    if isinstance(settings, BlueGreen):
        end_of_a_flip(settings, remote, record)
    record.save()


def _end_batch(phases: Phases, fates: Mapping[str, Fate]) -> None:
    undo = [member for member in phases.members() if fates[member.host] is Fate.UNDO]
    if undo:
        phases.undo(undo, phases.settings_before([member.host for member in undo]), _UNDO_LIMIT)
        phases.record.save()
    if phases.settings.ready_method:
        phases.switch_again(_SWITCH_LIMIT)
    for member in phases.members():
        if fates[member.host] is Fate.GATE:
            member.state = "upgraded"
        elif fates[member.host] is Fate.STAY_OUT and not member.trouble:
            _name(member)
    phases.gate()
    phases.put_back()


def _name(member: MemberRecord) -> None:
    member.state = "left_out"
    member.trouble = "the run was cancelled while tasks of yours ran on it, and nobody can tell how far they got"


def _find_settings(fleet: Fleet, record: Record) -> None:
    """What each member is to return to, where the run did not live to hear it: each balancer keeps it."""
    calls = {place: fleet.call(place, "pool_read", _READ_LIMIT, {}) for place in record.balancers}
    for place, reply in fleet.remote.run(calls).items():
        for host, setting in fleet.by_host(place, reply.result.get("held_out", {})).items():
            record.members[host].before.setdefault(place, setting)


def _in_a_hurry(settings: Settings) -> Settings:
    changes: dict[str, Any] = {
        "health_timeout": min(settings.health_timeout, max(GATE_LIMIT, settings.health_seconds + 1.0)),
        "look_requests": 0,
        "look_seconds": 0.0,
        "look_timeout": _UNDO_LIMIT,
        "ramp": (),
    }
    return replace(settings, **changes)
