# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ended in each second of a run, in bounded memory: for pictures.

Beyond ``MOST`` steps two become one, so that a run of many hours stays small. A merged step has the mean of the medians,
weighted by requests, the higher p99 and the larger number of hosts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.classify import (
    FAILED,
    TIMED,
    UNCOUNTED,
    Outcome,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.latency import Latencies
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.record import Record

MOST = 3600


@dataclass(slots=True)
class Step:
    """What ended in one step."""

    versions: dict[str, int] = field(default_factory=dict)
    failed: int = 0
    closed_idle: int = 0
    timed: int = 0
    p50: float = 0.0  # ms
    p99: float = 0.0
    hosts: int = 0

    def merged(self, other: Step) -> Step:
        versions = dict(self.versions)
        for name, count in other.versions.items():
            versions[name] = versions.get(name, 0) + count
        timed = self.timed + other.timed
        p50 = (self.p50 * self.timed + other.p50 * other.timed) / timed if timed else 0.0
        return Step(
            versions,
            self.failed + other.failed,
            self.closed_idle + other.closed_idle,
            timed,
            round(p50, 1),
            max(self.p99, other.p99),
            max(self.hosts, other.hosts),
        )


@dataclass(slots=True)
class Seconds:
    """Takes records in about the order in which they ended; the step that is being filled is the last."""

    step: int = 1
    steps: list[Step] = field(default_factory=list)
    latencies: Latencies = field(default_factory=Latencies)
    hosts: set[str] = field(default_factory=set)

    def add(self, record: Record, version: str) -> None:
        if record.outcome in UNCOUNTED:
            return
        number = max(0, int(record.ended)) // self.step
        while number >= len(self.steps):
            self._close()
            self.steps.append(Step())
            if len(self.steps) > MOST:
                self._halve()
                number = int(record.ended) // self.step
        current = self.steps[-1]
        current.versions[version] = current.versions.get(version, 0) + 1
        current.failed += record.outcome in FAILED
        current.closed_idle += record.outcome is Outcome.CLOSED_IDLE
        if record.outcome in TIMED:
            self.latencies.add(record.latency)
        if record.host:
            self.hosts.add(record.host)

    def _close(self) -> None:
        if self.steps:
            last = self.steps[-1]
            last.timed = self.latencies.count
            last.p50 = round(self.latencies.percentile(50) * 1000, 1)
            last.p99 = round(self.latencies.percentile(99) * 1000, 1)
            last.hosts = len(self.hosts)
        self.latencies = Latencies()
        self.hosts = set()

    def _halve(self) -> None:
        pairs = range(0, len(self.steps), 2)
        self.steps = [
            self.steps[at].merged(self.steps[at + 1]) if at + 1 < len(self.steps) else self.steps[at] for at in pairs
        ]
        self.step *= 2

    def to_dict(self) -> dict[str, Any]:
        """Columns; a step without a timed request has no percentiles."""
        self._close_last()
        versions = dict.fromkeys(name for each in self.steps for name in each.versions)
        return {
            "step": self.step,
            "versions": {name: [each.versions.get(name, 0) for each in self.steps] for name in versions},
            "failed": [each.failed for each in self.steps],
            "closed_idle": [each.closed_idle for each in self.steps],
            "p50": [each.p50 if each.timed else None for each in self.steps],
            "p99": [each.p99 if each.timed else None for each in self.steps],
            "hosts": [each.hosts for each in self.steps],
        }

    def _close_last(self) -> None:
        if self.latencies.count or self.hosts:
            self._close()
