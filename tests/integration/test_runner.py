# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every playbook as AWX runs it: by ansible-runner from a private folder, with a survey, without a terminal, and killed."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ansible_runner  # type: ignore[import-untyped]  # it has no types
import pytest

from .rig import COLLECTIONS, FIRST, Rig

pytestmark = [pytest.mark.lab, pytest.mark.slow]

ROOT = Path(__file__).parents[2]


class Job:
    """A job of AWX: what the runner has left of it."""

    def __init__(self, runner: Any) -> None:
        self.rc = runner.rc
        self.status = runner.status
        self.events = list(runner.events)

    @property
    def artifacts(self) -> dict[str, Any]:
        """What AWX keeps of ``set_stats``."""
        found = [
            each["event_data"].get("artifact_data") for each in self.events if each["event"] == "playbook_on_stats"
        ]
        return dict(found[-1] or {}) if found else {}

    @property
    def output(self) -> str:
        return "\n".join(each.get("stdout", "") for each in self.events)

    def complaints(self) -> list[str]:
        """Warnings and deprecations in any event."""
        found = []
        for each in self.events:
            result = each.get("event_data", {}).get("res") or {}
            found += [str(said) for name in ("warnings", "deprecations") for said in result.get(name) or ()]
            found += [each["stdout"]] if "WARNING" in each.get("stdout", "") else []
        return found


class Tower:
    """What stands for AWX: a folder with project, inventory and the settings that every job has."""

    def __init__(self, rig: Rig, folder: Path) -> None:
        self.rig = rig
        self.folder = folder
        shutil.copytree(ROOT / "awx", folder / "project")
        (folder / "inventory").mkdir()
        shutil.copy(rig.lab.inventory, folder / "inventory" / Path(rig.lab.inventory).name)

    def job(self, playbook: str, survey: Mapping[str, Any], cancel: Callable[[], bool] | None = None) -> Job:
        (self.folder / "env").mkdir(exist_ok=True)
        reports = {"rollout_report_dir": str(self.folder / "reports")}
        values = {**self.rig.seven_lines(), **reports, **survey}
        (self.folder / "env" / "extravars").write_text(json.dumps(values), encoding="utf-8")
        runner = ansible_runner.run(
            private_data_dir=str(self.folder),
            playbook=f"{playbook}.yml",
            quiet=True,
            cancel_callback=cancel,
            envvars={
                "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
                "ANSIBLE_CALLBACKS_ENABLED": "zerodrop.rollout.progress",
                "ANSIBLE_HOST_KEY_CHECKING": "False",
                "ANSIBLE_LOCALHOST_WARNING": "0",
            },
            settings={"idle_timeout": 300, "job_timeout": 300, "pexpect_timeout": 0.1},
        )
        return Job(runner)


def any_of(looks: Sequence[Callable[[], bool]]) -> Callable[[], bool]:
    return lambda: any(look() for look in looks)


@pytest.mark.timeout(600)
def test_jobs_of_awx_one_after_the_other(rig: Rig, tmp_path: Path) -> None:
    tower = Tower(rig, tmp_path / "awx")
    survey = {**rig.archive("2.0"), "rollout_batches": "3"}

    plan = tower.job("plan", survey)
    assert (plan.rc, plan.complaints()) == (0, []), plan.output
    survey["rollout_plan_hash"] = plan.artifacts["rollout_plan_hash"]

    rolled = tower.job("rolling", survey)
    assert (rolled.rc, rolled.complaints()) == (0, []), rolled.output
    assert rolled.artifacts["rollout_outcome"] == "succeeded"
    assert rolled.artifacts["rollout_to_version"] == "2.0"
    assert Path(rolled.artifacts["rollout_report"]).with_name("report.html").exists()
    assert "batch 1 of 2: web1, web2, web3 drained" in rolled.output
    assert "\x1b[J" not in rolled.output

    back = tower.job("rollback", {**rig.archive("2.0"), "rollout_version": "", "rollout_batches": "3"})
    assert (back.rc, back.complaints()) == (0, []), back.output
    assert rig.current() == rig.all_on(FIRST)

    for playbook in ("status", "recover", "stop"):
        job = tower.job(playbook, {**rig.archive("2.0"), "rollout_version": ""})
        assert (job.rc, job.complaints()) == (0, []), job.output


@pytest.mark.timeout(600)
def test_a_cancelled_job_is_launched_again(rig: Rig, tmp_path: Path) -> None:
    """The runner kills the whole group of a job that is cancelled (SIGKILL)."""
    tower = Tower(rig, tmp_path / "awx")
    survey = {**rig.archive("2.0"), "rollout_batches": "1", "rollout_lease_seconds": "3"}
    begun = any_of([rig.is_out(host) for host in rig.hosts])
    cancelled = tower.job("rolling", survey, cancel=begun)
    assert cancelled.status == "canceled"
    time.sleep(1)
    again = tower.job("rolling", survey)
    assert again.rc == 0, again.output
    assert rig.current() == rig.all_on("2.0")
    assert rig.in_service() == set(rig.hosts)
