# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Blue/green on real hosts: the idle slot gets the release, then all the traffic at once, and the way back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import lab

from .rig import Rig
from .slots import Slots, description

pytestmark = [
    pytest.mark.lab,
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("ZERODROP_FLIPS"), reason="make flips runs these"),
]


@pytest.fixture(scope="module")
def two_slots(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lab.Lab]:
    with lab.running(description(), tmp_path_factory.mktemp("lab") / "slots") as up:
        yield up


@pytest.fixture
def slots(two_slots: lab.Lab, tmp_path: Path) -> Iterator[Slots]:
    found = Slots(Rig(two_slots, tmp_path))
    found.reset()
    yield found
    found.rig.heal()


def test_there_and_back_under_load(slots: Slots) -> None:
    rig = slots.rig
    release = rig.archive("2.0")
    with rig.load(rate=150) as load:
        run = slots.run("blue_green", release)
        assert run.rc == 0, run
        assert run.report["outcome"] == "succeeded"
        assert "went from 1.0 to 2.0 by a flip from blue to green" in run.report["sentence"], run
        assert slots.live() == {"green"}
        assert slots.current("green") == {"2.0"}
        assert slots.current("blue") == {"1.0"}
        again = slots.run("blue_green", release)
        assert again.rc == 0, again
        assert not any(again.changed.values()), again
        back = slots.run("rollback", {**release, "rollout_version": None})
        assert back.rc == 0, back
        assert slots.live() == {"blue"}
    load.assert_nothing_lost()
    assert load.served("2.0") > 50
