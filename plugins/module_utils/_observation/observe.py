# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The operation ``observe``: what each member of a pool did since the last look, as this balancer saw it.

The access log tells most. HAProxy writes no line for some failures on reused
connections, so its counters are asked beside it; where no log can be read they
are all there is. Whatever is seen is told once, by where it stands in the log
and by how far each counter was when it was told. All of that is in the
``cursor``, so that any process can go on from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils import _params
from ansible_collections.zerodrop.rollout.plugins.module_utils._access_log.counts import Counts
from ansible_collections.zerodrop.rollout.plugins.module_utils._access_log.read import buckets_of, reader_of
from ansible_collections.zerodrop.rollout.plugins.module_utils._drivers.base import Clock, Driver
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    BadInput,
    PermissionDenied,
    UnknownMember,
    Unreachable,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._names import member_name, pool_name
from ansible_collections.zerodrop.rollout.plugins.module_utils._observation.tally import Tally, Total, processes_of
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Counters
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_operations import open_driver

AUTO, LOG, COUNTERS = "auto", "log", "counters"
SOURCES = (AUTO, LOG, COUNTERS)
HIDDEN = "unlogged"  # failures that stand in no log: on a reused connection, or taken to another member
COUNTED = "counted"  # failures that counters tell, of whatever kind

BLIND = (
    "HAProxy's counters miss answers that were cut and failures on reused connections while clients go away, tell no kinds of "
    "failures and no latency: set rollout_access_log for those"
)
_TELLING = 100  # requests by the counters from which on a log that has less than half of them is not the whole log


def observe(
    params: Mapping[str, Any], check: bool, *, driver: Driver | None = None, clock: Clock | None = None
) -> dict[str, Any]:
    """Requests, errors by kind and a histogram for each of ``members``, since the ``cursor``.

    ``members`` has the address that nginx writes by each member's name; ``access_log``, ``access_log_format``
    and ``source`` (auto, log, counters) say where to look. Without a cursor nothing is counted: it is the first look,
    which refuses what cannot be read. It reads only, with check mode or without. ``reset`` says why what is told
    is not all, and ``notes`` what this balancer cannot see.
    """
    look = _Look(params, driver or _driver_of(params, clock or Clock()))
    cursor = params.get("cursor")
    if cursor is None:
        return look.first()
    if not isinstance(cursor, Mapping) or cursor.get("source") not in (LOG, COUNTERS):
        raise BadInput(f"cursor must be what an earlier look returned, got {cursor!r}.")
    return look.again(cursor)


def _driver_of(params: Mapping[str, Any], clock: Clock) -> Driver | None:
    """Whose counters are asked; None where it has none."""
    if str(params.get("driver") or "").startswith("nginx"):
        return None
    return open_driver(params, clock)


class _Look:
    """One look at one pool."""

    def __init__(self, params: Mapping[str, Any], driver: Driver | None) -> None:
        self._params = params
        self._driver = driver
        self._pool = pool_name(params.get("pool"), "pool")
        members = params.get("members")
        if not isinstance(members, Mapping) or not members:
            raise BadInput(f"members must name each member and its address, got {members!r}.")
        self._names = [member_name(name) for name in members]
        self._buckets = buckets_of(params)
        self._source = params.get("source") or AUTO
        if self._source not in SOURCES:
            raise BadInput(f"source must be one of {', '.join(SOURCES)}, got {self._source!r}.")
        self._notes: list[str] = []

    # -- the first look -----------------------------------------------------------

    def first(self) -> dict[str, Any]:
        source, positions = COUNTERS, dict[str, Any]()
        logs = _params.items(self._params, "access_log")
        if self._source == LOG and not logs:
            raise BadInput("rollout_canary_source is log, but rollout_access_log names none.")
        if self._source != COUNTERS and logs:
            try:
                positions = self._read({}, Counts(self._names, self._buckets))[1]
                source = LOG
            except (Unreachable, PermissionDenied) as error:
                if self._source == LOG or self._driver is None:
                    raise
                self._notes.append(f"the access log is not read: {error.message}")
        if source == COUNTERS and self._driver is None:
            raise BadInput(
                "This balancer counts no requests by member, and there is no access log to read.",
                "Set rollout_access_log: docs/access-log.md has the format for nginx.",
            )
        processes = self._totals()
        if source == LOG and processes:
            processes = {", ".join(processes): _together(processes, self._names)}
        begun = {
            process: {name: Tally.begin(total) for name, total in totals.items()}
            for process, totals in processes.items()
        }
        return self._answer(source, _cursor(source, positions, begun, {}), {}, "")

    # -- every other --------------------------------------------------------------

    def again(self, cursor: Mapping[str, Any]) -> dict[str, Any]:
        if cursor["source"] == COUNTERS:
            return self._by_counters(cursor)
        return self._by_log(cursor)

    def _by_counters(self, cursor: Mapping[str, Any]) -> dict[str, Any]:
        """Each process is counted by itself: one that is leaving goes on for a while, and its counters end with it."""
        before, reset = processes_of(cursor), ""
        told: dict[str, tuple[int, int]] = dict.fromkeys(self._names, (0, 0))
        after: dict[str, dict[str, Tally]] = {}
        for process, totals in self._totals().items():
            after[process] = {}
            for name, total in totals.items():
                tally = before.get(process, {}).get(name)
                if tally is None or tally.went_back(total):
                    reset = "its counters began anew: it was reloaded or restarted, or they were cleared"
                    tally = Tally.begin(total)
                else:
                    told[name] = _sum(told[name], tally.see(total))
                after[process][name] = tally
        found = {
            name: {"requests": requests, "errors": failed, "kinds": {COUNTED: failed} if failed else {}}
            for name, (requests, failed) in told.items()
        }
        return self._answer(COUNTERS, _cursor(COUNTERS, {}, after, {}), found, reset)

    def _by_log(self, cursor: Mapping[str, Any]) -> dict[str, Any]:
        """The log, and beside it the failures that only the counters show, all processes taken together."""
        counts = Counts(self._names, self._buckets)
        lost, positions = self._read(cursor.get("positions") or {}, counts)
        reset = f"lines of {', '.join(lost)} were rotated away before they were read" if lost else ""
        found = {name: counts.members[name].to_dict() for name in self._names}
        before, logged = processes_of(cursor), dict(cursor.get("logged") or {})
        for name, one in found.items():
            logged[name] = logged.get(name, 0) + one["unanswered"]
        processes = self._totals()
        together = ", ".join(processes)
        after: dict[str, Tally] = {}
        given = 0
        for name, total in _together(processes, self._names).items():
            tally = before.get(together, {}).get(name)
            if tally is None or tally.went_back(total):
                after[name] = Tally.begin(total)
                logged[name] = 0
                continue
            attempts, hidden = tally.see_beside(total, logged[name])
            given += attempts
            if hidden:
                found[name]["requests"] += hidden
                found[name]["errors"] += hidden
                found[name]["kinds"][HIDDEN] = hidden
            after[name] = tally
        if processes and together not in before:
            self._notes.append("its processes changed: failures of that moment that stand in no log are not seen")
        requests = sum(count.requests for count in counts.members.values())
        if given >= _TELLING and requests < given / 2:
            reset = reset or (
                f"the access log has {requests} requests where {given} were served; it is not the whole log, or it lags "
                "behind ('option dontlog-normal', a limit of syslog's?)"
            )
        return self._answer(LOG, _cursor(LOG, positions, {together: after}, logged), found, reset)

    # -- both ---------------------------------------------------------------------

    def _answer(
        self, source: str, cursor: Mapping[str, Any], members: Mapping[str, Mapping[str, Any]], reset: str
    ) -> dict[str, Any]:
        if source == COUNTERS:
            self._notes.append(BLIND)
        keys = ("requests", "errors", "kinds", "latency")
        return {
            "changed": False,
            "source": source,
            "members": {name: {key: one[key] for key in keys if key in one} for name, one in members.items()},
            "buckets": self._buckets if source == LOG else [],
            "cursor": cursor,
            "reset": reset,
            "notes": self._notes,
        }

    def _read(self, positions: Mapping[str, Any], counts: Counts) -> tuple[list[str], dict[str, Any]]:
        """Count what the logs have beyond these places; which of them lost lines, and the new places."""
        reader = reader_of(
            {
                "driver": self._params.get("driver"),
                "pool": self._pool,
                "logs": self._params.get("access_log"),
                "log_format": self._params.get("access_log_format"),
                "members": self._params["members"],
                "positions": positions,
            }
        )
        return reader.read(counts), reader.positions()

    def _totals(self) -> dict[str, dict[str, Total]]:
        """By process and member; nothing where the balancer has no counters."""
        if self._driver is None:
            return {}
        found: dict[str, dict[str, Total]] = {}
        for process, members in self._driver.counted(self._pool).items():
            unknown = [name for name in self._names if name not in members]
            if unknown and not found:
                raise UnknownMember(
                    f"The pool {self._pool!r} has no member {unknown[0]!r}.", f"It has {', '.join(members)}."
                )
            nothing = (Counters(), 0)
            found[process] = {name: Total.of(*members.get(name, nothing)) for name in self._names}
        return found


def _cursor(
    source: str, positions: Mapping[str, Any], processes: Mapping[str, Mapping[str, Tally]], logged: Mapping[str, int]
) -> dict[str, Any]:
    rows = {process: {name: each.to_list() for name, each in tallies.items()} for process, tallies in processes.items()}
    return {
        "source": source,
        "positions": dict(positions),
        "processes": rows,
        "logged": {name: count for name, count in logged.items() if count},
    }


def _together(processes: Mapping[str, Mapping[str, Total]], names: Sequence[str]) -> dict[str, Total]:
    """Each member's totals over all processes; nothing where there is none."""
    if not processes:
        return {}
    return {name: Total(*map(sum, zip(*[totals[name] for totals in processes.values()]))) for name in names}


def _sum(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return one[0] + other[0], one[1] + other[1]
