# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Zones, a budget of failed members, and a calendar that is overridden."""

from __future__ import annotations

import json
import os
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import yaml

from .controllers import ledger
from .rig import FIRST, Rig

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(not os.environ.get("ZERODROP_MIGRATIONS"), reason="make migrations runs these"),
]

ZONES = {"web1": "north", "web2": "south", "web3": "north", "web4": "south", "web5": "north", "web6": "south"}
WHY = "the login is broken for everybody"
UNLUCKY = """
- name: Fail where it is said
  ansible.builtin.fail:
    msg: no disk
  when: inventory_hostname in unlucky and rollout_release == '2.0'
- name: Switch and restart
  ansible.builtin.command:
    argv: [/bin/sh, -c, 'ln -sfn releases/{{ rollout_release }} /opt/shop/current && systemctl restart shop.service']
  changed_when: true
"""
BUDGET = {
    "rollout_version": "2.0",
    "rollout_health_version_key": "version",
    "rollout_batches": [2],
    "rollout_look_requests": 0,
    "rollout_max_failed_members": 1,
}


def in_zones(rig: Rig) -> Path:
    inventory = yaml.safe_load(rig.lab.inventory.read_text(encoding="utf-8"))
    for host, zone in ZONES.items():
        inventory["all"]["children"]["shop"]["hosts"][host]["rollout_zone"] = zone
    path = rig.folder / "zones.yml"
    path.write_text(yaml.safe_dump(inventory), encoding="utf-8")
    return path


def test_one_zone_at_a_time_with_a_bake_and_an_approval(rig: Rig) -> None:
    settings = {"rollout_batches": ["50%"], "rollout_floor": 2, "rollout_zone_bake": 2, "rollout_look_requests": 0}
    release, inventory = rig.archive("2.0"), in_zones(rig)
    asked = rig.rollout(settings, release, inventory=inventory, rollout_zone_approval=True, options=["--check"])
    assert asked.rc == 0, str(asked)
    assert asked.report["batches"] == [["web1", "web3", "web5"]]
    assert asked.report["later"] == ["south"]
    assert "Zones to come: south" in asked.report["sentence"]
    frozen = {"rollout_freeze_until": "2099-01-01"}
    with rig.watch() as watch, rig.load() as load:
        run = rig.rollout(settings, release, frozen, inventory=inventory, rollout_override=WHY)
        assert run.rc == 0, str(run)
        assert run.report["override"] == WHY
        assert any(WHY in note and "2099-01-01" in note for note in run.report["notes"])
        assert run.report["batches"] == [["web1", "web3", "web5"], ["web2", "web4", "web6"]]
        # A way back waits for no calendar, and bakes nothing.
        back = rig.rollout(settings, release, frozen, inventory=inventory, rollout_version=None, playbook="rollback")
        assert back.rc == 0, str(back)
    load.assert_nothing_lost()
    baked = [event["seconds"] >= 2 for event in run.report["events"] if event["phase"] == "bake"]
    assert baked == [True]
    assert not any(event["phase"] == "bake" for event in back.report["events"])
    assert rig.current() == rig.all_on(FIRST)
    for _at, _balancer, serving in watch.samples:
        assert len({ZONES[host] for host in set(ZONES) - serving}) <= 1, serving


def test_an_approval_stands_between_two_runs(rig: Rig) -> None:
    """Each run ends after its zone; the next one of the same playbook is the approval."""
    settings = {
        "rollout_batches": ["50%"],
        "rollout_floor": 2,
        "rollout_zone_approval": True,
        "rollout_look_requests": 0,
    }
    release, inventory = rig.archive("2.0"), in_zones(rig)
    with rig.watch() as watch, rig.load() as load:
        north = rig.rollout(settings, release, inventory=inventory)
        assert north.rc == 0, str(north)
        between = rig.current()
        south = rig.rollout(settings, release, inventory=inventory)
        assert south.rc == 0, str(south)
    load.assert_nothing_lost()
    assert between == {host: "2.0" if zone == "north" else FIRST for host, zone in ZONES.items()}
    assert "Zones to come: south" in north.report["sentence"]
    assert (south.report["batches"], south.report["later"]) == ([["web2", "web4", "web6"]], [])
    assert rig.current() == rig.all_on("2.0")
    for _at, _balancer, serving in watch.samples:
        assert len({ZONES[host] for host in set(ZONES) - serving}) <= 1, serving


def test_out_of_hours_nothing_begins_and_a_reason_is_kept_in_the_ledger(rig: Rig) -> None:
    zone = "Pacific/Kiritimati"
    day = (datetime.now(ZoneInfo(zone)) + timedelta(days=3)).strftime("%a")
    hours = {"rollout_allowed_hours": [day], "rollout_time_zone": zone}
    release, before = rig.archive("2.0"), rig.snapshot()
    refused = rig.rollout(release, hours)
    assert refused.report["outcome"] == "refused", str(refused)
    assert f"({zone}), which is not in rollout_allowed_hours" in refused.report["sentence"]
    assert rig.snapshot() == before
    run = rig.rollout(release, hours, rollout_override=WHY, rollout_batches=["50%"], rollout_look_requests=0)
    assert run.rc == 0, str(run)
    assert run.report["override"] == WHY
    assert json.loads(ledger(rig)["rollouts"][-1]["plan"])["override"] == WHY


def test_a_member_that_failed_keeps_the_next_zone_waiting(rig: Rig) -> None:
    """The budget lets the rest of its zone go on, and no two zones are out at once."""
    rig.lay_out("2.0")
    (rig.folder / "deploy.yml").write_text(UNLUCKY, encoding="utf-8")
    settings = {**BUDGET, "rollout_upgrade_tasks": str(rig.folder / "deploy.yml"), "rollout_floor": 2}
    with rig.watch() as watch, rig.load() as load:
        run = rig.rollout(settings, inventory=in_zones(rig), unlucky=["web1"])
    load.assert_nothing_lost()
    assert run.report["outcome"] == "frozen", str(run)
    assert rig.current() == {**rig.all_on(FIRST), "web3": "2.0", "web5": "2.0"}
    assert any("no two zones are out at once" in note for note in run.report["notes"])
    assert rig.in_service() == set(rig.hosts)
    for _at, _balancer, serving in watch.samples:
        assert len({ZONES[host] for host in set(ZONES) - serving}) <= 1, serving


def test_a_budget_of_failed_members(rig: Rig) -> None:
    """One failed member does not stop the others; it goes back at the end. A second one is too many."""
    rig.lay_out("2.0")
    (rig.folder / "deploy.yml").write_text(UNLUCKY, encoding="utf-8")
    settings = {**BUDGET, "rollout_upgrade_tasks": str(rig.folder / "deploy.yml")}
    with rig.watch() as watch, rig.load() as load:
        run = rig.rollout(settings, unlucky=["web2"])
        assert run.rc != 0
        assert run.report["outcome"] == "frozen", str(run)
        assert run.report["back_batches"] == [["web2"]]
        assert rig.current() == {**rig.all_on("2.0"), "web2": FIRST}
        assert rig.in_service() == set(rig.hosts)
    load.assert_nothing_lost()
    assert watch.least >= 3
    rig.reset()
    rig.lay_out("2.0")
    run = rig.rollout(settings, unlucky=["web2", "web3"])
    assert run.rc != 0
    assert run.report["outcome"] == "rolled_back", str(run)
    assert "rollout_max_failed_members is 1" in run.report["stop"]["hint"]
    assert rig.current() == rig.all_on(FIRST)
