# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The balancer's own view of a member: real requests from its host, where it has no check of its own."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils import _pool_operations as operations
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import Unhealthy
from tests.conformance.harness import App, Balancer, PoolSpec, free_port

pytestmark = pytest.mark.balancer


def start(balancer: Balancer, apps: dict[str, App]) -> dict[str, Any]:
    """A pool without checks, whose first two members are drained."""
    balancer.start([PoolSpec("shop", [(name, app.port) for name, app in apps.items()], checked=False)])
    operations.pool_drain({**balancer.params("shop"), "members": ["s1", "s2"]}, False)
    return {**balancer.params("shop"), "members": ["s1", "s2"], "timeout": 1}


def view(apps: dict[str, App], port: int = 0) -> dict[str, Any]:
    health = {name: {"url": f"http://127.0.0.1:{port or app.port}/health"} for name, app in apps.items()}
    return {"always": False, "health": health}


def test_what_cannot_be_reached_stays_out(balancer: Balancer, apps: dict[str, App]) -> None:
    params = start(balancer, apps)
    apps["s1"].kill()
    with pytest.raises(Unhealthy, match="connection refused") as error:
        operations.pool_return({**params, "view": view(apps)}, False)
    assert list(error.value.facts["members"]) == ["s1"]
    assert balancer.driver().read("shop").member("s1").admin.value == "out"


def test_what_is_ill_stays_out(balancer: Balancer, apps: dict[str, App]) -> None:
    params = start(balancer, apps)
    apps["s2"].switch("ill")
    with pytest.raises(Unhealthy, match="status 503") as error:
        operations.pool_return({**params, "view": view(apps)}, False)
    assert list(error.value.facts["members"]) == ["s2"]


def test_what_is_healthy_may_return(balancer: Balancer, apps: dict[str, App]) -> None:
    params = start(balancer, apps)
    found = operations.pool_return({**params, "view": view(apps)}, False)["members"]
    assert all(found[name]["asked"] for name in ("s1", "s2"))


def test_at_another_port_than_the_health_urls_a_connection_is_enough(balancer: Balancer, apps: dict[str, App]) -> None:
    params = start(balancer, apps)
    apps["s2"].switch("ill")  # which nobody can tell from this port
    operations.pool_return({**params, "view": view(apps, free_port())}, False)
    apps["s1"].kill()
    operations.pool_drain({**params, "members": ["s1"]}, False)
    with pytest.raises(Unhealthy, match="connection refused"):
        operations.pool_return({**params, "view": view(apps, free_port())}, False)
