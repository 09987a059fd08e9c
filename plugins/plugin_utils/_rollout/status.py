# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Look at a service and touch nothing; and ask the run that works on it to stop."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput, RolloutError
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Pool
from ansible_collections.zerodrop.rollout.plugins.module_utils._route import SLOTS
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._members import find_members
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Call, Remote
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.fleet import balancer_params
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.overview import Seen, overview
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.overview import text as overview_text
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.owner import are_dead
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.preflight import find_places, member_calls
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.resume import Earlier
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.slots import route_params, which_is_live
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import BlueGreen, Settings

_LIMIT = 10.0


def status(
    settings: Settings,
    hosts: Sequence[str],
    balancers: Sequence[Sequence[str]],
    hostvars: Mapping[str, Any],
    remote: Remote,
) -> dict[str, Any]:
    """Ask everybody at once; what cannot be read is part of the answer. Raises ``RolloutError`` for wrong settings."""
    if not hosts or not all(balancers):
        raise BadInput("rollout_hosts or rollout_balancers matches no host of the inventory.")
    places = find_places(settings, balancers)
    machines = list(dict.fromkeys(place.host for place in places.values()))
    calls = dict(member_calls(settings, hosts))
    for name, place in places.items():
        # Without the service, so that a damaged ledger does not hide the pool.
        params = {**balancer_params(settings.layers[place.layer]), "service": None}
        calls[f"{name} (pool)"] = Call("pool_read", params, _LIMIT, place.host)
    for machine in machines:
        params = {"service": settings.service}
        calls[f"{machine} (ledger)"] = Call("ledger_read", params, _LIMIT, machine)
    replies = remote.run(calls)
    troubles: dict[str, str] = {}

    def note(host: str, error: RolloutError) -> None:
        troubles.setdefault(host, str(error))

    pools, ledgers, infos = {}, {}, {}
    for name, place in places.items():
        reply = replies[f"{name} (pool)"]
        if reply.error is not None:
            note(place.host, reply.error)
        else:
            pools[name] = Pool.from_dict(reply.result["pools"][0])
    for machine in machines:
        reply = replies[f"{machine} (ledger)"]
        if reply.error is not None:
            note(machine, reply.error)
        ledgers[machine] = None if reply.error else reply.result["ledger"]
    for host in hosts:
        reply = replies[host]
        if reply.error is not None:
            note(host, reply.error)
        else:
            infos[host] = reply.result
    names = find_members(hosts, hostvars, pools)
    layers = {name: place.layer for name, place in places.items()}
    return overview(Seen(settings.service, layers, pools, ledgers, infos, names, troubles))


def with_slots(
    settings: BlueGreen, found: Mapping[str, Mapping[str, Any]], balancers: Sequence[str], remote: Remote
) -> dict[str, Any]:
    """Both slots' status as one, with which of them is live; ``text`` is the same for people."""
    params = {**balancer_params(settings), **route_params(settings)}
    replies = remote.run({name: Call("route_read", params, _LIMIT, name) for name in balancers})
    routes = {name: reply.result for name, reply in replies.items() if reply.ok}
    drift = [f"{name}: {reply.error}" for name, reply in replies.items() if reply.error is not None]
    live = ""
    try:
        live, _repair = which_is_live(settings, routes, Earlier())
    except RolloutError as error:
        drift.append(str(error))
    drift += [f"{name}: {each['trouble']}" for name, each in routes.items() if each["trouble"]]
    # A slot without traffic may be stopped, or on another version: that is what it is for.
    drift += list(found[live]["drift"] if live else [])
    data = {**found[live or SLOTS[0]], "live": live, "slots": dict(found), "drift": drift, "attention": bool(drift)}
    words = [f"{settings.service}: {live or 'nobody knows which slot'} is live."]
    for slot, each in found.items():
        kind = "live" if slot == live else "idle"
        words += [
            "",
            f"{slot} ({kind})",
            overview_text({**each, "drift": each["drift"] if slot == live else [], "rollouts": []}),
        ]
    if drift:
        words += ["", "What needs a look:", *(f"  {each}" for each in drift)]
    return {**data, "text": "\n".join(words)}


def write(data: Mapping[str, Any], path: str) -> None:
    """The same for programs; raises ``BadInput``."""
    try:
        Path(path).expanduser().write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise BadInput(f"rollout_status_file cannot be written: {error}.") from error


def ask_to_stop(settings: Settings, machines: Sequence[str], remote: Remote, by: str, check: bool) -> tuple[bool, str]:
    """Put the flag into every ledger that can be had; whether that changed one, and what it came to."""
    params = {"service": settings.service, "by": by}
    replies = remote.run({machine: Call("lease_stop", params, _LIMIT, machine) for machine in machines}, check)
    good = [reply for reply in replies.values() if reply.ok]
    if not good:
        raise next(reply.error for reply in replies.values() if reply.error is not None)
    running = [reply.result["lease"] for reply in good if reply.result["runs"]]
    if not running:
        return False, f"Nobody works on {settings.service}: there is nothing to stop."
    lease = max(running, key=lambda each: int(each["number"]))
    changed = any(reply.changed for reply in good)
    would = "would be asked" if check and changed else "was asked" if changed else "had been asked before"
    return changed, f"{lease['owner']} ({lease['reason']}) {would} to stop after the batch in hand."


def order(
    settings: Settings, machines: Sequence[str], remote: Remote, wanted: str, by: str, check: bool
) -> tuple[bool, str]:
    """Tell the run that judges a canary what an operator wants; whether that is new, and what it came to.

    Empty words: nobody judges one now.
    """
    calls = {machine: Call("ledger_read", {"service": settings.service, "count": 0}, _LIMIT) for machine in machines}
    leases = [
        each.result["ledger"]["lease"] for each in remote.run(calls).values() if each.ok and each.result["ledger"]
    ]
    running = [each for each in leases if each and each["left"] > 0 and not are_dead(str(each.get("process") or ""))]
    if not running:
        return False, ""
    params = {"service": settings.service, "order": wanted, "by": by}
    replies = remote.run({machine: Call("canary_order", params, _LIMIT) for machine in machines}, check)
    good = [each for each in replies.values() if each.ok and each.result["runs"]]
    if not good:
        return False, ""
    lease = max(running, key=lambda each: int(each["number"]))
    what = "go on with its canary" if wanted == "promote" else "take its canary back"
    changed = any(each.changed for each in good)
    would = "would be asked" if check and changed else "was asked" if changed else "had been asked before"
    return changed, f"{lease['owner']} ({lease['reason']}) {would} to {what}; it does so at its next look."
