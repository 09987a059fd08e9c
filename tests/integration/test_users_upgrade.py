# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A member is upgraded as its owner says: by a tasks file or by a role of theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .rig import FIRST, Rig

pytestmark = pytest.mark.lab

# Writes down what it was told, so that the test can look.
TASKS = """\
- name: Write down what this was told
  ansible.builtin.shell: "echo {{ rollout_release }} >> /var/tmp/told"
  changed_when: true
- name: Switch and restart
  ansible.builtin.command:
    argv:
      - /bin/sh
      - -c
      - "ln -sfn releases/{{ rollout_release }} /opt/shop/current && systemctl restart shop.service"
  changed_when: true
"""


def tasks_file(folder: Path) -> dict[str, Any]:
    (folder / "deploy.yml").write_text(TASKS, encoding="utf-8")
    return {"rollout_upgrade_tasks": str(folder / "deploy.yml")}


def role(folder: Path) -> dict[str, Any]:
    """A role beside the inventory, with a handler and defaults of its own."""
    for name, text in {
        "tasks/main.yml": TASKS + "  notify: Say that it is over\n",
        "handlers/main.yml": "- name: Say that it is over\n  ansible.builtin.debug:\n    msg: over\n",
        "defaults/main.yml": "shop_greeting: hello\n",
    }.items():
        path = folder / "roles/shop_deploy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return {"rollout_upgrade_role": "shop_deploy"}


def inventory_in(rig: Rig) -> Path:
    path = rig.folder / "inventory.yml"
    path.write_text(rig.lab.inventory.read_text(encoding="utf-8"), encoding="utf-8")
    return path


def told(rig: Rig) -> dict[str, list[str]]:
    """What each member's upgrade was told to install, in turn."""
    paths = {host: rig.root(host) / "var/tmp/told" for host in rig.hosts}
    found = {host: path.read_text(encoding="ascii").split() if path.exists() else [] for host, path in paths.items()}
    for path in paths.values():
        path.unlink(missing_ok=True)
    return found


@pytest.mark.parametrize("method", [tasks_file, role], ids=["tasks", "role"])
@pytest.mark.parametrize("names_version", [True, False], ids=["health names the version", "nothing names the version"])
def test_the_users_own_upgrade(rig: Rig, method: Any, names_version: bool) -> None:
    told(rig)
    rig.lay_out("2.0")
    settings = {**method(rig.folder), "rollout_batches": [2], "rollout_look_requests": 5}
    if names_version:
        settings["rollout_health_version_key"] = "version"
    with rig.watch() as watch, rig.load() as load:
        run = rig.rollout(settings, inventory=inventory_in(rig), directory=rig.folder, rollout_version="2.0")
    load.assert_nothing_lost()
    assert run.rc == 0, str(run)
    assert run.report["from_version"] == (FIRST if names_version else None)
    assert rig.current() == rig.all_on("2.0")
    assert told(rig) == {host: ["2.0"] for host in rig.hosts}
    assert watch.least >= 4
    again = rig.rollout(settings, inventory=inventory_in(rig), directory=rig.folder, rollout_version="2.0")
    assert again.rc == 0, str(again)
    assert set(again.changed.values()) == {0}, str(again)
    assert told(rig) == {host: [] for host in rig.hosts}


@pytest.mark.parametrize("method", [tasks_file, role], ids=["tasks", "role"])
def test_going_back_runs_the_users_upgrade_with_the_old_release(rig: Rig, method: Any) -> None:
    told(rig)
    rig.lay_out("2.0", never_healthy=True)
    with rig.load() as load:
        run = rig.rollout(
            method(rig.folder),
            inventory=inventory_in(rig),
            directory=rig.folder,
            rollout_version="2.0",
            rollout_health_version_key="version",
            rollout_health_timeout=3,
            rollout_batches=[2],
            rollout_look_requests=5,
        )
    load.assert_nothing_lost()
    assert run.rc != 0
    assert run.report["outcome"] == "rolled_back", str(run)
    assert rig.current() == rig.all_on(FIRST)
    assert rig.in_service() == set(rig.hosts)
    assert told(rig) == {host: ["2.0", FIRST] if host in ("web1", "web2") else [] for host in rig.hosts}


def test_a_role_beside_the_inventory_is_found_from_anywhere(rig: Rig) -> None:
    rig.lay_out("2.0")
    run = rig.rollout(role(rig.folder), inventory=inventory_in(rig), rollout_version="2.0", options=["--check"])
    assert run.rc == 0, str(run)


def test_without_a_known_release_there_is_no_way_back(rig: Rig) -> None:
    """Nothing names the first release: the members that failed stay out, and the report says so."""
    told(rig)
    rig.lay_out("2.0", never_healthy=True)
    with rig.watch() as watch, rig.load() as load:
        run = rig.rollout(tasks_file(rig.folder), rollout_version="2.0", rollout_health_timeout=3, rollout_batches=[2])
    load.assert_nothing_lost()
    assert run.rc != 0
    assert run.report["outcome"] == "failed", str(run)
    assert "nothing to roll back to" in run.text
    assert "Out of service: web1" in run.report["sentence"]
    assert rig.in_service() == {"web3", "web4", "web5", "web6"}
    assert watch.least >= 4
    told(rig)
