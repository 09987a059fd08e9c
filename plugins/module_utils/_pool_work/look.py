# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The look at a member under traffic, and what to make of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Admin, Health, Member
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work.pace import pace, slower, together
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work.wanted import LookOrder
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work.words import last_check


class Watch:
    """One member under traffic: what it served since it was put back, and what to make of it."""

    def __init__(self, member: Member, others: Sequence[Member] = ()) -> None:
        self._start = member.counters
        self._missing = 0
        self._others = {other.name: other.counters for other in others}
        self._one_process = True
        self._earlier = (0, 0)  # counted in processes that are gone
        self._counted = (0, 0)
        self._now = (0, 0)
        self._was_up = False
        self.verdict = ""
        self._reason = ""

    def restart(self) -> None:
        """Another process serves now, and counts from zero."""
        self._earlier = self._counted
        self._one_process = False
        self._start = type(self._start)()
        self._missing = 0

    def see(
        self,
        member: Member,
        look: LookOrder,
        elapsed: float,
        logged: tuple[int, int] | None = None,
        trouble: str = "",
        others: Sequence[Member] = (),
    ) -> None:
        """``logged``: its requests and errors by the access log; ``trouble`` is why that cannot be read.

        ``others`` are the members that it is compared with.
        """
        if self.verdict:
            return
        # A failed request may count as an error, as a 5xx and as one without an answer; it is one.
        missing = self._without_answer(member)
        errors = max(
            member.counters.errors - self._start.errors,
            member.counters.responses_5xx - self._start.responses_5xx,
            min(missing, self._missing),
        )
        self._missing = missing
        requests = member.counters.requests - self._start.requests
        self._counted = (self._earlier[0] + requests, self._earlier[1] + errors)
        # Each sees what the other misses, and lags behind: what both see is the same.
        self._now = (max(self._counted[0], logged[0]), max(self._counted[1], logged[1])) if logged else self._counted
        requests, errors = self._now
        up = member.health in (Health.UP, Health.STARTING, Health.UNCHECKED)
        at_limit = elapsed >= look.timeout
        if errors > look.max_errors:
            self._decide("fail", f"{errors} of {requests} requests failed")
        elif not up and (self._was_up or at_limit):
            self._decide("fail", f"the balancer sees it {member.health.value}: {last_check(member)}")
        elif member.admin is not Admin.READY:
            self._decide("inconclusive", f"somebody made it {member.admin.value}")
        elif trouble:
            self._decide("inconclusive", f"the access log could not be read: {trouble}")
        elif up and requests >= look.requests and elapsed >= look.seconds and (missing <= look.max_errors or at_limit):
            self._end(look, at_limit or not look.requests, member, others)
        elif at_limit:
            self._decide("inconclusive", f"{requests} of {look.requests} requests in {elapsed:.1f} s")
        self._was_up = self._was_up or up

    def _without_answer(self, member: Member) -> int:
        """How many got none, at the least: all that are in flight now may still get one.

        Counters are read one after the other, so a request that begins in that moment may seem to be one: only what
        two looks see is an error.
        """
        given = member.counters.unanswered - self._start.unanswered
        return max(0, given - member.in_flight - member.queued)

    def _end(self, look: LookOrder, last: bool, member: Member, others: Sequence[Member]) -> None:
        """It has served enough without an error: is it slower than the others? Asked once, when there is an answer."""
        words = f"{self._now[0]} requests, {self._now[1]} failed"
        if not look.max_slower:
            self._decide("pass", words)
            return
        found: tuple[bool | None, str] = None, "the balancer was reloaded meanwhile"
        if self._one_process:
            theirs = [pace(self._others[each.name], each.counters) for each in others if each.name in self._others]
            found = slower(pace(self._start, member.counters), together(theirs), look.max_slower)
        is_slower, why = found
        if is_slower:
            self._decide("fail", f"it is more than {look.max_slower} % slower than the others: {why}")
        elif is_slower is False:
            self._decide("pass", f"{words}; {why}")
        elif last:
            self._decide("inconclusive", f"{words}; {why}")

    def _decide(self, verdict: str, reason: str) -> None:
        self.verdict = verdict
        self._reason = reason

    def to_dict(self) -> dict[str, Any]:
        return {"look": self.verdict, "requests": self._now[0], "errors": self._now[1], "reason": self._reason}


NO_COUNTERS = "this balancer does not count requests by member, and rollout_access_log names no log"


def cannot_look() -> dict[str, Any]:
    """What a look at a member is where the balancer has no counters and no log is named: a gate that cannot tell says so."""
    return {
        "look": "inconclusive",
        "requests": 0,
        "errors": 0,
        "reason": NO_COUNTERS,
    }
