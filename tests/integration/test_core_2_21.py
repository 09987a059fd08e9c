# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The same on ansible-core 2.21, where it is installed: one rollout that succeeds, and those that Ansible's own rules touch."""

from __future__ import annotations

import pytest

from .rig import FIRST, Rig, ansible_playbook
from .test_unreachable import DYING, LOST, assert_orderly, by_tasks

CORE = "2.21"

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(
        ansible_playbook(CORE) is None, reason=f"ansible-core {CORE} is not installed: make setup-{CORE}"
    ),
]


def test_a_rollout_and_its_second_run(rig: Rig) -> None:
    settings = rig.archive("2.0")
    with rig.watch() as watch, rig.load() as load:
        run = rig.rollout(settings, rollout_batches=[2], rollout_look_requests=5, core=CORE)
    load.assert_nothing_lost()
    assert run.rc == 0, str(run)
    assert rig.current() == rig.all_on("2.0")
    assert watch.least >= 4
    again = rig.rollout(settings, core=CORE)
    assert again.rc == 0, str(again)
    assert set(again.changed.values()) == {0}


@pytest.mark.parametrize("environment", [{}, {"ANSIBLE_INJECT_FACT_VARS": "false"}], ids=["default", "without"])
def test_no_deprecated_way_of_ansible_is_used(rig: Rig, environment: dict[str, str]) -> None:
    run = rig.rollout(rig.archive("2.0"), options=["--check"], core=CORE, environment=environment)
    assert run.rc == 0, str(run)
    assert "DEPRECATION" not in run.output, str(run)


def test_a_version_that_never_gets_healthy(rig: Rig) -> None:
    with rig.watch() as watch, rig.load() as load:
        run = rig.rollout(
            rig.archive("2.0", never_healthy=True),
            rollout_batches=[2],
            rollout_health_timeout=3,
            rollout_look_requests=5,
            core=CORE,
        )
    load.assert_nothing_lost()
    assert run.rc != 0
    assert run.report["outcome"] == "rolled_back", str(run)
    assert rig.current() == rig.all_on(FIRST)
    assert rig.in_service() == set(rig.hosts)
    assert watch.ever_out == {"web1", "web2"}


def test_a_member_that_is_lost_in_the_users_own_tasks(rig: Rig) -> None:
    with rig.watch() as watch, rig.load() as load:
        rig.expect_loss(LOST)
        run = rig.rollout(by_tasks(rig, DYING), core=CORE)
    assert_orderly(rig, run, watch, load, "failed")
    assert f"{LOST} was lost during the upgrade" in run.report["sentence"]


def test_check_mode_does_nothing(rig: Rig) -> None:
    before = rig.snapshot()
    run = rig.rollout(rig.archive("2.0"), options=["--check", "--diff"], core=CORE)
    assert run.rc == 0, str(run)
    assert rig.snapshot() == before


def test_a_limited_run_is_refused(rig: Rig) -> None:
    before = rig.snapshot()
    run = rig.rollout(rig.archive("2.0"), options=["--limit", "web1"], core=CORE)
    assert run.rc != 0
    assert "limit" in run.text
    assert rig.snapshot() == before
