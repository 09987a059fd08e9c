# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The running product of e-values over a run's polls, for several guesses at once."""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Sequence
from math import exp, log


class Process:
    """Evidence so far. ``burst`` seconds, those that speak loudest, are left out; 0 leaves out none."""

    def __init__(self, weights: Sequence[float], burst: float) -> None:
        self._weights = list(weights)
        self._burst = burst
        self._sums = [0.0] * len(weights)
        self._window: deque[tuple[float, list[float]]] = deque()
        self._in_window = [0.0] * len(weights)
        self._loudest = [0.0] * len(weights)

    def add(self, at: float, steps: list[float]) -> None:
        """What the poll that ended at this time says, for each guess."""
        self._sums = list(map(operator.add, self._sums, steps))
        if not self._burst:
            return
        window = self._window
        window.append((at, steps))
        inside = list(map(operator.add, self._in_window, steps))
        while window[0][0] <= at - self._burst:
            inside = list(map(operator.sub, inside, window.popleft()[1]))
        self._in_window = inside
        self._loudest = list(map(max, self._loudest, inside))

    def log_evidence(self, discount: float = 1.0) -> float:
        """The mean over the guesses, each divided by the discount for noisy hosts."""
        logs: list[float] = [left / discount for left in map(operator.sub, self._sums, self._loudest)]
        top = max(logs)
        mean: float = sum([weight * exp(each - top) for weight, each in zip(self._weights, logs, strict=True)])
        return top + log(mean)
