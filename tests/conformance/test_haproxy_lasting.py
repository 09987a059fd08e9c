# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What outlives a reload and a restart of HAProxy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils import _pool_operations as operations
from tests.conformance.haproxy import HAProxy
from tests.conformance.harness import App, Load, PoolSpec, wait_for

pytestmark = pytest.mark.balancer


def pool_of(apps: Mapping[str, App], **more: Any) -> PoolSpec:
    return PoolSpec("shop", [(app.name, app.port) for app in apps.values()], **more)


def reload(haproxy: HAProxy) -> None:
    old = haproxy.driver().identity()
    haproxy.reload()
    wait_for(lambda: haproxy.driver().read("shop").identity != old)


def settings(haproxy: HAProxy) -> dict[str, tuple[str, int]]:
    return {member.name: (member.admin.value, member.weight) for member in haproxy.driver().read("shop").members}


@pytest.mark.case(5, 6)
@pytest.mark.parametrize("checked", [True, False])
def test_a_reload_and_a_restart_bring_no_drained_member_back(
    haproxy: HAProxy, apps: dict[str, App], checked: bool
) -> None:
    pool = pool_of(apps, checked=checked)
    haproxy.start([pool], state_file=True)
    params = haproxy.params("shop")
    assert haproxy.driver().lasting("shop") == ""
    operations.pool_drain({**params, "members": ["s1"]}, False)
    operations.pool_weigh({**params, "weights": {"s2": 7}}, False)
    apps["s1"].kill()
    wanted = {"s1": ("out", 1), "s2": ("ready", 7), "s3": ("ready", 1), "s4": ("ready", 1)}
    with Load(pool.port).running(clients=4) as load:
        reload(haproxy)
        assert settings(haproxy) == wanted
    assert not load.failures
    haproxy.stop()
    haproxy.restart()
    assert settings(haproxy) == wanted
    with Load(pool.port).running(clients=4) as load:
        pass
    assert not load.failures


@pytest.mark.case(42)
@pytest.mark.parametrize("checked", [True, False])
def test_a_reload_takes_no_ready_member_out(haproxy: HAProxy, apps: dict[str, App], checked: bool) -> None:
    pool = pool_of(apps, checked=checked)
    haproxy.start([pool], state_file=True)
    params = {**haproxy.params("shop"), "members": ["s1", "s2"]}
    operations.pool_member({**params, "state": "drained"}, False)
    reload(haproxy)
    operations.pool_member({**params, "state": "ready"}, False)
    reload(haproxy)
    wait_for(lambda: all(member.in_service for member in haproxy.driver().read("shop").members))
    # The file says `down` of a member whose first check was still to come; its checks say otherwise.
    assert set(settings(haproxy).values()) == {("ready", 1)}


@pytest.mark.case(5)
def test_without_a_state_file_the_fact_is_named(haproxy: HAProxy, apps: dict[str, App]) -> None:
    haproxy.start([pool_of(apps)])
    assert "load-server-state-from-file" in haproxy.driver().lasting("shop")
    operations.pool_drain({**haproxy.params("shop"), "members": ["s1"]}, False)
    reload(haproxy)
    assert settings(haproxy)["s1"] == ("ready", 1)


def test_the_files_mode_and_owner_stay(haproxy: HAProxy, apps: dict[str, App]) -> None:
    haproxy.start([pool_of(apps)], state_file=True)
    state = haproxy.folder / "state"
    assert not state.exists()
    operations.pool_weigh({**haproxy.params("shop"), "weights": {"s1": 9}}, False)
    state.chmod(0o640)
    operations.pool_weigh({**haproxy.params("shop"), "weights": {"s1": 8}}, False)
    assert state.stat().st_mode & 0o777 == 0o640
    assert not list(haproxy.folder.glob(".zerodrop-*"))
