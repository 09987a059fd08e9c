# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Members that come back in steps, under load."""

from __future__ import annotations

import threading
import time

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils import _pool_operations as operations
from tests.conformance.harness import App, Balancer, Load, PoolSpec, needs, wait_for

from .haproxy import HAProxy

pytestmark = pytest.mark.balancer

NAMES = ("s1", "s2")


def start(balancer: Balancer, apps: dict[str, App]) -> PoolSpec:
    """Two members of weight 100, of which the first is drained."""
    if not isinstance(balancer, HAProxy):
        pytest.skip("the other kinds change weights by a reload")
    pool = PoolSpec("shop", [(name, apps[name].port) for name in NAMES])
    balancer.start([pool])
    balancer.driver().weigh("shop", dict.fromkeys(NAMES, 100))
    operations.pool_drain({**balancer.params("shop"), "members": ["s1"]}, False)
    return pool


def climb(balancer: Balancer, steps: list[int], seconds: float, slower: int = 0) -> dict[str, object]:
    params = {**balancer.params("shop"), "members": ["s1"]}
    operations.pool_return(params, False)
    ramp = {"steps": steps, "seconds": seconds, "max_slower": slower}
    return operations.pool_put_back(
        {
            **params,
            "settings": {"s1": {"admin": "ready", "weight": 100}},
            "ramp": ramp,
            "look": {"timeout": 5, "max_slower": slower},
        },
        False,
    )


def test_a_step_gets_its_share_of_the_work(balancer: Balancer, apps: dict[str, App]) -> None:
    pool = start(balancer, apps)
    shares: list[float] = []

    def sample() -> None:
        wait_for(lambda: balancer.driver().read("shop").member("s1").weight == 25)
        time.sleep(0.3)
        first = dict(load.answers)
        time.sleep(1.0)
        gained = {name: load.answers[name] - first.get(name, 0) for name in NAMES}
        shares.append(gained["s1"] / sum(gained.values()))

    with Load(pool.port).running(clients=4, keep_alive=False) as load:
        thread = threading.Thread(target=sample)
        thread.start()
        result = climb(balancer, [25], 2.0)
        thread.join()
    assert shares[0] == pytest.approx(0.2, abs=0.05)  # 25 of 125
    assert balancer.driver().read("shop").member("s1").weight == 100
    assert result["members"]["s1"]["look"] == "pass"  # type: ignore[index]
    assert not load.failures


def test_a_member_that_dies_at_a_step_is_taken_out(balancer: Balancer, apps: dict[str, App]) -> None:
    needs(balancer, "check_words")
    start(balancer, apps)
    threading.Timer(1.0, apps["s1"].kill).start()
    result = climb(balancer, [10, 50], 3.0)
    assert result["members"]["s1"]["look"] == "fail"  # type: ignore[index]
    assert result["members"]["s1"]["step"] == 10  # type: ignore[index]
    assert balancer.driver().read("shop").member("s1").admin.value == "out"


@pytest.mark.parametrize("late", [False, True])
def test_a_member_that_is_slower_than_the_others_is_taken_out(
    balancer: Balancer, apps: dict[str, App], late: bool
) -> None:
    pool = start(balancer, apps)
    with Load(pool.port).running(clients=12, pause=0.01) as load:
        wait_for(lambda: load.answers["s2"] > 600)  # the average before is that of a quick pool
        apps["s1"].switch("late" if late else "well")
        result = climb(balancer, [50], 3.0, slower=200)["members"]["s1"]  # type: ignore[index]
    if late:
        assert (result["look"], result["step"]) == ("fail", 50)
        assert "more than 200 % slower" in result["reason"]
        assert balancer.driver().read("shop").member("s1").admin.value == "out"
    else:
        assert result["look"] == "pass", result
    assert not load.failures


def test_too_few_requests_to_compare_are_inconclusive(balancer: Balancer, apps: dict[str, App]) -> None:
    pool = start(balancer, apps)
    with Load(pool.port).running(clients=1, pause=0.2):
        result = climb(balancer, [], 0, slower=100)["members"]["s1"]  # type: ignore[index]
    assert result["look"] == "inconclusive"
    assert "too few to compare" in result["reason"]
