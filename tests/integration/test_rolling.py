# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rollouts that succeed: what clients see of them, and what is left afterwards."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable

import pytest

from .rig import FIRST, Rig

pytestmark = pytest.mark.lab

ROLLOUTS = int(os.environ.get("ZERODROP_ROLLOUTS", "3"))


@pytest.mark.case(32)
@pytest.mark.slow
@pytest.mark.timeout(120 + 60 * ROLLOUTS)
def test_no_request_is_lost_in_rollouts_in_a_row(rig: Rig) -> None:
    """Six members in batches of two, every kind of client; ZERODROP_ROLLOUTS says how many rollouts."""
    before = FIRST
    with rig.watch() as watch, rig.load(rate=200) as load:
        for number in range(ROLLOUTS):
            version = f"{2 + number % 2}.{number}"
            run = rig.rollout(rig.archive(version), rollout_batches=[2], rollout_look_requests=5)
            assert run.rc == 0, str(run)
            assert run.report["outcome"] == "succeeded"
            assert (run.report["from_version"], run.report["to_version"]) == (before, version)
            assert run.report["batches"] == [["web1", "web2"], ["web3", "web4"], ["web5", "web6"]]
            assert rig.current() == rig.all_on(version)
            assert rig.in_service() == set(rig.hosts)
            before = version
    load.assert_nothing_lost(at_least=200 * ROLLOUTS)
    assert load.posts is not None
    assert load.posts.executed == load.posts.sent > 50
    assert load.served(before) > 0
    assert watch.least >= 4
    for host in rig.hosts:
        assert rig.leftovers(host) == []


def test_the_report_says_what_happened(rig: Rig) -> None:
    with rig.load(rate=150) as load:
        run = rig.rollout(rig.archive("2.0"), rollout_batches="2", rollout_look_requests=5)
    load.assert_nothing_lost()
    assert run.rc == 0, str(run)
    report = run.report
    assert report["service"] == "shop"
    assert report["strategy"] == "rolling"
    assert report["requests_source"] == "balancers"
    assert 0 < report["requests_total"] <= load.total("requests_total")
    assert report["requests_failed"] == 0
    # Clients saw both versions for no longer than the report says: it counts from before the new one gets
    # its first request until after the old one has ended its last.
    seen = load.summaries[0]["mixed_versions_seconds"]
    assert seen - 0.5 <= report["mixed_versions_seconds"] <= seen + 10
    assert report["duration_seconds"] <= run.seconds
    for member in report["members"].values():
        assert member["state"] == "finished"
        assert (member["from"], member["to"]) == (FIRST, "2.0")
        assert {"drain", "upgrade", "gate", "look"} <= set(member["seconds"])
        assert 0 < member["out_of_service_seconds"] < run.seconds
        assert member["cut"] == 0
        assert member["look"] == "pass"
    assert report["sentence"] in run.text
    assert f"{report['rollout_id']}/report.json" in run.text


def test_a_finished_rollout_changes_nothing_when_it_runs_again(
    rig: Rig, record_property: Callable[[str, object], None]
) -> None:
    settings = rig.archive("2.0")
    first = rig.rollout(settings, rollout_batches=[3], rollout_look_timeout=1)
    assert first.rc == 0, str(first)
    before = rig.snapshot()
    second = rig.rollout(settings)
    record_property("seconds", round(second.seconds, 2))
    assert second.rc == 0, str(second)
    assert second.recap
    assert set(second.changed.values()) == {0}, str(second)
    assert rig.snapshot() == before
    assert second.report["outcome"] == "succeeded"
    assert second.report["batches"] == []
    assert "nothing was changed" in second.report["sentence"]


@pytest.mark.parametrize("options", [["--check"], ["--check", "--diff"]], ids=["check", "check and diff"])
def test_check_mode_says_what_it_would_do_and_does_nothing(rig: Rig, options: list[str]) -> None:
    before = rig.snapshot()
    with rig.watch() as watch:
        run = rig.rollout(rig.archive("2.0"), rollout_batches=[2], options=options)
    assert run.rc == 0, str(run)
    assert rig.snapshot() == before
    assert watch.ever_out == set()
    assert run.report["check"] is True
    assert "would go from 1.0 to 2.0 in 3 batches; nothing was changed" in run.report["sentence"]
    for number, members in enumerate(("web1, web2", "web3, web4", "web5, web6"), 1):
        assert f"batch {number} of 3: {members}" in run.text


def test_check_mode_on_a_finished_rollout_would_change_nothing(rig: Rig) -> None:
    settings = rig.archive("2.0")
    assert rig.rollout(settings, rollout_batches=[3], rollout_look_timeout=1).rc == 0
    before = rig.snapshot()
    run = rig.rollout(settings, options=["--check", "--diff"])
    assert run.rc == 0, str(run)
    assert set(run.changed.values()) == {0}, str(run)
    assert rig.snapshot() == before


def test_nothing_is_left_of_a_run(rig: Rig) -> None:
    url = f"{rig.lab.url}/"
    run = rig.rollout(rig.archive("2.0"), rollout_batches=[3], rollout_witness_url=url, rollout_witness_rate=20)
    assert run.rc == 0, str(run)
    for host in rig.lab.hosts:
        assert rig.leftovers(host) == []
    # Neither the witness nor an Ansible is alive.
    found = subprocess.run(["pgrep", "-af", str(run.folder)], capture_output=True, text=True, check=False)
    assert found.stdout == ""


def test_a_ramp_of_batches_from_the_inventory(rig: Rig) -> None:
    """Settings belong to the inventory: group variables, rendered there."""
    inventory = rig.folder / "inventory.yml"
    inventory.write_text(rig.lab.inventory.read_text(encoding="utf-8"), encoding="utf-8")
    (rig.folder / "group_vars").mkdir()
    (rig.folder / "group_vars/all.yml").write_text(
        'batch_ramp: "50%"\nrollout_batches: [1, "{{ batch_ramp }}", "100%"]\nrollout_floor: "40%"\n',
        encoding="utf-8",
    )
    run = rig.rollout(rig.archive("2.0"), inventory=inventory, rollout_look_timeout=0.5)
    assert run.rc == 0, str(run)
    assert run.report["batches"] == [["web1"], ["web2", "web3", "web4"], ["web5", "web6"]]
    assert run.report["floor"] == 3
    assert rig.current() == rig.all_on("2.0")
