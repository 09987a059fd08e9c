# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The hosts' history as the metrics need it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.history import (
    Ratio,
    Stratum,
    host_ratios,
    ratio_of,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.polls import CANARY, Arm, Poll
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.slow import slow_by_member

_Columns = Callable[[Arm], tuple[Sequence[float], Sequence[float]]]
_Found = tuple[list[Stratum], dict[str, float]]


@dataclass(frozen=True)
class Archive:
    """Polls from before, when every host had the old version. ``canaries`` are those that have the new one now."""

    polls: Sequence[Poll]
    canaries: frozenset[str]

    @staticmethod
    def ratio(strata: Sequence[Stratum], risk: float) -> Ratio:
        return ratio_of(strata, risk)

    def errors(self) -> _Found:
        return self._read(lambda arm: (arm.requests, arm.errors))

    def restarts(self) -> _Found:
        return self._read(lambda arm: (arm.seconds, arm.restarts) if arm.restarts is not None else ((), ()))

    def slow(self, bucket: int) -> _Found:
        def columns(arm: Arm) -> tuple[Sequence[float], Sequence[float]]:
            slow = slow_by_member(arm, (0, bucket))
            return (slow[0], slow[bucket]) if slow else ((), ())

        return self._read(columns)

    def histogram(self) -> list[int]:
        """The baseline's requests by bucket."""
        found: list[int] = []
        for poll in self.polls:
            columns = [sum(column) for column in poll.baseline.latency]
            found = [a + b for a, b in zip(found or [0] * len(columns), columns, strict=True)] if columns else found
        return found

    def _read(self, columns: _Columns) -> _Found:
        strata: list[Stratum] = []
        totals: dict[str, tuple[float, float]] = {}
        for poll in self.polls:
            sums = {True: [0.0, 0.0], False: [0.0, 0.0]}
            for kind, arm in ((CANARY, poll.canary), ("", poll.baseline)):
                for name, n, x in zip(arm.names, *columns(arm)):  # noqa: B905  (a column that is not measured is empty)
                    canary = bool(kind) or name in self.canaries
                    sums[canary][0] += n
                    sums[canary][1] += x
                    if not canary:
                        before = totals.get(name, (0.0, 0.0))
                        totals[name] = (before[0] + n, before[1] + x)
            strata.append(Stratum(*sums[True], *sums[False]))
        return strata, host_ratios(totals)


def present(polls: Sequence[Poll]) -> Mapping[str, bool]:
    """Which of the metrics beside errors are measured."""
    return {
        "slow": any(poll.canary.latency and poll.baseline.latency for poll in polls),
        "restarts": any(
            poll.canary.restarts is not None and poll.baseline.restarts is not None and poll.canary.names
            for poll in polls
        ),
    }
