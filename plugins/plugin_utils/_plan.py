# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which members go in which batch, and what the floor allows. Pure: no I/O, no clock."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput, FloorBroken, Refused


@dataclass(frozen=True)
class Amount:
    """A count of members, or a percentage of them."""

    value: int
    percent: bool

    @classmethod
    def parse(cls, value: Any, name: str, minimum: int) -> Amount:
        """From ``2``, ``"2"`` or ``"25%"``; raises ``BadInput``."""
        text = str(value).strip()
        percent = text.endswith("%")
        digits = text[:-1].strip() if percent else text
        if isinstance(value, bool) or not (digits.isascii() and digits.isdigit()):
            raise BadInput(f"{name} must be a count such as 2 or a percentage such as 25%, got {value!r}.")
        amount = cls(int(digits), percent)
        if amount.value < minimum:
            raise BadInput(f"{name} must be at least {minimum}, got {value!r}.")
        if percent and amount.value > 100:
            raise BadInput(f"{name} is a percentage of the members and cannot be above 100%, got {value!r}.")
        return amount

    def of(self, total: int, up: bool) -> int:
        """This much of ``total`` members, rounded up or down."""
        if not self.percent:
            return self.value
        exact = self.value * total
        return -(-exact // 100) if up else exact // 100

    def __str__(self) -> str:
        return f"{self.value}%" if self.percent else str(self.value)


@dataclass(frozen=True)
class Floor(Amount):
    """What must stay in service: so many members, and with ``load`` also as many as can carry what there is to do."""

    load: bool = False

    @classmethod
    def parse_floor(cls, value: Any, name: str) -> Floor:
        """From ``2``, ``50%``, ``load``, or a mapping of ``members`` and ``load``, also as JSON; raises ``BadInput``."""
        given = value
        if isinstance(value, str) and value.strip().startswith("{"):
            try:
                given = json.loads(value)
            except ValueError as error:
                raise BadInput(f"{name} is not a JSON object: {error}.") from error
        if isinstance(given, str) and given.strip().lower() == LOAD:
            given = {LOAD: True}
        if not isinstance(given, Mapping):
            amount = Amount.parse(given, name, minimum=0)
            return cls(amount.value, amount.percent)
        unknown = sorted(set(map(str, given)) - {"members", LOAD})
        if unknown or not isinstance(given.get(LOAD, False), bool):
            raise BadInput(
                f"{name} must be a count, a percentage, the word load, or a mapping such as "
                f"{{members: 50%, load: true}}, got {value!r}."
            )
        amount = Amount.parse(given.get("members", str(DEFAULT_FLOOR)), name, minimum=0)
        return cls(amount.value, amount.percent, given.get(LOAD, False))

    def __str__(self) -> str:
        return super().__str__() + (" and what the load needs" if self.load else "")


LOAD = "load"
DEFAULT_FLOOR = Floor(50, True)


@dataclass(frozen=True)
class Candidate:
    """What is known of one member before the rollout."""

    name: str  # inventory host
    release: str | None  # None: not known
    in_service: bool  # on every balancer
    healthy: bool = True
    left_out: bool = False  # held out by an earlier rollout that did not put it back
    unfinished: bool = False  # left by halves by an earlier rollout, by what the ledgers say
    by_halves: bool = False  # in such a way that no balancer may put it back by itself
    done: bool = False  # finished by the maintenance that was interrupted
    zone: str = ""  # members of two zones are never taken out together

    @property
    def needs_repair(self) -> bool:
        return self.left_out or self.unfinished or not (self.in_service and self.healthy)


@dataclass(frozen=True)
class Plan:
    """The batches of a rollout and what they keep in service."""

    batches: tuple[tuple[str, ...], ...]
    finished: tuple[str, ...]  # members that need nothing
    floor: int  # members that stay in service at every moment
    in_service: int  # members in service before
    from_version: str | None
    shrunk: bool  # a batch was made smaller for the floor's sake
    later: tuple[str, ...] = ()  # members of zones that wait for another run


def plan_rolling(
    candidates: Sequence[Candidate],
    version: str,
    batches: Sequence[Amount],
    floor: Amount,
    others: Sequence[bool] = (),
    most_out: int | None = None,
) -> Plan:
    """The batches that bring every candidate to ``version``.

    Members that need repair (left by halves, out of service or not healthy) come first, since
    upgrading them costs no capacity; then those whose release is not known. Percentages and the floor are of the whole
    pool: ``others`` are its members that are left alone, each by whether it is
    in service. Raises ``Refused`` when it would make a third version, ``FloorBroken`` when the
    floor leaves no room for a batch of one. ``most_out`` is how many the load lets out at a time, where that counts.
    """
    from_version = _from_version(candidates, version)
    total = len(candidates) + len(others)
    floor_count = floor_members(floor, total)
    in_service = sum(each.in_service for each in candidates) + sum(others)
    todo = [
        each for each in candidates if each.release != version or not each.healthy or each.left_out or each.unfinished
    ]
    rank = zone_rank(todo)
    todo.sort(key=lambda each: (*rank(each), not each.needs_repair, each.release is not None))
    finished = tuple(each.name for each in candidates if each not in todo)
    spare = _least(in_service - floor_count, most_out)
    regained = {each.name for each in todo if each.left_out and not each.in_service}
    if in_service - floor_count + len(regained) < 1 and any(each.in_service for each in todo):
        raise floor_error(in_service, floor_count, total)
    of_zones = {each.name: each.zone for each in todo}
    result, shrunk = cut_in_batches(
        [(each.name, each.in_service) for each in todo], batches, total, spare, regained, of_zones
    )
    return Plan(result, finished, floor_count, in_service, from_version, shrunk)


def _least(spare: int, most_out: int | None) -> int:
    return spare if most_out is None else min(spare, most_out)


def zone_rank(todo: Sequence[Candidate]) -> Callable[[Candidate], tuple[bool, int]]:
    """One zone after the other; where there are several, members that are out already come before all others.

    No zone may lose a member while another one lacks some.
    """
    zones = list(dict.fromkeys(each.zone for each in todo))
    return lambda each: (len(zones) > 1 and each.in_service, zones.index(each.zone))


def first_zone_only(plan: Plan, zones: Mapping[str, str]) -> Plan:
    """The same plan up to the end of its first zone; the others wait for a run of their own."""
    now = [batch for batch in plan.batches if zones.get(batch[0], "") == zones.get(plan.batches[0][0], "")]
    later = tuple(name for batch in plan.batches[len(now) :] for name in batch)
    return replace(plan, batches=tuple(now), later=later)


def bake_seconds(
    batches: Sequence[Sequence[str]], hosts: Sequence[str], zones: Mapping[str, str], first: float, others: float
) -> float:
    """How long to wait before this batch: it is the first of a zone that is not the plan's first one."""
    before = [batch for batch in batches[: list(map(list, batches)).index(list(hosts))] if batch]
    if not before or zones.get(before[-1][0], "") == zones.get(hosts[0], ""):
        return 0.0
    return first if len({zones.get(batch[0], "") for batch in before}) == 1 else others


def plan_maintenance(
    candidates: Sequence[Candidate],
    batches: Sequence[Amount],
    floor: Amount,
    others: Sequence[bool] = (),
    most_out: int | None = None,
) -> Plan:
    """The batches that walk through every candidate, whatever it runs.

    One that was interrupted goes on where it was. Members that an earlier walk left out come first, then others that are out of
    service or not healthy. Raises ``FloorBroken`` as ``plan_rolling`` does.
    """
    releases = {each.release for each in candidates}
    total = len(candidates) + len(others)
    floor_count = floor_members(floor, total)
    in_service = sum(each.in_service for each in candidates) + sum(others)
    walk = [each for each in candidates if not each.done or each.needs_repair]
    rank = zone_rank(walk)
    todo = sorted(walk, key=lambda each: (*rank(each), not (each.left_out or each.unfinished), not each.needs_repair))
    spare = _least(in_service - floor_count, most_out)
    regained = {each.name for each in todo if each.left_out and not each.in_service}
    if in_service - floor_count + len(regained) < 1 and any(each.in_service for each in todo):
        raise floor_error(in_service, floor_count, total)
    of_zones = {each.name: each.zone for each in todo}
    result, shrunk = cut_in_batches(
        [(each.name, each.in_service) for each in todo], batches, total, spare, regained, of_zones
    )
    finished = tuple(each.name for each in candidates if each not in walk)
    return Plan(result, finished, floor_count, in_service, releases.pop() if len(releases) == 1 else None, shrunk)


def cut_in_batches(
    todo: Sequence[tuple[str, bool]],
    batches: Sequence[Amount],
    total: int,
    spare: int,
    regained: Collection[str] = (),
    zones: Mapping[str, str] | None = None,
) -> tuple[tuple[tuple[str, ...], ...], bool]:
    """Cut members (name, counts as capacity) into batches that take at most ``spare`` out at a time.

    No batch has members of two ``zones``. Those that are ``regained`` are capacity for the batches after their own.
    """
    result: list[tuple[str, ...]] = []
    shrunk = False
    rest = list(todo)
    while rest:
        amount = batches[min(len(result), len(batches) - 1)]
        size = max(1, amount.of(total, up=False))
        batch: list[str] = []
        taken = 0
        while rest and len(batch) < size:
            name, counts = rest[0]
            if batch and zones and zones.get(name, "") != zones.get(batch[0], ""):
                break
            if counts and taken + 1 > spare and batch:
                shrunk = True
                break
            taken += counts
            batch.append(name)
            rest.pop(0)
        spare += sum(name in regained for name in batch)
        result.append(tuple(batch))
    return tuple(result), shrunk


def floor_members(floor: Amount, total: int) -> int:
    """How many members stay in service at every moment."""
    if not floor.percent and floor.value > total:
        raise FloorBroken(
            f"rollout_floor is {floor}, but there are only {total} members: no batch can meet it.",
            "Lower rollout_floor or add members.",
        )
    return floor.of(total, up=True)


def floor_error(in_service: int, floor_count: int, total: int) -> FloorBroken:
    return FloorBroken(
        f"{in_service} of {total} members are in service and the floor is {floor_count}: not one can be taken out.",
        "Bring members back into service, add members, or lower rollout_floor.",
        in_service=in_service,
        floor=floor_count,
    )


def _from_version(candidates: Sequence[Candidate], version: str) -> str | None:
    others = sorted({each.release for each in candidates if each.release not in (None, version)}, key=str)
    if len(others) > 1:
        found = "; ".join(
            f"{release} on {', '.join(each.name for each in candidates if each.release == release)}"
            for release in others
        )
        raise Refused(
            f"{version} would be a third version: the members already run {found}.",
            "Finish or roll back the earlier rollout first, so that at most two versions serve at a time.",
        )
    return others[0] if others else None


@dataclass(frozen=True)
class Upgraded:
    """A member that was changed by a rollout which then stopped."""

    name: str
    passed: bool  # its gate and its look under traffic
    reachable: bool
    target: str | None  # the release it had before


def plan_back(
    changed: Sequence[Upgraded],
    on_failure: str,
    batches: Sequence[Amount],
    total: int,
    spare: int,
    zones: Mapping[str, str] | None = None,
) -> tuple[tuple[str, ...], ...]:
    """The batches that take changed members back to the release they had.

    Members that did not pass go back in any case, first and together: they
    carry no traffic or must not. With ``rollback`` the others follow, newest
    first. Members without a known release or without a connection stay as they
    are; the report names them.
    """
    possible = [each for each in changed if each.reachable and each.target]
    failed = tuple(each.name for each in possible if not each.passed)
    passed = [each.name for each in reversed(possible) if each.passed] if on_failure == "rollback" else []
    rest, _shrunk = cut_in_batches([(name, True) for name in passed], batches, total, max(spare, 1), (), zones)
    return ((failed,) if failed else ()) + rest


def mixed_versions_seconds(first_new: float | None, last_old: float | None) -> float:
    """How long two versions served side by side, from moments on one clock."""
    if first_new is None or last_old is None:
        return 0.0
    return max(0.0, math.fsum((last_old, -first_new)))


def pool_differences(pools: Mapping[str, Mapping[str, str]]) -> str:
    """Members that are not the same on every balancer, as a table for people; empty when all agree.

    ``pools`` are the balancers' members by name, each with where it is. One that stands under
    another name on one of them is said to be so.
    """
    names = dict.fromkeys(name for members in pools.values() for name in members)
    rows = [[name, *(members.get(name, "missing") for members in pools.values())] for name in names]
    rows = [row for row in rows if len(set(row[1:])) > 1]
    if not rows:
        return ""
    table = [["member", *pools], *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(pools) + 1)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    return "\n".join([*lines, *_renamed(pools, [row[0] for row in rows])])


def _renamed(pools: Mapping[str, Mapping[str, str]], names: Sequence[str]) -> list[str]:
    """Which of these names are one member: at one place, on different balancers."""
    at: dict[str, dict[str, list[str]]] = {}
    for balancer, members in pools.items():
        for name in names:
            if name in members:
                at.setdefault(members[name], {}).setdefault(name, []).append(balancer)
    return [
        f"{where} has different names: "
        + ", ".join(f"{name} on {' and '.join(on)}" for name, on in found.items())
        + "."
        for where, found in at.items()
        if len(found) > 1
    ]
