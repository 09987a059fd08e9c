# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When each request is due and of which kind it is: pure functions of its number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum


class Kind(StrEnum):
    """The kinds of client the witness plays."""

    KEEPALIVE = "keepalive"
    CLOSE = "close"
    SLOW = "slow"
    STREAM = "stream"
    WEBSOCKET = "websocket"
    SESSION = "session"
    POST = "post"


def arrivals(rate: float, duration: float, max_requests: int | None = None) -> int:
    """How many requests a run schedules: those due before its end, at least one."""
    count = max(1, math.floor(rate * duration + 1e-9))
    return count if max_requests is None else min(count, max_requests)


def due(number: int, rate: float) -> float:
    """Seconds from the start at which request ``number`` (from 0) is due.

    Computed from the number, never from the request before it, so nothing adds up and a slow
    answer moves nothing.
    """
    return number / rate


class Mixer:
    """Deals out kinds so that after any number of requests each is near its share.

    Every pick goes to the kind furthest behind its share, so that rare kinds are spread evenly and
    two runs with the same mix send the same sequence.
    """

    def __init__(self, mix: Mapping[Kind, float]) -> None:
        total = math.fsum(mix.values())
        self._shares = [(kind, share / total) for kind, share in mix.items()]
        self._credit = [0.0] * len(self._shares)

    def next(self) -> Kind:
        best = 0
        for index, (_kind, share) in enumerate(self._shares):
            self._credit[index] += share
            if self._credit[index] > self._credit[best] + 1e-9:
                best = index
        self._credit[best] -= 1.0
        return self._shares[best][0]
