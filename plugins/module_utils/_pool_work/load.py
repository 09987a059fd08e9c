# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What a pool carries on this balancer, measured for a moment."""

from __future__ import annotations

from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Pool
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work.bounds import carried_at_once
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work.logged import Logged
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work.work import Work

_INTERVAL = 0.1


class Load(Work):
    """A pool that is looked at for a moment."""

    def measure(self, seconds: float, log: Logged | None) -> dict[str, Any]:
        """Requests per second and at once, over so many seconds, and what each member is."""
        first = self.read([])
        if log is not None:
            log.begin(first)
        began = self.clock.now()
        at_once = [carried_at_once(first)]
        waiting = [first.queued + sum(member.queued for member in first.members)]
        last = first
        while (left := seconds - (self.clock.now() - began)) > 0:
            self.rest(min(_INTERVAL, left))
            last = self.read([])
            at_once.append(carried_at_once(last))
            waiting.append(last.queued + sum(member.queued for member in last.members))
        passed = max(self.clock.now() - began, 0.001)
        if log is not None:
            log.read()
        requests = _requests(first, last, log)
        return {
            "changed": False,
            "seconds": round(passed, 3),
            "rate": None if requests is None else round(requests / passed, 2),
            "trouble": log.trouble if log is not None else "",
            "in_flight": round(sum(at_once) / len(at_once), 2),
            "queued": round(sum(waiting) / len(waiting), 2),
            "response_ms": _response_ms(first, last),
            "members": {
                member.name: {
                    "in_service": member.in_service,
                    "weight": member.weight,
                    "limit": member.limit,
                    "requests": member.counters.requests,
                }
                for member in last.members
                if not member.backup
            },
        }


def _requests(first: Pool, last: Pool, log: Logged | None) -> int | None:
    """How many came between two readings; None where nobody counted them."""
    if log is not None and not log.trouble:
        return sum(log.of(member.name)[0] for member in last.members)
    if last.rate < 0:
        return None
    if first.identity != last.identity:
        return last.rate  # another process counts from zero
    return last.counters.requests - first.counters.requests


def _response_ms(first: Pool, last: Pool) -> float | None:
    """The mean time to an answer, of all members by the requests that each was given; None where it is not told."""
    then = {member.name: member.counters.requests for member in first.members}
    found = [
        (max(0, member.counters.requests - then.get(member.name, 0)), member.counters.response_ms)
        for member in last.members
        if member.counters.response_ms >= 0
    ]
    count = sum(requests for requests, _ms in found)
    return round(sum(requests * ms for requests, ms in found) / count, 1) if count else None
