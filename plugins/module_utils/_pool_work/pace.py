# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""How long a member takes to answer, against the others in the same time, as far as a balancer can tell.

HAProxy gives a sliding average in whole milliseconds, in which what came long before fades slowly. From two readings
and the requests between them the mean of those requests alone follows, with the bounds that the rounding leaves.
Nothing is made of fewer requests than are worth a mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Counters

WINDOW = 512  # requests, HAProxy's TIME_STATS_SAMPLES
_NOTHING = 2.0  # milliseconds that rounding can make of nothing
LEAST = 100  # requests on each side for a comparison


@dataclass(frozen=True)
class Pace:
    """The mean of some requests in milliseconds, at least and at most."""

    requests: int
    low: float
    high: float


def pace(before: Counters, after: Counters) -> Pace | None:
    """That of the requests between two readings; None where the balancer does not tell, or there were none."""
    count = after.requests - before.requests
    if before.response_ms < 0 or after.response_ms < 0 or count <= 0:
        return None
    kept = _kept(before.requests, after.requests)
    # The figure is rounded up: what it stands for lies within the millisecond below it.
    low = (max(0.0, after.response_ms - 1) - kept * before.response_ms) / (1 - kept)
    high = (after.response_ms - kept * max(0.0, before.response_ms - 1)) / (1 - kept)
    return Pace(count, max(0.0, low), max(0.0, high))


def _kept(before: int, after: int) -> float:
    """The share of what was there before in the average after: a plain mean at first, then one that fades."""
    plain = min(after, WINDOW)
    share = before / plain if before < plain else 1.0
    return share * float((1 - 1 / WINDOW) ** (after - max(before, plain)))


def together(paces: Sequence[Pace | None]) -> Pace | None:
    """That of the requests of several members."""
    known = [each for each in paces if each is not None]
    count = sum(each.requests for each in known)
    if not count:
        return None
    low = sum(each.low * each.requests for each in known) / count
    high = sum(each.high * each.requests for each in known) / count
    return Pace(count, low, high)


def slower(member: Pace | None, others: Pace | None, percent: int) -> tuple[bool | None, str]:
    """Whether a member is slower than the others by more than so many percent, in words too; None: cannot be told."""
    if member is None or others is None:
        return None, "the balancer does not tell how long answers take"
    if min(member.requests, others.requests) < LEAST:
        return (
            None,
            f"{member.requests} requests, and {others.requests} of the others, are too few to compare their latency",
        )
    factor = 1 + percent / 100
    words = f"{_words(member)} ms a request, the others {_words(others)} ms"
    if member.low > factor * others.high + 1:
        return True, words
    if member.high <= factor * others.low + _NOTHING:
        return False, words
    return None, f"{words}: too close to tell"


def _words(one: Pace) -> str:
    return f"{one.low:.0f} to {one.high:.0f}"
