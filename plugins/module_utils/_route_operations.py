# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""A flip on one balancer: prepare, set, settle; and what the slot that is left still has to do.

A fleet flips in three steps, so that it can be known afterwards what was meant. All balancers *prepare*: they validate, and
their ledgers say from where and to where. All *set* the route, in the same moment. When all have, they *settle*: the ledgers
say that the new slot is live. A slot is live by the ledgers once any of them has settled, and not before.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils import _params, _systemd
from ansible_collections.zerodrop.rollout.plugins.module_utils._drivers.base import Clock, Driver
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    BadInput,
    ChangedByOther,
    RouteDiffers,
    Unhealthy,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._fence import Fence
from ansible_collections.zerodrop.rollout.plugins.module_utils._lease import Moment
from ansible_collections.zerodrop.rollout.plugins.module_utils._ledger import Ledger
from ansible_collections.zerodrop.rollout.plugins.module_utils._marks import Marks
from ansible_collections.zerodrop.rollout.plugins.module_utils._names import pool_name, unit
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_operations import _nobody_rolls_out, open_driver
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work import own_view
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work.wanted import DAY, member_names
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work.work import Work
from ansible_collections.zerodrop.rollout.plugins.module_utils._route import FLAGS, RELOAD, SLOTS, Route, Slots

_LONGEST_WAIT = 5.0  # for the moment at which all balancers flip
_SAMPLES = 3  # in a row without anything in flight
_LISTED = 20


def route_read(params: Mapping[str, Any], check: bool, *, driver: Driver | None = None) -> dict[str, Any]:
    """Which slot is live, by what runs, by the disk, and by the ledger; with ``rights`` also whether it can be changed."""
    slots, balancer = Slots.from_params(params), driver or open_driver(params, Clock())
    if _params.flag(params, "rights", False):
        balancer.check_route(slots)
    return {"changed": False, **_state(slots, balancer, params)}


def route_prepare(params: Mapping[str, Any], check: bool, *, driver: Driver | None = None) -> dict[str, Any]:
    """See that the pool could take all traffic, and note in the ledger where it goes; changes no route.

    ``now`` is this host's clock at the end, from which the controller reckons the moment to flip. ``healthy`` says that
    the pool need not serve yet. ``beside`` is for a service that flips along with another one, without a lease of its own:
    nobody may roll it out meanwhile. Raises ``Unhealthy``, ``UnknownPool``, ``RouteDiffers`` and ``ChangedByOther``.
    """
    slots, to, fence = Slots.from_params(params), _slot(params, "to"), Fence.from_params(params, check)
    balancer = driver or open_driver(params, Clock())
    if _params.flag(params, "beside", False):
        _nobody_rolls_out(Marks(slots.name, slots.pools[to], params.get("marks"), "hand"))
    balancer.check_route(slots)
    found = _state(slots, balancer, params)
    _refuse_empty(slots, to, balancer, int(params.get("least") or 1))
    if found["live"] != found["kept"]:
        raise _differs(slots, found)
    expected = _params.text(params, "expect")
    if expected is not None and found["live"] not in (expected, to):
        raise ChangedByOther(f"{found['live']} is live here, and {expected} was: somebody else has flipped.")
    if not check:
        _note(params, slots, fence, found["live"], to)
    return {"changed": False, **found, "now": time.monotonic()}


def route_set(params: Mapping[str, Any], check: bool, *, driver: Driver | None = None) -> dict[str, Any]:
    """New requests go to this slot, now and after a start; at the moment ``at`` by this host's clock, where one is given.

    ``rest`` is how many seconds ago that was, when this returns.
    """
    slots, to, fence = Slots.from_params(params), _slot(params, "to"), Fence.from_params(params, check)
    balancer = driver or open_driver(params, Clock())
    before = _state(slots, balancer, params)
    changes = not before["live"] == before["kept"] == to
    if check:
        return {"changed": changes, **before}
    if fence is not None:
        fence.enter()
    at = _params.number(params, "at", 0.0, 0.0, float(2**53))
    time.sleep(max(0.0, min(at - time.monotonic(), _LONGEST_WAIT)))
    if changes:
        (fence.around(balancer) if fence else balancer).set_route(slots, slots.pools[to])
    done = time.monotonic()
    after = balancer.route(slots)
    if not after.agrees or after.live != slots.pools[to]:
        raise RouteDiffers(
            f"The route was set to {to}, and then {_words(slots, after)}.", "Somebody else is at work here."
        )
    return {
        "changed": changes,
        "before": before["live"],
        "live": to,
        "kept": to,
        "late": max(0.0, done - at) if at else 0.0,
        "rest": time.monotonic() - done,
        "reloads_made": balancer.reloads,
    }


def route_settle(params: Mapping[str, Any], check: bool) -> dict[str, Any]:
    """The whole fleet has flipped, or is back: the ledger says which slot is live."""
    slots, live = Slots.from_params(params), _slot(params, "to")
    if not check:
        _note(params, slots, Fence.from_params(params, check), live, "")
    return {"changed": False}


def pool_watch(
    params: Mapping[str, Any], check: bool, *, driver: Driver | None = None, clock: Clock | None = None
) -> dict[str, Any]:
    """Wait until nothing is in flight on these members, which get no new work; then keep or cut what is left."""
    clock = clock or Clock()
    balancer = driver or open_driver(params, clock)
    pool, names = pool_name(params.get("pool"), "pool"), member_names(params)
    limit = _params.number(params, "timeout", 60.0, 0.0, DAY)
    then = params.get("on_timeout") or "keep"
    if then not in ("keep", "cut"):
        raise BadInput(f"on_timeout must be keep or cut, got {then!r}.")
    fence = Fence.from_params(params, check)
    started, quiet, busy = clock.now(), 0, dict.fromkeys(names, 0)
    while quiet < _SAMPLES:
        busy = dict(balancer.glance(pool, names).busy)
        quiet = 0 if any(busy.values()) else quiet + 1
        if clock.now() - started >= limit and any(busy.values()):
            break
        clock.sleep(0.05)
    seconds = clock.now() - started
    left = {name: count for name, count in busy.items() if count}
    work = balancer.work(pool, list(left))[:_LISTED] if left else []
    cut = 0
    if left and then == "cut" and not check:
        if fence is not None:
            fence.enter()
        cut = (fence.around(balancer) if fence else balancer).cut(pool, list(left))
    towards = {} if check else Work(pool, balancer, clock).towards(names)
    return {
        "changed": bool(cut),
        "left": {} if cut else left,
        "cut": cut,
        "work": work,
        "seconds": seconds,
        "towards": towards,
    }


def pool_healthy(
    params: Mapping[str, Any], check: bool, *, driver: Driver | None = None, clock: Clock | None = None
) -> dict[str, Any]:
    """Wait until the balancer sees these members healthy; nothing is changed. Raises ``Unhealthy`` at the limit."""
    clock = clock or Clock()
    balancer = driver or open_driver(params, clock)
    pool, names = pool_name(params.get("pool"), "pool"), member_names(params)
    limit = _params.number(params, "timeout", 60.0, 0.0, DAY)
    view = own_view.ViewOrder.from_params(params.get("view"))
    deadline = clock.now() + limit
    first = balancer.read(pool)
    asked = [member for member in first.chosen(names) if view is not None and view.chooses(member)]
    bad = own_view.ask(asked, view, limit) if view is not None and asked else {}
    while not bad:
        now = balancer.read(pool)
        out = {
            each.name: f"{each.admin.value}, {each.health.value}" for each in now.chosen(names) if not each.in_service
        }
        if not out:
            return {"changed": False, "identity_before": first.identity, "identity": now.identity}
        if clock.now() >= deadline:
            bad = out
            break
        clock.sleep(0.05)
    raise Unhealthy(f"Not healthy for the balancer: {', '.join(bad)}.", members=bad)


def unit_stop(params: Mapping[str, Any], check: bool) -> dict[str, Any]:
    """Stop a unit of systemd on this host."""
    return _systemd.stop(unit(params.get("unit"), "unit"), 60.0, _systemd.run_command, check)


def pool_route(params: Mapping[str, Any], check: bool, *, driver: Driver | None = None) -> dict[str, Any]:
    """The module: read the route of one balancer, have its files made, or set it; a fleet goes by the three steps."""
    slots, balancer = Slots.from_params(params), driver or open_driver(params, Clock())
    slot = _params.text(params, "slot") and _slot(params, "slot")
    if _params.flag(params, "prepare", False):
        return _prepared(slots, slot or SLOTS[0], balancer, params, check)
    found = _state(slots, balancer, params)
    if not slot:
        return {"changed": False, **found}
    _nobody_rolls_out(Marks(slots.name, slots.pools[slot], params.get("marks"), "hand"))
    route_prepare({**params, "to": slot}, check, driver=balancer)
    if check:
        result = {"changed": found["live"] != slot, **found}
    else:
        try:
            result = route_set({**params, "to": slot}, check, driver=balancer)
        except Exception:
            route_settle({**params, "to": found["live"]}, check)
            raise
        route_settle({**params, "to": slot}, check)
    lines = ({"before": f"live: {found['live']}\n", "after": f"live: {slot}\n"},)
    return {**result, "diff": dict(*lines) if result["changed"] else {"before": "", "after": ""}}


def _prepared(slots: Slots, slot: str, balancer: Driver, params: Mapping[str, Any], check: bool) -> dict[str, Any]:
    mode = params.get("mode") or FLAGS
    if mode not in (FLAGS, RELOAD):
        raise BadInput(f"mode must be {FLAGS} or {RELOAD}, got {mode!r}.")
    for pool in slots.pools.values():
        balancer.read(pool)  # says which pools there are
    changes = balancer.prepare_route(slots, slots.pools[slot], str(mode), check)
    return {
        "changed": bool(changes),
        "lines": list(slots.haproxy_lines if balancer.kind == "haproxy" else slots.nginx_lines),
        "file": slots.file,
        "diff": [
            {"before_header": path, "after_header": path, "before": before, "after": after}
            for path, (before, after) in changes.items()
        ],
    }


def _slot(params: Mapping[str, Any], key: str) -> str:
    slot = params.get(key)
    if slot not in SLOTS:
        raise BadInput(f"{key} must be blue or green, got {slot!r}.")
    return str(slot)


def _state(slots: Slots, balancer: Driver, params: Mapping[str, Any]) -> dict[str, Any]:
    try:
        route, trouble = balancer.route(slots), ""
    except RouteDiffers as error:
        route, trouble = Route(str(error.facts.get("live", "")), ""), error.message
    with Ledger(slots.name, params.get("marks")).look() as tables:
        noted = tables.route() if tables else None
        lease = tables.lease() if tables else None
    return {
        "live": slots.slot_of(route.live),
        "kept": slots.slot_of(route.kept),
        "live_pool": route.live,
        "kept_pool": route.kept,
        "trouble": trouble or ("" if route.agrees else f"{_words(slots, route)}"),
        "noted": noted,
        "lease": lease.to_dict(Moment.now()) if lease else None,
    }


def _words(slots: Slots, route: Route) -> str:
    live = slots.slot_of(route.live) or route.live or "not the same in all its processes"
    return f"{live} is live and {slots.slot_of(route.kept) or route.kept or 'nothing'} is on the disk"


def _differs(slots: Slots, found: Mapping[str, Any]) -> RouteDiffers:
    return RouteDiffers(
        f"{slots.name}: {found['trouble'].rstrip('.')}. Nothing was changed.",
        "The playbook zerodrop.rollout.recover sets what the ledger says.",
    )


def _refuse_empty(slots: Slots, slot: str, balancer: Driver, least: int) -> None:
    pool = balancer.read(slots.pools[slot])
    serving = [member.name for member in pool.members if member.in_service]
    if len(serving) < least:
        rest = ", ".join(f"{member.name} is {member.admin.value} and {member.health.value}" for member in pool.members)
        raise Unhealthy(
            f"{len(serving)} of the members of {slots.pools[slot]} can serve, and {least} must: {rest or 'it has none'}. "
            "Nothing was flipped.",
            "See why they are not healthy.",
        )


def _note(params: Mapping[str, Any], slots: Slots, fence: Fence | None, live: str, to: str) -> None:
    now = Moment.now()
    ledger = fence.ledger if fence else Ledger(slots.name, params.get("marks"))
    with ledger.change() as tables:
        if fence is not None:
            fence.let_in(tables)
        before = tables.route()
        number = fence.number if fence else int((before or {}).get("number", 0))
        tables.set_route(live, to, number, now.wall)
        if not to and (before or {}).get("live") != live:
            tables.event(now.wall, number, fence.holder if fence else "", f"{live} is live")


def decided(noted: Sequence[Mapping[str, Any] | None]) -> str:
    """The slot that is live by the ledgers of a fleet: one that has settled since the last flip began; empty if none says."""
    known = [each for each in noted if each]
    if not known:
        return ""
    number = max(int(each["number"]) for each in known)
    newest = [each for each in known if int(each["number"]) == number]
    settled = [str(each["live"]) for each in newest if not each["to"]]
    began = [str(each["to"]) for each in newest if each["to"]]
    # One that has settled on what the others are on the way to is the decision.
    return next((slot for slot in settled if slot in began), (settled or [str(each["live"]) for each in newest])[0])
