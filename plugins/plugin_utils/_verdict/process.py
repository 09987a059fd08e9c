# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The running product of e-values over a run's polls, for several guesses at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.evidence import log_mean


class Process:
    """Evidence so far. ``burst`` seconds, those that speak loudest, are left out; 0 leaves out none."""

    def __init__(self, weights: Sequence[float], burst: float) -> None:
        self._weights = weights
        self._burst = burst
        self._sums = [0.0] * len(weights)
        self._window: deque[tuple[float, list[float]]] = deque()
        self._in_window = [0.0] * len(weights)
        self._loudest = [0.0] * len(weights)

    def add(self, at: float, steps: list[float]) -> None:
        """What the poll that ended at this time says, for each guess."""
        self._sums = [total + step for total, step in zip(self._sums, steps, strict=True)]
        if not self._burst:
            return
        window = self._window
        window.append((at, steps))
        inside = [total + step for total, step in zip(self._in_window, steps, strict=True)]
        while window[0][0] <= at - self._burst:
            inside = [total - step for total, step in zip(inside, window.popleft()[1], strict=True)]
        self._in_window = inside
        self._loudest = list(map(max, self._loudest, inside))

    def log_evidence(self, discount: float = 1.0) -> float:
        """The mean over the guesses, each divided by the discount for noisy hosts."""
        logs = [(total - loud) / discount for total, loud in zip(self._sums, self._loudest, strict=True)]
        return log_mean(self._weights, logs)
