# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Maintenance under load: a fleet is rebooted batch by batch, without any release, and nothing is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from lab import podman

from .rig import FIRST, Rig, Run

pytestmark = pytest.mark.lab

# A container's kernel does not change at its reboot, so another witness of the boot is asked.
REBOOT = """\
- name: Reboot
  ansible.builtin.reboot:
    reboot_command: systemctl reboot
    boot_time_command: cut -d " " -f 22 /proc/1/stat
    reboot_timeout: 60
"""
RESTART = """\
- name: Fail where the test wants it
  ansible.builtin.fail:
    msg: "no space left on the boot partition"
  when: inventory_hostname == "%(fails)s"
- name: Stop for good where the test wants it
  ansible.builtin.command: systemctl stop shop.service
  changed_when: true
  when: inventory_hostname == "%(dies)s"
- name: Restart
  ansible.builtin.command: systemctl restart shop.service
  changed_when: true
  when: inventory_hostname != "%(dies)s"
"""
SETTINGS: dict[str, Any] = {
    "rollout_batches": [2],
    "rollout_health_version_key": "version",
    "rollout_look_requests": 5,
}


def maintain(rig: Rig, tasks: str, *more: dict[str, Any], **options: Any) -> Run:
    path = rig.folder / "maintenance.yml"
    path.write_text(tasks, encoding="utf-8")
    return rig.rollout(SETTINGS, {"rollout_tasks": str(path)}, *more, playbook="maintain", **options)


def restart(fails: str = "none", dies: str = "none") -> str:
    return RESTART % {"fails": fails, "dies": dies}


@contextmanager
def power(rig: Rig) -> Iterator[list[str]]:
    """A container that reboots ends: start it again, as a machine does by itself; gives the hosts in their order."""
    end = threading.Event()
    booted: list[str] = []
    containers = {host.container: host for host in rig.lab.members}

    def watch() -> None:
        while not end.wait(0.2):
            names = podman.lines("ps", "--all", "--filter", "status=exited", "--format", "{{.Names}}")
            for name in containers.keys() & set(names):
                booted.append(containers[name].name)
                rig.lab.start(containers[name])

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield booted
    finally:
        end.set()
        thread.join()


def test_a_fleet_is_rebooted(rig: Rig) -> None:
    before = rig.servers()
    with power(rig) as booted, rig.watch() as watch, rig.load() as load:
        run = maintain(rig, REBOOT)
    load.assert_nothing_lost()
    assert run.rc == 0, str(run)
    assert sorted(booted) == rig.hosts
    assert watch.least >= 4
    assert rig.current() == rig.all_on(FIRST)
    assert rig.servers() == before
    report = run.report
    assert (report["strategy"], report["outcome"]) == ("maintain", "succeeded")
    assert (report["from_version"], report["to_version"]) == (FIRST, None)
    assert report["requests_failed"] == 0
    assert set(run.states().values()) == {"finished"}
    assert report["sentence"].startswith("shop: 6 members were maintained in 3 batches in "), report["sentence"]


def test_a_failing_task_leaves_that_member_out_and_a_second_run_takes_it_up_first(rig: Rig) -> None:
    with rig.watch() as watch, rig.load() as load:
        stopped = maintain(rig, restart(fails="web3"))
        assert rig.in_service() == set(rig.hosts) - {"web3"}
        again = maintain(rig, restart())
    load.assert_nothing_lost()
    assert watch.least >= 4
    assert stopped.rc != 0
    assert stopped.report["outcome"] == "failed", str(stopped)
    assert stopped.report["stop"]["phase"] == "maintenance"
    expected = {"web3": "failed", "web5": "untouched", "web6": "untouched"}
    assert stopped.states() == {**dict.fromkeys(rig.hosts, "finished"), **expected}
    for words in ("no space left", "Out of service: web3", "3 of 6 members", "run the same playbook again"):
        assert words in stopped.report["sentence"]
    assert again.rc == 0, str(again)
    assert again.report["batches"][0][0] == "web3"
    assert rig.in_service() == set(rig.hosts)


def test_a_member_that_does_not_get_healthy_again_is_left_out(rig: Rig) -> None:
    try:
        with rig.watch() as watch, rig.load() as load:
            run = maintain(rig, restart(dies="web1"), rollout_health_timeout=3)
        load.assert_nothing_lost()
    finally:
        rig.lab.exec("web1", ["systemctl", "start", "shop.service"])
    assert run.rc != 0
    assert run.report["outcome"] == "failed", str(run)
    assert run.report["stop"]["phase"] == "gate"
    assert run.states() == {**dict.fromkeys(rig.hosts, "untouched"), "web1": "failed", "web2": "finished"}
    assert "Out of service: web1" in run.report["sentence"]
    assert watch.ever_out == {"web1", "web2"}
    assert rig.in_service() == set(rig.hosts) - {"web1"}


def test_check_mode_changes_nothing(rig: Rig) -> None:
    before = rig.snapshot()
    with rig.watch() as watch:
        run = maintain(rig, restart(), options=["--check"])
    assert run.rc == 0, str(run)
    assert rig.snapshot() == before
    assert not watch.ever_out
    assert run.report["sentence"] == "shop: 6 members would be maintained in 3 batches; nothing was changed."


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"rollout_version": "2.0"}, "rollout_version is set to '2.0', but maintenance leaves every member"),
        ({"rollout_tasks": None}, "rollout_tasks is not set"),
        ({"rollout_tasks": "nowhere.yml"}, "rollout_tasks 'nowhere.yml' was not found"),
        ({"rollout_floor": "100%"}, "not one can be taken out"),
    ],
)
def test_what_is_wrong_is_refused(rig: Rig, more: dict[str, Any], said: str) -> None:
    before = rig.snapshot()
    run = maintain(rig, restart(), more)
    assert run.rc != 0
    assert said in run.text
    assert run.report["sentence"].startswith("shop: the maintenance was refused and nothing was touched: ")
    assert rig.snapshot() == before
