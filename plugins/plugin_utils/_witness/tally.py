# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running totals of a run: what the status file shows and the summary is made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, TypeVar

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.classify import (
    FAILED,
    TIMED,
    UNCOUNTED,
    Outcome,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.latency import Latencies
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.record import Record, clean
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.schedule import Kind
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.seconds import Seconds

KeyT = TypeVar("KeyT")

NOBODY = "-"
"""Stands for the version or host of an answer that named none, or that never came."""
OTHERS = "(others)"
FAILURES_KEPT = 20
_VERSIONS_KEPT = 50
_HOSTS_KEPT = 1000


@dataclass(slots=True)
class Seen:
    """When a version answered, by the start of the requests it answered."""

    first: float
    last: float
    requests: int = 1


@dataclass(slots=True)
class Tally:
    """Totals; every record is added exactly once."""

    by_class: Counter[Outcome] = field(default_factory=Counter)
    uncounted: Counter[Outcome] = field(default_factory=Counter)
    by_kind: dict[Kind, Counter[Outcome]] = field(default_factory=dict)
    by_version: dict[str, Counter[Outcome]] = field(default_factory=dict)
    by_host: dict[str, Counter[Outcome]] = field(default_factory=dict)
    versions: dict[str, Seen] = field(default_factory=dict)
    latency: Latencies = field(default_factory=Latencies)
    latency_by_version: dict[str, Latencies] = field(default_factory=dict)
    latency_by_kind: dict[Kind, Latencies] = field(default_factory=dict)
    service_time: Latencies = field(default_factory=Latencies)
    start_delay: Latencies = field(default_factory=Latencies)
    failures: list[Record] = field(default_factory=list)
    idle_closes: list[Record] = field(default_factory=list)
    seconds: Seconds = field(default_factory=Seconds)
    posts: int = 0
    not_sent_because: str = ""

    def add(self, record: Record) -> None:
        outcome = record.outcome
        if outcome in UNCOUNTED:
            self.uncounted[outcome] += 1
            if outcome is Outcome.NOT_SENT and not self.not_sent_because:
                self.not_sent_because = clean(record.detail)
            return
        version = _bounded(record.version, self.by_version, _VERSIONS_KEPT)
        host = _bounded(record.host, self.by_host, _HOSTS_KEPT)
        self.by_class[outcome] += 1
        self.seconds.add(record, version)
        _count(self.by_kind, record.kind, outcome)
        _count(self.by_version, version, outcome)
        _count(self.by_host, host, outcome)
        if version not in (NOBODY, OTHERS):
            self._see(version, record.started)
        self.start_delay.add(record.started - record.scheduled)
        if outcome in TIMED:
            latency = record.latency
            self.latency.add(latency)
            _timed(self.latency_by_version, version).add(latency)
            _timed(self.latency_by_kind, record.kind).add(latency)
            self.service_time.add(record.service_time)
        if record.kind is Kind.POST:
            self.posts += 1
        if outcome in FAILED:
            _keep(self.failures, record)
        elif outcome is Outcome.CLOSED_IDLE:
            _keep(self.idle_closes, record)

    @property
    def requests_total(self) -> int:
        return self.by_class.total()

    @property
    def failed(self) -> int:
        return sum(self.by_class[outcome] for outcome in FAILED)

    def _see(self, version: str, started: float) -> None:
        seen = self.versions.get(version)
        if seen is None:
            self.versions[version] = Seen(started, started)
            return
        seen.requests += 1
        seen.first = min(seen.first, started)
        seen.last = max(seen.last, started)


def mixed_pairs(versions: dict[str, Seen]) -> list[dict[str, Any]]:
    """Each two versions that answered side by side, and for how long.

    From the first request that the newer one answered to the last one that the older answered,
    both by when they were started; the newer is the one seen later. When the newer one was seen
    last too (a rollback) the older one's time after it does not count.
    """
    order = sorted(versions, key=lambda version: versions[version].first)
    pairs = []
    for older, newer in combinations(order, 2):
        seconds = min(versions[older].last, versions[newer].last) - versions[newer].first
        if seconds > 0:
            pairs.append({"older": older, "newer": newer, "seconds": round(seconds, 3)})
    return pairs


def mixed_seconds(spans: Iterable[tuple[float, float]]) -> float:
    """For how long at least two of these spans ran at the same time."""
    edges = sorted(edge for first, last in spans for edge in ((first, 1), (last, -1)))
    running, since, total = 0, 0.0, 0.0
    for at, step in edges:
        if running >= 2:
            total += at - since
        running += step
        since = at
    return total


def _bounded(name: str, known: dict[str, Counter[Outcome]], most: int) -> str:
    if not name:
        return NOBODY
    return name if name in known or len(known) < most else OTHERS


def _count(table: dict[KeyT, Counter[Outcome]], key: KeyT, outcome: Outcome) -> None:
    counter = table.get(key)
    if counter is None:
        counter = table[key] = Counter()
    counter[outcome] += 1


def _timed(table: dict[KeyT, Latencies], key: KeyT) -> Latencies:
    found = table.get(key)
    if found is None:
        found = table[key] = Latencies()
    return found


def _keep(kept: list[Record], record: Record) -> None:
    if len(kept) < FAILURES_KEPT:
        kept.append(record)
