# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The sliding window: faster than batches where members differ, and as safe when its controller dies."""

from __future__ import annotations

import threading

import pytest

from .conftest import LIMITED
from .controllers import beside, kill, ledger
from .rig import FIRST, Rig, Run, wait_for

pytestmark = pytest.mark.lab

LIGHT = {"keepalive": 0.7, "close": 0.2, "post": 0.1}
SLOW = "web2=4,web6=4"
SETTINGS = {"rollout_look_requests": 0, "rollout_health_version_key": "version", "rollout_lease_seconds": 5}


def test_it_is_faster_than_batches_of_its_size_where_members_differ(eight: Rig) -> None:
    """Two of eight take four seconds longer to start: two batches wait for them, one after the other."""
    seconds = {}
    with eight.watch() as watch, eight.load(rate=60, mix=LIGHT) as load:
        for version, how in (("2.0", {"rollout_batches": [1, 4]}), ("3.0", {"rollout_window": 4})):
            run = eight.rollout(SETTINGS, how, eight.archive(version, **LIMITED, slow_starts=SLOW))
            assert run.rc == 0, str(run)
            assert eight.current() == eight.all_on(version)
            seconds[version] = run.report["duration_seconds"]
    load.assert_nothing_lost()
    assert watch.least >= 4
    print(f"batches of four {seconds['2.0']:.1f} s, a window of four {seconds['3.0']:.1f} s")
    assert seconds["3.0"] < seconds["2.0"] - 2
    again = eight.rollout(SETTINGS, eight.archive("3.0", **LIMITED, slow_starts=SLOW), rollout_window=4)
    assert set(again.changed.values()) == {0}, str(again)
    out = [member["out"][0][0] for member in run.report["members"].values()]
    first = run.report["members"]["web1"]["out"][0][1]
    assert all(began >= first for began in out[1:]), "the first did not go alone"


def test_killed_in_mid_window_what_is_safe_comes_back_and_the_next_run_finishes(eight: Rig) -> None:
    release = eight.archive("2.0", **LIMITED, start_delay=2)
    controller, runs = beside(eight, "killed"), list[Run]()

    def several_are_out() -> bool:
        return len([host for host in eight.hosts if controller.member_is(host, "upgraded", "drained")()]) >= 3

    with eight.watch() as watch, eight.load(rate=60, mix=LIGHT) as load:
        thread = threading.Thread(
            target=lambda: runs.append(controller.rollout(SETTINGS, release, rollout_window=4)), daemon=True
        )
        thread.start()
        wait_for(several_are_out, 60)
        kill(controller)
        thread.join(60)
        safe = {each["host"] for each in ledger(eight)["members"] if each["phase"] != "upgrading"}
        wait_for(lambda: eight.in_service() >= safe, 40)
        again = eight.rollout(SETTINGS, release, rollout_window=4)
    assert runs[0].rc != 0
    assert again.rc == 0, f"{runs[0]}\n{again}"
    load.assert_nothing_lost()
    assert watch.least >= 4
    assert eight.current() == eight.all_on("2.0")
    assert eight.in_service() == set(eight.hosts)
    found = ledger(eight)
    assert found["held"] == []
    assert {each["phase"] for each in found["members"]} <= {"finished", "planned"}


def test_a_version_that_is_never_healthy_stops_after_the_first(eight: Rig) -> None:
    bad = eight.archive("2.0", **LIMITED, never_healthy=True)
    with eight.load(rate=60, mix=LIGHT) as load:
        run = eight.rollout(SETTINGS, bad, rollout_window=4, rollout_health_timeout=5)
    assert run.rc != 0
    load.assert_nothing_lost()
    assert eight.current() == eight.all_on(FIRST)
    assert eight.in_service() == set(eight.hosts)
    assert [host for host, member in run.report["members"].items() if member["out"]] == ["web1"]
