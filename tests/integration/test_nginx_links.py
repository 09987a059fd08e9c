# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whole rollouts behind nginx whose members are switched by links: no reload, and no client notices."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import lab

from .fleets import nginx_description, prepare_links, reloads_in
from .rig import FIRST, Rig

pytestmark = pytest.mark.lab

ROLLOUTS = int(os.environ.get("ZERODROP_ROLLOUTS", "1"))
VERSION = os.environ.get("ZERODROP_NGINX", "1.22")  # the oldest: its reloads would cost idle clients their connections


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lab.Lab]:
    """Prepared by the role, as a user does; connections to members are kept, as newer versions do by themselves."""
    description = nginx_description(VERSION, nginx_links=True, upstream_keepalive=8)
    with lab.running(description, tmp_path_factory.mktemp("lab") / "links") as up:
        assert "+upstream zerodrop_shop {" in prepare_links(up, "--check", "--diff")
        assert "CHANGED" in prepare_links(up)
        assert "SUCCESS" in prepare_links(up)  # the second time nothing is changed
        yield up


@pytest.fixture
def rig(prepared: lab.Lab, tmp_path: Path) -> Iterator[Rig]:
    found = Rig(prepared, tmp_path)
    found.reset()
    yield found
    found.heal()


@pytest.mark.timeout(120 + 60 * ROLLOUTS)
def test_rollouts_without_a_reload_lose_nothing(rig: Rig, record_property: Callable[[str, object], None]) -> None:
    """All kinds of client; ZERODROP_ROLLOUTS says how many rollouts in a row, ZERODROP_NGINX on which nginx."""
    before, reloads = FIRST, reloads_in(rig, "lb1")
    settings, seconds = {}, []
    with rig.watch() as watch, rig.load(rate=250) as load:
        for number in range(ROLLOUTS):
            version = f"{2 + number % 2}.{number}"
            settings = rig.archive(version)
            run = rig.rollout(settings, rollout_batches=[2], rollout_nginx_mode="links")
            assert run.rc == 0, str(run)
            assert (run.report["from_version"], run.report["to_version"]) == (before, version)
            assert rig.current() == rig.all_on(version)
            assert rig.in_service() == set(rig.hosts)
            before = version
            seconds.append(round(run.seconds, 1))
    record_property("seconds", seconds)
    record_property("requests", load.total("requests_total"))
    print(f"{VERSION}: {seconds} s, {load.total('requests_total')} requests, {load.total('closed_idle')} closed idle")
    load.assert_nothing_lost(at_least=250 * ROLLOUTS)
    assert load.posts is not None
    assert load.posts.executed == load.posts.sent > 50
    assert load.served(before) > 0
    assert watch.least == 4
    assert reloads_in(rig, "lb1") == reloads

    again = rig.rollout(settings)
    assert again.rc == 0, str(again)
    assert set(again.changed.values()) == {0}, str(again)
    assert rig.leftovers("lb1") == []


def test_a_version_that_never_gets_healthy_is_rolled_back(rig: Rig) -> None:
    with rig.watch() as watch, rig.load(rate=200) as load:
        run = rig.rollout(rig.archive("2.0", never_healthy=True), rollout_batches=[2], rollout_health_timeout=3)
    load.assert_nothing_lost()
    assert run.report["outcome"] == "rolled_back"
    assert load.served("2.0") == 0
    assert rig.current() == rig.all_on(FIRST)
    assert rig.in_service() == set(rig.hosts)
    assert watch.least == 4
