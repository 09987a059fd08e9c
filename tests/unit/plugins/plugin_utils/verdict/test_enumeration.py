# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The theorem, without chance: the expectation of every e-value under every null is at most 1."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from math import exp, lgamma, log

import pytest

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.evidence import (
    log_e,
    log_e_events,
    times_odds,
)
from tests.verdict.reference import log_e_histogram

MARGINS = (1.0, 1.25, 1.5, 2.0)
RATES = (0.02, 0.2, 0.45)
GUESSES = ((0.05, 1.5), (0.2, 3.0), (0.4, 1.1))  # of the baseline's rate, and the increase beyond the margin
SLACK = 1e-9


def distribution(rates: Sequence[float]) -> list[float]:
    """Of how many of these requests fail, when each has its own rate."""
    found = [1.0]
    for rate in rates:
        found = [
            (found[k] * (1.0 - rate) if k < len(found) else 0.0) + (found[k - 1] * rate if k else 0.0)
            for k in range(len(found) + 1)
        ]
    return found


def mixed(mean: float, count: int) -> list[float]:
    """Requests of very different kinds with this mean."""
    reach = 0.9 * min(mean, 1.0 - mean)
    offsets = [reach * ((-1) ** k) * (1.0 - k / (2.0 * count)) for k in range(count)]
    shift = sum(offsets) / count
    return [min(1.0, max(0.0, mean + offset - shift)) for offset in offsets]


def nulls(n_c: int, n_b: int, margin: float) -> Iterator[tuple[list[float], list[float]]]:
    """On the boundary and inside: the canary's mean rate is at most the margin times the baseline's."""
    for rate, part, kind in product(RATES, (1.0, 0.6), ("alike", "mixed")):
        mean = min(margin * rate * part, 0.98)
        if kind == "alike":
            yield [mean] * n_c, [rate] * n_b
        else:
            yield mixed(mean, n_c), mixed(rate, n_b)


def expectation(canary: Sequence[float], baseline: Sequence[float], log_of: Callable[[int, int], float]) -> float:
    of_b = distribution(baseline)
    return sum(
        p_c * p_b * exp(log_of(x_c, x_b))
        for x_c, p_c in enumerate(distribution(canary))
        for x_b, p_b in enumerate(of_b)
    )


@pytest.mark.parametrize("margin", MARGINS)
def test_worse(margin: float) -> None:
    most = 0.0
    for total in range(2, 16):
        for n_c in range(1, total):
            n_b = total - n_c
            for canary, baseline in nulls(n_c, n_b, margin):
                for guess, beyond in GUESSES:
                    theta = times_odds(guess, margin * beyond)
                    most = max(
                        most,
                        expectation(
                            canary,
                            baseline,
                            lambda x_c, x_b: log_e(n_c, x_c, n_b, x_b, theta, guess, margin),  # noqa: B023
                        ),
                    )
    assert 0.99 < most <= 1.0 + SLACK


@pytest.mark.parametrize("margin", MARGINS)
def test_not_worse(margin: float) -> None:
    """The mirrored test: here the null is a canary whose mean rate is at least the margin times the baseline's."""
    most = 0.0
    for total in range(2, 16):
        for n_c in range(1, total):
            n_b = total - n_c
            for canary, baseline in nulls(n_b, n_c, 1.0 / margin):  # the arms change places
                for guess, part in ((0.05, 1.0), (0.2, 0.5), (0.4, 0.8)):
                    most = max(
                        most,
                        expectation(
                            baseline,
                            canary,
                            lambda x_c, x_b: log_e(n_c, x_c, n_b, x_b, guess * part, guess, margin, worse=False),  # noqa: B023
                        ),
                    )
    assert 0.99 < most <= 1.0 + SLACK


def test_a_guess_on_the_wrong_side_says_nothing() -> None:
    assert log_e(10, 5, 10, 1, 0.55, 0.5, 1.2) == 0.0
    assert log_e(10, 5, 10, 1, 0.65, 0.5, 1.2, worse=False) == 0.0


@pytest.mark.parametrize(("n_c", "n_b"), [(1, 3), (2, 2), (3, 1)])
def test_histograms(n_c: int, n_b: int) -> None:
    guess_c, guess_b = (0.2, 0.3, 0.5), (0.4, 0.35, 0.25)
    for null in ((0.6, 0.3, 0.1), (0.4, 0.35, 0.25), (0.1, 0.2, 0.7)):
        total = 0.0
        for each in product(range(3), repeat=n_c + n_b):
            chance = 1.0
            for bucket in each:
                chance *= null[bucket]
            counts = [[part.count(bucket) for bucket in range(3)] for part in (each[:n_c], each[n_c:])]
            total += chance * exp(log_e_histogram(counts[0], counts[1], guess_c, guess_b))
        assert total <= 1.0 + SLACK


@pytest.mark.parametrize("margin", MARGINS)
def test_events_in_time(margin: float) -> None:
    def law(mean: float) -> list[float]:
        return [exp(k * log(mean) - mean - lgamma(k + 1)) for k in range(60)]

    for share, mean in product((0.05, 0.3, 0.5), (0.2, 2.0)):
        of_c, of_b = law(margin * mean * share), law(mean * (1 - share))
        total = sum(
            p_c * p_b * exp(log_e_events(share, x_c, 1 - share, x_b, 2.0, margin))
            for x_c, p_c in enumerate(of_c)
            for x_b, p_b in enumerate(of_b)
        )
        assert 0.99 < total <= 1.0 + SLACK
