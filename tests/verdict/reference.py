# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The e-value in its general form, for any number of buckets; the engine's own is the one for two, with a margin."""

from __future__ import annotations

from collections.abc import Sequence
from math import log


def log_e_histogram(
    canary: Sequence[float], baseline: Sequence[float], guess_c: Sequence[float], guess_b: Sequence[float]
) -> float:
    """Evidence of a poll of whole histograms, the slowest bucket last; ``guess_c``/``guess_b`` must not fall along them."""
    n_c, n_b = sum(canary), sum(baseline)
    found = 0.0
    for x_c, x_b, p_c, p_b in zip(canary, baseline, guess_c, guess_b, strict=True):
        pooled = (n_c * p_c + n_b * p_b) / (n_c + n_b)
        found += x_c * log(p_c / pooled) + x_b * log(p_b / pooled)
    return found
