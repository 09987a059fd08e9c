# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Preflight: look at everything, plan, and touch nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    BadInput,
    LedgerBroken,
    PermissionDenied,
    Refused,
    RolloutError,
    UnknownMember,
    Unreachable,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Admin, Member, Pool
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._calendar import forbids
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._canary.plan import CanaryPlan, begin_state, plan_canary
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._members import find_members
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._plan import (
    Candidate,
    Plan,
    first_zone_only,
    floor_members,
    plan_maintenance,
    plan_rolling,
    pool_differences,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Call, Remote, Reply
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout import canary as canary_of
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout import (
    going_back,
    load,
    migration,
    outside,
    repair,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.fleet import (
    Fleet,
    balancer_params,
    health_params,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.foresee import beforehand
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.methods import method_of
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.ramp import check_ramp
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import (
    MemberRecord,
    Place,
    Record,
    new_id,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.resume import (
    Earlier,
    check_resume,
    done_before,
    read_ledgers,
    refuse_other_balancers,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.switch import no_switch
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.window import plan_window
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import (
    CONTRACT,
    MAINTAIN,
    RECOVER,
    RECOVER_SLOTS,
    ROLLBACK,
    ROLLING,
    Canary,
    Contract,
    FlipBack,
    Recovery,
    Rollback,
    Settings,
    SlotContract,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._shown import shown


def preflight(
    settings: Settings,
    hosts: Sequence[str],
    balancers: Sequence[Sequence[str]],
    hostvars: Mapping[str, Any],
    remote: Remote,
    upgrade: str,
    check: bool,
    rollout_id: str = "",
) -> Record:
    """Read the live fleet, refuse what cannot go well, and return the planned rollout.

    ``hosts`` are inventory hosts, ``balancers`` those of each layer; ``upgrade`` is the path of
    the user's tasks file or role; ``rollout_id`` is given where the rollout has its name already. Raises ``RolloutError``.
    """
    if not hosts:
        raise BadInput(f"rollout_hosts {settings.hosts!r} matches no host of the inventory.")
    for layer, each in zip(settings.layers, balancers, strict=True):
        if not each:
            raise BadInput(f"rollout_balancers {layer.balancers!r} matches no host of the inventory.")
        both = sorted(set(hosts) & set(each))
        if both:
            raise BadInput(f"{', '.join(both)}: in rollout_hosts and in rollout_balancers at once.")

    places = find_places(settings, balancers)
    replies = remote.run({**_balancer_calls(settings, places), **member_calls(settings, hosts)}, check)
    dead = _dead(settings, places, replies)
    seen = {name: place for name, place in places.items() if name not in dead}
    _offer_copy(settings, seen, replies)
    pools = pools_of(settings, seen, replies)
    held_out = {name: replies[name].result["held_out"] for name in seen}
    earlier = read_ledgers({name: replies[name].result["ledger"] for name in seen})
    refuse_other_balancers(earlier, (place.host for place in places.values()), settings.balancers_removed)
    check_resume(earlier, settings.strategy, settings.version)
    done = done_before(earlier, settings.strategy, upgrade)
    infos = _infos({name: replies[name] for name in hosts}, isinstance(settings, Recovery))
    names = find_members(hosts, hostvars, pools)
    _refuse_trackers(seen, pools, names)
    check_ramp(settings, pools, names)
    _every_member_is_known(pools, names, hostvars)
    if settings.strategy not in (MAINTAIN, RECOVER):
        releases_can_be_known(settings, infos)
    if settings.strategy != RECOVER:
        units_are_there(settings, infos)
    unended = None
    if isinstance(settings, Canary):
        last = _last_rollout({name: replies[name].result["ledger"] for name in seen})
        settings, unended = canary_of.find(settings, last, remote, seen)
    if isinstance(settings, Rollback):
        last = _last_rollout({name: replies[name].result["ledger"] for name in seen})
        settings = settings.to(going_back.target(infos, settings.rollback_to, last))
        hosts = going_back.newest_first(hosts, last)
    candidates = [
        replace(
            _candidate(host, names[host], pools, held_out, infos[host]),
            unfinished=host in earlier.unfinished,
            by_halves=host in earlier.by_halves,
            done=host in done,
            zone=_zone(host, hostvars),
        )
        for host in hosts
    ]
    outermost = {name: pool for name, pool in pools.items() if not seen[name].layer}
    others = other_members(outermost, names)
    capacity, room = {}, None
    if settings.floor.load and settings.strategy not in (RECOVER, CONTRACT):
        capacity = load.capacities(settings, hosts, hostvars)
        room = load.in_preflight(settings, remote, seen, names, capacity)
    most_out = None if room is None else room.count
    decisions: dict[str, repair.Decision] = {}
    canary: CanaryPlan | None = None
    if isinstance(settings, Recovery):
        ledgers = {name: replies[name].result["ledger"] for name in seen}
        for host in hosts:
            held = any(names[host][name] in held_out[name] for name in seen)
            left = repair.of_member(host, held, infos[host], ledgers)
            decisions[host] = repair.decide(left, settings.recover_half, settings.ready_method)
        plan = _plan_of_repair(settings, candidates, others, decisions)
    elif isinstance(settings, Contract):
        settings = settings.to(_only_version(settings, candidates))
        plan = Plan((), tuple(hosts), 0, sum(each.in_service for each in candidates), None, False)
    elif isinstance(settings, Canary):
        canary = plan_canary(
            candidates, settings.version, settings.canary_steps, settings.batches, settings.floor, others, most_out
        )
        plan = canary.plan
    elif settings.strategy == MAINTAIN:
        plan = plan_maintenance(candidates, settings.batches, settings.floor, others, most_out)
    else:
        plan = plan_rolling(candidates, settings.version, settings.batches, settings.floor, others, most_out)
    if room is not None and not room.count and plan.batches and not any(each.needs_repair for each in candidates):
        raise load.too_much(room, plan.batches[0], settings.headroom)
    zones = {each.name: each.zone for each in candidates}
    if settings.zone_approval and plan.batches and settings.strategy in (ROLLING, MAINTAIN):
        plan = first_zone_only(plan, zones)
    against = _calendar(settings, plan)
    notes = [
        *([f"the load now lets {room.count} members out at a time: {room.words}"] if room and plan.batches else []),
        *([f"begun against the calendar ({against}): {settings.override}"] if against else []),
        *_of_the_switch(settings, {name: replies[name].result for name in seen}),
        *_of_the_interrupted(earlier),
        *(repair.words(decisions) if decisions else _notes(settings, plan, candidates)),
        *_lasting(settings, seen, replies),
        *(_ties(settings, seen, replies) if isinstance(settings, Canary) else ()),
        *_weights_that_differ(pools, seen),
    ]
    notes.extend(f"{name} was left out, as rollout_dead_balancer says: {error}" for name, error in dead.items())
    _set_floors(settings, plan, places, pools)
    for name in seen:
        places[name].by_reload = not replies[name].result["capabilities"]["runtime_changes"]
    plan, width, of_window = plan_window(settings, plan, {name: places[name] for name in seen})
    notes.extend(of_window)
    if settings.join_batches and not any(each.by_reload and not each.layer for each in places.values()):
        notes.append(
            "rollout_join_batches makes no difference: no balancer of the outermost pool is reloaded for a change"
        )
    if settings.strategy != RECOVER:
        method_of(settings).refuse(settings, plan, infos)
    ledgers = {name: replies[name].result["ledger"] for name in seen}
    releases = frozenset(each.release for each in candidates)
    migrating = migration_of(settings, plan.from_version, releases, bool(plan.batches), ledgers, rollout_id)
    migrate_on = migrate_host(settings, hosts, hostvars) if settings.steps else ""
    serving = [each.name for each in candidates if each.in_service and each.healthy]
    outside_well = outside.before(settings, serving, notes) if plan.batches else None

    started = time.time()
    record = Record(
        rollout_id=rollout_id or new_id(started),
        service=settings.service,
        strategy=settings.strategy,
        pool=settings.pool,
        from_version=plan.from_version,
        to_version=settings.version,
        started_at=started,
        check=check,
        method=settings.method,
        upgrade=upgrade,
        floor=plan.floor,
        capacity=capacity,
        window=width,
        balancers=list(seen),
        batches=[list(batch) for batch in plan.batches],
        members={each.name: _member_record(settings, each, names[each.name], decisions, pools) for each in candidates},
        places=places,
        dead=list(dead),
        others=others,
        artefact=method_of(settings).artefact(settings, infos),
        to_stage=method_of(settings).to_stage(settings, plan, infos),
        identities={name: pool.identity for name, pool in pools.items()},
        counters={name: counters_of(pool) for name, pool in pools.items()},
        settings=shown(settings),
        notes=notes,
        outside_well=outside_well,
        later=list(dict.fromkeys(zones[name] for name in plan.later)),
        override=settings.override if against else "",
        migration=migrating.to_dict() if migrating else None,
        migrate_on=migrate_on,
        lease_seen=earlier.number,
        unended=bool(earlier.interrupted) or earlier.active,
        done=sorted(done & set(plan.finished)),
    )
    if canary is not None and plan.batches and isinstance(settings, Canary):
        state = begin_state(canary, unended.id if unended else record.rollout_id, plan.from_version, unended)
        highest = {name: int(replies[name].result["capabilities"]["max_weight"]) for name in seen}
        order = canary_of.planned(canary, plan.finished)
        state["shares"] = canary_of.shares(canary.targets, names, order, pools, highest)
        state["weights"] = state["shares"][state["step"]] or {}
        state["judged_by"] = settings.verdict(None)
        entries = _members_known({name: replies[name].result["ledger"] for name in seen})
        canary_of.adopt(record, state, unended, entries)
        if unended is None:
            since = _on_one_version_since(settings, {name: replies[name].result["ledger"] for name in seen})
            found, history, said = beforehand(
                Fleet(settings, remote, record, check), settings, order, canary.targets[0], since
            )
            state.update(foreseen=found, stored={"polls": [], "looks": [], "cursor": None, "history": history})
            record.notes.extend(each for each in said if each not in record.notes)
    return record


def _on_one_version_since(settings: Canary, ledgers: Mapping[str, Mapping[str, Any] | None]) -> dict[str, float]:
    """By place, when the last rollout was over and its members were warm, by that balancer's clock.

    One that never came to its end leaves no past that could be trusted.
    """
    last = {name: ledger["last"] for name, ledger in ledgers.items() if ledger and ledger["last"]}
    return {name: (each["ended"] or 1e11) + settings.canary_warmup for name, each in last.items()}


def _members_known(ledgers: Mapping[str, Mapping[str, Any] | None]) -> dict[str, Mapping[str, Any]]:
    """What the ledgers say of each member, by the one that was told last."""
    found: dict[str, Mapping[str, Any]] = {}
    for ledger in ledgers.values():
        for host, entry in (ledger or {"members": {}})["members"].items():
            if host not in found or entry["at"] > found[host]["at"]:
                found[host] = entry
    return found


def _plan_of_repair(
    settings: Settings,
    candidates: Sequence[Candidate],
    others: Sequence[bool],
    decisions: Mapping[str, repair.Decision],
) -> Plan:
    """Those that are out of service go through the phases together: taking them up costs no capacity."""
    hosts = tuple(repair.plan(decisions))
    in_service = sum(each.in_service for each in candidates) + sum(others)
    floor = floor_members(settings.floor, len(candidates) + len(others))
    return Plan((hosts,) if hosts else (), (), floor, in_service, None, False)


def _zone(host: str, hostvars: Mapping[str, Any]) -> str:
    """The zone that a member is in; those that are in none are one of their own."""
    value = hostvars[host].get("rollout_zone", "")
    text = str(value).strip() if isinstance(value, (str, int)) and not isinstance(value, bool) else "\n"
    if any(ord(char) < 32 or ord(char) == 127 for char in text) or len(text) > 64:
        raise BadInput(f"rollout_zone of {host} must be one short line of text, got {value!r}.")
    return text


def _calendar(settings: Settings, plan: Plan) -> str:
    """Against what this run begins, by the user's word; raises ``Refused`` without that.

    A way back and a recovery are never forbidden, and a run that has begun goes on to its end.
    """
    if not (plan.batches or isinstance(settings, Contract)) or settings.strategy in (ROLLBACK, RECOVER):
        return ""
    why = forbids(settings.freeze_until, settings.allowed_hours, settings.time_zone, datetime.now(UTC))
    if why and not settings.override:
        raise Refused(
            why,
            "Wait until then. Where it must be now, say why in rollout_override; it is kept in the ledgers and in the report.",
        )
    return why.rstrip(".")


def _only_version(settings: Settings, candidates: Sequence[Candidate]) -> str:
    """The version that every member runs; raises ``Refused``."""
    found = {each.release: each.name for each in candidates}
    if len(found) != 1 or None in found or settings.version not in ("", *found):
        shown = ", ".join(f"{release or 'an unknown one'} on {name}" for release, name in found.items())
        wanted = f"{settings.version} everywhere" if settings.version else "one version everywhere"
        raise Refused(f"The contract wants {wanted}, and the members run: {shown}.", "Finish the rollout first.")
    return str(next(iter(found)))


def migration_of(
    settings: Settings,
    from_version: str | None,
    releases: frozenset[str | None],
    changes: bool,
    ledgers: Mapping[str, Mapping[str, Any] | None],
    rollout_id: str,
) -> migration.Migration | None:
    """The data migration that this run is part of; raises ``Refused``.

    While another run may live its steps are its own: then the lease decides, and this is asked again.
    """
    leases = [each["lease"] for each in ledgers.values() if each and each["lease"]]
    if settings.strategy in (MAINTAIN, RECOVER, RECOVER_SLOTS) or any(
        each["left"] > 0 and each["holder"] != rollout_id for each in leases
    ):
        return None
    wish = migration.Wish(
        run=rollout_id,
        name=settings.migration or settings.version,
        version=settings.version,
        from_version=from_version,
        back=isinstance(settings, (FlipBack, Rollback)),
        contract_only=isinstance(settings, (Contract, SlotContract)),
        steps=settings.steps,
        members=releases,
        changes=changes,
        settle=settings.settle,
    )
    found = migration.taken_up(migration.read(ledgers.values()), wish)
    if found is not None and isinstance(settings, (Contract, SlotContract)):
        migration.refuse_too_early(found, settings.version, settings.contract_after)
    return found


def migrate_host(settings: Settings, hosts: Sequence[str], hostvars: Mapping[str, Any]) -> str:
    """The host that runs the steps of a migration: the first member, unless the user names another."""
    name = settings.migrate_host or hosts[0]
    if name != migration.CONTROLLER and name not in hostvars:
        raise BadInput(f"rollout_migrate_host {name!r} is no host of the inventory (nor {migration.CONTROLLER}).")
    return name


def _member_record(
    settings: Settings,
    each: Candidate,
    names: dict[str, str],
    decisions: Mapping[str, repair.Decision],
    pools: Mapping[str, Pool],
) -> MemberRecord:
    addresses = {place: _address(pools[place].member(name)) for place, name in names.items()}
    member = MemberRecord(
        each.name, names, each.in_service, each.release, each.release, addresses=addresses, zone=each.zone
    )
    # What an earlier run left by halves may not be put back by a balancer alone, whatever is done to it next.
    member.opened = each.by_halves
    decision = decisions.get(each.name)
    if decision is None or decision.repair is repair.Repair.NOTHING:
        return member
    if decision.repair is repair.Repair.LEAVE_OUT:
        member.state, member.trouble = "left_out", decision.words
        return member
    member.release_before = decision.release
    if decision.repair is repair.Repair.PUT_BACK:
        # A ready method sees to it that what was installed also runs.
        member.keeps = not settings.ready_method or decision.release is None
    return member


def _last_rollout(ledgers: Mapping[str, Mapping[str, Any] | None]) -> Mapping[str, Any] | None:
    """The last rollout that any balancer knows of."""
    known = [ledger["last"] for ledger in ledgers.values() if ledger and ledger["last"]]
    return max(known, key=lambda each: int(each["number"]), default=None)


def _address(member: Member) -> tuple[str, int]:
    return member.address, member.port


def find_places(settings: Settings, balancers: Sequence[Sequence[str]]) -> dict[str, Place]:
    """Every pool on every balancer, by a name for people: the balancer's own where it has but one of the pools."""
    everywhere = [host for hosts in balancers for host in hosts]
    places: dict[str, Place] = {}
    for number, (layer, hosts) in enumerate(zip(settings.layers, balancers, strict=True)):
        for host in hosts:
            name = host if everywhere.count(host) == 1 else f"{host} ({layer.pool})"
            if name in places:  # one host may have several HAProxy processes
                name = f"{host} ({layer.pool}, {layer.socket})"
            if name in places or any(
                same_pool(layer, settings.layers[each.layer], host, each) for each in places.values()
            ):
                raise BadInput(f"rollout_pools names the pool {layer.pool!r} on {host} twice.")
            places[name] = Place(host, number)
    return places


def same_pool(one: Settings, other: Settings, host: str, place: Place) -> bool:
    """Whether a pool of this host is the one that has a place already."""
    return place.host == host and (one.driver, one.pool, one.socket) == (other.driver, other.pool, other.socket)


def _balancer_calls(settings: Settings, places: Mapping[str, Place]) -> dict[str, Call]:
    return {
        name: Call("pool_read", {**balancer_params(settings.layers[place.layer]), "rights": True}, 10, place.host)
        for name, place in places.items()
    }


def _dead(settings: Settings, places: Mapping[str, Place], replies: Mapping[str, Reply]) -> dict[str, RolloutError]:
    """Places that cannot be reached and are to be skipped; never all of a layer."""
    if settings.dead_balancer != "skip":
        return {}
    dead = {name: error for name in places if isinstance(error := replies[name].error, Unreachable)}
    for number in range(len(settings.layers)):
        layer = [name for name, place in places.items() if place.layer == number]
        if all(name in dead for name in layer):
            raise dead[layer[0]]
    return dict(dead)


def _offer_copy(settings: Settings, places: Mapping[str, Place], replies: Mapping[str, Reply]) -> None:
    """Where a balancer's ledger cannot be used, say which other one has it whole."""
    whole = [places[name].host for name in places if replies[name].ok and replies[name].result["ledger"]]
    for name in places:
        error = replies[name].error
        if isinstance(error, LedgerBroken) and whole:
            folder = f"/var/lib/zerodrop/{settings.service}"
            error.hint += (
                f" {whole[0]} has it whole: move ledger.db in {folder} of {places[name].host} aside, and copy that one "
                "to its place."
            )


def _set_floors(settings: Settings, plan: Plan, places: Mapping[str, Place], pools: Mapping[str, Pool]) -> None:
    """Each place's floor: the plan's for the outermost pool, and of its own size for another."""
    for number in range(len(settings.layers)):
        sizes = [
            sum(not member.backup for member in pool.members)
            for name, pool in pools.items()
            if places[name].layer == number
        ]
        for place in places.values():
            if place.layer == number:
                place.floor = floor_members(settings.floor, sizes[0]) if number else plan.floor


def member_calls(settings: Settings, hosts: Sequence[str]) -> dict[str, Call]:
    params: dict[str, Any] = {"service": settings.service, "health": health_params(settings, None)}
    params.update(method_of(settings).look(settings))
    return {host: Call("member_info", params, settings.health_request_timeout) for host in hosts}


def pools_of(settings: Settings, places: Mapping[str, Place], replies: Mapping[str, Reply]) -> dict[str, Pool]:
    raise_together("balancer", {name: replies[name] for name in places})
    pools = {}
    for number, layer in enumerate(settings.layers):
        own = {
            name: Pool.from_dict(next(pool for pool in replies[name].result["pools"] if pool["name"] == layer.pool))
            for name, place in places.items()
            if place.layer == number
        }
        for name, pool in own.items():
            _refuse_twins(name, pool)
        differences = pool_differences({name: _addresses(pool) for name, pool in own.items()})
        if differences:
            raise Refused(
                f"The pool {layer.pool!r} is not the same on every balancer:\n{differences}\n",
                "Bring the balancers' configurations in line first.",
            )
        pools.update(own)
    return pools


def _addresses(pool: Pool) -> dict[str, str]:
    """Where each member is, in the words of the table of differences; a backup is said to be one."""
    return {
        each.name: (f"{each.address}:{each.port}" if each.port else each.address) + (" backup" if each.backup else "")
        for each in pool.members
    }


def _refuse_twins(balancer: str, pool: Pool) -> None:
    """One member under two names: one of them would go on sending requests to what the other drains."""
    seen: dict[tuple[str, int], str] = {}
    for member in pool.members:
        if not member.port:
            continue
        other = seen.setdefault((member.address, member.port), member.name)
        if other != member.name:
            raise Refused(
                f"{other} and {member.name} of the pool {pool.name!r} on {balancer} are both "
                f"{member.address}:{member.port}: draining one of them would leave the other in service.",
                "Leave one of them in the pool.",
            )


def _lasting(settings: Settings, places: Mapping[str, Place], replies: Mapping[str, Reply]) -> list[str]:
    """Where a reload by someone else would undo what the rollout changes: refused, or said, as the settings have it."""
    said = {}
    for name, place in places.items():
        layer = settings.layers[place.layer]
        reason = replies[name].result.get("lasting", {}).get(layer.pool, "")
        if reason and layer.lasting == "require":
            said[name] = reason
    if said:
        lines = "\n".join(f"{name}: {reason}" for name, reason in said.items())
        raise Refused(lines, "rollout_lasting is require: what the rollout changes must outlive a reload.")
    return [
        f"{name}: {reason}".rstrip(".")
        for name, place in places.items()
        if (reason := replies[name].result.get("lasting", {}).get(settings.layers[place.layer].pool, ""))
    ]


def _ties(settings: Canary, places: Mapping[str, Place], replies: Mapping[str, Reply]) -> list[str]:
    """Whether users stay on the version they saw: refused, or said, as the settings have it."""
    tied = {name: replies[name].result["ties"].get(settings.layers[place.layer].pool) for name, place in places.items()}
    loose = [name for name in tied if not tied[name]]
    if loose and settings.canary_sticky == "require":
        raise Refused(
            f"{', '.join(loose)} does not keep clients on their member: one user would see both versions in turn.",
            "rollout_canary_sticky is require. Use cookies on every server in HAProxy; sticky, ip_hash or a consistent hash "
            "in nginx.",
        )
    notes = (
        [f"{', '.join(loose)} does not keep clients on their member: one user may see both versions"] if loose else []
    )
    if len(loose) < len(tied) and any(step.share is not None for step in settings.canary_steps):
        notes.append("weights act on new clients alone where clients are kept on their member: a share takes its time")
    return notes


def _weights_that_differ(pools: Mapping[str, Pool], places: Mapping[str, Place]) -> list[str]:
    found: dict[tuple[int, str], dict[str, int]] = {}
    for place, pool in pools.items():
        for member in pool.members:
            found.setdefault((places[place].layer, member.name), {})[place] = member.weight
    return [
        f"the weight of {name} differs ({', '.join(f'{weight} on {place}' for place, weight in weights.items())}), "
        "and stays so"
        for (_layer, name), weights in found.items()
        if len(set(weights.values())) > 1
    ]


def _infos(replies: Mapping[str, Reply], some: bool = False) -> dict[str, dict[str, Any]]:
    """What the members say; with ``some`` one that says nothing is only told so."""
    if not some:
        raise_together("member", replies)
    lost: dict[str, Any] = {"release": None, "healthy": False, "unit": None, "keeps_record": True, "staged": []}
    return {
        name: {**lost, "lost": reply.error.message} if reply.error else reply.result for name, reply in replies.items()
    }


def raise_together(kind: str, replies: Mapping[str, Reply]) -> None:
    """Raise one error that names every host that failed, so that one run shows them all."""
    failed = {name: reply.error for name, reply in replies.items() if reply.error is not None}
    if not failed:
        return
    first = next(iter(failed.values()))
    if len(failed) == 1:
        (name,) = failed
        first.message = first.message if name in first.message else f"{name}: {first.message}"
        raise first
    lines = "\n".join(f"{name}: {error.message}" for name, error in failed.items())
    raise type(first)(f"{len(failed)} {kind}s failed:\n{lines}", first.hint, **first.facts)


def _refuse_trackers(
    places: Mapping[str, Place], pools: Mapping[str, Pool], names: Mapping[str, Mapping[str, str]]
) -> None:
    """A server that tracks one of another pool of the rollout follows it anyway, and cannot be put back before it."""
    for host, own in names.items():
        for place, name in own.items():
            root, _slash, server = str(pools[place].member(name).detail.get("tracked_by", "")).partition("/")
            for other, there in own.items():
                if places[other].host == places[place].host and pools[other].name == root and there == server:
                    raise BadInput(
                        f"{name} of the pool {pools[place].name!r} on {places[place].host} tracks {root}/{server} ({host}), "
                        "which is in rollout_pools too.",
                        f"Leave {pools[place].name} out of rollout_pools: its servers follow those that they track, and what "
                        "they serve is waited for.",
                    )


def _every_member_is_known(
    pools: Mapping[str, Pool], names: Mapping[str, Mapping[str, str]], hostvars: Mapping[str, Any]
) -> None:
    """Refuse a pool with members that the inventory does not know: the floor would count strangers."""
    for balancer, pool in pools.items():
        ours = {each[balancer] for each in names.values()}
        rest = [
            each for each in pool.members if each.name not in ours and each.name not in hostvars and not each.backup
        ]
        if not rest:
            continue
        addresses = {str(hostvars[host].get("ansible_host") or host) for host in hostvars}
        strangers = [each.name for each in rest if each.address not in addresses]
        if strangers:
            raise UnknownMember(
                f"The pool {pool.name!r} on {balancer} has members that the inventory does not know: "
                f"{', '.join(strangers)}.",
                "Add them to the inventory, or remove them from the pool: the floor counts every member.",
            )


def units_are_there(settings: Settings, infos: Mapping[str, Mapping[str, Any]]) -> None:
    lacking = [host for host, info in infos.items() if (info["unit"] or {}).get("load") == "not-found"]
    if lacking:
        raise BadInput(
            f"{', '.join(lacking)}: there is no unit {settings.unit} to restart.",
            f"Name the service's unit in rollout_{settings.method}_unit.",
        )


def releases_can_be_known(settings: Settings, infos: Mapping[str, Mapping[str, Any]]) -> None:
    """Without a record, a store or a health answer that names it, every run would upgrade everything again."""
    if method_of(settings).knows_release or settings.names_version:
        return
    denied = [host for host, info in infos.items() if not info["keeps_record"]]
    if denied:
        raise PermissionDenied(
            f"{', '.join(denied)}: the record of the release that is installed there cannot be written by this user.",
            "Use become, or set rollout_health_version_key or rollout_health_version_header, "
            "so that the service itself says which version runs.",
        )


def other_members(pools: Mapping[str, Pool], names: Mapping[str, Mapping[str, str]]) -> list[bool]:
    """For each member of the pool that this rollout leaves alone, whether it is in service on every balancer."""
    service: dict[str, bool] = {}
    for balancer, pool in pools.items():
        ours = {each[balancer] for each in names.values()}
        for member in pool.members:
            if member.name not in ours and not member.backup:
                service[member.name] = service.get(member.name, True) and member.in_service
    return list(service.values())


def _candidate(
    host: str,
    names: Mapping[str, str],
    pools: Mapping[str, Pool],
    held_out: Mapping[str, Mapping[str, Any]],
    info: Mapping[str, Any],
) -> Candidate:
    seen = [pools[balancer].member(name) for balancer, name in names.items()]
    return Candidate(
        name=host,
        release=info["release"],
        in_service=all(member.in_service for member in seen),
        healthy=bool(info["healthy"]),
        left_out=any(
            pools[balancer].member(name).admin is not Admin.READY
            and held_out[balancer].get(name, {}).get("admin") == Admin.READY.value
            for balancer, name in names.items()
        ),
    )


def _of_the_switch(settings: Settings, found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What the balancers did by themselves since the last run, and which of them could not do so after this one."""
    notes = []
    for name, each in found.items():
        switched = (each.get("ledger") or {}).get("switched")
        if switched:
            notes.append(f"{name} by itself: {switched.rstrip('.')}")
        if settings.silence and each.get("no_switch"):
            notes.append(no_switch(name, each["no_switch"]))
    return notes


def _of_the_interrupted(earlier: Earlier) -> list[str]:
    if not earlier.touched:
        return []
    left = f", left by halves: {', '.join(sorted(earlier.unfinished))}" if earlier.unfinished else ""
    return [f"goes on with the run of {earlier.interrupted['owner']}, which never came to its end{left}"]


def _notes(settings: Settings, plan: Plan, candidates: Sequence[Candidate]) -> list[str]:
    notes = []
    left_out = [each.name for each in candidates if each.left_out]
    if left_out:
        notes.append(f"{', '.join(left_out)}: left out of service by an earlier rollout, and taken up again")
    out = [each.name for each in candidates if not each.in_service and not each.left_out]
    if out:
        notes.append(f"{', '.join(out)}: out of service before the rollout, and left so where an operator did it")
    if plan.shrunk:
        why = "for the load" if settings.floor.load else f"to keep {plan.floor} members in service"
        notes.append(f"batches were made smaller {why}")
    unknown = [each.name for each in candidates if each.release is None]
    if unknown and plan.batches and settings.strategy != MAINTAIN:
        notes.append(
            f"no release is known on {', '.join(unknown)}: there is nothing to roll back to there "
            "(a record is left by the first rollout that finishes)"
        )
    return notes


def counters_of(pool: Pool) -> dict[str, Any]:
    """The counters that a report subtracts: of the process that serves, so its name comes with them."""
    return {"identity": pool.identity, **asdict(pool.counters)}


def make_folder(settings: Settings, record: Record) -> None:
    """Make the folder of this rollout under the report directory; raises ``BadInput``."""
    make_folder_in(settings.report_dir, record)


def make_folder_in(report_dir: str, record: Record) -> None:
    """The record's file and the report lie in a folder of the rollout's own."""
    folder = os.path.join(os.path.abspath(os.path.expanduser(report_dir)), record.rollout_id)
    try:
        os.makedirs(folder, mode=0o750, exist_ok=True)
    except OSError as error:
        raise BadInput(f"rollout_report_dir cannot be written: {error}.") from error
    record.path = os.path.join(folder, "record.json")


def summary(record: Record) -> str:
    """The plan in a few lines."""
    if record.strategy == RECOVER:
        found = [f"  {note}." for note in record.notes]
        return (
            "\n".join([f"{record.service}: what was left behind.", *found])
            if found
            else (f"{record.service}: no run left a member out of service.")
        )
    if record.slots:
        return _summary_of_slots(record)
    if not record.batches:
        return f"{record.service} is on {record.to_version} everywhere: nothing to do."
    versions = f"{record.from_version or 'unknown'} to {record.to_version}"
    if record.strategy == MAINTAIN:
        versions = "maintenance"
    fleet = f"{len(record.members)} members behind {', '.join(record.balancers)}"
    lines = [f"{record.service}: {versions}, {fleet}, at least {record.floor} in service at every moment."]
    for number, batch in enumerate(record.batches, 1):
        lines.append(f"  batch {number} of {len(record.batches)}: {', '.join(batch)}")
    lines.extend(f"  note: {note}." for note in record.notes)
    return "\n".join(lines)


def _summary_of_slots(record: Record) -> str:
    live, idle = record.slots["live"], record.slots["idle"]
    notes = [f"  note: {note}." for note in record.notes]
    if not record.batches:
        on = f" on {record.to_version}" if record.to_version else ""
        return "\n".join([f"{record.service}: {live} is live{on}: nothing to flip.", *notes])
    hosts = ", ".join(record.batches[0])
    lines = [
        (
            f"{record.service}: {record.from_version or 'unknown'} to {record.to_version} by a flip from {live} to {idle}, behind "
            f"{', '.join(record.balancers)}."
        ),
        f"  {idle}: {hosts}",
        *notes,
    ]
    return "\n".join(lines)


def refused(error: RolloutError) -> str:
    """The one sentence of a rollout that never began."""
    return f"Refused, and nothing was touched: {error}"
