# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One fleet for all tests of the rolling upgrade; each finds it as it was in the beginning."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import lab

from . import turns
from .rig import Rig

# On a busy machine a check takes longer than the time between two of them, which is its limit otherwise.
PATIENT = ("timeout check 5s",)

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


@pytest.fixture
def rig(six_members: lab.Lab, tmp_path: Path) -> Iterator[Rig]:
    """The fleet of six, as it was in the beginning."""
    found = Rig(six_members, tmp_path)
    found.reset()
    yield found
    found.heal()
