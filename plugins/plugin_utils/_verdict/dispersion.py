# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How much more the baseline's hosts differ than chance makes them; what evidence is divided by."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence

MINUTE = 60.0
FIVE = 5  # minutes


class Totals:
    """Events of hosts, as they were and as chance would have them."""

    def __init__(
        self, names: tuple[str, ...] = (), events: Sequence[float] = (), expected: Sequence[float] = ()
    ) -> None:
        self._names = names
        self._events = events
        self._expected = expected

    def add(self, names: tuple[str, ...], events: Sequence[float], expected: Sequence[float]) -> None:
        if not self._names:
            self._names, self._events, self._expected = names, list(events), list(expected)
            return
        if names != self._names:  # other hosts than before: those that left stay in the sum
            known = dict(zip(self._names, zip(self._events, self._expected, strict=True), strict=True))
            known = {**dict.fromkeys(names, (0.0, 0.0)), **known}
            gone = tuple(name for name in self._names if name not in set(names))
            self._names = (*names, *gone)
            self._events = [known[name][0] for name in self._names]
            self._expected = [known[name][1] for name in self._names]
            events, expected = [*events, *[0.0] * len(gone)], [*expected, *[0.0] * len(gone)]
        self._events = list(map(operator.add, self._events, events))
        self._expected = list(map(operator.add, self._expected, expected))

    def chi_square(self) -> tuple[float, int]:
        """The sum, and its degrees of freedom."""
        hosts = len(self._expected) - self._expected.count(0.0)
        square = sum(
            [
                (x - chance) * (x - chance) / chance
                for x, chance in zip(self._events, self._expected, strict=True)
                if chance
            ]
        )
        return square, max(0, hosts - 1)


class Dispersion:
    """Pearson's chi square over its degrees of freedom, of host x block, in blocks of a minute, of five and of the run.

    ``ratios`` are the hosts' own rates in units of the average, by their
    history: what a host always does is no noise.
    """

    def __init__(self, ratios: Mapping[str, float]) -> None:
        self._ratios = ratios
        self._names: tuple[str, ...] = ()
        self._polls: list[tuple[Sequence[float], Sequence[float]]] = []  # of this minute: exposure, events
        self._five, self._run = Totals(), Totals()
        self._minutes = 0
        self._end: float | None = None
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
        if self._end is None:
            self._end = begin + MINUTE
        if names != self._names or begin >= self._end:
            self._close_minute()
            self._names = names
            while begin >= self._end:
                self._end += MINUTE
        self._polls.append((exposure, events))
        if at >= self._end:
            self._close_minute()

    def _close_minute(self) -> None:
        total = sum(sum(events) for _exposure, events in self._polls)
        if total and len(self._names) > 1:
            exposure, events = (_added(column) for column in zip(*self._polls, strict=True))
            if self._ratios:
                exposure = list(map(operator.mul, exposure, [self._ratios.get(name, 1.0) for name in self._names]))
            scale = total / (sum(exposure) or 1.0)
            expected = [part * scale for part in exposure]
            for totals in (self._five, self._run):
                totals.add(self._names, events, expected)
            self._count("minute", Totals(self._names, events, expected))
        self._polls = []
        self._minutes += 1
        if self._minutes % FIVE == 0:
            self._count("five", self._five)
            self._five = Totals()
        square, freedom = self._run.chi_square()
        found = [each / of for each, of in (*self._sums.values(), (square, freedom)) if of]
        self.discount = max(1.0, *found) if found else 1.0

    def _count(self, scale: str, totals: Totals) -> None:
        square, freedom = totals.chi_square()
        before = self._sums[scale]
        self._sums[scale] = (before[0] + square, before[1] + freedom)


def _added(rows: Sequence[Sequence[float]]) -> list[float]:
    found = list(rows[0])
    for row in rows[1:]:
        found = list(map(operator.add, found, row))
    return found
