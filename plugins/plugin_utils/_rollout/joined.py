# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Joined batches: putting one back and draining the next as one change, on balancers that reload for each change.

N batches then take N + 1 reloads and not 2 N. What it costs is the look between them, so it has to be asked for.
Which places can do so is decided here, without I/O: those of the outermost pool, where a drain begins and a return
ends. Inner pools come first in a return and last in a drain, so nothing of theirs can be one change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import FloorBroken
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Reply
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import MemberRecord, Record


def places_to_join(record: Record, batch: Sequence[str], asked: bool) -> list[str]:
    """The places on which this batch goes back together with the drain of the next one; none where it is the last."""
    if not asked or record.stop is not None or list(batch) not in record.batches[:-1]:
        return []
    outermost = min((record.place(name).layer for name in record.balancers), default=0)
    return [name for name in record.balancers if record.place(name).by_reload and record.place(name).layer == outermost]


def waiting_members(record: Record, batch: Sequence[str]) -> list[MemberRecord]:
    """Members of an earlier batch that are healthy, and wait for this drain to serve again."""
    return [member for member in record.members.values() if member.state == "healthy" and member.host not in batch]


def are_back(replies: Mapping[str, Reply], places: Sequence[str]) -> bool:
    """Whether the members that waited serve again on all of these places, also where the drain itself failed."""
    return all(
        name in replies and (replies[name].ok or bool(getattr(replies[name].error, "facts", {}).get("returned")))
        for name in places
    )


def floor_forbids(replies: Mapping[str, Reply]) -> bool:
    """Whether all that failed is a floor that could not be kept at once: then each goes its own way, and may wait."""
    errors = [reply.error for reply in replies.values() if reply.error is not None]
    return bool(errors) and all(isinstance(error, FloorBroken) for error in errors)
