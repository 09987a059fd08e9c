# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One fleet for all tests of the rolling upgrade; each finds it as it was in the beginning."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lab

from . import turns
from .rig import Rig

# On a busy machine a check takes longer than the time between two of them, which is its limit otherwise.
PATIENT = ("timeout check 5s",)

# Forty requests/s: four at once, a tenth of a second each.
LIMITED: dict[str, Any] = {"slots": 4, "extra_latency": 0.1}

# Each takes half a minute, and its kin tells as much of the whole: `make methods` runs them all.
FULL = pytest.mark.skipif(not os.environ.get("ZERODROP_METHODS"), reason="make methods runs these")


def pytest_configure(config: pytest.Config) -> None:
    turns.register(config)


@pytest.fixture(scope="session")
def six_members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lab.Lab]:
    """Six members behind one balancer, which keeps clients with a session on their member."""
    description = lab.Description(prefix=f"i{os.getpid()}-6", members=6, sticky="cookie", pool_lines=PATIENT)
    with lab.running(description, tmp_path_factory.mktemp("lab") / "six") as up:
        yield up


@pytest.fixture(scope="session")
def eight_members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lab.Lab]:
    """Eight members that each carry so much and no more."""
    switches = lab.Switches(**LIMITED)
    description = lab.Description(prefix=f"i{os.getpid()}-8", members=8, switches=switches, pool_lines=PATIENT)
    with lab.running(description, tmp_path_factory.mktemp("lab") / "eight") as up:
        yield up


@pytest.fixture
def eight(eight_members: lab.Lab, tmp_path: Path) -> Iterator[Rig]:
    """The fleet of eight, as it was in the beginning."""
    found = Rig(eight_members, tmp_path)
    found.reset()
    yield found
    found.heal()


@pytest.fixture
def rig(six_members: lab.Lab, tmp_path: Path) -> Iterator[Rig]:
    """The fleet of six, as it was in the beginning."""
    found = Rig(six_members, tmp_path)
    found.reset()
    yield found
    found.heal()
