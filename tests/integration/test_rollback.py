# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The way back of a whole fleet, under load: after a rollout that finished, and after one that stopped half way."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lab

from .conftest import PATIENT
from .rig import FIRST, Rig, Run
from .test_unreachable import TASKS

pytestmark = pytest.mark.lab

ALL = pytest.mark.skipif(not os.environ.get("ZERODROP_KILLS"), reason="make kills runs it")
MEMBERS = 12 if os.environ.get("ZERODROP_KILLS") else 6
HALF = 7 if MEMBERS == 12 else 3


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lab.Lab]:
    """A fleet of its own where it is larger than that of the other tests."""
    description = lab.Description(prefix=f"i{os.getpid()}-b", members=MEMBERS, sticky="cookie", pool_lines=PATIENT)
    with lab.running(description, tmp_path_factory.mktemp("lab") / "back") as up:
        yield up


@pytest.fixture
def rig(fleet: lab.Lab, tmp_path: Path) -> Iterator[Rig]:
    found = Rig(fleet, tmp_path)
    found.reset()
    yield found
    found.heal()


def by_archive(rig: Rig) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of the rollout, and of the rollback, which needs no archive."""
    forward = {**rig.archive("2.0"), "rollout_look_requests": 5, "rollout_health_version_key": "version"}
    archive = ("rollout_version", "rollout_archive_src", "rollout_archive_checksum")
    return forward, {name: value for name, value in forward.items() if name not in archive}


def by_tasks(rig: Rig) -> tuple[dict[str, Any], dict[str, Any]]:
    rig.lay_out("2.0")
    path = rig.folder / "deploy.yml"
    path.write_text(TASKS, encoding="utf-8")
    back = {
        "rollout_upgrade_tasks": str(path),
        "rollout_look_requests": 5,
        "rollout_health_version_key": "version",
    }
    return {**back, "rollout_version": "2.0"}, back


def roll_back(rig: Rig, settings: dict[str, Any], **more: Any) -> Run:
    return rig.rollout(settings, playbook="rollback", **more)


def test_of_a_rollout_that_finished(rig: Rig) -> None:
    forward, back = by_archive(rig)
    with rig.watch() as watch, rig.load() as load:
        assert rig.rollout(forward, rollout_batches=[3]).rc == 0
        looked = roll_back(rig, back, rollout_rollback_batches=["25%"], options=["--check"])
        assert looked.rc == 0, str(looked)
        assert rig.current() == rig.all_on("2.0")
        run = roll_back(rig, back, rollout_rollback_batches=["25%"])
    load.assert_nothing_lost()
    assert run.rc == 0, str(run)
    assert watch.least >= MEMBERS // 2
    assert rig.current() == rig.all_on(FIRST)
    assert rig.in_service() == set(rig.hosts)
    report = run.report
    assert (report["strategy"], report["from_version"], report["to_version"]) == ("rollback", "2.0", FIRST)
    assert report["outcome"] == "succeeded"
    size = MEMBERS // 4
    assert [len(batch) for batch in report["batches"]] == [size] * (MEMBERS // size)
    assert report["batches"][0][0] == rig.hosts[-1]  # the one that was upgraded last
    again = roll_back(rig, back, rollout_rollback_to=FIRST)
    assert again.rc == 0, str(again)
    assert set(again.changed.values()) == {0}, str(again)
    assert "nothing was changed" in again.report["sentence"]


@ALL
@pytest.mark.parametrize("method", [by_archive, by_tasks], ids=["archive", "tasks"])
def test_of_a_rollout_that_was_cancelled_half_way(rig: Rig, method: Any) -> None:
    forward, back = method(rig)
    last = rig.hosts[HALF - 1]
    with rig.watch() as watch, rig.load() as load:
        with rig.when(rig.member_is(last, "finished", out=False), lambda: rig.signal(signal.SIGTERM)) as struck:
            stopped = rig.rollout(forward, rollout_batches=[HALF - 1, 1], rollout_floor="40%")
        assert struck, str(stopped)
        assert sum(release == "2.0" for release in rig.current().values()) >= HALF
        run = roll_back(rig, back, rollout_rollback_batches=[2])
    load.assert_nothing_lost()
    assert run.rc == 0, str(run)
    assert watch.least >= MEMBERS * 2 // 5
    assert rig.current() == rig.all_on(FIRST)
    assert rig.in_service() == set(rig.hosts)
    assert run.report["to_version"] == FIRST


def test_a_release_that_is_not_kept_is_refused_before_anything_is_touched(rig: Rig) -> None:
    before = rig.snapshot()
    _forward, back = by_archive(rig)
    run = roll_back(rig, back, rollout_rollback_to="0.9")
    assert run.rc != 0
    assert run.report["outcome"] == "refused"
    assert "cannot go back to 0.9: it is not kept there any more" in run.report["sentence"]
    assert rig.snapshot() == before
