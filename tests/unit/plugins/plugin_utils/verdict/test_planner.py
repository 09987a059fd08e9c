# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a canary can show, against figures that were simulated elsewhere and against simulations here."""

from __future__ import annotations

import pytest

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict import VerdictSettings
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.planner import (
    Traffic,
    plan,
    seconds_to_find,
    seconds_to_promote,
)
from tests.verdict.canaries import World
from tests.verdict.cells import HALF_A_DAY
from tests.verdict.trials import judged, only_roll_back, trial

GUARDED, PLAIN = VerdictSettings(), VerdictSettings(guards=False)


@pytest.mark.parametrize(
    ("traffic", "increase", "chance", "minutes"),
    [
        (Traffic(40, 0.1, 0.005), 2.0, 0.5, 12.6),
        (Traffic(40, 0.1, 0.005), 2.0, 0.8, 22.1),
        (Traffic(500, 0.1, 0.001), 2.0, 0.5, 5.0),
        (Traffic(500, 0.1, 0.001), 2.0, 0.8, 8.9),
        (Traffic(500, 0.1, 0.001), 1.5, 0.5, 17.7),
    ],
)
def test_without_guards(traffic: Traffic, increase: float, chance: float, minutes: float) -> None:
    found = seconds_to_find(traffic, increase, PLAIN, chance)
    assert found is not None
    assert round(found / 60, 1) == pytest.approx(minutes, abs=0.11)


@pytest.mark.parametrize(
    ("rate", "errors", "increase", "minutes"),
    [
        (10, 0.005, 2, (521, 209, 87, 66)),
        (10, 0.005, 5, (34, 19, 11, 9)),
        (40, 0.001, 3, (145, 69, 33, 26)),
        (40, 0.005, 2, (82, 41, 21, 17)),
        (500, 0.001, 3, (11, 7, 5, 4)),
        (2000, 0.001, 2, (10, 6, 4, 4)),
    ],
)
def test_guarded_table(rate: float, errors: float, increase: float, minutes: tuple[int, ...]) -> None:
    for share, expected in zip((0.05, 0.1, 0.25, 0.5), minutes, strict=True):
        found = seconds_to_find(Traffic(rate, share, errors), increase, GUARDED)
        assert found is not None
        assert found / 60 == pytest.approx(expected, rel=0.02, abs=0.6)


@pytest.mark.parametrize(
    ("world", "guards"),
    [
        (World(hosts=2, rate=40.0, errors=0.005, worse=2.0), False),
        (World(worse=3.0, history=HALF_A_DAY), True),
    ],
)
def test_simulations_agree(world: World, guards: bool) -> None:
    settings = GUARDED if guards else PLAIN
    predicted = seconds_to_find(Traffic(world.rate, world.share, world.errors), world.worse, settings, 0.5)
    found = trial(world.but(duration=3600.0), judged(only_roll_back(guards)), 150)
    assert found.after == pytest.approx(predicted, rel=0.25)


def test_sentence() -> None:
    found = plan({"rate": 40, "share": 10, "errors": 0.5})
    assert found["sentence"].startswith(
        "40 requests/s, 10 % canary, 0.5 % errors: a doubling is found in 41 min with 80 % probability; "
        "25 % canary: 21 min"
    )
    assert "The 30 min that are set (max_duration) cannot tell." in found["sentence"]
    assert found["enough"] is False
    assert plan({"rate": 40, "share": 10, "errors": 0.5, "max_duration": 3600})["enough"] is True


def test_nothing_can_be_planned_without_errors_or_inside_the_margin() -> None:
    assert plan({"rate": 40, "share": 10, "errors": 0})["seconds"] is None
    found = plan({"rate": 1, "share": 10, "errors": 0.1, "history": 36000})
    assert found["seconds"] is None
    assert "never found" in found["sentence"]


def test_a_promotion_takes_min_duration_at_least() -> None:
    assert seconds_to_promote(Traffic(5000, 0.1, 0.01), GUARDED) == GUARDED.min_duration
    assert seconds_to_promote(Traffic(5, 0.1, 0.001), GUARDED) > 3600
