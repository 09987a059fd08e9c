# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A controller that is gone with all its processes: the next run finishes; and what people can see and do meanwhile."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab.probes import http_status

from .controllers import beside, kill, ledger, processes
from .rig import FIRST, Rig, Run, wait_for

pytestmark = pytest.mark.lab

KILLS = int(os.environ.get("ZERODROP_KILLS") or 2)
STATE = Path(__file__).parents[2] / "docs" / "state.md"


def settings(rig: Rig, start_delay: float = 0.5, **more: Any) -> dict[str, Any]:
    return {
        **rig.archive("2.0", start_delay=start_delay),
        "rollout_batches": [2],
        "rollout_look_requests": 5,
        "rollout_health_version_key": "version",
        "rollout_lease_seconds": 5,
        **more,
    }


def killed(rig: Rig, share: float, whole: float) -> Run:
    """A run that dies after this share of the time that a whole one takes."""
    runs: list[Run] = []
    thread = threading.Thread(target=lambda: runs.append(rig.rollout(settings(rig))))
    thread.start()
    wait_for(lambda: bool(processes(rig)))
    time.sleep(share * whole)
    kill(rig)
    thread.join(60)
    return runs[0]


def killed_when(rig: Rig, condition: Callable[[], bool], start_delay: float = 0.5) -> Run:
    runs: list[Run] = []
    thread = threading.Thread(target=lambda: runs.append(rig.rollout(settings(rig, start_delay=start_delay))))
    thread.start()
    wait_for(condition, 60)
    kill(rig)
    thread.join(60)
    return runs[0]


def test_killed_at_any_moment_the_next_run_finishes(rig: Rig) -> None:
    whole = rig.rollout(settings(rig)).seconds
    for number in range(1, KILLS + 1):
        rig.reset()
        controller = beside(rig, f"killed{number}")
        with rig.watch() as watch, rig.load() as load:
            run = killed(controller, number / (KILLS + 1), whole)
            again = rig.rollout(settings(rig))
        assert again.rc == 0, f"{run}\n{again}"
        load.assert_nothing_lost()
        assert watch.least >= 3
        assert rig.current() == rig.all_on("2.0")
        assert rig.in_service() == set(rig.hosts)
        third = rig.rollout(settings(rig))
        assert third.rc == 0, str(third)
        assert set(third.changed.values()) == {0}, str(third)
        found = ledger(rig)
        assert found["held"] == []
        assert {each["phase"] for each in found["members"]} <= {"finished", "planned"}
        assert found["lease"] == [] or found["lease"][0]["released"] == 1


def test_after_a_kill_people_see_what_is_there_and_another_version_is_refused(rig: Rig) -> None:
    assert killed_when(beside(rig, "killed"), rig.is_out("web3")).rc != 0
    looking: dict[str, Any] = {"playbook": "status", "rollout_health_version_key": "version"}
    file = rig.folder / "status.json"

    def silent() -> bool:
        """Until its lease is over nobody can know that it is dead."""
        seen = rig.rollout(**looking, rollout_status_file=str(file))
        return seen.rc == 2

    wait_for(silent, 60)
    before = rig.current()
    data = json.loads(file.read_text(encoding="utf-8"))
    assert data["members"]["web1"]["release"] == "2.0"
    assert data["members"]["web6"]["release"] == FIRST
    assert data["rollouts"][0]["outcome"] is None
    assert any("never came to its end" in each for each in data["drift"]), data["drift"]

    run = rig.rollout(settings(rig), rollout_version="3.0")
    assert run.rc != 0
    assert run.report["outcome"] == "refused"
    for words in ("The rollout of 2.0 that", "rollout_version=2.0", "zerodrop.rollout.rollback", "recover"):
        assert words in run.report["sentence"]
    assert rig.current() == before

    assert rig.rollout(settings(rig)).rc == 0
    fine = rig.rollout(**looking)
    assert fine.rc == 0, str(fine)
    assert "Nobody works on it" in fine.text


def test_a_run_that_is_asked_to_stop_ends_after_its_batch(rig: Rig) -> None:
    controller = beside(rig, "stopped")
    stopped: list[Run] = []

    def stop() -> None:
        stopped.append(rig.rollout(playbook="stop"))

    with rig.watch() as watch, rig.load() as load, rig.when(rig.is_out("web1"), stop):
        # The batch takes long enough for the other playbook to come up.
        run = controller.rollout(settings(rig, start_delay=4.0))
    load.assert_nothing_lost()
    assert stopped[0].rc == 0, str(stopped[0])
    assert "was asked to stop after the batch in hand" in stopped[0].text
    assert run.rc != 0, str(run)
    assert run.report["outcome"] == "frozen"
    assert run.report["stop"]["code"] == "stopped"
    assert rig.current() == {**rig.all_on(FIRST), "web1": "2.0", "web2": "2.0"}
    assert rig.in_service() == set(rig.hosts)
    assert watch.ever_out == {"web1", "web2"}
    nobody = rig.rollout(playbook="stop")
    assert nobody.rc == 0
    assert "there is nothing to stop" in nobody.text
    assert set(nobody.changed.values()) == {0}
    assert rig.rollout(settings(rig, start_delay=4.0)).rc == 0
    assert rig.current() == rig.all_on("2.0")


def test_the_commands_for_a_shell_on_the_balancer(rig: Rig) -> None:
    """docs/state.md, as it stands, after a controller died with members out."""
    weight = rig.lab.description.weight
    controller = beside(rig, "killed")
    # A drain would end with its controller; a member in mid-upgrade stays out.
    killed_when(controller, controller.member_is("web1", "upgraded"), start_delay=3)
    blocks = re.findall(r"^```sh\n(.*?)^```$", STATE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 6
    tools, last, out, fence, back, _nginx = blocks  # that of nginx runs in test_kills

    def shell(commands: str) -> str:
        return rig.lab.exec("lb1", ["bash", "-e", "-c", tools + commands]).stdout

    said = shell(last)
    assert "rolling to 2.0" in said
    assert "no end" in said
    assert "has the lease" in said
    said = shell(out)
    assert re.search(rf"^shop\tweb1\tready\t{weight}\tupgrading\tNOT safe", said, re.MULTILINE), said
    shell(fence)
    assert ledger(rig)["lease"][0]["number"] == 2
    assert rig.current()["web1"] in (FIRST, "2.0")
    wait_for(lambda: http_status(rig.lab.host("web1").address, 8080, "/health") == 200, 30)
    said = shell(back.replace("weight 100", f"weight {weight}"))
    assert "DRAIN" in said
    assert "web1" in rig.in_service()
    again = rig.rollout(settings(rig, start_delay=3))
    assert again.rc == 0, str(again)
    assert rig.current() == rig.all_on("2.0")
