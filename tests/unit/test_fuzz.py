# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The short, fixed share of the fuzzing that every test run has; ``make fuzz`` goes on for as long as it is told."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, seeds


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_real_holds(target: str) -> None:
    for seed in seeds(target):
        TARGETS[target](seed)


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=300, derandomize=True, database=None, deadline=None)
@given(st.data())
def test_what_is_bent_holds(target: str, data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(seeds(target)))
    for _unused in range(data.draw(st.integers(0, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = start + data.draw(st.integers(0, 8))
        text = text[:start] + data.draw(st.binary(max_size=6)) + text[end:]
    TARGETS[target](text)


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=100, derandomize=True, database=None, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_hold(target: str, data: bytes) -> None:
    TARGETS[target](data)
