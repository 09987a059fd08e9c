# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fleet flips as a whole or not at all, whichever balancer fails at whichever step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import RouteDiffers, Unreachable
from ansible_collections.zerodrop.rollout.plugins.module_utils._route_operations import decided
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._flip import flip_fleet, live_slot
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Reply

STEPS = ("route_prepare", "route_set", "route_settle")


class Fleet:
    """Balancers in memory: each has a route and a note, and fails where it is told to."""

    def __init__(self, failing: Mapping[tuple[str, str], bool] | None = None, count: int = 4) -> None:
        self.live = {f"lb{number}": "blue" for number in range(1, count + 1)}
        self.notes: dict[str, dict[str, Any] | None] = dict.fromkeys(self.live)
        self.failing = dict(failing or {})  # by balancer and step: whether it fails after having done it

    def ask(self, operation: str, params: Mapping[str, Mapping[str, Any]]) -> dict[str, Reply]:
        return {place: self._do(place, operation, each) for place, each in params.items()}

    def _do(self, place: str, operation: str, params: Mapping[str, Any]) -> Reply:
        late = self.failing.pop((place, operation), None)
        if late is False:
            return Reply(place, error=Unreachable("it is gone"))
        changed = False
        if operation == "route_prepare":
            self.notes[place] = {"live": self.live[place], "to": params["to"], "number": 1}
        elif operation == "route_set":
            changed = self.live[place] != params["to"]
            self.live[place] = params["to"]
        else:
            self.notes[place] = {"live": params["to"], "to": "", "number": 1}
        if late:
            return Reply(place, error=Unreachable("its answer was lost"))
        return Reply(place, {"now": 0.0, "late": 0.001, "changed": changed}, seconds=0.01)


def test_all_flip() -> None:
    fleet = Fleet()
    done = flip_fleet(fleet.ask, list(fleet.live), "blue", "green", now=lambda: 0.0)
    assert done.error is None
    assert done.changed
    assert set(fleet.live.values()) == {"green"}
    assert decided(list(fleet.notes.values())) == "green"


@given(st.sampled_from(STEPS), st.sampled_from(["lb1", "lb4"]), st.booleans())
def test_none_flips_where_one_fails(step: str, place: str, late: bool) -> None:
    fleet = Fleet({(place, step): late})
    done = flip_fleet(fleet.ask, list(fleet.live), "blue", "green", now=lambda: 0.0)
    if step == "route_settle":  # all have flipped, and it is told again
        assert done.error is None
        assert set(fleet.live.values()) == {"green"}
    else:
        assert done.error is not None
        assert place in str(done.error)
        assert set(fleet.live.values()) == {"blue"}
    assert decided(list(fleet.notes.values())) in fleet.live.values()


def test_one_that_stays_away_is_named() -> None:
    fleet = Fleet({("lb2", "route_set"): False})
    asked = fleet.ask

    def ask(operation: str, params: Mapping[str, Mapping[str, Any]]) -> dict[str, Reply]:
        fleet.failing[("lb2", "route_set")] = False
        return asked(operation, params)

    done = flip_fleet(ask, list(fleet.live), "blue", "green", now=lambda: 0.0)
    assert done.undone == {"lb1": True, "lb2": False, "lb3": True, "lb4": True}


def test_clocks_may_differ() -> None:
    """Each is told the moment by its own clock."""
    told: dict[str, float] = {}

    def ask(operation: str, params: Mapping[str, Mapping[str, Any]]) -> dict[str, Reply]:
        if operation == "route_set":
            told.update({place: float(each["at"]) for place, each in params.items()})
        clocks = {"lb1": 1000.0, "lb2": 5.0}
        return {place: Reply(place, {"now": clocks[place], "late": 0.0, "changed": True}) for place in params}

    flip_fleet(ask, ["lb1", "lb2"], "blue", "green", now=lambda: 0.0)
    assert told["lb1"] - told["lb2"] == pytest.approx(995.0)


def route(live: str, kept: str) -> dict[str, Any]:
    return {"live": live, "kept": kept, "live_pool": f"shop_{live}", "kept_pool": f"shop_{kept}"}


@pytest.mark.parametrize(
    "routes",
    [
        {"lb1": route("blue", "blue"), "lb2": route("green", "green")},
        {"lb1": route("blue", "green"), "lb2": route("blue", "green")},
        {"lb1": route("", "")},
    ],
)
def test_a_disagreement_is_an_error_of_its_own(routes: dict[str, dict[str, Any]]) -> None:
    with pytest.raises(RouteDiffers, match=r"lb1 +live: ") as error:
        live_slot("shop", routes)
    assert "recover" in error.value.hint


def test_the_slot_that_all_have() -> None:
    assert live_slot("shop", {"lb1": route("green", "green"), "lb2": route("green", "green")}) == "green"
