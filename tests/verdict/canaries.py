# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Canaries that never were: runs of polls drawn with a fixed seed, in the ways in which real hosts behave and misbehave."""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.polls import Arm, Poll

INTERVAL = 10.0


@dataclass(frozen=True)
class World:
    """One kind of canary. Times in seconds, rates of errors as multiples of ``errors``."""

    rate: float = 500.0  # requests per second, all hosts
    share: float = 0.1
    duration: float = 1800.0
    errors: float = 0.001
    worse: float = 1.0  # the canary's true increase
    hosts: int = 10
    spread: float = 0.0  # of the hosts' rates by nature, in log
    nature: float = 1.0  # of the canary's host, before and after
    history: float = 0.0  # how long a history the judge has
    warmup: float = 1.0  # increase in the canary's first minute
    drift: float = 1.0  # how many times the rate of errors grows from the first poll to the last
    stages: tuple[float, ...] = ()  # shares of the canary, each for the same time
    clump: int = 1  # every failure comes so many times, as with clients that retry
    outage: float = 1.0  # for thirty seconds, all hosts alike
    slower: float = 0.0  # the canary's response times as multiples of the others'; 0: not measured

    def but(self, **changes: float) -> World:
        return replace(self, **changes)  # type: ignore[arg-type]


@lru_cache(maxsize=4096)
def _table(mean: float) -> list[float]:
    """The distribution of Poisson's law up to where the rest is nothing."""
    top = int(mean + 12.0 * math.sqrt(mean) + 15)
    return list(accumulate(math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(top)))


def poisson(draw: random.Random, mean: float) -> int:
    if mean <= 0.0:
        return 0
    if mean > 500.0:
        return max(0, round(draw.gauss(mean, math.sqrt(mean))))
    exact = float(f"{mean:.3g}")  # so that a table serves many draws; a world that drifts has many means
    return bisect_left(_table(exact), draw.random())


def _natures(world: World, draw: random.Random) -> list[float]:
    """What every host's rate of errors is by nature; the canary is the first."""
    found = [math.exp(draw.gauss(0.0, world.spread)) if world.spread else 1.0 for _host in range(world.hosts)]
    found[0] *= world.nature
    return found


BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # a usual client library's, in seconds
MEDIAN, SIGMA = 0.08, 0.7  # of response times, log-normal


@lru_cache(maxsize=64)
def _shares(slower: float) -> tuple[float, ...]:
    """The share of requests in each bucket."""
    below = [
        0.5 * (1.0 + math.erf(math.log(bound / (MEDIAN * slower)) / (SIGMA * math.sqrt(2.0)))) for bound in BUCKETS
    ]
    return tuple(b - a for a, b in zip([0.0, *below], [*below, 1.0], strict=True))


def _latency(world: World, requests: list[int], draw: random.Random, slower: float) -> list[tuple[int, ...]]:
    """By bucket, then by host; the first is the canary."""
    if not world.slower:
        return []
    rows = [[poisson(draw, n * share) for share in _shares(1.0 if host else slower)] for host, n in enumerate(requests)]
    return list(zip(*rows, strict=True))


def _arms(requests: list[int], errors: list[int], seconds: float, latency: list[tuple[int, ...]]) -> tuple[Arm, Arm]:
    names = tuple(f"host{number}" for number in range(len(requests)))
    first, rest = [column[:1] for column in latency], [column[1:] for column in latency]
    return (
        Arm(names[:1], requests[:1], errors[:1], first, None, [seconds]),
        Arm(names[1:], requests[1:], errors[1:], rest, None, [seconds] * (len(names) - 1)),
    )


def run(world: World, draw: random.Random) -> tuple[list[Poll], Iterator[Poll]]:
    """The history of a run, and its polls as they come."""
    natures = _natures(world, draw)
    history = []
    if world.history:
        requests = [round(world.rate * world.history * part) for part in _parts(world, world.share)]
        errors = [poisson(draw, n * world.errors * nature) for n, nature in zip(requests, natures, strict=True)]
        history = [
            Poll(0.0, world.history, *_arms(requests, errors, world.history, _latency(world, requests, draw, 1.0)))
        ]
    return history, _polls(world, natures, draw)


def _parts(world: World, share: float) -> list[float]:
    return [share, *[(1.0 - share) / (world.hosts - 1)] * (world.hosts - 1)]


def _polls(world: World, natures: list[float], draw: random.Random) -> Iterator[Poll]:
    count = round(world.duration / INTERVAL)
    outage = draw.randrange(count)
    for index in range(count):
        begin = index * INTERVAL
        share = world.stages[index * len(world.stages) // count] if world.stages else world.share
        level = world.errors * world.drift ** (index / count)
        if world.outage != 1.0 and outage <= index < outage + 3:
            level *= world.outage
        requests, errors = [], []
        for host, (part, nature) in enumerate(zip(_parts(world, share), natures, strict=True)):
            mean = world.rate * INTERVAL * part
            rate = level * nature
            if not host:
                rate *= world.worse * (world.warmup if begin < 60.0 else 1.0)
            failed = poisson(draw, mean * rate / world.clump) * world.clump
            requests.append(failed + poisson(draw, mean * (1.0 - rate)))
            errors.append(failed)
        latency = _latency(world, requests, draw, world.slower)
        yield Poll(begin, begin + INTERVAL, *_arms(requests, errors, INTERVAL, latency))
