# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Slow requests: the share of requests beyond each of a few thresholds, taken from the baseline's own histogram."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.comparison import Comparison, Past
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.evidence import SLOW_GRID, equal, log_mean
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.polls import Arm, Poll
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.settings import SLOW, VerdictSettings

QUANTILES = (0.5, 0.75, 0.9, 0.99)
RARE = 0.005  # where fewer of the baseline's requests are slow, nothing can be ruled out in a reasonable time


def thresholds(histogram: Sequence[int]) -> dict[int, float]:
    """First slow bucket of each threshold, and the baseline's share of requests from it on."""
    total = sum(histogram)
    if not total:
        return {}
    below = list(accumulate(histogram))
    found: dict[int, float] = {}
    for quantile in QUANTILES:
        bucket = next((index + 1 for index, count in enumerate(below) if count >= quantile * total), len(histogram))
        if bucket < len(histogram):
            found[bucket] = (total - below[bucket - 1]) / total
    return found


def slow_by_member(arm: Arm, buckets: Iterable[int]) -> dict[int, list[int]]:
    """For each of these buckets, each member's requests in it and in those after it; nothing where it is not measured."""
    found: dict[int, list[int]] = {}
    after: list[int] = []
    end = len(arm.latency)
    for bucket in sorted(buckets, reverse=True) if arm.latency else ():
        for column in filter(any, arm.latency[bucket:end]):
            after = list(map(operator.add, after, column)) if after else list(column)
        found[bucket] = after or [0] * len(arm.names)
        end = bucket
    return found


class Slow:
    """The comparisons at all thresholds, as one metric: the mean of evidence to roll back, the least to promote."""

    def __init__(self, settings: VerdictSettings, pasts: dict[int, tuple[float, Past]]) -> None:
        """``pasts``: by first slow bucket, the baseline's share from it on and what history says."""
        self._at = {
            bucket: Comparison(settings, SLOW_GRID, settings.tolerated(SLOW), past)
            for bucket, (_share, past) in pasts.items()
        }
        self._buckets = (0, *self._at)
        self._to_promote = [self._at[bucket] for bucket, (share, _past) in pasts.items() if share >= RARE]

    def see(self, poll: Poll, counts: bool) -> None:
        canary, baseline = poll.canary, poll.baseline
        if not canary.latency or not baseline.latency:
            return
        total_c = sum(map(sum, canary.latency))
        slow_b = slow_by_member(baseline, self._buckets)
        for bucket, comparison in self._at.items():
            if counts:
                slow_c = sum(map(sum, canary.latency[bucket:]))
                comparison.see(poll.begin, poll.at, (total_c, slow_c), baseline.names, slow_b[0], slow_b[bucket])
            else:
                comparison.learn(sum(slow_b[0]), sum(slow_b[bucket]))

    def log_roll_back(self) -> float:
        logs = [each.log_roll_back() for each in self._at.values()]
        return log_mean(equal(logs), logs)

    @property
    def required(self) -> bool:
        """Whether a promotion can be asked to rule out slow requests."""
        return bool(self._to_promote)

    def log_promote(self) -> float:
        return min((each.log_promote() for each in self._to_promote), default=0.0)

    @property
    def lead(self) -> Comparison:
        """The threshold that speaks loudest."""
        return max(self._at.values(), key=Comparison.log_roll_back)

    @property
    def discount(self) -> float:
        return self.lead.discount

    @property
    def ratio(self) -> float | None:
        return self.lead.ratio

    def to_dict(self, bounded: bool) -> dict[str, Any]:
        lead = self.lead
        bucket = next(bucket for bucket, each in self._at.items() if each is lead)
        return {**lead.to_dict(bounded), "from_bucket": bucket, "thresholds": sorted(self._at)}
