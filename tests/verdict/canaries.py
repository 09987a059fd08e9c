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


def _arms(requests: list[int], errors: list[int], seconds: float) -> tuple[Arm, Arm]:
    names = tuple(f"host{number}" for number in range(len(requests)))
    return (
        Arm(names[:1], requests[:1], errors[:1], [], None, [seconds]),
        Arm(names[1:], requests[1:], errors[1:], [], None, [seconds] * (len(names) - 1)),
    )


def run(world: World, draw: random.Random) -> tuple[list[Poll], Iterator[Poll]]:
    """The history of a run, and its polls as they come."""
    natures = _natures(world, draw)
    history = []
    if world.history:
        requests = [round(world.rate * world.history * part) for part in _parts(world, world.share)]
        errors = [poisson(draw, n * world.errors * nature) for n, nature in zip(requests, natures, strict=True)]
        history = [Poll(0.0, world.history, *_arms(requests, errors, world.history))]
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
        yield Poll(begin, begin + INTERVAL, *_arms(requests, errors, INTERVAL))
