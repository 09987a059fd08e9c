# SPDX-License-Identifier: GPL-3.0-or-later
"""A scenario's name says all of it."""

from __future__ import annotations

import pytest

from bench import scenario


@pytest.mark.parametrize("name", [*scenario.TABLE, "16x4-4lb-slow", "32x16", "16x4-2lb-nginx-slow"])
def test_a_name_is_the_same_after_parsing(name: str) -> None:
    assert scenario.parse(name).name == name


def test_what_a_name_means() -> None:
    found = scenario.parse("16x4-4lb-slow")
    assert (found.members, found.batch, found.balancers, found.slow) == (16, 4, 4, True)
    assert found.words == "16 members in batches of 4, 4 balancers, 2 % of requests last 3 s"


@pytest.mark.parametrize(
    "name", ["", "4", "4x", "x1", "4x1-", "4x1-lb", "4x1-slow-4lb", "4x1 ", "4x0", "4x3", "1x1", "99x1", "4x1-0lb"]
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(scenario.ScenarioError):
        scenario.parse(name)


def test_the_last_batch_is_what_is_left() -> None:
    assert scenario.parse("5x2").batches(("a", "b", "c", "d", "e")) == [["a", "b"], ["c", "d"], ["e"]]
