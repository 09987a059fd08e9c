# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One metric of both arms, poll by poll: evidence in both directions, the ratio and its bounds, the discount."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.dispersion import Dispersion
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.evidence import (
    PROMOTE_GRID,
    PROMOTE_WEIGHTS,
    RESTART_GRID,
    equal,
    log_e_events,
    log_e_grid,
    log_mean,
    times_odds,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.history import (
    Ratio,
    Stratum,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.process import Process
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.settings import VerdictSettings

# What is guessed of the baseline before anything was seen: half an event in fifty requests.
GUESS_EVENTS = 0.5
GUESS_REQUESTS = 50.0
SINGLE, GROUP = 60, 6  # polls that the bounds take one by one, and by how many at once after those
WIDEST = 64.0  # no ratio beyond this is looked for


@dataclass(frozen=True)
class Past:
    """What the hosts' history says of one metric."""

    ratio: Ratio
    hosts: Mapping[str, float]


NO_PAST = Past(Ratio(), {})


class Comparison:
    """Events of requests (errors, slow requests), or of host-seconds (restarts)."""

    def __init__(self, settings: VerdictSettings, grid: Sequence[float], tolerated: float, past: Past) -> None:
        self._settings = settings
        self._grid = grid
        burst = settings.burst if settings.guards else 0.0
        used = past.ratio if settings.guards else Ratio()
        self.margin = tolerated * max(1.0, used.high)
        self.promote_margin = settings.unacceptable * min(1.0, used.low)
        self.past = used
        self._worse = Process(equal(grid), burst)
        self._fine = Process(PROMOTE_WEIGHTS, burst)
        self._noise = Dispersion(past.hosts)
        self._events, self._requests = GUESS_EVENTS, GUESS_REQUESTS
        self._seen: list[tuple[Stratum, float]] = []
        self._group: list[tuple[Stratum, float]] = []
        self._totals = [0.0] * 6
        self._bounds: tuple[int, float | None, float | None] | None = None  # of so many polls

    # -- what comes in ----------------------------------------------------------

    def see(
        self,
        begin: float,
        at: float,
        canary: tuple[float, float],
        names: tuple[str, ...],
        exposure: Sequence[float],
        events: Sequence[float],
    ) -> None:
        """A poll that counts: the canary's requests and events, the baseline's by host."""
        stratum = Stratum(*canary, sum(exposure), sum(events))
        if stratum.n_c and stratum.n_b:
            guess = self._events / self._requests
            self._keep(stratum, guess)
            self._totals = [a + b for a, b in zip(self._totals, stratum.parts(), strict=True)]
            self._worse.add(at, self._steps(stratum, guess, self.margin))
            self._fine.add(at, self._fine_steps(stratum, guess, self.promote_margin))
            if self._settings.guards:
                self._noise.see(begin, at, names, exposure, events)
        self.learn(stratum.n_b, stratum.x_b)

    def _keep(self, stratum: Stratum, guess: float) -> None:
        """For the bounds: the first polls one by one, later ones in groups, whose guess is that of their first."""
        if len(self._seen) < SINGLE:
            self._seen.append((stratum, guess))
            return
        self._group.append((stratum, guess))
        if len(self._group) == GROUP:
            columns = zip(*[(each.n_c, each.x_c, each.n_b, each.x_b) for each, _guess in self._group], strict=True)
            self._seen.append((Stratum(*map(sum, columns)), self._group[0][1]))
            self._group = []

    def learn(self, exposure: float, events: float) -> None:
        """The baseline's counts of a poll, for the guesses of those that follow."""
        self._requests += exposure
        self._events += events

    def _steps(self, seen: Stratum, guess: float, margin: float) -> list[float]:
        guesses = [times_odds(guess, margin * factor) for factor in self._grid]
        return log_e_grid(seen.n_c, seen.x_c, seen.n_b, seen.x_b, guesses, guess, margin)

    def _fine_steps(self, seen: Stratum, guess: float, margin: float) -> list[float]:
        guesses = [times_odds(guess, part) for part in PROMOTE_GRID]
        return log_e_grid(seen.n_c, seen.x_c, seen.n_b, seen.x_b, guesses, guess, margin, worse=False)

    # -- what it says -----------------------------------------------------------

    @property
    def discount(self) -> float:
        return self._noise.discount

    @property
    def noise_known(self) -> bool:
        return self._noise.known

    def log_roll_back(self) -> float:
        return self._worse.log_evidence(self.discount)

    def log_promote(self) -> float:
        return self._fine.log_evidence(self.discount)

    @property
    def counts(self) -> Stratum:
        """All that counted."""
        return Stratum(*self._totals[:4])

    @property
    def ratio(self) -> float | None:
        """Canary's rate over the baseline's, within polls; None where the baseline had no event."""
        above, below = self._totals[4:]
        return above / below if below else None

    def bounds(self) -> tuple[float | None, float | None]:
        """Between which ratios it is, with the guarantees of both directions; None: no such bound."""
        if self._bounds is None or self._bounds[0] != len(self._seen):
            risk, missed = log(self._settings.false_alarm), log(self._settings.missed_regression)
            near = min(max(self.ratio or WIDEST, 1.0 / WIDEST), WIDEST)
            least = _turn(lambda r: self._total(self._steps, r, equal(self._grid)) + risk, near) if self._seen else None
            most = (
                _turn(lambda r: -missed - self._total(self._fine_steps, r, PROMOTE_WEIGHTS), near)
                if self._seen
                else None
            )
            self._bounds = (
                len(self._seen),
                least if least and least > 1.0 / WIDEST else None,
                most if most and most < WIDEST else None,
            )
        return self._bounds[1:]

    def _total(
        self, steps: Callable[[Stratum, float, float], list[float]], ratio: float, weights: Sequence[float]
    ) -> float:
        totals = [sum(column) for column in zip(*[steps(*each, ratio) for each in self._seen], strict=True)]
        return log_mean(weights, [total / self.discount for total in totals])

    def to_dict(self, bounded: bool) -> dict[str, Any]:
        """``bounded``: with the bounds of the ratio, which take the longest to find."""
        counts = self.counts
        least, most = self.bounds() if bounded else (None, None)
        return {
            "ratio": _plain(self.ratio),
            "at_least": _plain(least),
            "at_most": _plain(most),
            "canary": [counts.x_c, counts.n_c],
            "baseline": [counts.x_b, counts.n_b],
            "margin": round(self.margin, 4),
            "promote_margin": round(self.promote_margin, 4),
            "history_events": self.past.events,
            "history_used": self.past.used,
        }


class Restarts(Comparison):
    """Restarts in host-seconds. There is no evidence that there are none: they never stand in the way of a promotion."""

    def __init__(self, settings: VerdictSettings, past: Past) -> None:
        super().__init__(settings, RESTART_GRID, settings.tolerated("restarts"), past)

    def _steps(self, seen: Stratum, guess: float, margin: float) -> list[float]:
        return [log_e_events(seen.n_c, seen.x_c, seen.n_b, seen.x_b, factor, margin) for factor in self._grid]

    def _fine_steps(self, seen: Stratum, guess: float, margin: float) -> list[float]:
        return [0.0] * len(PROMOTE_GRID)


def _turn(excess: Callable[[float], float], near: float) -> float | None:
    """The ratio, to two percent, where ``excess`` falls below zero; None where it never is above (Illinois rule)."""
    low = high = log(near)
    above = below = excess(near)
    reach = 0.4
    while above < 0.0:
        if low <= -log(WIDEST):
            return None
        high, below = low, above
        low = max(low - reach, -log(WIDEST))
        above, reach = excess(exp(low)), 2.0 * reach
    while below >= 0.0:
        if high >= log(WIDEST):
            return exp(high)
        low, above = high, below
        high = min(high + reach, log(WIDEST))
        below, reach = excess(exp(high)), 2.0 * reach
    for _round in range(40):
        if high - low < 0.02:
            break
        middle = low + (high - low) * min(0.98, max(0.02, above / (above - below)))
        found = excess(exp(middle))
        if found >= 0.0:
            low, above, below = middle, found, below / 2.0
        else:
            high, below, above = middle, found, above / 2.0
    return exp(low)


def _plain(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
