# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A member that becomes unreachable before, while and after it drains, and while it is upgraded.

Its service runs on: what nobody can reach still answers.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from .rig import FIRST, Load, Rig, Run, Watch

pytestmark = pytest.mark.lab

SSH_ARGS = "-C -o ControlMaster=auto -o ControlPersist=60s"  # Ansible's own
LATER = {"web5", "web6"}
LOST = "web4"

TASKS = """\
- name: Switch and restart
  ansible.builtin.command:
    argv:
      - /bin/sh
      - -c
      - "ln -sfn releases/{{ rollout_release }} /opt/shop/current && systemctl restart shop.service"
  changed_when: true
"""
# The connection dies under the user's own tasks: between two of them.
DYING = """\
- name: Lose this host
  ansible.builtin.shell: "systemctl stop ssh.service; (sleep 0.3; pkill -KILL -x sshd) </dev/null >/dev/null 2>&1 &"
  when: inventory_hostname == "web4" and rollout_release == "2.0"
  changed_when: true
- name: Wait for it
  ansible.builtin.wait_for:
    timeout: 1
  delegate_to: localhost
"""


def assert_orderly(rig: Rig, run: Run, watch: Watch, load: Load, outcome: str) -> None:
    """Stopped in order: nothing lost, the floor held, later batches untouched, and a message that helps."""
    load.assert_nothing_lost()
    assert watch.least >= 3  # the floor; web4 may be out for good while the others go back
    assert not watch.ever_out & LATER
    assert run.rc != 0, str(run)
    assert run.report["outcome"] == outcome, run.report["sentence"]
    sentence = run.report["sentence"]
    assert LOST in sentence
    assert "again" in sentence
    states = run.states()
    assert {states[host] for host in LATER} == {"untouched"}
    current = rig.current()
    assert {current[host] for host in LATER} == {FIRST}
    # All that can be reached is in service again.
    assert rig.in_service() >= set(rig.hosts) - {LOST}


def by_archive(rig: Rig) -> dict[str, Any]:
    return {**rig.archive("2.0", start_delay=1.0), "rollout_batches": [2], "rollout_look_requests": 5}


def by_tasks(rig: Rig, before: str = "") -> dict[str, Any]:
    rig.lay_out("2.0", start_delay=1.0)
    path = rig.folder / "deploy.yml"
    path.write_text(before + TASKS, encoding="utf-8")
    return {
        "rollout_version": "2.0",
        "rollout_upgrade_tasks": str(path),
        "rollout_health_version_key": "version",
        "rollout_batches": [2],
        "rollout_look_requests": 5,
    }


METHODS = pytest.mark.parametrize("method", [by_archive, by_tasks], ids=["archive", "tasks"])
Method = Callable[[Rig], dict[str, Any]]


@METHODS
@pytest.mark.parametrize("fault", [Rig.lose, Rig.cut], ids=["refused", "silent"])
def test_before_the_rollout(rig: Rig, method: Method, fault: Callable[[Rig, str], None]) -> None:
    settings = method(rig)
    before = rig.snapshot()
    fault(rig, LOST)
    with rig.watch() as watch, rig.load() as load:
        run = rig.rollout(settings)
    load.assert_nothing_lost(at_least=50)
    assert run.rc != 0, str(run)
    assert run.report["outcome"] == "refused"
    assert f"{LOST} cannot be reached" in run.report["sentence"]
    assert "nothing was touched" in run.report["sentence"]
    assert watch.ever_out == set()
    assert rig.snapshot() == before


@METHODS
@pytest.mark.parametrize("fault", [Rig.lose, Rig.cut], ids=["refused", "silent"])
def test_while_it_drains(rig: Rig, method: Method, fault: Callable[[Rig, str], None]) -> None:
    settings = method(rig)
    # Where packets vanish, it is OpenSSH that must notice; an open connection hangs otherwise.
    environment = {"ANSIBLE_SSH_ARGS": f"{SSH_ARGS} -o ServerAliveInterval=2 -o ServerAliveCountMax=2"}
    # Slow requests keep the drain going while the fault strikes.
    with (
        rig.watch() as watch,
        rig.load(slow=3.0) as load,
        rig.when(rig.is_out(LOST), lambda: fault(rig, LOST)) as struck,
    ):
        run = rig.rollout(settings, environment=environment if fault is Rig.cut and method is by_tasks else None)
    assert struck
    assert_orderly(rig, run, watch, load, "failed")
    assert rig.current()[LOST] == FIRST
    assert rig.current() == rig.all_on(FIRST)
    assert f"Out of service: {LOST}" in run.report["sentence"]


def test_while_its_release_is_switched(rig: Rig) -> None:
    link = rig.lab.files(LOST) / "shop/current"
    with (
        rig.watch() as watch,
        rig.load() as load,
        rig.when(lambda: os.readlink(link).endswith("2.0"), lambda: rig.lose(LOST)) as struck,
    ):
        run = rig.rollout(by_archive(rig))
    assert struck
    assert_orderly(rig, run, watch, load, "failed")
    # Nobody could see how far it got; it gets no traffic until somebody can.
    assert LOST not in rig.in_service()
    assert f"Out of service: {LOST}" in run.report["sentence"]


@pytest.mark.parametrize("on_failure", ["rollback", "freeze"])
def test_while_the_users_own_tasks_run(rig: Rig, on_failure: str) -> None:
    with rig.watch() as watch, rig.load() as load:
        rig.expect_loss(LOST)
        run = rig.rollout(by_tasks(rig, DYING), rollout_on_failure=on_failure)
    assert_orderly(rig, run, watch, load, "failed")
    assert f"{LOST} was lost during the upgrade" in run.report["sentence"]
    assert LOST not in rig.in_service()
    kept = "2.0" if on_failure == "freeze" else FIRST
    current = rig.current()
    assert {current[host] for host in ("web1", "web2", "web3")} == {kept}


@METHODS
def test_the_same_playbook_finishes_when_it_is_back(rig: Rig, method: Method) -> None:
    settings = method(rig)
    with rig.load(slow=3.0) as load:
        with rig.when(rig.is_out(LOST), lambda: rig.lose(LOST)) as struck:
            stopped = rig.rollout(settings, rollout_on_failure="freeze")
        assert struck
        assert stopped.rc != 0, str(stopped)
        rig.lab.start_sshd(LOST)
        run = rig.rollout(settings)
    load.assert_nothing_lost()
    assert run.rc == 0, str(run)
    assert rig.current() == rig.all_on("2.0")
    assert rig.in_service() == set(rig.hosts)


def test_a_balancer_that_is_lost_before_the_rollout(rig: Rig) -> None:
    before = rig.snapshot()
    rig.lose("lb1")
    run = rig.rollout(by_archive(rig))
    assert run.rc != 0, str(run)
    assert run.report["outcome"] == "refused"
    assert "lb1 cannot be reached" in run.report["sentence"]
    assert rig.snapshot() == before
