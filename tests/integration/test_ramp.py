# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A rollout whose members come back in steps, and one that is refused since their weights cannot be divided."""

from __future__ import annotations

import pytest

from lab.balancers import haproxy_socket

from .rig import Rig

pytestmark = pytest.mark.lab


def weigh(rig: Rig, weight: int) -> None:
    for balancer in rig.lab.balancers:
        for name in rig.hosts:
            haproxy_socket.ask(rig.root(balancer), f"set server {rig.lab.description.pool}/{name} weight {weight}")


def test_members_come_back_in_steps_and_to_the_weight_they_had(rig: Rig) -> None:
    weigh(rig, 80)
    with rig.load(rate=120) as load:
        run = rig.rollout(rig.archive("2.0"), rollout_batches=[3], rollout_ramp="25%,50%,100%", rollout_ramp_seconds=1)
    assert run.rc == 0, str(run)
    load.assert_nothing_lost()
    assert min(member["seconds"]["look"] for member in run.report["members"].values()) >= 2
    assert {words for each in rig.servers().values() for words in each.values()} == {"UP 80"}


def test_weights_that_cannot_be_divided_are_refused(rig: Rig) -> None:
    weigh(rig, 1)
    before = rig.snapshot()
    run = rig.rollout(rig.archive("2.0"), rollout_ramp="25%")
    assert run.rc != 0
    assert "of which 25 % is less than the smallest weight" in run.text
    assert rig.snapshot() == before
