# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a balancer says that it would be told is what it is told, and saying it changes nothing."""

from __future__ import annotations

from ansible_collections.zerodrop.rollout.plugins.module_utils import _pool_operations as operations

from .harness import App, Balancer, PoolSpec


def test_a_rehearsal_is_what_a_drain_then_does(balancer: Balancer, apps: dict[str, App]) -> None:
    balancer.start([PoolSpec("shop", [(app.name, app.port) for app in apps.values()])])
    before = balancer.driver().read("shop")
    params = {**balancer.params("shop"), "batches": [["s1"], ["s2"]]}
    rehearsed = operations.pool_rehearse(params, False)["batches"]
    now = balancer.driver().read("shop")
    assert (now.identity, [each.admin for each in now.members]) == (
        before.identity,
        [each.admin for each in before.members],
    )
    assert len(rehearsed) == 2
    drained = operations.pool_drain({**balancer.params("shop"), "members": ["s1"], "timeout": 10}, False)
    if balancer.driver().rehearses:
        assert rehearsed[0]["out"]
        assert rehearsed[0]["out"] == drained["told"]
    else:
        assert rehearsed == [{"out": [], "checked": [], "back": []}] * 2
