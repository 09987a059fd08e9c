# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What several balancers tell of members, added up into one poll for the verdict. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import RolloutError


@dataclass(frozen=True)
class Tale:
    """What one source has to tell since the last poll."""

    members: Mapping[str, Mapping[str, Any]]  # requests, errors, kinds and latency, by host
    reset: str = ""  # why that is not all
    notes: tuple[str, ...] = ()
    buckets: int = 0  # of its histograms; 0: it has none


@dataclass(frozen=True)
class Seen:
    """The poll, and what is to be said of it."""

    poll: dict[str, Any]
    notes: tuple[str, ...] = ()
    dropped: str | None = None
    kinds: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def added_up(at: float, arms: Mapping[str, str], tales: Mapping[str, Tale | RolloutError]) -> Seen:
    """One poll of all sources.

    One that did not answer makes the poll ``partial``: what the others saw counts, and nothing is promoted on it. One
    whose counters began anew, or all that did not answer, make it one that does not count.
    """
    told = {name: tale for name, tale in tales.items() if isinstance(tale, Tale)}
    silent = [f"{name} does not tell: {tale}" for name, tale in tales.items() if not isinstance(tale, Tale)]
    resets = [f"{name}: {tale.reset}" for name, tale in told.items() if tale.reset]
    buckets = max((tale.buckets for tale in told.values()), default=0)
    kinds: dict[str, Counter[str]] = {arm: Counter() for arm in sorted(set(arms.values()))}
    members = []
    for host, arm in arms.items():
        rows = [tale.members[host] for tale in told.values() if host in tale.members]
        member = {
            "name": host,
            "arm": str(arm),
            "requests": sum(row["requests"] for row in rows),
            "errors": sum(row["errors"] for row in rows),
        }
        if buckets:
            member["latency"] = _columns([row["latency"] for row in rows if row.get("latency")], buckets)
        for row in rows:
            kinds[arm].update({kind: count for kind, count in row.get("kinds", {}).items() if count})
        members.append(member)
    poll: dict[str, Any] = {"at": at, "members": members}
    dropped = "; ".join(resets) or ("; ".join(silent) if not told else None)
    if dropped:
        poll["skip"] = dropped
    elif silent:
        poll["partial"] = "; ".join(silent)
    notes = dict.fromkeys([*silent, *(f"{name}: {note}" for name, tale in told.items() for note in tale.notes)])
    return Seen(poll, tuple(notes), dropped, {arm: dict(found) for arm, found in kinds.items()})


def _columns(rows: Sequence[Sequence[int]], buckets: int) -> list[int]:
    return [sum(column) for column in zip(*rows, strict=True)] if rows else [0] * buckets
