# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Polls as they come in, checked, and turned into columns: one look handles tens of thousands of rows."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput

CANARY = "canary"
BASELINE = "baseline"
ARMS = (CANARY, BASELINE)
POLL_KEYS = frozenset({"at", "members", "skip", "partial", "cold"})
MEMBER_KEYS = frozenset({"name", "arm", "requests", "errors", "latency", "restarts", "host_seconds"})
_REQUIRED = operator.itemgetter("name", "requests", "errors")
SHAPE = "{at: SECONDS, members: [{name, arm: canary|baseline, requests, errors, latency: [COUNT, ...], restarts, host_seconds}]}"


@dataclass(frozen=True)
class Arm:
    """The members of one arm in one poll, a column for each count."""

    names: tuple[str, ...]
    requests: Sequence[int]
    errors: Sequence[int]
    latency: list[tuple[int, ...]]  # by bucket, then by member; empty where it is not measured
    restarts: list[int] | None
    seconds: list[float]


@dataclass(frozen=True)
class Poll:
    """What happened between two moments."""

    begin: float
    at: float
    canary: Arm
    baseline: Arm
    skip: str = ""  # why it must not count, where it must not
    partial: str = ""  # what it has not seen: it counts, and nothing is promoted on it
    cold: bool = False  # members joined the canary just before: it does not count, and the circuit breaker sees it


def read_polls(polls: Any, interval: float, key: str = "polls") -> list[Poll]:
    """Every poll, in order; raises ``BadInput`` with what was found and what was expected."""
    if not isinstance(polls, Sequence) or isinstance(polls, str):
        raise BadInput(f"{key} must be a list of polls {SHAPE}, got {_short(polls)}.")
    found: list[Poll] = []
    buckets: set[int] = set()
    for index, poll in enumerate(polls):
        where = f"{key}[{index}]"
        _check_poll(poll, where)
        at = float(poll["at"])
        begin = found[-1].at if found else at - interval
        if found and at <= begin:
            raise BadInput(
                f"{where}.at is {at:g}, which is not after the poll before it, at {begin:g}. Polls go forward."
            )
        members = poll["members"]
        try:
            arms = [_arm([m for m in members if m["arm"] == arm], at - begin) for arm in ARMS]
            fine = len(arms[0].names) + len(arms[1].names) == len(members) and len(
                {*arms[0].names, *arms[1].names}
            ) == len(members)
        except (KeyError, TypeError, ValueError, AttributeError):
            fine = False
        if not fine:
            raise _refusal(members, where)
        buckets.update(len(arm.latency) for arm in arms if arm.latency)
        if len(buckets) > 1:
            raise BadInput(
                f"{where} has histograms of {' and '.join(map(str, sorted(buckets)))} buckets; "
                "every poll and member must have the same buckets."
            )
        skip, partial = str(poll.get("skip") or ""), str(poll.get("partial") or "")
        found.append(Poll(begin, at, arms[0], arms[1], skip, partial, bool(poll.get("cold"))))
    return found


def _check_poll(poll: Any, where: str) -> None:
    if not isinstance(poll, Mapping) or not {"at", "members"} <= set(poll):
        raise BadInput(f"{where} must be {SHAPE}, got {_short(poll)}.")
    unknown = sorted(map(str, set(poll) - POLL_KEYS))
    if unknown:
        raise BadInput(
            f"{where} has {', '.join(unknown)}, which a poll does not have; it has at, members, skip, partial and cold."
        )
    at = poll["at"]
    if isinstance(at, bool) or not isinstance(at, (int, float)) or not isfinite(at):
        raise BadInput(f"{where}.at must be a number of seconds, got {at!r}.")
    if not isinstance(poll["members"], Sequence) or isinstance(poll["members"], str):
        raise BadInput(f"{where}.members must be a list, got {_short(poll['members'])}.")


def _arm(members: Sequence[Mapping[str, Any]], seconds: float) -> Arm:
    """Columns, made and checked by whole columns; raises anything where a row is not what it must be."""
    if not members:
        return Arm((), [], [], [], None, [])
    first = members[0]
    # The first one's keys are looked at; of the others it is enough that they are as many, where those below are there.
    if not MEMBER_KEYS.issuperset(first) or set(map(len, members)) != {len(first)}:
        raise KeyError
    names, requests, errors = zip(*map(_REQUIRED, members), strict=True)
    if not {str}.issuperset(map(type, names)):
        raise TypeError
    _counts(requests)
    _counts(errors)
    if any(map(operator.gt, errors, requests)):
        raise ValueError
    latency: list[tuple[int, ...]] = []
    if "latency" in first and first["latency"] is not None:
        latency = list(zip(*[m["latency"] for m in members], strict=True))
        total: Any = sum(map(sum, latency))  # an int, if all are
        if not latency or not isinstance(total, int) or total > sum(requests) or min(set().union(*latency)) < 0:
            raise ValueError
    elif any("latency" in m and m["latency"] is not None for m in members):
        raise ValueError
    restarts = None
    if "restarts" in first:
        restarts = _counts([m["restarts"] for m in members])
    elif any("restarts" in m for m in members):
        raise ValueError
    exposure = [seconds] * len(members)
    if "host_seconds" in first:
        exposure = [m["host_seconds"] for m in members]
        if not {int, float}.issuperset(map(type, exposure)) or (
            exposure and not 0 <= min(exposure) <= max(exposure) < 1e12
        ):
            raise ValueError
    elif any("host_seconds" in m for m in members):
        raise ValueError
    return Arm(names, requests, errors, latency, restarts, exposure)


def _counts(column: Any) -> Any:
    if not {int}.issuperset(map(type, column)) or (column and min(column) < 0):
        raise ValueError
    return column


def _refusal(members: Sequence[Any], where: str) -> BadInput:
    """What is wrong with these members, looked for row by row."""
    seen: set[str] = set()
    for index, member in enumerate(members):
        place = f"{where}.members[{index}]"
        if not isinstance(member, Mapping):
            return BadInput(f"{place} must be a member {SHAPE}, got {_short(member)}.")
        unknown = sorted(map(str, set(member) - MEMBER_KEYS))
        if unknown:
            return BadInput(f"{place} has {', '.join(unknown)}, which a member does not have; see {SHAPE}.")
        missing = [name for name in ("name", "arm", "requests", "errors") if name not in member]
        if missing:
            return BadInput(f"{place} has no {', '.join(missing)}; expected {SHAPE}.")
        name = member["name"]
        if not isinstance(name, str) or not name:
            return BadInput(f"{place}.name must be a text, got {name!r}.")
        if name in seen:
            return BadInput(f"{where} has the member {name} twice.")
        seen.add(name)
        wrong = _wrong(member)
        if wrong:
            return BadInput(f"{place} ({name}): {wrong}")
    for optional in ("latency", "restarts", "host_seconds"):
        for arm in ARMS:
            having = [m.get(optional) is not None for m in members if m["arm"] == arm]
            if any(having) and not all(having):
                return BadInput(
                    f"{where}: some of the {arm} members have {optional}, others have not; give it for all or none."
                )
    lengths = {len(m["latency"]) for m in members if m.get("latency") is not None}
    return BadInput(
        f"{where} has histograms of {' and '.join(map(str, sorted(lengths)))} buckets; "
        "every poll and member must have the same buckets, and at least one."
    )


def _wrong(member: Mapping[str, Any]) -> str:
    # pylint: disable=unidiomatic-typecheck  # True is no count
    if member["arm"] not in ARMS:
        return f"arm must be canary or baseline, got {member['arm']!r}."
    for key in ("requests", "errors", "restarts"):
        value = member.get(key, 0)
        if not _is_whole(value) or value < 0:
            return f"{key} must be a whole number from 0 up, got {value!r}."
    if member["errors"] > member["requests"]:
        return f"{member['errors']} errors of {member['requests']} requests; errors are a part of the requests."
    seconds = member.get("host_seconds", 0)
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < 1e12:
        return f"host_seconds must be a number from 0 up, got {seconds!r}."
    latency = member.get("latency")
    if latency is None:
        return ""
    if not isinstance(latency, Sequence) or isinstance(latency, str):
        return f"latency must be a list of counts, one for each bucket, got {_short(latency)}."
    for value in latency:
        if not _is_whole(value) or value < 0:
            return f"latency must be whole numbers from 0 up, got {value!r}."
    if sum(latency) > member["requests"]:
        return f"latency counts {sum(latency)} of {member['requests']} requests."
    return ""


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
