# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The verdict over a run's polls: what each metric says, combined, and the decision that follows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import exp, log
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.breaker import Breaker
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.comparison import (
    NO_PAST,
    Comparison,
    Past,
    Restarts,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.evidence import ERROR_GRID, log_mean
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.past import Archive
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.polls import Poll
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.settings import (
    ERRORS,
    RESTARTS,
    SLOW,
    VerdictSettings,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.slow import Slow, thresholds

SHARE_REQUESTS = 100  # fewer do not tell a share
SHARE_OFF = 0.5
STILL = 60.0  # seconds without a request of an arm after which it counts as silent


class Decision(StrEnum):
    PROMOTE = "promote"
    ROLL_BACK = "roll_back"
    WAIT = "wait"
    INCONCLUSIVE = "inconclusive"
    NO_DATA = "no_data"


@dataclass
class Trail:
    """Evidence after every poll, by metric and combined."""

    roll_back: dict[str, list[float]] = field(default_factory=dict)
    promote: dict[str, list[float]] = field(default_factory=dict)


class Judge:
    """Sees polls one after the other. A decision to roll back stays; one to promote is made anew at each look."""

    def __init__(self, settings: VerdictSettings, metrics: Sequence[str], archive: Archive) -> None:
        self.settings = settings
        self._archive = archive
        self._risk = settings.false_alarm / 5.0
        self.metrics: dict[str, Comparison | Slow] = {
            ERRORS: Comparison(settings, ERROR_GRID, settings.tolerated(ERRORS), self._past(archive.errors()))
        }
        self._wants_slow = SLOW in metrics
        if RESTARTS in metrics:
            self.metrics[RESTARTS] = Restarts(settings, self._past(archive.restarts()))
        self._histogram: list[int] = archive.histogram() if self._wants_slow else []
        present = {name: settings.weights[name] for name in (ERRORS, SLOW, RESTARTS) if name in metrics}
        total = sum(present.values())
        # Where none of those that are measured has a weight, errors have it all.
        self.weights = {name: each / total for name, each in present.items()} if total else {ERRORS: 1.0}
        self.trail = Trail({name: [] for name in (*present, "combined")}, {name: [] for name in (*present, "combined")})
        self.breaker = Breaker()
        self.started: float | None = None
        self.at = 0.0
        self.counted = 0
        self.counted_requests = 0
        self.skipped: Counter[str] = Counter()
        self.recent: list[tuple[float, int, int]] = []  # at, requests of the canary and of the baseline
        self.most_hosts = 0
        self.unseen = ""  # what the latest poll has not seen
        self.unseen_since: float | None = None
        self.rolled_back_at: float | None = None
        self.may_promote = False

    def _past(self, found: tuple[Any, Mapping[str, float]]) -> Past:
        strata, hosts = found
        return Past(self._archive.ratio(strata, self._risk), hosts) if strata else NO_PAST

    # -- one poll ---------------------------------------------------------------

    def see(self, poll: Poll) -> None:
        n_c, x_c = sum(poll.canary.requests), sum(poll.canary.errors)
        n_b, x_b = sum(poll.baseline.requests), sum(poll.baseline.errors)
        self.at = poll.at
        self.most_hosts = max(self.most_hosts, len(poll.baseline.names))
        if self.started is None and n_c:
            self.started = poll.begin
        self.unseen = poll.skip or poll.partial
        if not self.unseen:
            self.unseen_since = None
        elif self.unseen_since is None:
            self.unseen_since = poll.begin
        reason = self._not_counted(poll, n_c, n_b)
        self._set_thresholds(poll, counts=not reason)
        self._see_metrics(poll, counts=not reason)
        if reason:
            self.skipped[reason] += 1
        else:
            self.counted += 1
            self.counted_requests += n_c
        self.recent.append((poll.at, n_c, n_b))
        if not poll.skip:
            self.breaker.see(n_c, x_c, n_b, x_b)
        self._note()

    def _not_counted(self, poll: Poll, n_c: int, n_b: int) -> str:
        if poll.skip:
            return poll.skip
        if self.started is None:
            return "before the canary took traffic"
        if poll.cold:
            return "members just joined"
        if self.settings.guards and poll.at <= self.started + self.settings.warmup:
            return "warm-up"
        if not n_c:
            return "no request of the canary"
        return "" if n_b else "no request of the baseline"

    def _set_thresholds(self, poll: Poll, counts: bool) -> None:
        """From history, or else from what the baseline did before the first poll that counts."""
        if not self._wants_slow or SLOW in self.metrics:
            return
        if counts and self._histogram:
            found = thresholds(self._histogram)
            if found:
                pasts = {bucket: (share, self._past(self._archive.slow(bucket))) for bucket, share in found.items()}
                self.metrics[SLOW] = Slow(self.settings, pasts)
                return
        if not self._archive.polls and poll.baseline.latency:
            columns = [sum(column) for column in poll.baseline.latency]
            self._histogram = [a + b for a, b in zip(self._histogram or [0] * len(columns), columns, strict=True)]

    def _see_metrics(self, poll: Poll, counts: bool) -> None:
        baseline = poll.baseline
        for name, metric in self.metrics.items():
            if isinstance(metric, Slow):
                metric.see(poll, counts)
                continue
            if name == ERRORS:
                columns = (poll.canary.requests, poll.canary.errors, baseline.requests, baseline.errors)
            elif poll.canary.restarts is not None and baseline.restarts is not None:
                columns = (poll.canary.seconds, poll.canary.restarts, baseline.seconds, baseline.restarts)  # type: ignore[assignment]
            else:
                continue
            n_c, x_c, n_b, x_b = columns
            if counts:
                metric.see(poll.begin, poll.at, (sum(n_c), sum(x_c)), baseline.names, n_b, x_b)
            else:
                metric.learn(sum(n_b), sum(x_b))

    def _note(self) -> None:
        """Keep what the evidence is now, and whether it is enough."""
        worse = {name: metric.log_roll_back() for name, metric in self.metrics.items()}
        fine = {name: metric.log_promote() for name, metric in self.metrics.items()}
        for name in self.trail.roll_back:
            if name != "combined":
                self.trail.roll_back[name].append(worse.get(name, 0.0))
                self.trail.promote[name].append(fine.get(name, 0.0))
        combined = log_mean(self.weights.values(), [worse.get(name, 0.0) for name in self.weights])
        self.trail.roll_back["combined"].append(combined)
        required = [fine[name] for name in self.metrics if self._required(name)]
        self.trail.promote["combined"].append(min(required))
        lead = self.lead(worse)
        if self.rolled_back_at is None and combined >= log(self.settings.needed_to_roll_back):
            ratio = self.metrics[lead].ratio
            if ratio is None or ratio >= self.settings.min_increase:
                self.rolled_back_at = self.at
        needed = log(self.settings.needed_to_promote)
        # Restarts have no test of their own that says "fine"; what speaks clearly against the canary is in the way, too.
        self.may_promote = min(required) >= needed and max(worse.values()) < needed

    def _required(self, name: str) -> bool:
        metric = self.metrics[name]
        return metric.required if isinstance(metric, Slow) else name == ERRORS

    def lead(self, worse: Mapping[str, float] | None = None) -> str:
        """The metric that speaks loudest for a roll back."""
        worse = worse or {name: metric.log_roll_back() for name, metric in self.metrics.items()}
        return max(worse, key=lambda name: self.weights.get(name, 0.0) * exp(min(worse[name], 600.0)))

    # -- the decision -----------------------------------------------------------

    @property
    def few_hosts(self) -> bool:
        """Whether noise between hosts could not be measured, for want of hosts."""
        return self.most_hosts < 2

    @property
    def elapsed(self) -> float:
        return self.at - self.started if self.started is not None else 0.0

    def decide(self) -> tuple[Decision, str]:
        """The decision, and which rule made it."""
        settings = self.settings
        if self.breaker.tripped:
            return Decision.ROLL_BACK, "circuit_breaker"
        missing = self._missing()
        wrong_share = self.share_now() if settings.share is not None else None
        if wrong_share is None and self.rolled_back_at is not None:
            return Decision.ROLL_BACK, "evidence"
        over = self.elapsed >= settings.max_duration or self._waited() >= settings.max_duration
        if missing:
            at_once = settings.on_no_data == "inconclusive"
            return (Decision.INCONCLUSIVE if over or at_once else Decision.NO_DATA), missing
        if wrong_share is not None:
            return (Decision.INCONCLUSIVE if over else Decision.WAIT), "share"
        if self.unseen and not over:
            # What is not seen may be what is wrong.
            still = self.at - (self.unseen_since or self.at) >= STILL
            return (Decision.NO_DATA if still else Decision.WAIT), "data"
        enough = (
            not self.unseen and self.elapsed >= settings.min_duration and self.counted_requests >= settings.min_requests
        )
        if self.may_promote and enough:
            return Decision.PROMOTE, "evidence"
        if over:
            return Decision.INCONCLUSIVE, "data" if self.unseen else "max_duration"
        if not self.counted:
            return Decision.WAIT, "warm-up"
        return Decision.WAIT, "evidence" if not self.may_promote else "min_duration"

    def _waited(self) -> float:
        return self.recent[-1][0] - self.recent[0][0] if self.recent else 0.0

    def _missing(self) -> str:
        """Which arm has no requests: from the beginning, or for a minute now."""
        if self.started is None:
            return "canary"
        # In a run that is short, a minute would be most of it.
        still = min(STILL, max(3.0 * self.settings.interval, self.settings.max_duration / 4.0))
        recent = [each for each in self.recent if each[0] > self.at - still] or self.recent[-1:]
        spans = self.at - self.started >= still or len(recent) == len(self.recent)
        if spans and not any(each[1] for each in recent):
            return "canary"
        return "baseline" if spans and not any(each[2] for each in recent) else ""

    def share_now(self) -> float | None:
        """The canary's share of the last minute's requests in percent, where it is far from the one that was set."""
        recent = [each for each in self.recent if each[0] > self.at - STILL]
        canary, both = sum(each[1] for each in recent), sum(each[1] + each[2] for each in recent)
        wanted = self.settings.share or 0.0
        if both < SHARE_REQUESTS:
            return None
        found = 100.0 * canary / both
        return found if abs(found - wanted) > SHARE_OFF * wanted else None
