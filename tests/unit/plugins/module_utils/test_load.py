# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a pool carries, measured on its balancer, and the last look before members go out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput, FloorBroken
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Counters, Pool
from tests.unit.plugins.module_utils.test_pool_operations import (  # noqa: F401  # pylint: disable=unused-import
    FakeClock,
    FakeDriver,
    clock,
    driver,
    run,
)


class Busy(FakeDriver):
    """A pool that gets so many requests per second."""

    per_second = 50.0
    in_flight = 2
    limit = 0

    def read(self, pool: str) -> Pool:
        found = super().read(pool)
        served = int(self.clock.now() * self.per_second)
        return replace(
            found,
            rate=round(self.per_second),
            counters=Counters(requests=served),
            members=tuple(
                replace(
                    member,
                    in_flight=self.in_flight if member.in_service else 0,
                    limit=self.limit,
                    counters=Counters(requests=served // len(found.members), response_ms=40),
                )
                for member in found.members
            ),
        )


@pytest.fixture
def busy(clock: FakeClock) -> Busy:  # noqa: F811  # pylint: disable=redefined-outer-name
    return Busy(clock)


def test_it_is_measured_for_a_moment(busy: Busy) -> None:
    found = run("pool_load", busy, seconds=2)
    assert found["rate"] == pytest.approx(50, abs=1)
    assert (found["in_flight"], found["queued"], found["changed"]) == (8.0, 0.0, False)
    assert found["response_ms"] == pytest.approx(40, abs=1)
    assert found["members"]["s1"]["in_service"] is True


def test_a_balancer_that_counts_nothing_says_so(driver: FakeDriver) -> None:  # noqa: F811  # pylint: disable=redefined-outer-name
    assert run("pool_load", driver, seconds=0.2)["rate"] is None


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ({"rate": 49.0}, "50 requests/s, and at most 49 could be carried"),
        ({"in_flight": 7.0}, "8 requests at once, and at most 7 could be carried"),
    ],
)
def test_more_than_the_bound_keeps_the_member_in_and_nobody_waits(busy: Busy, bounds: Any, words: str) -> None:
    began = busy.clock.now()
    with pytest.raises(FloorBroken, match="would leave too little for the load") as caught:
        run("pool_drain", busy, members=["s1"], bounds=bounds, wait_for_floor=60)
    assert caught.value.facts["load"] == words
    assert busy.clock.now() - began < 1
    assert busy.read("p").member("s1").in_service


def test_within_the_bounds_it_goes_out(busy: Busy) -> None:
    busy.in_flight = 0
    run("pool_drain", busy, members=["s1"], bounds={"rate": 50.0, "in_flight": 8})
    assert not busy.read("p").member("s1").in_service


def test_bounds_that_are_none_are_refused(busy: Busy) -> None:
    with pytest.raises(BadInput, match="bounds"):
        run("pool_drain", busy, members=["s1"], bounds="much")


def test_beside_other_drains_the_floor_is_seen_once_more_in_the_same_step(busy: Busy, tmp_path: Path) -> None:
    """Another one takes s2 out between the look and the change."""
    busy.in_flight = 0
    reads = iter(range(100))
    plain = busy.read

    def read(pool: str) -> Pool:
        if next(reads) == 1:
            busy.hold_out(pool, ["s2"])
        return plain(pool)

    busy.read = read  # type: ignore[method-assign]
    with pytest.raises(FloorBroken, match="3 must stay"):
        run("pool_drain", busy, members=["s1"], floor=3, beside=True)
    assert plain("p").member("s1").in_service
