# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Members that come back in steps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.module_utils import _pool_operations as operations
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Admin, Counters, Health, Setting
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work.ramp import RampOrder

from .test_pool_operations import FakeClock, FakeDriver


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def driver(clock: FakeClock) -> FakeDriver:
    found = FakeDriver(clock)
    for name in ("s1", "s2"):
        found.set(name, admin=Admin.DRAIN, weight=100)
    return found


SETTINGS = {name: {"admin": "ready", "weight": 100} for name in ("s1", "s2")}
RAMP = {"steps": [25, 50], "seconds": 3}


def put_back(driver: FakeDriver, **params: Any) -> dict[str, Any]:
    values = {"pool": "shop", "settings": SETTINGS, "ramp": RAMP, **params}
    return operations.pool_put_back(values, False, driver=driver, clock=driver.clock)


def test_members_climb_to_the_weight_they_had(driver: FakeDriver, clock: FakeClock) -> None:
    seen: list[tuple[int, int, Admin]] = []

    def look() -> None:
        first, second = driver.members["s1"], driver.members["s2"]
        seen.append((first.weight, second.weight, first.admin))

    for at in (0.5, 2.5, 3.5, 5.5, 6.5):
        clock.after(at, look)
    result = put_back(driver)
    assert seen == [(25, 25, Admin.READY)] * 2 + [(50, 50, Admin.READY)] * 2
    assert [driver.members[name].weight for name in ("s1", "s2")] == [100, 100]
    assert clock.time - 1000 == pytest.approx(6, abs=0.1)
    assert result["after"]["s1"] == {"admin": "ready", "weight": 100}


def test_a_member_that_fails_at_a_step_goes_out_and_the_others_go_on(driver: FakeDriver, clock: FakeClock) -> None:
    clock.after(4, lambda: driver.set("s1", counters=Counters(requests=9, errors=2)))
    result = put_back(driver, look={"requests": 0})
    assert driver.members["s1"].admin is Admin.OUT
    assert (driver.members["s2"].admin, driver.members["s2"].weight) == (Admin.READY, 100)
    assert result["members"]["s1"]["look"] == "fail"
    assert result["members"]["s1"]["reason"] == "at 50 % of its weight, 2 of 9 requests failed"
    assert result["members"]["s2"]["look"] == "pass"


def test_errors_that_are_allowed_do_not_count(driver: FakeDriver, clock: FakeClock) -> None:
    clock.after(4, lambda: driver.set("s1", counters=Counters(requests=9, errors=2)))
    put_back(driver, ramp={**RAMP, "max_errors": 2})
    assert driver.members["s1"].weight == 100


def test_a_member_that_falls_ill_at_a_step_goes_out(driver: FakeDriver, clock: FakeClock) -> None:
    clock.after(1, lambda: driver.set("s1", health=Health.DOWN))
    assert put_back(driver)["members"]["s1"]["step"] == 25
    assert driver.members["s1"].admin is Admin.OUT


def test_a_reload_in_a_step_is_mended(driver: FakeDriver, clock: FakeClock) -> None:
    def reload() -> None:
        driver.reload()
        driver.set("s1", weight=100)

    clock.after(1, reload)
    seen: list[int] = []
    clock.after(2, lambda: seen.append(driver.members["s1"].weight))
    assert put_back(driver)["reloads_seen"] >= 1
    assert seen == [25]
    assert driver.members["s1"].weight == 100


def test_what_stays_out_is_not_let_in_by_a_step(driver: FakeDriver) -> None:
    driver.set("s2", admin=Admin.OUT)
    put_back(driver, settings={**SETTINGS, "s2": {"admin": "out", "weight": 100}})
    assert driver.members["s2"].admin is Admin.OUT
    assert not [call for call in driver.calls if call[0] == "put_back" and "s2" in call[1]]


@pytest.mark.parametrize(
    "wrong",
    [[1], {"steps": [0]}, {"steps": [100]}, {"steps": [50, 25]}, {"steps": ["x"]}, {"steps": [5], "seconds": -1}],
)
def test_a_wrong_ramp_is_refused_before_anything(driver: FakeDriver, wrong: Any) -> None:
    with pytest.raises(BadInput):
        put_back(driver, ramp=wrong)
    assert not driver.calls


@given(
    weight=st.integers(0, 256),
    steps=st.lists(st.integers(1, 99), unique=True, max_size=6).map(sorted),
    admin=st.sampled_from(list(Admin)),
)
def test_steps_rise_and_stay_below_the_goal(weight: int, steps: list[int], admin: Admin) -> None:
    order = RampOrder(tuple(steps), 1.0, 0)
    goal = Setting(admin, weight)
    reached = [found["s1"].weight for step in steps if (found := order.at(step, {"s1": goal}))]
    assert reached == sorted(reached)
    assert all(0 < each < weight for each in reached)
    assert not reached or admin is Admin.READY
    assert replace(goal) == goal
