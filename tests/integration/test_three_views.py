# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Three views must agree before a member has users again, and warm-up before the first of them comes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import lab
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness import read_log

from .conftest import PATIENT
from .rig import Load, Rig

pytestmark = pytest.mark.lab

PLAIN = {"keepalive": 0.7, "close": 0.3}


@pytest.fixture(scope="module")
def unchecked_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lab.Lab]:
    """Three members that HAProxy does not check."""
    description = lab.Description(prefix=f"i{os.getpid()}-u", members=3, check=False, pool_lines=PATIENT)
    with lab.running(description, tmp_path_factory.mktemp("lab") / "unchecked") as up:
        yield up


@pytest.fixture
def unchecked(unchecked_fleet: lab.Lab, tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(unchecked_fleet, tmp_path)
    rig.reset()
    yield rig
    rig.heal()


def test_healthy_on_its_host_and_out_of_the_balancers_reach(unchecked: Rig) -> None:
    """The new version listens on loopback alone; nothing but the balancer's own view can find out."""
    with unchecked.load(rate=100, mix=PLAIN) as load:
        run = unchecked.rollout(
            unchecked.archive("2.0", loopback_only=True), rollout_batches=[1], rollout_health_timeout=5
        )
    load.assert_nothing_lost(at_least=50)
    assert run.rc != 0
    assert run.report["outcome"] == "rolled_back", str(run)
    assert run.report["stop"]["phase"] == "gate"
    assert "lb1 does not see web1 healthy" in run.report["stop"]["message"]
    assert "connection refused" in run.report["stop"]["message"]
    assert load.served("2.0") == 0
    assert unchecked.current() == unchecked.all_on("1.0")


def test_a_service_that_its_users_do_not_reach_any_more(unchecked: Rig) -> None:
    """The way in breaks while the first batch is upgraded; members and balancers are well by themselves."""
    balancer = unchecked.lab.balancers[0]
    with unchecked.when(unchecked.is_out("web1"), lambda: unchecked.lab.cut(balancer, port=80)):
        run = unchecked.rollout(
            unchecked.archive("2.0"),
            rollout_batches=[1],
            rollout_look_requests=0,
            rollout_outside_url=f"http://{balancer.address}/",
            rollout_outside_timeout=1,
            rollout_health_request_timeout=0.5,
        )
    unchecked.lab.heal(balancer)
    assert run.rc != 0
    assert run.report["stop"]["phase"] == "outside", str(run)
    assert run.report["outcome"] == "rolled_back"
    assert unchecked.current() == unchecked.all_on("1.0")


def test_a_wrong_address_of_the_outside_is_refused(unchecked: Rig) -> None:
    before = unchecked.snapshot()
    run = unchecked.rollout(
        unchecked.archive("2.0"), rollout_outside_url=f"http://{unchecked.lab.balancers[0].address}:8099/"
    )
    assert run.rc != 0
    assert run.report["outcome"] == "refused"
    assert "rollout_outside_url" in run.report["sentence"]
    assert unchecked.snapshot() == before


def slow_answers(load: Load, version: str) -> int:
    """How many users of this version waited longer than its cold start makes them."""
    return sum(
        1
        for log in load.logs
        for record in read_log(str(log))
        if record.version == version and record.service_time >= COLD["cold_latency"]
    )


COLD = {"cold_requests": 20, "cold_latency": 0.4}


@pytest.mark.parametrize("warmed", [True, False])
def test_the_first_users_of_a_warm_member_do_not_wait(unchecked: Rig, warmed: bool) -> None:
    warm_up = {"rollout_warm_up": ["/"], "rollout_warm_up_count": 20, "rollout_warm_up_concurrency": 10}
    release = unchecked.archive("2.0", **COLD)
    with unchecked.load(rate=90, mix=PLAIN) as load:
        run = unchecked.rollout(release, warm_up if warmed else {}, rollout_batches=[1])
    assert run.rc == 0, str(run)
    load.assert_nothing_lost()
    assert load.served("2.0") > 0
    slow = slow_answers(load, "2.0")
    # Two members have used up their cold start when the rollout ends; the load ends with it.
    assert slow == 0 if warmed else slow >= 40, str(run)


def test_a_warm_up_that_fails_stops_as_the_gate_does(unchecked: Rig) -> None:
    run = unchecked.rollout(unchecked.archive("2.0"), rollout_batches=[1], rollout_warm_up=["/no-such-page"])
    assert run.rc != 0
    assert run.report["stop"]["phase"] == "gate"
    assert "warm-up failed at /no-such-page: status 404" in run.report["stop"]["message"]
    # The old version has no such page either, and goes back all the same.
    assert run.report["outcome"] == "rolled_back", str(run)
    assert {words for each in unchecked.servers().values() for words in each.values()} == {"no 100"}
