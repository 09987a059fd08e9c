"""How long each member was out of service, from samples of the balancers' own state."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

RUNNING = 2


class Sample(NamedTuple):
    """Who was out of service at a moment, on one balancer or more."""

    at: float
    out: frozenset[str]


def out_of_service(answer: str) -> set[str]:
    """The members that get no new work, out of the answer to `show servers state POOL`."""
    rows = [line.split(" ") for line in answer.splitlines()]
    servers = [row for row in rows if len(row) > 6 and row[0].isdigit()]
    return {row[3] for row in servers if int(row[5]) != RUNNING or int(row[6]) != 0}


def seconds_out(samples: Sequence[Sample], members: Iterable[str]) -> dict[str, float]:
    """Seconds by member; between two samples the earlier one holds."""
    total = dict.fromkeys(members, 0.0)
    for now, following in pairwise(samples):
        for member in now.out:
            total[member] = total.get(member, 0.0) + following.at - now.at
    return total


def most_out(samples: Iterable[Sample]) -> int:
    """The most members that were out at the same time."""
    return max((len(sample.out) for sample in samples), default=0)
