# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plan of a live fleet: it changes nothing, says what the balancer is then told, and holds a run to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .rig import FIRST, Rig

pytestmark = pytest.mark.lab


def read(folder: Path) -> dict[str, Any]:
    (path,) = folder.glob("reports/*/plan.json")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def test_what_is_planned_is_what_is_told_and_another_fleet_is_refused(rig: Rig) -> None:
    release = rig.archive("2.0")
    before = rig.snapshot()
    planned = rig.rollout(release, playbook="plan", rollout_batches=[2])
    assert planned.rc == 0, str(planned)
    assert rig.snapshot() == before
    assert sum(planned.changed.values()) == 0
    plan = read(planned.folder)
    assert f"rollout_plan_hash: {plan['hash']}" in planned.text
    assert [batch["members"] for batch in plan["batches"]] == [["web1", "web2"], ["web3", "web4"], ["web5", "web6"]]
    assert [batch["in_service_meanwhile"] for batch in plan["batches"]] == [4, 4, 4]
    assert set(plan["back"].values()) == {FIRST}

    run = rig.rollout(release, rollout_batches=[2], rollout_plan_hash=plan["hash"])
    assert run.rc == 0, str(run)
    told = {word for entries in run.report["told"].values() for entry in entries for word in entry["words"]}
    meant = {word for batch in plan["batches"] for steps in batch["told"].values() for word in steps["out"]}
    assert meant
    assert meant <= told
    assert next(run.folder.glob("reports/*/report.html")).read_text(encoding="utf-8").count("<h2>") >= 4
    assert next(run.folder.glob("reports/index.html")).exists()

    again = rig.rollout(rig.archive("3.0"), rollout_batches=[2], rollout_plan_hash=plan["hash"])
    assert again.rc == 2
    assert again.report["outcome"] == "refused"
    assert "The plan has changed since rollout_plan_hash was taken: what goes where, releases" in again.text
    assert rig.current() == rig.all_on("2.0")

    later = rig.rollout(rig.archive("3.0"), playbook="plan", rollout_batches=[2])
    assert read(later.folder)["prediction"]["rollouts"] == 1
