# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How much more the baseline's hosts differ than chance makes them; what evidence is divided by."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence

MINUTE = 60.0
FIVE = 5  # minutes


class Dispersion:
    """Pearson's chi square over its degrees of freedom, of host x block, in blocks of a minute, of five and of the run.

    ``ratios`` are the hosts' own rates in units of the average, by their
    history: what a host always does is no noise.
    """

    def __init__(self, ratios: Mapping[str, float]) -> None:
        self._ratios = ratios
        self._names: tuple[str, ...] = ()
        self._exposure: list[float] = []
        self._events: list[float] = []
        self._five: dict[str, tuple[float, float]] = {}  # observed and expected
        self._run: dict[str, tuple[float, float]] = {}
        self._minutes = 0
        self._end = 0.0
        self._begin: float | None = None
        self._sums = {"minute": (0.0, 0), "five": (0.0, 0)}  # chi square, degrees of freedom
        self.discount = 1.0

    @property
    def known(self) -> bool:
        """Whether there were hosts to compare."""
        return any(freedom for _square, freedom in self._sums.values())

    def see(
        self, begin: float, at: float, names: tuple[str, ...], exposure: Sequence[float], events: Sequence[float]
    ) -> None:
        """One poll's counts of the baseline, by host."""
        if self._begin is None:
            self._begin, self._end = begin, begin + MINUTE
        if names != self._names or begin >= self._end:
            self._close_minute()
            self._names = names
            while begin >= self._end:
                self._end += MINUTE
        if self._exposure:
            self._exposure = list(map(operator.add, self._exposure, exposure))
            self._events = list(map(operator.add, self._events, events))
        else:
            self._exposure, self._events = list(exposure), list(events)
        if at >= self._end:
            self._close_minute()

    def _close_minute(self) -> None:
        total = sum(self._events)
        if self._ratios:
            ratios = [self._ratios.get(name, 1.0) for name in self._names]
            parts = list(map(operator.mul, self._exposure, ratios))
        else:
            parts = self._exposure
        whole = sum(parts)
        if total and whole and len(parts) > 1:
            scale = total / whole
            rows = [
                (name, x, part * scale) for name, x, part in zip(self._names, self._events, parts, strict=True) if part
            ]
            self._count("minute", [(x, expected) for _name, x, expected in rows])
            for totals in (self._five, self._run):
                for name, x, expected in rows:
                    before = totals.get(name)
                    totals[name] = (before[0] + x, before[1] + expected) if before else (x, expected)
        self._minutes += 1
        if self._minutes % FIVE == 0 and self._five:
            self._count("five", list(self._five.values()))
            self._five = {}
        self._exposure, self._events = [], []
        found = [square / freedom for square, freedom in self._sums.values() if freedom]
        if len(self._run) > 1:
            found.append(_chi_square(list(self._run.values())) / (len(self._run) - 1))
        self.discount = max(1.0, *found) if found else 1.0

    def _count(self, scale: str, rows: Sequence[tuple[float, float]]) -> None:
        if len(rows) > 1:
            square, freedom = self._sums[scale]
            self._sums[scale] = (square + _chi_square(rows), freedom + len(rows) - 1)


def _chi_square(rows: Sequence[tuple[float, float]]) -> float:
    return sum((x - expected) ** 2 / expected for x, expected in rows)
