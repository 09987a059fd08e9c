# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a pool carries, by real balancers' own figures, and the last look before a member goes out."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils import _pool_operations as operations
from ansible_collections.zerodrop.rollout.plugins.module_utils._access_log.nginx import FORMAT
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import FloorBroken
from tests.conformance.haproxy import HAProxy
from tests.conformance.harness import App, Balancer, Load, PoolSpec, needs

pytestmark = pytest.mark.balancer


def started(balancer: Balancer, apps: dict[str, App], **more: Any) -> tuple[PoolSpec, dict[str, Any]]:
    """A pool of four, with an access log where the balancer has no counters."""
    pool = PoolSpec("shop", [(name, app.port) for name, app in apps.items()], checked=False, **more)
    params = balancer.params("shop")
    if "counters" in balancer.lacks:
        path = balancer.folder / "access.log"
        balancer.start([pool], log=str(path), log_format=FORMAT)
        params["access_log"] = [str(path)]
    else:
        balancer.start([pool])
    return pool, params


def test_the_rate_is_what_clients_count(balancer: Balancer, apps: dict[str, App]) -> None:
    if balancer.kind == "apache":
        pytest.skip("no reader of Apache's log")
    pool, params = started(balancer, apps)
    with Load(pool.port).running(clients=6, pause=0.05) as load:
        before = sum(load.answers.values())
        found = operations.pool_load({**params, "seconds": 2}, False)
        counted = (sum(load.answers.values()) - before) / found["seconds"]
    assert not load.failures
    assert found["rate"] == pytest.approx(counted, rel=0.3)
    assert {name for name, each in found["members"].items() if each["in_service"]} == set(apps)


def test_without_a_log_it_says_that_it_cannot_tell(balancer: Balancer, apps: dict[str, App]) -> None:
    if "counters" not in balancer.lacks:
        pytest.skip("it counts by itself")
    _pool, params = started(balancer, apps)
    params.pop("access_log")
    assert operations.pool_load({**params, "seconds": 0.2}, False)["rate"] is None


def test_what_is_at_once_is_seen_and_limits_are_read(balancer: Balancer, apps: dict[str, App]) -> None:
    needs(balancer, "queue")
    pool, params = started(balancer, apps, max_in_flight=2)
    with Load(pool.port).running(clients=12, path="/slow/0.3"):
        found = operations.pool_load({**params, "seconds": 1.5}, False)
    assert {each["limit"] for each in found["members"].values()} == {2}
    # Eight at work and four that wait, but for the moments between two requests.
    assert 8 <= found["in_flight"] <= 12.5
    assert found["queued"] > 1


def test_more_than_the_bound_keeps_the_member_in(haproxy: HAProxy, apps: dict[str, App]) -> None:
    pool, params = started(haproxy, apps)
    order = {**params, "members": ["s1"], "timeout": 5}
    with Load(pool.port).running(clients=6, pause=0.02) as load:
        operations.pool_load({**params, "seconds": 2}, False)
        with pytest.raises(FloorBroken, match="could be carried") as caught:
            operations.pool_drain({**order, "bounds": {"rate": 20}}, False)
        assert "requests/s" in caught.value.facts["load"]
        assert haproxy.driver().read("shop").member("s1").in_service
        operations.pool_drain({**order, "bounds": {"rate": 5000}}, False)
        assert not haproxy.driver().read("shop").member("s1").in_service
    assert not load.failures
