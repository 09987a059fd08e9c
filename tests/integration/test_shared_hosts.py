# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Both slots of blue/green on the same hosts, on two ports: no server stands idle."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lab
from lab import releases
from lab.balancers.haproxy_socket import ask

from .rig import FIRST, Rig, wait_for
from .slots import Slots, description

pytestmark = [
    pytest.mark.lab,
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("ZERODROP_FLIPS"), reason="make flips runs these"),
]

UNIT = """[Service]
User=shop
Environment=SHOP_PORT=8081 SHOP_ORDERS=/var/log/shop/orders-green.log
ExecStart=/usr/bin/python3 -S -E -s /opt/shopgreen/current/shop.py
Restart=on-failure
RestartSec=200ms
TimeoutStopSec=2
"""
OWN: dict[str, Any] = {
    "rollout_blue_settings": {"health_url": "http://127.0.0.1:8080/health", "archive_base": "/opt/shop"},
    "rollout_green_settings": {
        "health_url": "http://127.0.0.1:8081/health",
        "archive_base": "/opt/shopgreen",
        "archive_unit": "shopgreen.service",
    },
    "rollout_health_version_key": "version",
}


@pytest.fixture(scope="module")
def two_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lab.Lab]:
    wanted = description(prefix=f"i{os.getpid()}-bs", members=2)
    with lab.running(wanted, tmp_path_factory.mktemp("lab") / "shared") as up:
        yield up


def second_instance(rig: Rig) -> Path:
    """Green on another port of each host, known to the balancer and to an inventory."""
    for host in rig.lab.members:
        root = rig.root(host)
        (root / "opt/shopgreen").mkdir()
        releases.install(root / "opt/shopgreen", FIRST, rig.lab.description.switches)
        (root / "etc/systemd/system/shopgreen.service").write_text(UNIT, encoding="utf-8")
        rig.lab.exec(host, ["systemctl", "daemon-reload"])
        rig.lab.exec(host, ["systemctl", "start", "shopgreen.service"])
    config = rig.root("lb1") / "etc/haproxy/haproxy.cfg"
    text = config.read_text(encoding="utf-8")
    blue, green = (text.index(f"backend shop_{slot}") for slot in ("blue", "green"))
    lines = [line for line in text.splitlines() if line.strip().startswith("server ")][: len(rig.hosts)]
    section = text[blue:green]
    head = "\n".join(line for line in section.rstrip().splitlines() if not line.strip().startswith("server "))
    other = [line.replace("server web", "server green").replace(":8080", ":8081") for line in lines]
    both = "\n".join([head, *lines]) + "\n\n" + "\n".join([head.replace("shop_blue", "shop_green"), *other]) + "\n"
    config.write_text(text[:blue] + both, encoding="utf-8")
    rig.lab.exec("lb1", ["systemctl", "restart", "haproxy"])
    names = {f"green{host.name[3:]}": host for host in rig.lab.members}
    more = {name: {"ansible_host": host.address, "rollout_member_port": 8081} for name, host in names.items()}
    inventory = rig.lab.inventory.read_text(encoding="utf-8")
    head = inventory.partition("    blue:")[0]
    blues = {host.name: {"ansible_host": host.address} for host in rig.lab.members}
    path = rig.folder / "inventory.yml"
    groups = "".join(f"    {name}: {json.dumps({'hosts': own})}\n" for name, own in (("blue", blues), ("green", more)))
    path.write_text(head + groups, encoding="utf-8")
    return path


def test_slots_that_share_their_hosts(two_hosts: lab.Lab, tmp_path: Path) -> None:
    slots = Slots(Rig(two_hosts, tmp_path))
    rig = slots.rig
    inventory = second_instance(rig)
    wait_for(lambda: ask(rig.root("lb1"), "show stat").count(",UP,") >= 6)
    release = rig.archive("2.0")
    with rig.load(rate=150) as load:
        run = slots.run("blue_green", release, OWN, inventory=inventory, rollout_retire="stop")
        assert run.rc == 0, str(run)
        assert slots.live() == {"green"}
        for host in rig.lab.members:
            assert os.readlink(rig.root(host) / "opt/shopgreen/current").endswith("2.0")
            assert os.readlink(rig.lab.files(host) / "shop/current").endswith(FIRST)
            state = rig.lab.exec(host, ["systemctl", "is-active", "shop", "shopgreen"], check=False).stdout.split()
            assert state == ["inactive", "active"]
        back = slots.run("rollback", release, OWN, inventory=inventory, rollout_version=None)
        assert back.rc == 0, str(back)
        assert slots.live() == {"blue"}
    assert load.total("failed") == 0
    assert load.served("2.0") > 50
