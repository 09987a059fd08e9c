# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The roles drain and restore, and the playbook maintain, behind HAProxy and nginx at once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lab

from .conftest import FULL
from .fleets import PATIENT_CLIENTS
from .rig import Rig, wait_for
from .test_member_sockets import from_the_balancer

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300), FULL]

PLAY = """\
- name: Maintain the members one by one
  hosts: shop
  serial: 1
  gather_facts: false
  roles:
    - zerodrop.rollout.drain
  tasks:
    - name: Restart the service
      ansible.builtin.command: systemctl restart shop.service
      changed_when: true
    - name: Back into service
      ansible.builtin.import_role:
        name: zerodrop.rollout.restore
"""
RESTART = """\
- name: Restart the service
  ansible.builtin.command: systemctl restart shop.service
  changed_when: true
"""
ROLE = """\
- name: Only one of the roles
  hosts: web1
  gather_facts: false
  roles:
    - zerodrop.rollout.{}
"""
# HAProxy before nginx: nginx names its members by their addresses.
POOLS: dict[str, Any] = {
    "rollout_pool": None,
    "rollout_balancers": None,
    "rollout_pools": [
        {"balancers": "lb1", "pool": "shop"},
        {"balancers": "lb2", "pool": "shop", "driver": "nginx"},
    ],
    "rollout_floor": 1,
}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lab.Lab]:
    description = lab.Description(
        prefix=f"i{os.getpid()}-d",
        members=3,
        balancers=2,
        mixed=("haproxy-2.6", "nginx-1.30"),
        keepalive_min_timeout=PATIENT_CLIENTS,
        check_timeout_s=5,
    )
    with lab.running(description, tmp_path_factory.mktemp("lab") / "roles") as up:
        yield up


@pytest.fixture
def rig(fleet: lab.Lab, tmp_path: Path) -> Iterator[Rig]:
    found = Rig(fleet, tmp_path)
    found.reset()
    yield found
    found.heal()


def play(rig: Rig, text: str, *settings: dict[str, Any], options: tuple[str, ...] = ()) -> Any:
    path = rig.folder / "play.yml"
    path.write_text(text, encoding="utf-8")
    return rig.rollout(POOLS, *settings, playbook=str(path), options=options)


def test_the_roles_take_members_out_of_haproxy_and_nginx_and_put_them_back(rig: Rig) -> None:
    before = rig.servers()
    check = play(rig, PLAY, options=("--check", "--diff"))
    assert check.rc == 0, str(check)
    assert rig.servers() == before
    assert check.text.count('"admin": "out"') >= 6, str(check)  # each member, on each balancer
    with rig.watch() as watch, rig.load(rate=150) as load:
        run = play(rig, PLAY)
    assert run.rc == 0, str(run)
    load.assert_nothing_lost()
    assert watch.ever_out == set(rig.hosts)
    assert watch.least >= 1
    assert rig.servers() == before
    again = play(rig, ROLE.format("restore"))
    assert again.rc == 0, str(again)
    assert set(again.changed.values()) == {0}, str(again)


def test_what_was_drained_stays_out_of_both_until_it_is_restored(rig: Rig) -> None:
    before = rig.servers()
    run = play(rig, ROLE.format("drain"))
    assert run.rc == 0, str(run)
    assert rig.in_service() == {"web2", "web3"}
    assert all(not servers["web1"].startswith("UP") for servers in rig.servers().values())
    again = play(rig, ROLE.format("drain"))
    assert (again.rc, set(again.changed.values())) == (0, {0}), str(again)
    run = play(rig, ROLE.format("restore"))
    assert run.rc == 0, str(run)
    assert rig.servers() == before


def test_where_the_inner_pool_refuses_the_outer_one_is_put_back(rig: Rig) -> None:
    inner = {"rollout_pools": POOLS["rollout_pools"][1:]}
    by_hand = play(rig, ROLE.format("drain").replace("web1", "web2"), inner)
    assert by_hand.rc == 0, str(by_hand)
    before = rig.servers()
    run = play(rig, ROLE.format("drain"), {"rollout_floor": 2, "rollout_floor_wait": 0})
    assert run.rc != 0
    assert "would leave 1 of 3 members in service" in run.text, str(run)
    assert "Put back as it was on lb1" in run.text
    wait_for(lambda: rig.servers() == before)  # once HAProxy's own checks have passed
    by_hand = play(rig, ROLE.format("restore").replace("web1", "web2"), inner)
    assert by_hand.rc == 0, str(by_hand)
    assert rig.in_service() == set(rig.hosts)


def test_what_only_the_member_sees_holds_up_the_drain(rig: Rig) -> None:
    """A request from another program on a balancer's host: waited for, and at the limit everything is put back."""
    before = rig.servers()
    with from_the_balancer(rig, 18):  # longer than a playbook takes to get there
        run = play(rig, ROLE.format("drain"), {"rollout_drain_timeout": 1})
        assert run.rc != 0
        assert "still busy on web1 (1 from lb1)" in run.text, str(run)
        wait_for(lambda: rig.servers() == before)
        run = play(rig, ROLE.format("drain"), {"rollout_drain_timeout": 40})
        assert run.rc == 0, str(run)
    assert rig.in_service() == {"web2", "web3"}
    run = play(rig, ROLE.format("restore"))
    assert run.rc == 0, str(run)
    assert rig.servers() == before


def test_a_member_is_warmed_before_it_is_put_back(rig: Rig) -> None:
    before = rig.servers()
    run = play(rig, ROLE.format("drain"))
    assert run.rc == 0, str(run)
    run = play(rig, ROLE.format("restore"), {"rollout_warm_up": ["/no-such-page"]})
    assert run.rc != 0
    assert "warm-up failed at /no-such-page: status 404" in run.text, str(run)
    assert rig.in_service() == {"web2", "web3"}
    run = play(rig, ROLE.format("restore"), {"rollout_warm_up": ["/"], "rollout_health_url": None})
    assert run.rc != 0
    assert "rollout_health_url is empty" in run.text, str(run)
    more = {"rollout_warm_up": ["/", "/health"], "rollout_warm_up_count": 20, "rollout_warm_up_concurrency": 4}
    run = play(rig, ROLE.format("restore"), more, options=("-v",))
    assert run.rc == 0, str(run)
    assert '"requests": 40' in run.text, str(run)
    assert rig.servers() == before


def test_a_fleet_of_both_kinds_is_maintained_under_load(rig: Rig) -> None:
    tasks = rig.folder / "restart.yml"
    tasks.write_text(RESTART, encoding="utf-8")
    before = rig.servers()
    with rig.watch() as watch, rig.load(rate=150) as load:
        run = rig.rollout(POOLS, {"rollout_tasks": str(tasks), "rollout_batches": [1]}, playbook="maintain")
    assert run.rc == 0, str(run)
    load.assert_nothing_lost()
    assert watch.ever_out == set(rig.hosts)
    assert rig.servers() == before
