# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the members that stay can carry the traffic; by examples and by properties."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import Refused
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._load import (
    Carried,
    Server,
    capacity_is_known,
    figures,
    fit,
    most_out,
    room,
)

EIGHT = [f"web{number}" for number in range(1, 9)]


def carried(rate: float | None, at_once: float = 0.0, limit: int = 0, hosts: list[str] = EIGHT) -> Carried:
    return Carried(rate, at_once, None, {host: Server(True, 100, limit) for host in hosts})


def test_eight_members_at_sixty_percent_let_two_go() -> None:
    """192 of 320 requests/s, and a fifth more: six must stay, since five would carry 200."""
    found = room({"lb1": carried(192)}, EIGHT[:4], (), (), dict.fromkeys(EIGHT, 40.0), 0.2)
    assert found.count == 2
    assert found.words == "192 requests/s now, and the 5 members that would stay carry 200"
    assert found.bounds["lb1"]["rate"] == pytest.approx(240)


def test_balancers_share_what_there_is_to_spare() -> None:
    layer = {"lb1": carried(150), "lb2": carried(42)}
    found = room(layer, EIGHT[:4], (), (), dict.fromkeys(EIGHT, 40.0), 0.2)
    assert found.count == 2
    assert {place: round(each["rate"]) for place, each in found.bounds.items()} == {"lb1": 174, "lb2": 66}


def test_limits_count_what_is_at_work_and_what_waits() -> None:
    found = room({"lb1": carried(None, 19.0, limit=4)}, EIGHT[:4], (), (), {}, 0.2)
    assert found.count == 2
    assert "19 requests at once on lb1 now, and the 5 members that would stay take 20" in found.words
    assert found.bounds == {"lb1": {"in_flight": 24.0}}


def test_a_slow_answer_is_more_at_once_than_a_look_may_see() -> None:
    assert replace(carried(100, 2.0), response_ms=50.0).at_once == 5.0
    assert replace(carried(100, 9.0), response_ms=50.0).at_once == 9.0


def test_who_is_out_already_is_counted_and_who_comes_back_too() -> None:
    layer, capacity = {"lb1": carried(192)}, dict.fromkeys(EIGHT, 40.0)
    assert room(layer, EIGHT[:4], EIGHT[6:], (), capacity, 0.2).count == 0
    down = {"lb1": replace(layer["lb1"], servers={**layer["lb1"].servers, "web8": Server(False, 100, 0)})}
    assert room(down, EIGHT[:4], (), (), capacity, 0.2).count == 1
    assert room(down, EIGHT[:4], (), ["web8"], capacity, 0.2).count == 2


def test_who_serves_nowhere_may_always_leave() -> None:
    layer = {"lb1": replace(carried(1000), servers={"web1": Server(False, 100, 0), "web2": Server(True, 100, 0)})}
    assert room(layer, ["web1"], (), (), dict.fromkeys(("web1", "web2"), 1.0), 0.2).count == 1
    assert room(layer, ["web1", "web2"], (), (), dict.fromkeys(("web1", "web2"), 1.0), 0.2).count == 1


def test_a_small_member_is_the_first_that_has_too_much() -> None:
    """Traffic goes by weight: a member of half the capacity is full while the others have room."""
    capacity = {**dict.fromkeys(EIGHT, 40.0), "web8": 25.0}
    assert fit({"lb1": carried(192)}, EIGHT[:1], (), capacity).factor == pytest.approx(25 / (192 / 7))


def test_without_traffic_there_is_nothing_to_carry() -> None:
    found = room({"lb1": carried(0)}, EIGHT, (), (), dict.fromkeys(EIGHT, 40.0), 0.2)
    assert (found.count, found.bounds) == (8, {"lb1": {}})


@pytest.mark.parametrize(
    ("layer", "capacity"),
    [
        ({"lb1": carried(None)}, dict.fromkeys(EIGHT, 40.0)),
        ({"lb1": carried(10)}, {}),
        ({"lb1": carried(10)}, {"web1": 40.0}),
        ({"lb1": carried(10, limit=4), "lb2": carried(None)}, {}),
    ],
)
def test_what_nobody_knows_is_not_guessed(layer: Mapping[str, Carried], capacity: Mapping[str, float]) -> None:
    assert not capacity_is_known(layer, capacity)
    if not any(each.servers["web1"].limit for each in layer.values()):
        with pytest.raises(Refused, match="not known"):
            fit(layer, (), (), capacity)


def test_the_figures_in_words() -> None:
    assert figures({"lb1": replace(carried(100.4, 5.2), response_ms=51.0), "lb2": carried(None, 1)}) == (
        "lb1 100 requests/s, 5 at once, answered in 51 ms; lb2 an unknown rate, 1 at once"
    )


servers = st.dictionaries(
    st.sampled_from(EIGHT), st.builds(Server, st.booleans(), st.integers(0, 256), st.integers(0, 50)), min_size=1
)
layers = st.dictionaries(
    st.sampled_from(("lb1", "lb2", "lb3")),
    st.builds(Carried, st.floats(0, 10_000), st.floats(0, 500), st.none() | st.floats(0, 1000), servers),
    min_size=1,
)
capacities = st.fixed_dictionaries({host: st.floats(0.1, 5000) for host in EIGHT})
headrooms = st.floats(0, 1)


@given(layers, st.permutations(EIGHT), capacities, headrooms)
def test_what_may_leave_leaves_enough_and_one_more_would_not(
    layer: dict[str, Carried], leaving: list[str], capacity: dict[str, float], headroom: float
) -> None:
    found = room(layer, leaving, (), (), capacity, headroom)
    gone = leaving[: found.count]
    serve = any(host in c.servers and c.servers[host].in_service for c in layer.values() for host in gone)
    if serve:
        assert fit(layer, gone, (), capacity).factor >= 1 + headroom
    if found.count < len(leaving):
        assert fit(layer, leaving[: found.count + 1], (), capacity).factor < 1 + headroom


@given(layers, st.permutations(EIGHT), capacities, headrooms, st.floats(1, 20))
def test_more_traffic_never_lets_more_go(
    layer: dict[str, Carried], leaving: list[str], capacity: dict[str, float], headroom: float, times: float
) -> None:
    more = {
        place: replace(each, rate=(each.rate or 0.0) * times, in_flight=each.in_flight * times)
        for place, each in layer.items()
    }
    assert (
        room(more, leaving, (), (), capacity, headroom).count <= room(layer, leaving, (), (), capacity, headroom).count
    )


@given(layers, st.permutations(EIGHT), capacities, headrooms, st.sets(st.sampled_from(EIGHT)))
def test_who_is_out_never_lets_more_go(
    layer: dict[str, Carried], leaving: list[str], capacity: dict[str, float], headroom: float, out: set[str]
) -> None:
    rest = [host for host in leaving if host not in out]
    assert room(layer, rest, out, (), capacity, headroom).count <= room(layer, rest, (), (), capacity, headroom).count


@given(layers, capacities, headrooms)
def test_so_many_may_be_out_whichever_they_are_where_members_are_alike(
    layer: dict[str, Carried], capacity: dict[str, float], headroom: float
) -> None:
    alike = {
        place: replace(each, servers={host: Server(True, 100, 4) for host in EIGHT}) for place, each in layer.items()
    }
    same = dict.fromkeys(EIGHT, capacity["web1"])
    count = most_out(alike, EIGHT, same, headroom).count
    assert room(alike, EIGHT, (), (), same, headroom).count == count
    assert room(alike, EIGHT[::-1], (), (), same, headroom).count == count


@given(layers, st.permutations(EIGHT), capacities, headrooms)
def test_no_balancer_s_bound_is_below_what_it_carries_now(
    layer: dict[str, Carried], leaving: list[str], capacity: dict[str, float], headroom: float
) -> None:
    found = room(layer, leaving, (), (), capacity, headroom)
    for place, bound in found.bounds.items():
        assert bound.get("rate", 10_001.0) >= (layer[place].rate or 0.0) - 1e-6
