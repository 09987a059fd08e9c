# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Blue/green on real hosts: the idle slot gets the release, then all the traffic at once, and the way back."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import lab
from lab.balancers.haproxy_socket import ask

from .rig import Rig, wait_for
from .slots import Slots, description

pytestmark = [
    pytest.mark.lab,
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("ZERODROP_FLIPS"), reason="make flips runs these"),
]


@pytest.fixture(scope="module")
def two_slots(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lab.Lab]:
    with lab.running(description(), tmp_path_factory.mktemp("lab") / "slots") as up:
        yield up


@pytest.fixture
def slots(two_slots: lab.Lab, tmp_path: Path) -> Iterator[Slots]:
    found = Slots(Rig(two_slots, tmp_path))
    found.reset()
    yield found
    found.rig.heal()


def test_there_and_back_under_load(slots: Slots) -> None:
    rig = slots.rig
    release = rig.archive("2.0")
    with rig.load(rate=150) as load:
        run = slots.run("blue_green", release)
        assert run.rc == 0, str(run)
        assert run.report["outcome"] == "succeeded"
        assert "went from 1.0 to 2.0 by a flip from blue to green" in run.report["sentence"], run
        assert slots.live() == {"green"}
        assert slots.current("green") == {"2.0"}
        assert slots.current("blue") == {"1.0"}
        again = slots.run("blue_green", release)
        assert again.rc == 0, str(again)
        assert not any(again.changed.values()), again
        back = slots.run("rollback", {**release, "rollout_version": None})
        assert back.rc == 0, str(back)
        assert slots.live() == {"blue"}
    load.assert_nothing_lost()
    assert load.served("2.0") > 50


def test_tasks_of_the_user_s_preview_and_retire(slots: Slots) -> None:
    rig = slots.rig
    address = rig.lab.balancers[0].address
    preview, retire = rig.folder / "preview.yml", rig.folder / "retire.yml"
    ask = {"url": f"http://{address}/", "headers": {"X-Preview": "s3cret"}, "return_content": True}
    good = [
        {"name": "Ask", "ansible.builtin.uri": ask, "register": "found"},
        {
            "name": "See",
            "ansible.builtin.assert": {"that": ["found.json.version == rollout_release", "rollout_slot == 'green'"]},
        },
    ]
    preview.write_text(json.dumps([*good, {"name": "Refuse", "ansible.builtin.fail": {"msg": "not so green"}}]))
    stop = {"name": "shop.service", "state": "stopped"}
    retire.write_text(json.dumps([{"name": "Stop", "ansible.builtin.systemd_service": stop}]))
    own = {"rollout_preview_tasks": str(preview), "rollout_retire": str(retire), "rollout_old_work_timeout": 5}
    release = rig.archive("2.0")
    refused = slots.run("blue_green", release, own)
    assert refused.rc != 0
    assert "rollout_preview_tasks failed on green: not so green" in refused.text, str(refused)
    assert slots.live() == {"blue"}
    preview.write_text(json.dumps(good))
    with rig.load(rate=100, mix={"keepalive": 1}) as load:
        run = slots.run("blue_green", release, own)
    assert run.rc == 0, str(run)
    assert slots.live() == {"green"}
    load.assert_nothing_lost()
    assert any("retired by your tasks" in event["message"] for event in run.report["events"]), str(run)
    for host in slots.hosts["blue"]:
        said = rig.lab.exec(host, ["systemctl", "is-active", "shop.service"], check=False).stdout
        assert said.strip() == "inactive"
        rig.lab.exec(host, ["systemctl", "start", "shop.service"])


def second_service(rig: Rig) -> None:
    """A service cart on the same members, behind port 82."""
    for host in rig.lab.balancers:
        file = rig.root(host) / "etc/haproxy/haproxy.cfg"
        text = file.read_text(encoding="utf-8")
        if "backend cart_blue" in text:
            continue
        _head, *backends = text.split("\nbackend shop_")
        own = "".join(f"\nbackend cart_{each.rstrip()}\n" for each in backends)
        lines = [f"use_backend %[str({key}),map(/etc/haproxy/zerodrop/cart.map)]" for key in ("idle", "live")]
        lines[0] += " if { req.hdr(X-Preview) -m str s3cret }"
        front = "\nfrontend cart\n    bind :82\n    " + "\n    ".join(lines) + "\n"
        (file.parent / "zerodrop/cart.map").write_text("live cart_blue\nidle cart_green\n", encoding="utf-8")
        file.write_text(text + front + own, encoding="utf-8")
        rig.lab.exec(host, ["systemctl", "restart", "haproxy"])


def test_two_services_flip_together_or_not_at_all(slots: Slots) -> None:
    rig = slots.rig
    second_service(rig)
    wait_for(lambda: cart(slots) in rig.hosts)
    run = slots.run("blue_green", rig.archive("2.0"), rollout_services=["cart"])
    assert run.rc == 0, str(run)
    assert slots.live() == {"green"}
    assert cart(slots) in slots.hosts["green"]
    back = slots.run("rollback", rig.archive("2.0"), rollout_version=None, rollout_services=["cart"])
    assert back.rc == 0, str(back)
    assert slots.live() == {"blue"}
    assert cart(slots) in slots.hosts["blue"]
    for host in slots.hosts["green"]:
        ask(rig.root("lb1"), f"set server cart_green/{host} state maint")
    refused = slots.run("blue_green", rig.archive("2.1"), rollout_services=["cart"])
    assert refused.rc != 0
    assert "0 of the members of cart_green can serve" in refused.text, str(refused)
    assert slots.live() == {"blue"}
    assert cart(slots) in slots.hosts["blue"]


def cart(slots: Slots) -> str:
    """Who answers a request for the other service."""
    said = slots.rig.lab.exec("lb1", ["curl", "-s", "http://127.0.0.1:82/"], check=False).stdout
    return str(json.loads(said)["host"]) if said.startswith("{") else said
