# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The session grace: clients that are tied to members may go on for a while, and what they did with it is counted.

A member that is draining gets new requests from clients that are tied to it and from no others. So each request that
it is given meanwhile is one of theirs, and those of the last second are of clients that still use it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work.work import Work

_SAMPLE = 0.25  # seconds between two looks
_END = 1.0  # the seconds at the end whose requests tell of clients that are still there


class Tied:
    """Requests of clients that are tied to members, over reloads, which set the balancer's counters to zero."""

    def __init__(self, counters: Mapping[str, int]) -> None:
        self._base = dict(counters)
        self._earlier = dict.fromkeys(counters, 0)
        self._samples: deque[tuple[float, dict[str, int]]] = deque()

    def see(self, at: float, counters: Mapping[str, int]) -> None:
        total = {name: self._earlier[name] + count - self._base[name] for name, count in counters.items()}
        self._samples.append((at, total))
        # The newest sample that is a whole span old stays: the span begins there.
        while len(self._samples) > 2 and self._samples[1][0] <= at - _END:
            self._samples.popleft()

    def restart(self) -> None:
        """Another process serves now, and counts from zero."""
        if self._samples:
            self._earlier = dict(self._samples[-1][1])
        self._base = dict.fromkeys(self._base, 0)

    def counts(self, name: str) -> dict[str, int]:
        first, last = self._samples[0][1], self._samples[-1][1]
        return {"requests": last[name], "at_end": last[name] - first[name]}


def give_grace(
    work: Work, names: Sequence[str], identity: str, seconds: float
) -> tuple[int, dict[str, dict[str, int]]]:
    """Drain the members for so long; the reloads that were seen, and each member's requests of tied clients.

    Nothing is told of requests where the balancer does not count them.
    """
    driver, clock, pool = work.driver, work.clock, work.pool
    driver.drain(pool, names)
    if driver.by_reload:
        identity = driver.identity()
    counted = driver.capabilities().counts_requests

    def counters() -> dict[str, int]:
        return {member.name: member.counters.requests for member in driver.read(pool).chosen(names)}

    tied = Tied(counters() if counted else {})
    deadline = clock.now() + seconds
    if counted:
        tied.see(clock.now(), counters())
    reloads = 0
    while clock.now() < deadline:
        work.pause(min(_SAMPLE, max(0.001, deadline - clock.now())))
        now = driver.identity()
        if now != identity:
            reloads += 1
            identity = now
            tied.restart()
            driver.drain(pool, names)
        if counted:
            tied.see(clock.now(), counters())
    return reloads, {name: tied.counts(name) for name in names} if counted else {}
