# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Latencies in bounded memory: a histogram whose buckets grow by one percent."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

_LOG_STEP = math.log(1.01)
PERCENTILES = (("p50", 50.0), ("p90", 90.0), ("p99", 99.0))


@dataclass(slots=True)
class Latencies:
    """Collects durations; percentiles are at most one percent above the true value."""

    buckets: dict[int, int] = field(default_factory=dict)
    count: int = 0
    most: float = 0.0

    def add(self, seconds: float) -> None:
        micros = seconds * 1e6
        bucket = math.ceil(math.log(micros) / _LOG_STEP) if micros > 1.0 else 0
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1
        self.count += 1
        if seconds > self.most:
            self.most = seconds

    def percentile(self, percent: float) -> float:
        """Nearest-rank percentile in seconds; 0 when there is nothing."""
        rank = max(1, math.ceil(self.count * percent / 100.0 - 1e-9))
        seen = 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= rank:
                return min(self.most, math.exp(bucket * _LOG_STEP) / 1e6)
        return 0.0

    def to_dict(self) -> dict[str, float]:
        """Milliseconds, and the number of requests behind them."""
        found = {name: round(self.percentile(at) * 1000, 2) for name, at in PERCENTILES}
        return {**found, "max": round(self.most * 1000, 2), "count": self.count}
