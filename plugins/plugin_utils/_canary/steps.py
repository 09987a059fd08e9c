# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps of a canary: how many members, or how much of the traffic, the new version has before it is judged. Pure."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._plan import Amount

_KEYS = ("members", "share", "seconds", "ask")
_SHAPE = "such as {members: 1}, {members: 25%} or {share: 5}, each with seconds and ask if you like"
DEFAULT = Amount(10, True)  # of the members, at least one


@dataclass(frozen=True)
class Step:
    """As the user wrote it."""

    members: Amount | None = None
    share: float | None = None  # percent of the traffic
    seconds: float | None = None  # how long it lasts at least
    ask: bool = False  # whether somebody has to promote it


@dataclass(frozen=True)
class Target:
    """The same in members of this fleet."""

    count: int  # members on the new version
    share: float | None
    seconds: float | None
    ask: bool
    last: bool = False  # everything is on the new version then: there is nothing to compare with

    def words(self, total: int) -> str:
        members = f"{self.count} of {total} members"
        return members if self.share is None else f"{self.share:g} % of the traffic on {members}"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def steps(value: Any, name: str) -> tuple[Step, ...]:
    """From a list of mappings, or the same as JSON; raises ``BadInput``."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise BadInput(f"{name} is no list of steps: {error}. Expected: {_SHAPE}.") from error
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, Sequence):
        raise BadInput(f"{name} must be a list of steps, {_SHAPE}, got {value!r}.")
    found = tuple(_step(item, f"{name} ({number})") for number, item in enumerate(value, 1))
    for kind in ("members", "share"):
        _must_rise([step for step in found if getattr(step, kind) is not None], kind, name)
    return found


def _must_rise(found: Sequence[Step], kind: str, name: str) -> None:
    """As far as that can be told without a fleet."""
    for before, after in itertools.pairwise(found):
        old, new = getattr(before, kind), getattr(after, kind)
        if isinstance(old, Amount):
            if old.percent is not new.percent:
                continue
            old, new = old.value, new.value
        if new <= old:
            raise BadInput(f"{name}: a step with {kind} {new:g} comes after one with {old:g}; steps must rise.")


def _step(item: Any, where: str) -> Step:
    if not isinstance(item, Mapping):
        raise BadInput(f"{where} must be a mapping, {_SHAPE}, got {item!r}.")
    unknown = sorted(set(map(str, item)) - set(_KEYS))
    if unknown:
        raise BadInput(f"{where} has {unknown[0]!r}, which a step does not have; it has {', '.join(_KEYS)}.")
    given = [key for key in ("members", "share") if item.get(key) not in (None, "")]
    if len(given) != 1:
        raise BadInput(f"{where} must have either members or share, {_SHAPE}, got {dict(item)!r}.")
    seconds = item.get("seconds")
    ask = str(item.get("ask", False)).strip().lower()
    if ask not in ("true", "false", "yes", "no"):
        raise BadInput(f"ask of {where} must be true or false, got {item['ask']!r}.")
    return Step(
        members=Amount.parse(item["members"], f"members of {where}", minimum=1) if given == ["members"] else None,
        share=_share(item["share"], f"share of {where}") if given == ["share"] else None,
        seconds=None if seconds in (None, "") else _number(seconds, f"seconds of {where}", 0.0, 30 * 86400.0),
        ask=ask in ("true", "yes"),
    )


def _share(value: Any, name: str) -> float:
    text = str(value).strip()
    try:
        result = float("nan") if isinstance(value, bool) else float(text.removesuffix("%"))
    except ValueError:
        result = float("nan")
    if not 0.0 < result < 100.0:
        raise BadInput(
            f"{name} must be a percentage of the traffic, above 0 and below 100, got {value!r}.",
            "To give it everything, use members: 100%.",
        )
    return result


def _number(value: Any, name: str, low: float, high: float) -> float:
    try:
        result = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        result = float("nan")
    if not isfinite(result) or not low <= result <= high:
        raise BadInput(f"{name} must be a number from {low:g} to {high:g}, got {value!r}.")
    return result


def targets(given: Sequence[Step], total: int) -> tuple[Target, ...]:
    """The steps in members of a fleet of this size, the last of them all members; raises ``BadInput``."""
    if total < 2:
        raise BadInput(
            f"A canary is judged against members on the old version, and the pool has {total} member.",
            "Add members, or use the playbook rolling.",
        )
    found: list[Target] = []
    for step in given or (Step(members=DEFAULT),):
        before = found[-1].count if found else 0
        if step.members is not None:
            count = min(max(1, step.members.of(total, up=False)), total)
        else:
            count = before or max(1, DEFAULT.of(total, up=False))
        target = Target(count, step.share, step.seconds, step.ask, last=count == total)
        if found and _part(target, total) < _part(found[-1], total):
            raise BadInput(
                f"rollout_canary_steps shrink: {target.words(total)} come after {found[-1].words(total)}.",
                "Each step must give the new version more than the one before.",
            )
        if found and found[-1].last:
            raise BadInput("rollout_canary_steps go on after a step that has all members.")
        found.append(target)
    if not found[-1].last:
        found.append(Target(total, None, None, False, last=True))
    if found[0].last:
        raise BadInput(
            f"The first of rollout_canary_steps has all {total} members: none would be left to compare the new version with.",
            "Begin with fewer members.",
        )
    return tuple(found)


def _part(target: Target, total: int) -> float:
    """The share of the traffic, as far as members stand for it."""
    return 100.0 * target.count / total if target.share is None else target.share
