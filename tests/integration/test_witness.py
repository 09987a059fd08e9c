# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The witness beside a rollout: it counts for the report, and it can stop the rollout."""

from __future__ import annotations

import json

import pytest

from .rig import FIRST, Rig

pytestmark = pytest.mark.lab


@pytest.mark.case(33)
def test_the_witness_counts_for_the_report(rig: Rig) -> None:
    run = rig.rollout(
        rig.archive("2.0"),
        rollout_batches=[3],
        rollout_witness_url=f"{rig.lab.url}/",
        rollout_witness_rate=60,
        rollout_witness_mix={"keepalive": 3, "close": 1, "post": 1},
        rollout_max_failed_requests=0,
    )
    assert run.rc == 0, str(run)
    report = run.report
    assert report["requests_source"] == "witness"
    assert report["requests_total"] == report["witness"]["requests"] > 60
    assert report["requests_failed"] == report["witness"]["failed"] == 0
    assert report["witness"]["closed_idle"] == 0
    assert report["balancers"]["requests"] > 0
    assert "by the witness's count" in report["sentence"]
    assert rig.current() == rig.all_on("2.0")


@pytest.mark.case(33)
def test_too_many_failed_requests_stop_the_rollout(rig: Rig) -> None:
    """Health and the look say nothing; the witness does."""
    with rig.watch() as watch:
        run = rig.rollout(
            rig.archive("2.0", error_share=0.5),
            rollout_batches=[1],
            rollout_look_requests=0,
            rollout_look_seconds=1,
            rollout_look_max_errors=1000000,
            rollout_witness_url=f"{rig.lab.url}/",
            rollout_witness_rate=80,
            rollout_max_failed_requests=3,
        )
    assert run.rc != 0, str(run)
    assert run.report["outcome"] == "rolled_back", str(run)
    assert run.report["stop"]["phase"] == "witness"
    assert "rollout_max_failed_requests is 3" in run.report["sentence"]
    assert run.report["requests_failed"] > 3
    assert rig.current() == rig.all_on(FIRST)
    assert rig.in_service() == set(rig.hosts)
    assert "web6" not in watch.ever_out
    logs = list(run.folder.glob("reports/*/witness.log"))
    assert len(logs) == 1, "the message sends people to it"


def test_the_witness_ends_with_a_refused_rollout(rig: Rig) -> None:
    run = rig.rollout(
        rig.archive("2.0"),
        rollout_archive_checksum="sha256:" + "0" * 64,
        rollout_witness_url=f"{rig.lab.url}/",
    )
    assert run.rc != 0
    assert json.dumps(run.report["witness"]) == "null"
