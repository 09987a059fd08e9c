# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the hosts' own past says: how much worse the canary's hosts always were, and how much hosts differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import erf, exp, lgamma, log, log1p, sqrt

ENOUGH = 30  # events of the canary's hosts; fewer say too little of their nature, and a bound would hide a doubling
FEW = 10  # below this the bound is exact, above it log-normal
PRIOR = 10.0  # events that each host is given at the average rate, so that a thin history makes no host special


@dataclass(frozen=True)
class Stratum:
    """One stretch of the past: requests (or host-seconds) and events of both groups of hosts."""

    n_c: float
    x_c: float
    n_b: float
    x_b: float

    def parts(self) -> tuple[float, float, float, float, float, float]:
        """Its counts, and its part above and below the line of the Mantel-Haenszel ratio."""
        total = self.n_c + self.n_b
        above, below = (self.x_c * self.n_b / total, self.x_b * self.n_c / total) if total else (0.0, 0.0)
        return self.n_c, self.x_c, self.n_b, self.x_b, above, below


@dataclass(frozen=True)
class Ratio:
    """Between which bounds the canary's hosts were against the others, when all had one version."""

    low: float = 1.0
    high: float = 1.0
    events: int = 0
    used: bool = False


def mantel_haenszel(strata: Iterable[Stratum]) -> float | None:
    """The ratio of rates within the stretches, never across them; None where the others had no events."""
    above = below = 0.0
    for each in strata:
        *_counts, over, under = each.parts()
        above, below = above + over, below + under
    return above / below if below else None


def ratio_of(strata: Iterable[Stratum], risk: float) -> Ratio:
    """Both one-sided bounds at this risk each; not used where the past is too thin."""
    usable = [each for each in strata if each.n_c and each.n_b]
    x_c, x_b = sum(each.x_c for each in usable), sum(each.x_b for each in usable)
    expected = sum((each.x_c + each.x_b) * each.n_c / (each.n_c + each.n_b) for each in usable)
    events = int(x_c + x_b)
    if max(x_c, expected) < ENOUGH:
        return Ratio(events=events)
    estimate = mantel_haenszel(usable)
    if estimate and x_c >= FEW and x_b >= FEW:
        spread = exp(quantile(1.0 - risk) * sqrt(1.0 / x_c + 1.0 / x_b))
        return Ratio(estimate / spread, estimate * spread, events, used=True)
    n_c, n_b = sum(each.n_c for each in usable), sum(each.n_b for each in usable)
    high = odds(upper_share(int(x_c), events, risk)) * n_b / n_c
    low = n_b / n_c / odds(upper_share(int(x_b), events, risk))
    return Ratio(low, high, events, used=True)


def host_ratios(totals: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Each host's rate in units of the average, from its requests and events, drawn to 1 where they are few."""
    requests = sum(n for n, _x in totals.values())
    events = sum(x for _n, x in totals.values())
    if not events:
        return {}
    return {name: (x + PRIOR) / (n * events / requests + PRIOR) for name, (n, x) in totals.items() if n}


def odds(share: float) -> float:
    """A million for what is certain, so that no bound is without end."""
    return min(share / (1.0 - share), 1e6) if share < 1.0 else 1e6


def upper_share(successes: int, trials: int, risk: float) -> float:
    """The largest share with which so few successes still have probability ``risk`` (Clopper and Pearson)."""
    if successes >= trials:
        return 1.0
    return _bisect(lambda share: _at_most(successes, trials, share) > risk, 0.0, 1.0)


def _at_most(successes: int, trials: int, share: float) -> float:
    """The binomial distribution, summed over its shorter side."""
    if not 0.0 < share < 1.0:
        return 1.0 if share <= 0.0 else 0.0
    if successes > trials / 2:
        return 1.0 - _at_most(trials - successes - 1, trials, 1.0 - share)
    rise, fall = log(share), log1p(-share)
    first = lgamma(trials + 1)
    return sum(
        exp(first - lgamma(k + 1) - lgamma(trials - k + 1) + k * rise + (trials - k) * fall)
        for k in range(successes + 1)
    )


def quantile(probability: float) -> float:
    """Of the normal distribution."""
    return _bisect(lambda z: 0.5 * (1.0 + erf(z / sqrt(2.0))) < probability, -10.0, 10.0)


def _bisect(below: Callable[[float], bool], low: float, high: float) -> float:
    """Where ``below`` turns from true to false."""
    for _round in range(60):
        middle = (low + high) / 2.0
        if below(middle):
            low = middle
        else:
            high = middle
    return (low + high) / 2.0
