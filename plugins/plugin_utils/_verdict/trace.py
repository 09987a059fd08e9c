# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A verdict as it came about: what was known after each poll, for a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._access_log.counts import BUCKETS
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict import judge_of
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.comparison import Comparison
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.judge import Judge
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.polls import Arm
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.settings import ERRORS

BANDS = 24  # at most so many times the ratio's bounds are looked for: it is what takes long
QUANTILES = (0.5, 0.99)


@dataclass(frozen=True)
class Band:
    """The ratio of the error rates, with the bounds that the guarantees give it; None: none."""

    at: float
    ratio: float
    least: float | None
    most: float | None


@dataclass
class Trace:
    """Series by poll; times are those of the polls."""

    at: list[float] = field(default_factory=list)
    roll_back: list[float] = field(default_factory=list)  # natural logarithm of the evidence
    promote: list[float] = field(default_factory=list)
    needed: tuple[float, float] = (1.0, 1.0)  # to roll back and to promote, to 1
    bands: list[Band] = field(default_factory=list)
    shares: list[float | None] = field(default_factory=list)  # percent of the requests that the canary had
    latency: dict[tuple[str, float], list[float | None]] = field(default_factory=dict)  # seconds, by arm and quantile
    not_counted: list[tuple[float, float]] = field(default_factory=list)  # from when to when polls did not count


def trace(params: Mapping[str, Any], bounds: Sequence[int] = BUCKETS) -> Trace:
    """From what ``verdict`` takes; ``bounds`` are its histograms' in milliseconds. Raises ``BadInput``."""
    found = Trace()
    polls: list[Any] = []
    every = max(1, -(-len(params.get("polls") or ()) // BANDS))

    def see(judge: Judge, poll: Any, counted: bool) -> None:
        polls.append(poll)
        found.at.append(poll.at)
        n_c, n_b = sum(poll.canary.requests), sum(poll.baseline.requests)
        found.shares.append(100.0 * n_c / (n_c + n_b) if n_c + n_b else None)
        for arm, name in ((poll.canary, "canary"), (poll.baseline, "baseline")):
            for quantile in QUANTILES:
                found.latency.setdefault((name, quantile), []).append(_quantile(arm, quantile, bounds))
        if not counted:
            found.not_counted.append((poll.begin, poll.at))
        errors = judge.metrics[ERRORS]
        if counted and len(polls) % every == 0 and isinstance(errors, Comparison) and errors.ratio is not None:
            found.bands.append(Band(poll.at, errors.ratio, *errors.bounds()))

    judge = judge_of(params, see)
    found.roll_back = judge.trail.roll_back["combined"]
    found.promote = judge.trail.promote["combined"]
    found.needed = (judge.settings.needed_to_roll_back, judge.settings.needed_to_promote)
    return found


def _quantile(arm: Arm, quantile: float, bounds: Sequence[int]) -> float | None:
    """In seconds, within its bucket by the share of requests below; the last bucket has no end, and is its beginning."""
    columns = [sum(column) for column in arm.latency]
    total = sum(columns)
    if not total or len(columns) != len(bounds) + 1:
        return None
    below = list(accumulate(columns))
    bucket = next(index for index, count in enumerate(below) if count >= quantile * total)
    low = bounds[bucket - 1] if bucket else 0
    if bucket == len(bounds):
        return low / 1000.0
    before = below[bucket - 1] if bucket else 0
    part = (quantile * total - before) / (columns[bucket] or 1)
    return (low + (bounds[bucket] - low) * part) / 1000.0
