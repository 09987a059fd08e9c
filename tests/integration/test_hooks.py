# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hooks at the points of a rollout: when they run, what they are told, and what their failure does to the fleet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .rig import FIRST, Rig, Run
from .test_users_upgrade import inventory_in, tasks_file

pytestmark = pytest.mark.lab

POINTS = (
    *("before_rollout", "before_drain", "after_drain", "before_upgrade", "after_upgrade", "before_put_back"),
    *("after_put_back", "before_rollback", "after_rollback", "failure", "after_rollout"),
)
OF_A_BATCH = POINTS[1:7]
NOTE = """\
- name: Fail where the test wants it
  ansible.builtin.fail:
    msg: the hook has had enough
  when: rollout_hook.point == "%(fails)s"
- name: Note what is told
  ansible.builtin.lineinfile:
    path: "%(path)s"
    line: "{{ rollout_hook | to_json }}"
    create: true
    mode: "0600"
"""


class Hooked:
    """A rollout with a hook at each of these points, which notes what it is told."""

    def __init__(self, rig: Rig, *points: str, fails: str = "") -> None:
        self.notes = rig.folder / f"notes-{fails}"
        tasks = rig.folder / f"note-{fails}.yml"
        tasks.write_text(NOTE % {"path": self.notes, "fails": fails}, encoding="utf-8")
        self.settings: dict[str, Any] = {f"rollout_hook_{point}": str(tasks) for point in points}

    def told(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.notes.read_text(encoding="utf-8").splitlines()]

    def points(self) -> list[str]:
        return [each["point"] for each in self.told()]


def roll(rig: Rig, hooked: Hooked, *more: dict[str, Any], **settings: Any) -> Run:
    return rig.rollout(
        rig.archive("2.0"), hooked.settings, *more, rollout_batches=[3], rollout_look_requests=0, **settings
    )


def test_every_point_in_its_order_with_a_ready_method(rig: Rig) -> None:
    hooked = Hooked(rig, *POINTS)
    with rig.load() as load:
        run = roll(rig, hooked)
    load.assert_nothing_lost()
    assert run.rc == 0, str(run)
    assert rig.current() == rig.all_on("2.0")
    assert hooked.points() == ["before_rollout", *OF_A_BATCH, *OF_A_BATCH, "after_rollout"]
    first, drained, last = hooked.told()[0], hooked.told()[2], hooked.told()[-1]
    assert first["members"] == rig.hosts
    assert first["text"] == f"shop: {FIRST} to 2.0 begins, 6 members in 2 batches"
    assert (drained["batch"], drained["members"]) == ("batch 1 of 2", ["web1", "web2", "web3"])
    assert drained["addresses"]["web1"] == [rig.lab.host("web1").address]
    assert (last["outcome"], last["text"]) == ("succeeded", run.report["sentence"])
    again = roll(rig, hooked)
    assert (again.rc, sum(again.changed.values())) == (0, 0), str(again)
    assert len(hooked.told()) == 14  # nothing was to be done


@pytest.mark.parametrize(
    ("fails", "outcome"),
    [("before_rollout", "refused"), ("after_drain", "rolled_back"), ("after_put_back", "rolled_back")],
)
def test_a_hook_that_fails_stops_the_rollout(rig: Rig, fails: str, outcome: str) -> None:
    hooked = Hooked(rig, fails, "failure", fails=fails)
    before = rig.servers()
    run = roll(rig, hooked)
    assert run.rc == 2, str(run)
    assert run.report["outcome"] == outcome, str(run)
    assert f"The hook {fails} failed: the hook has had enough" in run.report["sentence"]
    assert rig.current() == rig.all_on(FIRST)
    assert rig.servers() == before
    assert hooked.told()[-1]["point"] == "failure"
    assert "has had enough" in hooked.told()[-1]["stop"]


def test_a_hook_that_may_fail_is_noted_and_one_after_the_end_fails_the_run(rig: Rig) -> None:
    hooked = Hooked(rig, "after_drain", fails="after_drain")
    run = roll(rig, hooked, rollout_hooks_may_fail="after_drain")
    assert run.rc == 0, str(run)
    assert any("the rollout went on" in note for note in run.report["notes"])
    late = Hooked(rig, "after_rollout", fails="after_rollout")
    run = rig.rollout(rig.archive("3.0"), late.settings, rollout_batches=[3])
    assert run.rc == 2
    assert run.report["outcome"] == "succeeded"
    assert rig.current() == rig.all_on("3.0")


def test_the_way_back_of_tasks_of_the_users_own(rig: Rig) -> None:
    rig.lay_out("2.0", never_healthy=True)
    hooked = Hooked(rig, *POINTS)
    run = rig.rollout(
        tasks_file(rig.folder),
        hooked.settings,
        inventory=inventory_in(rig),
        directory=rig.folder,
        rollout_version="2.0",
        rollout_health_version_key="version",
        rollout_health_timeout=3,
        rollout_batches=[2],
        rollout_look_requests=0,
    )
    assert run.rc == 2
    assert run.report["outcome"] == "rolled_back", str(run)
    assert rig.current() == rig.all_on(FIRST)
    assert rig.in_service() == set(rig.hosts)
    back = ["before_rollback", *OF_A_BATCH, "after_rollback", "failure", "after_rollout"]
    assert hooked.points() == ["before_rollout", *OF_A_BATCH, *back]
    assert [each["back"] for each in hooked.told()].count(True) == len(OF_A_BATCH)


def test_a_host_that_a_hook_cannot_reach_takes_nothing_with_it(rig: Rig, tmp_path: Path) -> None:
    tasks = tmp_path / "ask.yml"
    tasks.write_text(
        "- name: Ask a host that is not there\n  ansible.builtin.ping:\n  delegate_to: nowhere.invalid\n",
        encoding="utf-8",
    )
    run = rig.rollout(rig.archive("2.0"), rollout_batches=[3], rollout_hook_after_drain=str(tasks))
    assert run.rc == 0, str(run)
    assert rig.current() == rig.all_on("2.0")
    assert rig.in_service() == set(rig.hosts)
