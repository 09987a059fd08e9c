# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The engine against numbers that others published or that were computed once and for all."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, lgamma, log

import pytest

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict import verdict
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.evidence import (
    ERROR_GRID,
    RESTART_GRID,
    equal,
    log_e,
    log_e_events,
    log_e_grid,
    log_mean,
    projection,
    times_odds,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.history import quantile, upper_share
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.process import Process
from tests.verdict.reference import log_e_histogram

Row = tuple[int, int, int, int]  # requests and errors of the canary, then of the baseline


def polls(rows: Sequence[Row]) -> list[dict[str, object]]:
    return [
        {
            "at": 10 * number,
            "members": [
                {"name": "canary", "arm": "canary", "requests": n_c, "errors": x_c},
                {"name": "baseline", "arm": "baseline", "requests": n_b, "errors": x_b},
            ],
        }
        for number, (n_c, x_c, n_b, x_b) in enumerate(rows, 1)
    ]


def test_evidence_to_roll_back_after_every_poll() -> None:
    rows = [(50, 0, 450, 1), (48, 1, 452, 0), (51, 3, 449, 0), (50, 2, 450, 1)]
    found = verdict({"polls": polls(rows), "guards": False})["log_evidence"]["roll_back"]
    assert found["errors"] == pytest.approx([-0.286687973, 0.536341875, 4.69530462, 7.361718537], abs=1e-9)
    assert found["combined"] == pytest.approx(found["errors"])


def test_evidence_to_promote_after_every_poll() -> None:
    rows = [(500, 1, 4500, 9), (500, 0, 4500, 5), (500, 1, 4500, 4), (500, 0, 4500, 6)]
    process, events, requests, found = Process(equal((0.5, 0.8, 1.0)), 0.0), 0.5, 50.0, []
    for at, (n_c, x_c, n_b, x_b) in enumerate(rows):
        guess = events / requests
        process.add(
            at, log_e_grid(n_c, x_c, n_b, x_b, [times_odds(guess, part) for part in (0.5, 0.8, 1.0)], guess, 2.0, False)
        )
        found.append(process.log_evidence())
        events, requests = events + x_b, requests + n_b
    assert found == pytest.approx([0.177105987, 0.770283318, 0.379816949, 1.083836017], abs=1e-9)


def test_a_single_poll() -> None:
    assert log_e(100, 3, 900, 4, times_odds(0.005, 3.0), 0.005, 1.0) == pytest.approx(2.025556451, abs=1e-9)
    assert projection(100, 900, 0.01, 0.01, 2.0) == pytest.approx((0.018168078, 0.009084039), abs=1e-9)


def test_a_histogram() -> None:
    found = log_e_histogram([1, 2, 5], [30, 50, 20], [0.2, 0.4, 0.4], [0.3, 0.5, 0.2])
    assert found == pytest.approx(2.378683772, abs=1e-9)


@pytest.mark.parametrize(("x_c", "x_b"), [(0, 0), (3, 4), (100, 0), (100, 900)])
def test_failed_or_not_is_a_histogram_of_two_buckets(x_c: int, x_b: int) -> None:
    guess_c, guess_b = times_odds(0.005, 3.0), 0.005
    whole = log_e_histogram([100 - x_c, x_c], [900 - x_b, x_b], [1 - guess_c, guess_c], [1 - guess_b, guess_b])
    assert log_e(100, x_c, 900, x_b, guess_c, guess_b, 1.0) == pytest.approx(whole, abs=1e-9)


@pytest.mark.parametrize(
    ("canary", "baseline", "expected"),
    [("1010001", "1011101", 1.0955046198), ("1111110111", "0010100000", 11.1502948848)],
)
def test_pairs_of_single_requests_as_safestats_judges_them(canary: str, baseline: str, expected: float) -> None:
    """Turner, Ly and Gruenwald: Beta(0.18, 0.18) for each arm, one request of each at a time."""
    prior, total = 0.18, 0.0
    seen_c = seen_b = 0
    for number, (a, b) in enumerate(zip(canary, baseline, strict=True)):
        guess_c, guess_b = ((prior + seen) / (2 * prior + number) for seen in (seen_c, seen_b))
        x_c, x_b = int(a), int(b)
        # Theirs has no direction: each guess counts for the side on which it is.
        total += log_e(1, x_c, 1, x_b, guess_c, guess_b, 1.0, worse=guess_c > guess_b)
        seen_c, seen_b = seen_c + x_c, seen_b + x_b
    assert exp(total) == pytest.approx(expected, abs=1e-9)


def test_the_bayes_factor_of_ssrm() -> None:
    """Lindon and Malek, for comparison: Dirichlet-multinomial against known shares, (0.4, 0.4, 0.2)."""
    blocks, shares = [(20, 17, 9), (18, 21, 8), (4, 6, 4), (18, 19, 11)], (0.4, 0.4, 0.2)
    counts = [sum(column) for column in zip(*blocks, strict=True)]
    marginal = lgamma(3.0) - lgamma(3.0 + sum(counts)) + sum(lgamma(1.0 + count) for count in counts)
    null = sum(count * log(share) for count, share in zip(counts, shares, strict=True))
    assert marginal - null == pytest.approx(-4.1838139824, abs=1e-9)


@pytest.mark.parametrize(("share", "needed"), [(0.1, (3, 4, 5, 8)), (0.5, (8, 12, 18, 33)), (0.05, (2, 3, 4, 6))])
def test_how_many_restarts_it_takes(share: float, needed: tuple[int, ...]) -> None:
    """At one percent, where the baseline had 0, 1, 3 and 10."""
    found = []
    for baseline in (0, 1, 3, 10):
        canary = 0
        while True:
            logs = [log_e_events(share, canary, 1 - share, baseline, factor, 1.0) for factor in RESTART_GRID]
            if log_mean(equal(logs), logs) >= log(100):
                break
            canary += 1
        found.append(canary)
    assert tuple(found) == needed


def test_one_guess_or_all_at_once() -> None:
    guesses = [times_odds(0.01, factor * 1.25) for factor in ERROR_GRID]
    each = [log_e(70, 3, 600, 5, guess, 0.01, 1.25) for guess in guesses]
    assert log_e_grid(70, 3, 600, 5, guesses, 0.01, 1.25) == pytest.approx(each, abs=1e-12)


def test_quantiles() -> None:
    assert quantile(0.998) == pytest.approx(2.8782, abs=1e-4)
    assert quantile(0.8) == pytest.approx(0.8416, abs=1e-4)
    # Clopper and Pearson, one-sided 95 %: none of 20, 3 of 10.
    assert upper_share(0, 20, 0.05) == pytest.approx(0.1391, abs=1e-4)
    assert upper_share(3, 10, 0.05) == pytest.approx(0.6066, abs=1e-4)
