# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The timeline: a lane for each member, with its phases and when it was out of service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._report.scale import lasted, percent

# The name of a phase in a report, what it is called in a class, and to people.
PHASES: Mapping[str, tuple[str, str]] = {
    "drain": ("drain", "drain"),
    "upgrade": ("upgrade", "upgrade"),
    "maintenance": ("upgrade", "maintenance"),
    "gate": ("gate", "gate"),
    "put back": ("back", "put back"),
}
OUT = "out"
WELL = ("untouched", "finished", "rolled_back")


@dataclass(frozen=True)
class Bar:
    """A stretch of a lane."""

    kind: str
    left: str
    width: str


@dataclass(frozen=True)
class Lane:
    """One member: its bars, and the same in words for who cannot see them."""

    name: str
    state: str
    well: bool
    bars: tuple[Bar, ...]
    words: str


@dataclass(frozen=True)
class Group:
    """Lanes that belong together: a batch, or the members that nothing was done to."""

    title: str
    lanes: tuple[Lane, ...]

    @property
    def well(self) -> bool:
        return all(lane.well for lane in self.lanes)


def groups(report: Mapping[str, Any]) -> list[Group]:
    """The lanes, by batch in the order of the plan, and then the rest."""
    seen: dict[str, list[tuple[str, float, float]]] = {}
    for event in report["events"]:
        for host in event["members"]:
            seen.setdefault(host, []).append((str(event["phase"]), float(event["at"]), float(event["seconds"])))
    batches = [list(batch) for batch in report["batches"]]
    in_batches = {host for batch in batches for host in batch}
    rest = [host for host in report["members"] if host not in in_batches]
    named = [(f"Batch {number} of {len(batches)}", batch) for number, batch in enumerate(batches, 1)]
    if rest:
        named.append(("Nothing to do" if batches else "Members", rest))
    span = float(report["duration_seconds"])
    return [
        Group(
            title, tuple(_lane(host, report, seen.get(host, ()), span) for host in hosts if host in report["members"])
        )
        for title, hosts in named
    ]


def _lane(host: str, report: Mapping[str, Any], phases: Sequence[tuple[str, float, float]], span: float) -> Lane:
    member = report["members"][host]
    spans = _outs(member, phases, span)
    bars = [_bar(OUT, at, until - at, span) for at, until in spans]
    bars += [_bar(PHASES[phase][0], at, seconds, span) for phase, at, seconds in phases if phase in PHASES]
    parts = [f"out of service from {at:.1f} to {until:.1f} s" for at, until in spans]
    parts += [f"{PHASES.get(phase, (phase, phase))[1]} {lasted(seconds)}" for phase, _at, seconds in phases]
    words = f"{host}, {str(member['state']).replace('_', ' ')}: {', '.join(parts) or 'in service all the time'}"
    return Lane(host, str(member["state"]), member["state"] in WELL, tuple(bars), words)


def _outs(
    member: Mapping[str, Any], phases: Sequence[tuple[str, float, float]], end: float
) -> list[tuple[float, float]]:
    """When it got no new work; of a report that does not say so, what its phases say."""
    if "out" in member:
        return [(float(at), end if until is None else float(until)) for at, until in member["out"]]
    found: list[tuple[float, float]] = []
    since: float | None = None
    for phase, at, seconds in phases:
        if phase == "drain" and since is None:
            since = at
        elif phase == "put back" and since is not None:
            found.append((since, at + seconds))
            since = None
    return [*found, (since, end)] if since is not None else found


def _bar(kind: str, at: float, seconds: float, span: float) -> Bar:
    return Bar(kind, percent(at, span), percent(min(seconds, span - at), span))


def in_service(report: Mapping[str, Any]) -> list[tuple[float, int]]:
    """How many members were in service from each moment on, by the rollout's own count."""
    end = float(report["duration_seconds"])
    count = report.get("in_service", len(report["members"]))
    changes: dict[float, int] = {0.0: 0}
    phases: dict[str, list[tuple[str, float, float]]] = {}
    for event in report["events"]:
        for host in event["members"]:
            phases.setdefault(host, []).append((str(event["phase"]), float(event["at"]), float(event["seconds"])))
    for host, member in report["members"].items():
        for number, (at, until) in enumerate(_outs(member, phases.get(host, ()), end)):
            if number or member.get("in_service_before", True):
                changes[at] = changes.get(at, 0) - 1
            if until < end:
                changes[until] = changes.get(until, 0) + 1
    steps = []
    for at in sorted(changes):
        count += changes[at]
        steps.append((at, count))
    return steps
