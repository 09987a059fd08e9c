# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""A member's requests and failures from a balancer's counters, from one look to the next, each told once.

Counters are totals of one process of the balancer. What they do not say outright
is which requests got no answer: that is what was given to the member, less the
answers, the clients that went away, attempts that were made again, and what is
in flight. Counters are read one after the other, so a request that begins in that
moment may seem to be one: only what two looks see is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Counters


class Total(NamedTuple):
    """What one process has counted of one member."""

    given: int  # requests, each attempt of one
    finished: int  # requests that are over, however
    failed: int  # that it calls errors, and those that it took to another member
    failed_answers: int  # statuses of 500 and more, the member's own
    without_answer: int  # that are over without one; neither sure nor steady

    @classmethod
    def of(cls, counters: Counters, busy: int) -> Total:
        """``busy``: its requests in flight and in its queue."""
        return cls(
            counters.requests,
            counters.requests - counters.retries - busy,
            counters.errors + counters.redispatches,
            counters.responses_5xx,
            counters.unanswered - counters.retries - busy,
        )


class Tally:
    """What was told of one member in one process so far."""

    def __init__(self, base: Total, last: int, told: tuple[int, int]) -> None:
        self._base = base
        self._last = last  # requests without an answer at the last look
        self._told = told  # requests, failures

    @classmethod
    def begin(cls, now: Total) -> Tally:
        return cls(now, now.without_answer, (0, 0))

    @classmethod
    def from_list(cls, data: Any) -> Tally:
        """Back from what ``to_list`` gave; raises ``BadInput``."""
        if (
            not isinstance(data, (list, tuple))
            or len(data) != 8
            or not all(isinstance(each, int) and not isinstance(each, bool) for each in data)
        ):
            raise BadInput(f"A member's counters in a cursor must be what an earlier look returned, got {data!r}.")
        return cls(Total(*data[:5]), data[5], (data[6], data[7]))

    def to_list(self) -> list[int]:
        return [*self._base, self._last, *self._told]

    def went_back(self, now: Total) -> bool:
        """Whether a counter that only rises has fallen: somebody cleared them."""
        base = self._base
        return now.given < base.given or now.failed < base.failed or now.failed_answers < base.failed_answers

    def see(self, now: Total) -> tuple[int, int]:
        """Requests and failures since the last look."""
        failed = now.failed_answers - self._base.failed_answers
        # What HAProxy calls errors are those without an answer again, from 2.8 on twice, and answers that were cut.
        without_answer = now.without_answer > self._base.without_answer or self._last > self._base.without_answer
        # One that only this look sees without an answer is told with the next, the request and its failure together.
        doubtful = max(0, now.without_answer - self._last)
        missing = self._missing(now)
        failed += missing if without_answer else now.failed - self._base.failed
        requests = max(self._told[0], now.finished - self._base.finished - doubtful)
        new_requests = requests - self._told[0]
        # What failed is a request; a failure that shows before its request is told with the next.
        new_failed = min(max(0, failed - self._told[1]), new_requests)
        self._told = (requests, self._told[1] + new_failed)
        return new_requests, new_failed

    def see_beside(self, now: Total, logged: int) -> tuple[int, int]:
        """Requests since the last look, each attempt of one, and those that failed without a line in the log.

        ``logged``: how many requests without an answer the log has since the beginning; they are known from there.
        """
        given = now.given - self._base.given
        hidden = max(self._told[1], self._missing(now) - logged)
        found = given - self._told[0], hidden - self._told[1]
        self._told = given, hidden
        return found

    def _missing(self, now: Total) -> int:
        """Requests without an answer since the beginning, as two looks see it."""
        found = min(self._last, now.without_answer) - self._base.without_answer
        self._last = now.without_answer
        return found


def processes_of(cursor: Mapping[str, Any]) -> dict[str, dict[str, Tally]]:
    """The tallies of a cursor, by process and member; raises ``BadInput``."""
    found = cursor.get("processes") or {}
    if not isinstance(found, Mapping) or not all(isinstance(each, Mapping) for each in found.values()):
        raise BadInput(f"A cursor must be what an earlier look returned, got {cursor!r}.")
    return {
        process: {name: Tally.from_list(row) for name, row in members.items()} for process, members in found.items()
    }
