# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whole rollouts behind nginx, where every change is a reload."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import lab

from .fleets import IDLE_A_RELOAD, nginx_description, reloads_in
from .rig import FIRST, Rig

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def behind_nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lab.Lab]:
    """The oldest nginx: what it cannot do must not be needed."""
    with lab.running(nginx_description("1.22"), tmp_path_factory.mktemp("lab") / "nginx") as up:
        yield up


@pytest.fixture
def rig(behind_nginx: lab.Lab, tmp_path: Path) -> Iterator[Rig]:
    found = Rig(behind_nginx, tmp_path)
    found.reset()
    yield found
    found.heal()


def test_a_rollout_loses_nothing_and_changes_nothing_when_it_runs_again(rig: Rig) -> None:
    settings = rig.archive("2.0")
    before = reloads_in(rig, "lb1")
    witness = {"rollout_witness_url": f"{rig.lab.url}/", "rollout_witness_rate": 50}
    with rig.watch() as watch, rig.load(rate=200) as load:
        run = rig.rollout(settings, witness, rollout_batches=[2])
    assert run.rc == 0, str(run)
    reloads = reloads_in(rig, "lb1") - before
    assert reloads == 6  # two for each of three batches
    load.assert_nothing_lost(closed_idle=IDLE_A_RELOAD * reloads)
    assert rig.current() == rig.all_on("2.0")
    assert rig.in_service() == set(rig.hosts)
    assert watch.least == 4
    report = run.report
    assert report["balancers"]["reloads"] == {"lb1": reloads}
    assert report["balancers"]["not_counted"] == ["lb1"]
    assert report["requests_failed"] == 0
    assert "not judged under traffic" in report["sentence"].lower()
    if report["witness"]["closed_idle"]:
        assert f"closed while idle in {reloads} reloads" in report["sentence"]

    config = rig.root("lb1") / "etc/nginx/conf.d/upstream-shop.conf"
    text, serving = config.read_bytes(), rig.servers()
    again = rig.rollout(settings)
    assert again.rc == 0, str(again)
    assert set(again.changed.values()) == {0}, str(again)
    assert reloads_in(rig, "lb1") - before == reloads
    assert (config.read_bytes(), rig.servers()) == (text, serving)
    assert rig.leftovers("lb1") == []


def test_a_version_that_never_gets_healthy_is_rolled_back(rig: Rig) -> None:
    """nginx would send traffic to anything that listens: the gate on the member alone keeps it away."""
    before = reloads_in(rig, "lb1")
    with rig.watch() as watch, rig.load(rate=200) as load:
        run = rig.rollout(rig.archive("2.0", never_healthy=True), rollout_batches=[2], rollout_health_timeout=3)
    load.assert_nothing_lost(closed_idle=IDLE_A_RELOAD * (reloads_in(rig, "lb1") - before))
    assert run.rc != 0, str(run)
    assert run.report["outcome"] == "rolled_back"
    assert load.served("2.0") == 0
    assert rig.current() == rig.all_on(FIRST)
    assert rig.in_service() == set(rig.hosts)
    assert watch.least == 4


@pytest.mark.parametrize("way", ["archive", "tasks"])
def test_joined_batches_take_one_reload_less_each(rig: Rig, way: str) -> None:
    """N + 1 reloads for N batches, however the members are upgraded, and never more than a batch out."""
    how = rig.archive("2.0")
    if way == "tasks":
        rig.lay_out("2.0")
        tasks = rig.folder / "upgrade.yml"
        tasks.write_text(
            "- ansible.builtin.file: {src: 'releases/{{ rollout_release }}', dest: /opt/shop/current, state: link}\n"
            "- ansible.builtin.systemd_service: {name: shop.service, state: restarted}\n",
            encoding="utf-8",
        )
        how = {
            "rollout_version": "2.0",
            "rollout_upgrade_tasks": str(tasks),
            "rollout_health_version_key": "version",
        }
    before = reloads_in(rig, "lb1")
    with rig.watch() as watch, rig.load(rate=150) as load:
        run = rig.rollout(how, rollout_batches=[2], rollout_join_batches=True)
    assert run.rc == 0, str(run)
    reloads = reloads_in(rig, "lb1") - before
    assert reloads == 4
    assert run.report["balancers"]["reloads"] == {"lb1": reloads}
    load.assert_nothing_lost(closed_idle=IDLE_A_RELOAD * reloads)
    assert rig.current() == rig.all_on("2.0")
    assert rig.in_service() == set(rig.hosts)
    assert watch.least == 4
    assert {member["state"] for member in run.report["members"].values()} == {"finished"}
    assert {member["look"] for host, member in run.report["members"].items() if host not in ("web5", "web6")} == {""}
