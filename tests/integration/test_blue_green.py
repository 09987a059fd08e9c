# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Blue/green on real hosts: the idle slot gets the release, then all the traffic at once, and the way back."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import lab
from lab.balancers.haproxy_socket import ask

from .rig import Rig, Run

pytestmark = [
    pytest.mark.lab,
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("ZERODROP_FLIPS"), reason="make flips runs these"),
]

PREVIEW = "header:X-Preview=s3cret"


class Slots:
    """A fleet whose members are in two slots."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        half = len(rig.hosts) // 2
        self.hosts = {"blue": rig.hosts[:half], "green": rig.hosts[half:]}

    def run(self, playbook: str = "blue_green", *settings: Mapping[str, Any], **more: Any) -> Run:
        own = {
            "rollout_hosts": None,
            "rollout_blue": "blue",
            "rollout_green": "green",
            "rollout_preview": PREVIEW,
            "rollout_bake": 1,
        }
        return self.rig.rollout(own, *settings, playbook=playbook, **more)

    def version_of(self, balancer: lab.Host, preview: bool = False) -> str:
        headers = ["-H", "X-Preview: s3cret"] if preview else []
        said = self.rig.lab.exec(balancer, ["curl", "-s", *headers, "http://127.0.0.1/version"], check=False)
        return said.stdout.strip()

    def live(self) -> set[str]:
        """The slots that the balancers' maps name, at run time and on the disk."""
        found = set()
        for host in self.rig.lab.balancers:
            if self.rig.lab.generation(host).name.startswith("haproxy"):
                said = ask(self.rig.root(host), "show map /etc/haproxy/zerodrop/shop.map")
                found |= {line.split()[2] for line in said.splitlines() if " live " in line}
                text = (self.rig.root(host) / "etc/haproxy/zerodrop/shop.map").read_text(encoding="utf-8")
                found |= {line.split()[1] for line in text.splitlines() if line.startswith("live ")}
            else:
                folder = self.rig.root(host) / "var/lib/zerodrop/nginx/routes/shop"
                found |= {path.name for path in folder.iterdir()}
        return {name.removeprefix("shop_") for name in found}

    def current(self, slot: str) -> set[str]:
        return {release for host, release in self.rig.current().items() if host in self.hosts[slot]}


@pytest.fixture(scope="module")
def two_slots(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lab.Lab]:
    description = lab.Description(prefix=f"i{os.getpid()}-bg", members=4, slots=True)
    with lab.running(description, tmp_path_factory.mktemp("lab") / "slots") as up:
        yield up


@pytest.fixture
def slots(two_slots: lab.Lab, tmp_path: Path) -> Iterator[Slots]:
    rig = Rig(two_slots, tmp_path)
    rig.reset()
    found = Slots(rig)
    if found.live() != {"blue"}:
        for host in two_slots.balancers:
            flip_by_hand(rig, host, "blue")
    yield found
    rig.heal()


def flip_by_hand(rig: Rig, host: lab.Host, slot: str) -> None:
    """As an operator does who knows the map."""
    other = {"blue": "green", "green": "blue"}[slot]
    root, file = rig.root(host), "/etc/haproxy/zerodrop/shop.map"
    (root / file.lstrip("/")).write_text(f"live shop_{slot}\nidle shop_{other}\n", encoding="utf-8")
    ask(root, f"set map {file} live shop_{slot}")
    ask(root, f"set map {file} idle shop_{other}")


def test_there_and_back_under_load(slots: Slots) -> None:
    rig = slots.rig
    release = rig.archive("2.0")
    with rig.load(rate=150) as load:
        run = slots.run("blue_green", release)
        assert run.rc == 0, run
        assert run.report["outcome"] == "succeeded"
        assert "went from 1.0 to 2.0 by a flip from blue to green" in run.report["sentence"], run
        assert slots.live() == {"green"}
        assert slots.current("green") == {"2.0"}
        assert slots.current("blue") == {"1.0"}
        again = slots.run("blue_green", release)
        assert again.rc == 0, again
        assert not any(again.changed.values()), again
        back = slots.run("rollback", {**release, "rollout_version": None})
        assert back.rc == 0, back
        assert slots.live() == {"blue"}
    load.assert_nothing_lost()
    assert load.served("2.0") > 50
