# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""E-values: how much one poll speaks against "the canary is no worse", by exact formulas.

Each takes the poll's counts and a guess of both arms made before the poll. If
the canary is no worse (by more than the margin), its expectation is at most 1,
whatever the rate is at that moment; so a product over polls reaches 1/alpha at
any time with probability alpha at most, however often one looks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import exp, log, log1p, sqrt

# What a canary that is worse may look like: the increase beyond the margin, each as likely as the other.
ERROR_GRID = (1.25, 1.5, 2.0, 3.0, 6.0, 20.0)
SLOW_GRID = (1.1, 1.25, 1.5, 2.0, 4.0)
RESTART_GRID = (2.0, 5.0, 20.0, 100.0)
# What a canary that is fine may look like: its odds in units of the baseline's, and how likely.
PROMOTE_GRID = (0.5, 0.8, 1.0)
PROMOTE_WEIGHTS = (0.15, 0.25, 0.6)


def equal(grid: Sequence[float]) -> tuple[float, ...]:
    """The same weight for each."""
    return (1.0 / len(grid),) * len(grid)


def times_odds(rate: float, factor: float) -> float:
    """The rate whose odds are ``factor`` times those of ``rate``; it stays below 1."""
    return rate * factor / (1.0 - rate + rate * factor)


def projection(n_c: float, n_b: float, theta_c: float, theta_b: float, ratio: float) -> tuple[float, float]:
    """The pair of rates with canary = ``ratio`` x baseline that is nearest to a guess (Miettinen and Nurminen)."""
    a = (n_c + n_b) * ratio
    b = n_c * (theta_c + ratio) + n_b * (1.0 + ratio * theta_b)
    c = n_c * theta_c + n_b * theta_b
    s_b = 2.0 * c / (b + sqrt(max(0.0, b * b - 4.0 * a * c)))
    return ratio * s_b, s_b


def log_e(
    n_c: float, x_c: float, n_b: float, x_b: float, theta_c: float, theta_b: float, ratio: float, worse: bool = True
) -> float:
    """Evidence of one poll, as a logarithm, that the canary's rate is above ``ratio`` x the baseline's.

    Not ``worse``: that it is below. A guess that is itself on the other side
    says nothing, and neither does a poll in which one arm had no requests.
    """
    if not n_c or not n_b or (theta_c <= ratio * theta_b if worse else theta_c >= ratio * theta_b):
        return 0.0
    s_c, s_b = projection(n_c, n_b, theta_c, theta_b, ratio)
    found = (n_c - x_c) * (log1p(-theta_c) - log1p(-s_c)) + (n_b - x_b) * (log1p(-theta_b) - log1p(-s_b))
    if x_c:
        found += x_c * log(theta_c / s_c)
    if x_b:
        found += x_b * log(theta_b / s_b)
    return found


def log_e_grid(
    n_c: float,
    x_c: float,
    n_b: float,
    x_b: float,
    guesses_c: Iterable[float],
    theta_b: float,
    ratio: float,
    worse: bool = True,
) -> list[float]:
    """``log_e`` for several guesses of the canary's rate at once; it is where a look spends its time."""
    found = []
    good_c, good_b = n_c - x_c, n_b - x_b
    edge = ratio * theta_b
    both = 2.0 * (n_c + n_b) * ratio
    b_fixed, c_fixed = n_c * ratio + n_b * (1.0 + edge), n_b * theta_b
    fixed = good_b * log1p(-theta_b) + (x_b * log(theta_b) if x_b else 0.0)
    for theta_c in guesses_c:
        if theta_c <= edge if worse else theta_c >= edge:
            found.append(0.0)
            continue
        expected = n_c * theta_c
        b, c = b_fixed + expected, 2.0 * (c_fixed + expected)
        square = b * b - both * c
        s_b = c / (b + sqrt(square)) if square > 0.0 else c / b
        s_c = ratio * s_b
        step = fixed + good_c * log((1.0 - theta_c) / (1.0 - s_c)) - good_b * log(1.0 - s_b)
        if x_c:
            step += x_c * log(theta_c / s_c)
        if x_b:
            step -= x_b * log(s_b)
        found.append(step)
    return found


def log_e_events(t_c: float, x_c: float, t_b: float, x_b: float, factor: float, ratio: float) -> float:
    """The same for events in time, such as restarts, with host-seconds in place of requests (Poisson)."""
    if t_c <= 0 or t_b <= 0:
        return 0.0
    share = ratio * t_c / (ratio * t_c + t_b)
    return x_c * log(factor) - (x_c + x_b) * log(1.0 - share + share * factor)


def log_mean(weights: Iterable[float], logs: Sequence[float]) -> float:
    """The logarithm of a weighted mean of numbers that are given as logarithms."""
    rows = [(weight, each) for weight, each in zip(weights, logs, strict=True) if weight]
    top = max(each for _weight, each in rows)
    return top + log(sum(weight * exp(each - top) for weight, each in rows))
