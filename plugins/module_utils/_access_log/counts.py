# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What is counted of each member: requests, errors by kind, and how long answers took. Nothing else leaves the host."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

# Upper bounds of the histogram's buckets, in milliseconds; one more bucket holds what is slower. Each is a quarter above
# the one before, so that a version 1.5 times slower than another shows, however fast both are.
BUCKETS = (
    *(1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 25, 32, 40, 50, 63, 80, 100, 125, 160, 200, 250, 320, 400, 500, 630, 800),
    *(1000, 1250, 1600, 2000, 2500, 3200, 4000, 5000, 6300, 10000),
)

CONNECT = "connect"  # no connection to the member
RESPONSE = "response"  # no answer, or none that is one
TIMEOUT = "timeout"  # no answer in time, or it stopped in mid-answer
CUT = "cut"  # the member ended the connection in mid-answer
STATUS_5XX = "status_5xx"  # the member's own answer
KINDS = (CONNECT, RESPONSE, TIMEOUT, CUT, STATUS_5XX)

OK = ""
CLIENT = "client_aborts"  # the client went away: no error of the member
BALANCER = "balancer"  # ended by the balancer or its operator: no error of the member either


class Count:
    """One member's."""

    __slots__ = ("balancer", "client_aborts", "kinds", "latency", "requests", "retries", "unanswered")

    def __init__(self, buckets: int) -> None:
        self.requests = 0
        self.kinds = dict.fromkeys(KINDS, 0)
        self.client_aborts = 0
        self.balancer = 0
        self.retries = 0
        self.unanswered = 0  # failed before the first byte of an answer
        self.latency = [0] * (buckets + 1)

    def to_dict(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "errors": sum(self.kinds.values()),
            "kinds": dict(self.kinds),
            "client_aborts": self.client_aborts,
            "balancer": self.balancer,
            "retries": self.retries,
            "unanswered": self.unanswered,
            "latency": list(self.latency),
        }


class Counts:
    """All members' that are asked for."""

    def __init__(self, names: Sequence[str], buckets: Sequence[int] = BUCKETS) -> None:
        """``names``: whose requests count; none: everybody's."""
        self.buckets = list(buckets)
        self.members: dict[str, Count] = {name: Count(len(self.buckets)) for name in names}
        self._everybody = not names
        self.lines = 0  # that were read as requests
        self.unread = 0  # that were not
        self.sample = ""  # the first of these
        self._bucket: list[int] = []  # by millisecond, for the usual ones
        for millisecond in range(1024):
            self._bucket.append(bisect_left(self.buckets, millisecond))

    def of(self, name: str) -> Count | None:
        found = self.members.get(name)
        if found is None and self._everybody:
            found = self.members[name] = Count(len(self.buckets))
        return found

    def bucket(self, milliseconds: int) -> int:
        if 0 <= milliseconds < 1024:
            return self._bucket[milliseconds]
        return bisect_left(self.buckets, milliseconds)

    def unreadable(self, line: str) -> None:
        self.unread += 1
        self.sample = self.sample or line

    def to_dict(self) -> dict[str, Any]:
        return {
            "members": {name: count.to_dict() for name, count in self.members.items()},
            "buckets": self.buckets,
            "lines": self.lines,
            "unread": self.unread,
        }
