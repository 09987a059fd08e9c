# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Preflight of blue/green: which slot is live on every balancer, and what the other one needs. It touches nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    BadArtefact,
    BadInput,
    Refused,
    RouteDiffers,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Pool
from ansible_collections.zerodrop.rollout.plugins.module_utils._route import BLUE, GREEN, SLOTS
from ansible_collections.zerodrop.rollout.plugins.module_utils._route_operations import decided
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._flip import live_slot
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._members import find_members
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._plan import Plan
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Call, Remote, Reply
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout import outside, preflight
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.fleet import balancer_params
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.methods import method_of
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import (
    MemberRecord,
    Place,
    Record,
    new_id,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.resume import (
    Earlier,
    read_ledgers,
    refuse_other_balancers,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import (
    BLUE_GREEN,
    FLIP_BACK,
    BlueGreen,
    FlipBack,
    SlotContract,
    SlotRecovery,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._shown import shown

_LIMIT = 10.0


def beside_params(settings: BlueGreen, service: str) -> dict[str, Any]:
    """The same for a service that flips along."""
    return {
        **balancer_params(settings),
        "service": service,
        "pool": f"{service}_{BLUE}",
        **{f"{slot}_pool": f"{service}_{slot}" for slot in SLOTS},
        "preview": settings.preview,
    }


def route_params(settings: BlueGreen) -> dict[str, Any]:
    """What an operation on the route needs to know beside its balancer."""
    return {
        "blue_pool": settings.blue_pool,
        "green_pool": settings.green_pool,
        "preview": settings.preview,
        "route_file": settings.route_file or None,
    }


@dataclass(frozen=True)
class _Seen:
    """What the hosts said."""

    routes: Mapping[str, Mapping[str, Any]]  # by balancer
    pools: Mapping[str, Mapping[str, Pool]]  # by slot and balancer
    infos: Mapping[str, Mapping[str, Any]]  # by member
    beside: Mapping[str, Mapping[str, Mapping[str, Any]]]  # by service that flips along, and balancer: its route
    ledgers: Mapping[str, Mapping[str, Any] | None]
    replies: Mapping[str, Reply]  # of each balancer, about the idle slot's pool


def plan_slots(
    settings: BlueGreen,
    hosts: Mapping[str, Sequence[str]],
    balancers: Sequence[str],
    hostvars: Mapping[str, Any],
    remote: Remote,
    upgrade: str,
    check: bool,
    rollout_id: str = "",
) -> Record:
    """Read everything, refuse what cannot go well, and return the planned rollout; ``hosts`` are those of each slot."""
    _refuse_wrong_groups(settings, hosts, balancers)
    places = {name: Place(name, 0) for name in balancers}
    seen = _look(settings, hosts, places, hostvars, remote, check)
    earlier = read_ledgers(seen.ledgers)
    refuse_other_balancers(earlier, balancers, settings.balancers_removed)
    live, repair = which_is_live(settings, seen.routes, earlier)
    repair_beside = _beside(settings, seen, live)
    idle = GREEN if live == BLUE else BLUE
    names = {slot: find_members(hosts[slot], hostvars, seen.pools[slot]) for slot in SLOTS}
    slot_settings = settings.for_slot(idle)
    if isinstance(settings, FlipBack):
        settings = settings.to(_release_before(settings, seen, hosts[idle]))
        slot_settings = settings.for_slot(idle)
    if isinstance(settings, SlotContract):
        settings = settings.to(_only_version(settings, seen, hosts[live], live))
        slot_settings = settings.for_slot(idle)
    todo, notes = _to_do(settings, seen, hosts, live, idle, earlier)
    if not isinstance(settings, (SlotContract, SlotRecovery)):
        preflight.releases_can_be_known(settings, seen.infos)
        preflight.units_are_there(slot_settings, {host: seen.infos[host] for host in hosts[idle]})
    versions = {seen.infos[host]["release"] for host in hosts[live]}
    releases = frozenset(seen.infos[host]["release"] for slot in SLOTS for host in hosts[slot])
    from_version = versions.pop() if len(versions) == 1 else None
    migrating = preflight.migration_of(settings, from_version, releases, todo, seen.ledgers, rollout_id)
    plan = Plan((tuple(hosts[idle]),) if todo else (), (), len(hosts[live]), len(hosts[live]), from_version, False)
    keeps = {
        host
        for host in hosts[idle]
        if seen.infos[host]["release"] == settings.version
        and seen.infos[host]["healthy"]
        and host not in earlier.by_halves
    }
    if isinstance(settings, FlipBack):
        _refuse_what_is_not_kept(settings, seen, [host for host in hosts[idle] if host not in keeps])
    started = time.time()
    members = {}
    for host in hosts[idle]:
        release = seen.infos[host]["release"]
        members[host] = MemberRecord(host, names[idle][host], False, release, release)
        members[host].addresses = {
            place: (pool.member(names[idle][host][place]).address, pool.member(names[idle][host][place]).port)
            for place, pool in seen.pools[idle].items()
        }
        members[host].keeps = host in keeps
        members[host].opened = host in earlier.by_halves
    record = Record(
        rollout_id=rollout_id or new_id(started),
        service=settings.service,
        strategy=settings.strategy,
        pool=settings.pool_in(idle),
        from_version=from_version,
        to_version=settings.version,
        started_at=started,
        check=check,
        method=settings.method,
        upgrade=upgrade,
        floor=len(hosts[live]),
        balancers=list(places),
        batches=[list(batch) for batch in plan.batches],
        members=members,
        places=places,
        artefact=""
        if isinstance(settings, (SlotContract, SlotRecovery))
        else method_of(settings).artefact(settings, seen.infos),
        identities={name: pool.identity for name, pool in seen.pools[idle].items()},
        counters={name: preflight.counters_of(pool) for name, pool in seen.pools[idle].items()},
        notes=notes,
        settings=shown(settings),
        migration=migrating.to_dict() if migrating else None,
        migrate_on=preflight.migrate_host(settings, hosts[live], hostvars) if settings.steps else "",
        lease_seen=earlier.number,
        unended=bool(earlier.interrupted) or earlier.active or bool(repair or repair_beside),
        slots={
            "live": live,
            "idle": idle,
            "repair": repair or (live if repair_beside else ""),
            "beside": {f"{name} ({each})": [name, each] for each in settings.services for name in places},
            "old": {host: names[live][host] for host in hosts[live]},
            "flipped": False,
            "spread": None,
        },
    )
    if todo:
        record.to_stage = [
            host for host in method_of(settings).to_stage(settings, plan, seen.infos) if not members[host].keeps
        ]
        serving = [host for host in hosts[live] if seen.infos[host]["healthy"]]
        record.outside_well = outside.before(settings, serving, record.notes)
    return record


def _refuse_wrong_groups(settings: BlueGreen, hosts: Mapping[str, Sequence[str]], balancers: Sequence[str]) -> None:
    for slot in SLOTS:
        if not hosts[slot]:
            raise BadInput(f"rollout_{slot} {settings.hosts_in(slot)!r} matches no host of the inventory.")
    if not balancers:
        raise BadInput(f"rollout_balancers {settings.balancers!r} matches no host of the inventory.")
    both = sorted(set(hosts[BLUE]) & set(hosts[GREEN]))
    if both:
        raise BadInput(
            f"{', '.join(both)}: in rollout_blue and in rollout_green at once.",
            "Where both slots share hosts, give each a name of its own in the inventory, with the same ansible_host and "
            "another rollout_member_port.",
        )
    also = sorted({*hosts[BLUE], *hosts[GREEN]} & set(balancers))
    if also:
        raise BadInput(f"{', '.join(also)}: in a slot and in rollout_balancers at once.")


def _look(
    settings: BlueGreen,
    hosts: Mapping[str, Sequence[str]],
    places: Mapping[str, Place],
    hostvars: Mapping[str, Any],
    remote: Remote,
    check: bool,
) -> _Seen:
    calls: dict[str, Call] = {}
    for name in places:
        route = {**balancer_params(settings), **route_params(settings), "rights": True}
        calls[name] = Call("route_read", route, _LIMIT, name)
        for service in settings.services:
            calls[f"{name} ({service})"] = Call(
                "route_read", {**beside_params(settings, service), "rights": True}, _LIMIT, name
            )
        for slot in SLOTS:
            params = {**balancer_params(settings.for_slot(slot)), "rights": slot == BLUE}
            calls[f"{name} ({settings.pool_in(slot)})"] = Call("pool_read", params, _LIMIT, name)
    for slot in SLOTS:
        calls.update(preflight.member_calls(settings.for_slot(slot), hosts[slot]))
    replies = remote.run(calls, check)
    # A retired slot need not answer: only what cannot be reached at all is an error.
    routes = {name: replies[name] for name in places}
    preflight.raise_together("balancer", routes)
    beside = {service: {name: replies[f"{name} ({service})"] for name in places} for service in settings.services}
    for service, own in beside.items():
        preflight.raise_together("balancer", {f"{name} ({service})": reply for name, reply in own.items()})
    pools = {}
    for slot in SLOTS:
        own = {name: replies[f"{name} ({settings.pool_in(slot)})"] for name in places}
        pools[slot] = preflight.pools_of(settings.for_slot(slot), places, own)
    infos = {host: replies[host] for slot in SLOTS for host in hosts[slot]}
    preflight.raise_together("member", infos)
    idle = {name: replies[f"{name} ({settings.blue_pool})"] for name in places}
    return _Seen(
        {name: reply.result for name, reply in routes.items()},
        pools,
        {host: reply.result for host, reply in infos.items()},
        {service: {name: reply.result for name, reply in own.items()} for service, own in beside.items()},
        {name: reply.result["ledger"] for name, reply in idle.items()},
        idle,
    )


def which_is_live(settings: BlueGreen, routes: Mapping[str, Mapping[str, Any]], earlier: Earlier) -> tuple[str, str]:
    """The slot that is live, and the one to set first where a flip was broken off; raises ``RouteDiffers``.

    A flip that its run did not live to end is finished or taken back, as the ledgers say: one that any of them has as
    settled is finished. What nobody's flip explains is refused, but by ``recover``.
    """
    noted = [each["noted"] for each in routes.values()]
    said = decided(noted)
    pending = any(each and each["to"] for each in noted)
    try:
        live = live_slot(settings.service, routes)
    except RouteDiffers:
        if said and (pending or isinstance(settings, SlotRecovery)):
            return said, said
        raise
    if pending and all(each and live in (each["to"], each["live"]) for each in noted) and live != said:
        return live, live  # all had flipped, and nobody lived to note it
    if said and live != said:
        if pending or isinstance(settings, SlotRecovery):
            return said, said
        raise RouteDiffers(
            f"{live} is live on every balancer, and the last flip that their ledgers know was to {said}: somebody has flipped "
            "by hand.",
            "The playbook zerodrop.rollout.recover sets what the ledger says; the module pool_route with slot: "
            f"{live} notes that it was meant.",
        )
    return live, said if pending else ""


def _beside(settings: BlueGreen, seen: _Seen, live: str) -> list[str]:
    """The services that flip along whose last flip was broken off; one that is on the other slot is refused."""
    broken = []
    for service, routes in seen.beside.items():
        pending = any(each["noted"] and each["noted"]["to"] for each in routes.values())
        wrong = [name for name, each in routes.items() if not each["live"] == each["kept"] == live]
        if pending or (wrong and isinstance(settings, SlotRecovery)):
            broken.append(service)
        elif wrong:
            raise RouteDiffers(
                f"{service} flips along with {settings.service} (rollout_services), and {live} is not live for it on "
                f"{', '.join(wrong)}.",
                f"Bring it to {live} first, with the role zerodrop.rollout.flip, or with the playbook recover.",
            )
    return broken


def _to_do(
    settings: BlueGreen,
    seen: _Seen,
    hosts: Mapping[str, Sequence[str]],
    live: str,
    idle: str,
    earlier: Earlier,
) -> tuple[bool, list[str]]:
    """Whether the idle slot is to be brought to the version and to the traffic; and what is to be said."""
    if isinstance(settings, (SlotContract, SlotRecovery)):
        return False, [f"{live} is live"]
    notes = [f"{live} is live, {idle} is idle"]
    if earlier.touched:
        notes.append(f"goes on with the run of {earlier.interrupted['owner']}, which never came to its end")
    on_it = [host for host in hosts[live] if seen.infos[host]["release"] == settings.version]
    ill = [host for host in hosts[live] if not seen.infos[host]["healthy"]]
    if ill:
        notes.append(f"{', '.join(ill)} of {live}, which is live, not healthy")
    if len(on_it) == len(hosts[live]):
        return False, notes
    if on_it and not isinstance(settings, FlipBack):
        raise Refused(
            f"{', '.join(on_it)} of the live slot {live} is on {settings.version} already, and the rest of it is not.",
            f"Bring the slot {live} to one version first (playbook zerodrop.rollout.rolling with rollout_hosts="
            f"{settings.hosts_in(live)} and rollout_pool={settings.pool_in(live)}).",
        )
    return True, notes


def _only_version(settings: SlotContract, seen: _Seen, hosts: Sequence[str], live: str) -> str:
    """The version that the live slot runs; raises ``Refused``."""
    found = {seen.infos[host]["release"] for host in hosts}
    if len(found) != 1 or None in found or settings.version not in ("", *found):
        shown_here = ", ".join(f"{seen.infos[host]['release'] or 'an unknown one'} on {host}" for host in hosts)
        wanted = f"{settings.version} on {live}" if settings.version else f"one version on {live}"
        raise Refused(f"The contract wants {wanted}, which is live, and there run: {shown_here}.", "Flip first.")
    return str(found.pop())


def _release_before(settings: FlipBack, seen: _Seen, idle: Sequence[str]) -> str:
    if settings.rollback_to:
        return settings.rollback_to
    releases = {seen.infos[host]["release"] for host in idle}
    last = max(
        (
            ledger["last"]
            for ledger in seen.ledgers.values()
            if ledger and ledger["last"] and ledger["last"]["strategy"] in (BLUE_GREEN, FLIP_BACK)
        ),
        key=lambda each: int(each["number"]),
        default=None,
    )
    known = (last or {}).get("to_version" if (last or {}).get("strategy") == FLIP_BACK else "from_version")
    if known:
        return str(known)
    if len(releases) == 1 and (release := releases.pop()):
        return str(release)
    raise Refused("It is not clear which release to go back to.", "Name it in rollout_rollback_to.")


def _refuse_what_is_not_kept(settings: FlipBack, seen: _Seen, hosts: Sequence[str]) -> None:
    lacking = [
        host for host in hosts if settings.version not in (seen.infos[host].get("releases") or (settings.version,))
    ]
    if lacking:
        raise BadArtefact(
            f"{', '.join(lacking)} cannot go back to {settings.version}: it is not kept there any more.",
            f"Deploy {settings.version} with the playbook zerodrop.rollout.blue_green.",
        )
