# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whole rollouts behind nginx, which is reloaded for every change."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import lab

from .rig import Rig

pytestmark = pytest.mark.lab

GENERATIONS = [each for each in os.environ.get("ZERODROP_GENERATIONS", "1.22").split(",") if each]


@pytest.fixture(scope="module", params=GENERATIONS)
def fleet(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[lab.Lab]:
    modern = tuple(map(int, request.param.split("."))) >= (1, 28)
    description = lab.Description(
        prefix=f"i{os.getpid()}-n{request.param.replace('.', '')}",
        members=6,
        nginx=request.param,
        keepalive_min_timeout="2s" if modern else None,
    )
    with lab.running(description, tmp_path_factory.mktemp("lab") / "nginx") as up:
        yield up


@pytest.fixture
def rig(fleet: lab.Lab, tmp_path: Path) -> Iterator[Rig]:
    found = Rig(fleet, tmp_path)
    found.reset()
    yield found
    found.heal()


def test_a_rollout(rig: Rig) -> None:
    with rig.watch() as watch, rig.load(rate=200) as load:
        run = rig.rollout(rig.archive("2.0"), rollout_batches=[2])
    print(run)
    print(load.problems())
    print(watch.least, load.total("requests_total"), load.total("closed_idle"))
    assert 0
