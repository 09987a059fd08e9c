# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""nginx counts no requests by member: a look at one under traffic goes by its access log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import lab

from .fleets import nginx_description
from .rig import FIRST, Rig

pytestmark = pytest.mark.lab

# As the lab's nginx.conf has it: a format that was there before.
LOG = {
    "rollout_access_log": "/var/log/nginx/access.log",
    "rollout_access_log_format": (
        '$remote_addr [$time_iso8601] "$request" $status $body_bytes_sent $request_time '
        "to $upstream_addr $upstream_status $upstream_response_time"
    ),
    "rollout_look_requests": 25,
    "rollout_look_timeout": 15,
}


@pytest.fixture(scope="module")
def behind_nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lab.Lab]:
    description = nginx_description("1.22", members=3, log_requests=True)
    with lab.running(description, tmp_path_factory.mktemp("lab") / "nginx") as up:
        yield up


@pytest.fixture
def rig(behind_nginx: lab.Lab, tmp_path: Path) -> Iterator[Rig]:
    found = Rig(behind_nginx, tmp_path)
    found.reset()
    yield found
    found.heal()


def test_a_sound_version_passes_its_look(rig: Rig) -> None:
    with rig.load(rate=100):
        run = rig.rollout(rig.archive("2.0"), LOG, rollout_batches=[1])
    assert run.rc == 0, str(run)
    assert {member["look"] for member in run.report["members"].values()} == {"pass"}
    assert rig.current() == rig.all_on("2.0")


def test_a_version_that_serves_errors_is_caught_and_goes_back(rig: Rig) -> None:
    with rig.load(rate=100) as load:
        run = rig.rollout(rig.archive("2.0", error_share=0.4), LOG, rollout_batches=[1])
    assert run.rc != 0, str(run)
    assert run.report["outcome"] == "rolled_back"
    assert "does not do well under traffic on lb1" in run.text
    assert rig.current() == rig.all_on(FIRST)
    # One member alone was ever on it, and not for long.
    assert 0 < load.total("failed") < 100
    touched = [host for host, member in run.report["members"].items() if member["state"] == "rolled_back"]
    assert len(touched) == 1


def test_a_log_in_another_format_is_refused_before_anything(rig: Rig) -> None:
    with rig.load(rate=50):
        before = rig.snapshot()
        run = rig.rollout(rig.archive("2.0"), LOG, rollout_access_log_format=None)
        assert rig.snapshot() == before
    assert run.rc != 0
    assert "is not in a log format that can be read" in run.text
    assert "Expected: lines of the log format" in run.text
