# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What waiting costs a balancer: quick where it is over soon, and a small share of a processor where it lasts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.module_utils._drivers.base import Clock, Driver
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work.work import Work


class BusyClock(Clock):
    """Each sample takes its time on the processor."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.used = 5.0
        self.pauses: list[float] = []

    def now(self) -> float:
        return self.time

    def cpu(self) -> float:
        return self.used

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.time += seconds


def wait(cost: float, samples: int, driver: Driver | None = None) -> BusyClock:
    clock = BusyClock()
    work = Work("shop", driver, clock)  # type: ignore[arg-type]
    for _sample in range(samples):
        clock.time += cost
        clock.used += cost
        work.rest(0.02)
    return clock


def test_a_wait_that_is_over_soon_is_not_stretched() -> None:
    assert wait(0.003, 30).pauses == [0.02] * 30


@given(st.floats(0.0, 0.04), st.integers(1, 400))
def test_a_long_wait_takes_a_small_share_of_a_processor(cost: float, samples: int) -> None:
    clock = wait(cost, samples)
    assert clock.used - 5.0 <= 0.1 + 0.04 * (clock.time - 1000.0) + 1e-6
    assert min(clock.pauses) >= 0.02


def test_a_sample_that_is_dearer_than_that_still_comes_every_second() -> None:
    assert wait(0.5, 20).pauses[-1] == pytest.approx(1.0)
