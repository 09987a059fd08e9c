# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A version 1.5 times slower without an error is seen in real access logs, and rolled back for it; one as fast is not."""

from __future__ import annotations

import time
from typing import Any

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils._observation.observe import observe
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._observed import Tale, added_up
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict import verdict
from tests.conformance.harness import App, Balancer, Load
from tests.conformance.test_access_log import NAMES, logging  # noqa: F401  # pylint: disable=unused-import
from tests.conformance.test_observe import order

pytestmark = pytest.mark.balancer

ARMS = {"s1": "canary", "s2": "baseline"}
SECONDS = 12
# The guards' times, an eighth of the usual ones.
SETTINGS = {"warmup": 2, "burst": 3, "interval": 1, "min_duration": 8, "max_duration": 600}


def judged(balancer: Balancer, params: dict[str, Any], apps: dict[str, App], port: int) -> dict[str, Any]:
    """The verdict of some seconds of traffic, a poll a second."""
    asked = order(balancer, params, apps)
    cursor = observe(asked, False)["cursor"]
    polls: list[dict[str, Any]] = []
    with Load(port).running(clients=12, path="/slow/0.02", pause=0.02) as load:
        began = time.monotonic()
        while (at := time.monotonic() - began) < SECONDS:
            time.sleep(max(0.0, len(polls) + 1 - at))
            told = observe({**asked, "cursor": cursor}, False)
            cursor = told["cursor"]
            tale = Tale(told["members"], told["reset"], tuple(told["notes"]), len(told["buckets"]) + 1)
            polls.append(added_up(time.monotonic() - began, ARMS, {"lb": tale}).poll)
    assert not load.failures
    return verdict({"polls": polls, **SETTINGS})


@pytest.mark.parametrize("slower", [True, False], ids=["slower", "as fast"])
def test_a_version_that_is_slower_goes_back(
    balancer: Balancer,
    apps: dict[str, App],
    logging: Any,  # noqa: F811
    slower: bool,
) -> None:
    pool, params = logging()
    assert set(NAMES) == set(ARMS)
    if slower:
        apps["s1"].switch("slower")
    found = judged(balancer, params, apps, pool.port)
    assert found["metrics"]["errors"]["canary"][0] == 0
    assert found["metrics"]["errors"]["canary"][1] > 500
    if not slower:
        assert found["decision"] != "roll_back", found["sentence"]
        return
    assert found["decision"] == "roll_back", found["sentence"]
    assert "requests were slow" in found["sentence"]
