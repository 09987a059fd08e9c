# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The floor in load: what the balancers carry is measured, and no more members leave than the others can do without."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    BadInput,
    FloorBroken,
    Refused,
    RolloutError,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils import _load
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._load import Carried, Room
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Call, Remote
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.fleet import Fleet, balancer_params
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import Place, Record
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import PREFIX, Settings

SECONDS = 1.0  # for which the balancers are looked at
_LIMIT = 10.0
_CAPACITY = f"{PREFIX}member_capacity"
_LOWER = "Wait for less traffic, add members, lower rollout_headroom, or leave the load out of rollout_floor."

Layers = list[dict[str, Carried]]


def capacities(settings: Settings, hosts: Sequence[str], hostvars: Mapping[str, Any]) -> dict[str, float]:
    """What each member is said to carry, in requests per second: its own variable, or what is set for all."""
    found: dict[str, float] = {}
    for host in hosts:
        value = hostvars[host].get(_CAPACITY)
        value = settings.member_capacity if value in (None, "") else value
        if value is None:
            continue
        try:
            found[host] = float(value) if not isinstance(value, bool) else 0.0
        except (TypeError, ValueError):
            found[host] = 0.0
        if not 0 < found[host] < 1e9:
            raise BadInput(f"{_CAPACITY} of {host} must be a number of requests per second above 0, got {value!r}.")
    return found


def measured(params: Mapping[str, Any], places: Mapping[str, Place]) -> dict[str, Call]:
    """The call for each place; ``params`` are what each balancer needs to know."""
    return {
        name: Call("pool_load", {**params[name], "seconds": SECONDS}, _LIMIT, place.host)
        for name, place in places.items()
    }


def layers_of(
    results: Mapping[str, Mapping[str, Any]], places: Mapping[str, Place], hosts: Mapping[str, Mapping[str, str]]
) -> Layers:
    """By layer and place; ``hosts`` are the inventory's names by place and the pool's names."""
    found: dict[int, dict[str, Carried]] = {}
    for name, result in results.items():
        found.setdefault(places[name].layer, {})[name] = Carried.from_result(result, hosts[name])
    return [found[number] for number in sorted(found)]


def in_preflight(
    settings: Settings,
    remote: Remote,
    places: Mapping[str, Place],
    names: Mapping[str, Mapping[str, str]],
    capacity: Mapping[str, float],
) -> Room:
    """How many members may be out at a time, as things are; raises ``Refused`` where nobody can tell.

    ``names`` are each member's names in the pools, by place.
    """
    params = {name: balancer_params(settings.layers[place.layer]) for name, place in places.items()}
    replies = remote.run(measured(params, places))
    for name, reply in replies.items():
        if reply.error is not None:
            raise _named(name, reply.error)
    hosts = {place: {own[place]: host for host, own in names.items()} for place in places}
    layers = layers_of({name: reply.result for name, reply in replies.items()}, places, hosts)
    for layer in layers:
        if not _load.capacity_is_known(layer, _for_all(settings, layer, capacity)):
            raise _unknown(replies, layer)
    rooms = [
        _load.most_out(layer, list(names), _for_all(settings, layer, capacity), settings.headroom.value / 100)
        for layer in layers
    ]
    return min(rooms, key=lambda each: each.count)


def now(fleet: Fleet, leaving: Sequence[str], back: Collection[str], capacity: Mapping[str, float]) -> Room:
    """How many of these members may leave at this moment; raises ``RolloutError`` where a balancer cannot be asked."""
    record, settings = fleet.record, fleet.settings
    places = {name: record.place(name) for name in record.balancers}
    params = {name: balancer_params(settings.layers[place.layer]) for name, place in places.items()}
    replies = fleet.run(measured(params, places))
    for name, reply in replies.items():
        if reply.error is not None:
            raise _named(name, reply.error)
    hosts = {name: {each.names[name]: host for host, each in record.members.items()} for name in replies}
    layers = layers_of({name: reply.result for name, reply in replies.items()}, places, hosts)
    out = {host for host, each in record.members.items() if each.out_at is not None and host not in (*leaving, *back)}
    rooms = [
        _load.room(layer, leaving, out, back, _for_all(settings, layer, capacity), settings.headroom.value / 100)
        for layer in layers
    ]
    least = min(rooms, key=lambda each: each.count)
    bounds = {place: bound for each in rooms for place, bound in each.bounds.items()}
    return Room(least.count, least.words, bounds)


def split_batch(record: Record, hosts: Sequence[str], count: int, back: bool) -> None:
    """The first so many members of a batch stay one; the others are the next one."""
    batches = record.back_batches if back else record.batches
    number = batches.index(list(hosts))
    batches[number : number + 1] = [list(hosts[:count]), list(hosts[count:])]
    if not back and record.canary:
        ends = record.canary["judged_before"]
        record.canary["judged_before"] = [each + 1 if each > number else each for each in ends]


def too_much(room: Room, hosts: Sequence[str], headroom: object) -> FloorBroken:
    """Why not one of these members can leave."""
    return FloorBroken(
        f"Not one of {', '.join(hosts)} can be taken out: {room.words}; with a headroom of {headroom} that is too little.",
        _LOWER,
        load=room.words,
    )


def _for_all(settings: Settings, layer: Mapping[str, Carried], capacity: Mapping[str, float]) -> dict[str, float]:
    """The same, with what is set for all also for members of the pool that the rollout leaves alone."""
    if settings.member_capacity is None:
        return dict(capacity)
    hosts = {host for each in layer.values() for host in each.servers}
    return {**dict.fromkeys(hosts, settings.member_capacity), **capacity}


def _unknown(replies: Mapping[str, Any], layer: Mapping[str, Carried]) -> RolloutError:
    blind = [name for name, each in layer.items() if each.rate is None]
    why = "nobody says what a member can carry"
    if blind:
        trouble = next((replies[name].result["trouble"] for name in blind if replies[name].result["trouble"]), "")
        why = f"{', '.join(blind)} cannot tell how many requests there are" + (f" ({trouble})" if trouble else "")
    return Refused(
        f"rollout_floor counts the load, and {why}.",
        f"Set {_CAPACITY}, in requests per second, for all members or each; or give every server line of HAProxy its "
        "maxconn. nginx counts requests by its access log alone: name it in rollout_access_log.",
    )


def _named(place: str, error: RolloutError) -> RolloutError:
    error.message = error.message if place in error.message else f"{place}: {error.message}"
    return error
