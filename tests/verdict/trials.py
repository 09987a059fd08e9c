# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Many runs of one kind, judged at every poll: how often a verdict falls, and after how long."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict import Archive, Judge, VerdictSettings
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.polls import Poll

from .canaries import World, run

Rule = Callable[[list[Poll], Iterator[Poll]], tuple[float | None, float | None]]


@dataclass(frozen=True)
class Trial:
    """Of all runs: the shares that were rolled back and promoted, in percent, and the median times in seconds."""

    rolled_back: float
    after: float | None
    promoted: float
    promoted_after: float | None


def judged(settings: VerdictSettings, *metrics: str) -> Rule:
    """The verdict itself; the first decision ends a run."""

    def rule(history: list[Poll], polls: Iterator[Poll]) -> tuple[float | None, float | None]:
        judge = Judge(settings, ["errors", *metrics], Archive(history, frozenset(["host0"])))
        for poll in polls:
            judge.see(poll)
            if judge.rolled_back_at is not None:
                return poll.at, None
            enough = judge.elapsed >= settings.min_duration and judge.counted_requests >= settings.min_requests
            if judge.may_promote and enough:
                return None, poll.at
        return None, None

    return rule


def only_roll_back(guards: bool, **more: float) -> VerdictSettings:
    """Settings with which nothing is promoted before the end, so that every run is looked at to its last poll."""
    return VerdictSettings(guards=guards, min_duration=1e6, max_duration=1e6, **more)  # type: ignore[arg-type]


def pooled_z(level: float) -> Rule:
    """What is done everywhere: a test of two proportions on all requests so far, at every poll."""
    threshold = {0.01: 2.3263, 0.05: 1.6449}[level]

    def rule(_history: list[Poll], polls: Iterator[Poll]) -> tuple[float | None, float | None]:
        n_c = x_c = n_b = x_b = 0
        for poll in polls:
            n_c, x_c = n_c + sum(poll.canary.requests), x_c + sum(poll.canary.errors)
            n_b, x_b = n_b + sum(poll.baseline.requests), x_b + sum(poll.baseline.errors)
            rate = (x_c + x_b) / (n_c + n_b)
            spread = math.sqrt(rate * (1.0 - rate) * (1.0 / n_c + 1.0 / n_b))
            if spread and (x_c / n_c - x_b / n_b) / spread > threshold:
                return poll.at, None
        return None, None

    return rule


def trial(world: World, rule: Rule, runs: int, seed: int = 1) -> Trial:
    back, promoted = [], []
    for number in range(runs):
        at, promoted_at = rule(*run(world, random.Random(f"{seed} {number}")))
        back += [at] if at is not None else []
        promoted += [promoted_at] if promoted_at is not None else []
    return Trial(
        100.0 * len(back) / runs,
        median(back) if back else None,
        100.0 * len(promoted) / runs,
        median(promoted) if promoted else None,
    )
