# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The least rights of docs/security.md: a rolling upgrade passes with them, and nothing more is allowed."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import lab
from lab import readiness

from .conftest import PATIENT
from .rig import Rig, on_all

pytestmark = pytest.mark.lab

SECURITY = Path(__file__).parents[2] / "docs" / "security.md"


@pytest.fixture(scope="module")
def three_members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lab.Lab]:
    description = lab.Description(prefix=f"i{os.getpid()}-r", members=3, pool_lines=PATIENT)
    with lab.running(description, tmp_path_factory.mktemp("lab") / "rights") as up:
        yield up


@pytest.fixture
def least(three_members: lab.Lab, tmp_path: Path) -> Rig:
    """The fleet, with the user whom the page describes, made by the page's own commands."""
    on_balancers, on_members = re.findall(r"^```sh\n(.*?)^```$", SECURITY.read_text(encoding="utf-8"), re.M | re.S)
    key = Path(f"{three_members.key}.pub").read_text(encoding="utf-8").strip()
    rig = Rig(three_members, tmp_path)
    rig.reset()
    for hosts, script in ((three_members.balancers, on_balancers), (three_members.members, on_members)):
        on_all(hosts, three_members, script.replace("ssh-ed25519 AAAA...", key))
    readiness.wait(three_members, 30)
    return rig


def as_deploy(rig: Rig, host: str, command: str) -> subprocess.CompletedProcess[str]:
    """Over SSH, with the key that the controller has."""
    options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
    return subprocess.run(
        ["ssh", *options, "-i", str(rig.lab.key), f"deploy@{rig.lab.host(host).address}", command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def test_a_rolling_upgrade_passes_and_nothing_more_is_allowed(least: Rig) -> None:
    inventory = yaml.safe_load(least.lab.inventory.read_text(encoding="utf-8"))
    inventory["all"]["vars"]["ansible_user"] = "deploy"
    path = least.folder / "deploy.yml"
    path.write_text(yaml.safe_dump(inventory), encoding="utf-8")
    least.lay_out("2.0")
    tasks = least.folder / "upgrade.yml"
    tasks.write_text(
        "- name: Switch\n  ansible.builtin.command:\n    argv: [ln, -sfn, 'releases/{{ rollout_release }}', /opt/shop/current]\n"
        "  changed_when: true\n\n"
        "- name: Restart\n  ansible.builtin.command:\n    argv: [sudo, -n, /usr/bin/systemctl, restart, shop.service]\n"
        "  changed_when: true\n",
        encoding="utf-8",
    )
    settings = {
        "rollout_version": "2.0",
        "rollout_upgrade_tasks": str(tasks),
        "rollout_health_version_key": "version",
        "rollout_lasting": "accept",
    }
    with least.watch() as watch, least.load(rate=60) as load:
        run = least.rollout(settings, inventory=path)
    assert run.rc == 0, str(run)
    load.assert_nothing_lost()
    assert least.current() == least.all_on("2.0")
    assert watch.least >= 2
    assert any("puts nothing back by itself" in note for note in run.report["notes"]), (
        "nobody said that there is no dead man's switch"
    )
    for host in ("lb1", "web1"):
        for command in (
            "sudo -n true",
            "sudo -n /bin/sh -c id",
            "sudo -n /usr/bin/systemctl restart ssh.service",
            "sudo -n /usr/bin/systemctl restart shop.service x",
            "cat /etc/shadow",
            "touch /etc/haproxy/evil /etc/evil",
            "systemctl stop ssh.service",
        ):
            assert as_deploy(least, host, command).returncode != 0, f"{host} lets it: {command}"
    assert "uid=" not in as_deploy(least, "lb1", "id").stdout, "there is a shell on the balancer"
    assert as_deploy(least, "web1", "sudo -n /usr/bin/systemctl restart shop.service").returncode == 0
