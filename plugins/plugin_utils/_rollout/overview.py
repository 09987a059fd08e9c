# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a service stands, by what its hosts, the service, its balancers and their ledgers say of it. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._ledger import BY_HAND, BY_ROLLOUT, ENDED
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Pool
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout import migration

_LISTED = 5  # rollouts, and events for people


@dataclass(frozen=True)
class Seen:
    """What was read; what could not be has its reason instead."""

    service: str
    layers: Mapping[str, int]  # of each place
    pools: Mapping[str, Pool]  # by place
    ledgers: Mapping[str, Mapping[str, Any] | None]  # by balancer; None: there is none
    infos: Mapping[str, Mapping[str, Any]]  # by member
    names: Mapping[str, Mapping[str, str]]  # by member and place
    troubles: Mapping[str, str] = field(default_factory=dict)  # by host: why it could not be read, or its ledger


def overview(seen: Seen) -> dict[str, Any]:
    """The whole of it as plain data, with ``drift``: what does not fit together, and ``attention``: whether any does."""
    known = {name: each for name, each in seen.ledgers.items() if each and each["lease"]}
    newest = max(known.values(), key=lambda each: each["lease"]["number"], default=None)
    active = bool(newest and newest["lease"]["left"] > 0)
    members = {host: _member(host, seen, newest) for host in seen.names}
    drift = [f"{host}: {why}" for host, why in sorted(seen.troubles.items())]
    drift += _of_ledgers(known, seen.ledgers, seen.troubles)
    if newest and newest["interrupted"] and not active:
        drift.append(_interrupted(newest["interrupted"]))
    if not active:
        drift += _of_migration(seen.ledgers)
    for host, member in members.items():
        drift += [f"{host}: {why}" for why in _of_member(host, member, seen, newest, active)]
    versions = sorted({str(each["release"]) for each in members.values() if each["release"]})
    held = bool(newest and newest["rollouts"] and newest["rollouts"][0]["outcome"] == "held")
    if len(versions) > 1 and not active and not held:
        drift.append(f"{len(versions)} versions serve: {', '.join(versions)}")
    return {
        "service": seen.service,
        "versions": versions,
        "lease": newest["lease"] if newest else None,
        "runs": active,
        "stop_asked": newest["stop"] if newest and active else None,
        "members": members,
        "drift": drift,
        "attention": bool(drift),
        "rollouts": [_rollout(each) for each in (newest["rollouts"] if newest else [])][:_LISTED],
        "events": newest["events"] if newest else [],
    }


def _of_migration(ledgers: Mapping[str, Mapping[str, Any] | None]) -> list[str]:
    """The steps of a data migration whose end nobody knows."""
    found = migration.read(ledgers.values())
    if found is None:
        return []
    return [
        f"the {step} of the migration {found.name} was running on {found.steps[step].host} when its run ended: see whether it "
        "ran, and say it in rollout_settle"
        for step in found.unknown()
    ]


def _member(host: str, seen: Seen, newest: Mapping[str, Any] | None) -> dict[str, Any]:
    info = seen.infos.get(host, {})
    entry = (newest or {"members": {}})["members"].get(host, {})
    balancers = {}
    for place, name in seen.names[host].items():
        if place in seen.pools:
            found = seen.pools[place].member(name)
            balancers[place] = {
                "state": found.admin.value,
                "health": found.health.value,
                "weight": found.weight,
                "in_service": found.in_service,
            }
    return {
        "release": info.get("release"),
        "installed": info.get("installed"),
        "answers": info.get("runs"),
        "healthy": info.get("healthy"),
        "phase": entry.get("phase"),
        "balancers": balancers,
    }


def _of_ledgers(
    known: Mapping[str, Mapping[str, Any]], ledgers: Mapping[str, Mapping[str, Any] | None], troubles: Mapping[str, str]
) -> Iterable[str]:
    if not known:
        return
    number = max(each["lease"]["number"] for each in known.values())
    for name in ledgers:
        if name in troubles:
            continue
        if name not in known:
            yield f"{name}: has no ledger, and others have"
        elif known[name]["lease"]["number"] < number:
            yield f"{name}: its ledger misses the last run"


def _of_member(
    host: str, member: Mapping[str, Any], seen: Seen, newest: Mapping[str, Any] | None, active: bool
) -> Iterable[str]:
    installed, answers = member["installed"], member["answers"]
    if installed and answers and installed != answers:
        yield f"{installed} is installed, and the service answers as {answers}"
    if member["healthy"] is False:
        yield "it is not healthy"
    for layer in sorted(set(seen.layers.values())):
        own = {place: each for place, each in member["balancers"].items() if seen.layers[place] == layer}
        states = {(each["state"], each["weight"]) for each in own.values()}
        if len(states) > 1 and not active:
            yield "its balancers differ: " + ", ".join(
                f"{each['state']} at weight {each['weight']} on {place}" for place, each in own.items()
            )
    if active:
        return
    held = {row["held_by"] for row in _held(host, seen)}
    out = [place for place, each in member["balancers"].items() if each["state"] != "ready"]
    if out and BY_ROLLOUT in held:
        yield f"out of service on {', '.join(out)}, left so by a run; the same playbook takes it up"
    elif out and BY_HAND not in held:
        yield f"out of service on {', '.join(out)}, and no run holds it out"
    if member["phase"] and member["phase"] not in ENDED:
        yield f"left by halves: {member['phase']}"


def _held(host: str, seen: Seen) -> Iterable[Mapping[str, Any]]:
    names = set(seen.names[host].values())
    for ledger in seen.ledgers.values():
        for row in (ledger or {}).get("held", []):
            if row["host"] == host or row["member"] in names:
                yield row


def _interrupted(rollout: Mapping[str, Any]) -> str:
    what = f"to {rollout['to_version']}" if rollout["to_version"] else f"({rollout['strategy']})"
    return f"the run {what} that {rollout['owner']} began at {_date(rollout['started'])} never came to its end"


def _rollout(entry: Mapping[str, Any]) -> dict[str, Any]:
    names = (
        "id",
        "strategy",
        "owner",
        "from_version",
        "to_version",
        "started",
        "ended",
        "outcome",
        "sentence",
        "seconds",
    )
    return {name: entry[name] for name in names}


def _date(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))


# --- for people ---


def text(data: Mapping[str, Any]) -> str:
    """The same as a few tables."""
    lines = [f"{data['service']}: {' and '.join(data['versions']) or 'no version known'}. {_lease_words(data)}", ""]
    places = list(dict.fromkeys(place for each in data["members"].values() for place in each["balancers"]))
    rows = [["member", "host", "service", "healthy", "ledger", *places]]
    for host, member in data["members"].items():
        healthy = {True: "yes", False: "no", None: "-"}[member["healthy"]]
        own = [_balancer_words(member["balancers"].get(place)) for place in places]
        rows.append([host, member["installed"] or "-", member["answers"] or "-", healthy, member["phase"] or "-", *own])
    lines += table(rows)
    if data["drift"]:
        lines += ["", "What needs a look:", *(f"  {each}" for each in data["drift"])]
    if data["rollouts"]:
        head = ["last runs", "strategy", "version", "by", "outcome", "seconds"]
        lines += ["", *table([head, *(_rollout_words(each) for each in data["rollouts"])])]
    if data["events"]:
        lines += ["", "What happened last:"]
        lines += [f"  {_date(each['at'])}: {each['message']}" for each in data["events"][-_LISTED:]]
    return "\n".join(lines)


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[number]) for row in rows) for number in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _lease_words(data: Mapping[str, Any]) -> str:
    lease = data["lease"]
    if not data["runs"]:
        return "Nobody works on it."
    asked = f" {data['stop_asked']} has asked it to stop after the batch in hand." if data["stop_asked"] else ""
    return (
        f"{lease['owner']} works on it ({lease['reason']}) since {_date(lease['started'])}; "
        f"the lease, number {lease['number']}, ends in {lease['left']:.0f} s unless it is renewed.{asked}"
    )


def _balancer_words(found: Mapping[str, Any] | None) -> str:
    return "-" if found is None else f"{found['state']} {found['health']} {found['weight']}"


def _rollout_words(each: Mapping[str, Any]) -> list[str]:
    total = (each["seconds"] or {}).get("total")
    versions = f"{each['from_version'] or '?'} to {each['to_version']}" if each["to_version"] else "-"
    outcome = each["outcome"] or "no end"
    return [
        _date(each["started"]),
        each["strategy"],
        versions,
        each["owner"],
        outcome,
        "-" if total is None else f"{total:.1f}",
    ]
