# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a rollout ends: what goes back after a stop, the report, and the one sentence."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import Judged, LeaseLost, Stopped
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Pool
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._plan import (
    Amount,
    Upgraded,
    mixed_versions_seconds,
    plan_back,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Call, Remote
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._report import page
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout import canary, metrics, migrating, migration
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.fleet import Fleet, balancer_params
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.index import add_to_index
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.preflight import counters_of
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import MemberRecord, Record
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.returning import not_judged
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import (
    CONTRACT,
    CONTRACT_SLOTS,
    MAINTAIN,
    RECOVER,
    RECOVER_SLOTS,
    ROLLBACK,
    Settings,
)

_WHY_NOTHING = {
    LeaseLost.code: "this run may change nothing any more",
    Stopped.code: "the run ends after the batch in hand, as was asked",
}

# What `set_stats` hands on, under names that start with rollout_.
STATS = (
    "outcome",
    "sentence",
    "rollout_id",
    "from_version",
    "to_version",
    "requests_total",
    "requests_failed",
    "mixed_versions_seconds",
    "duration_seconds",
)
HELD = "held"
OUTCOMES = ("succeeded", HELD, "rolled_back", "frozen", "refused", "failed")


def decide_back(settings: Settings, record: Record) -> str:
    """Plan the way back of a rollout that stopped; returns what will be done, in words."""
    only_failed = record.end_forgiveness()
    if record.stop is None or record.strategy == RECOVER:
        record.back_batches = []
        return "nothing to take back"
    if record.slots:
        record.back_batches = []
        return f"nothing goes back: {record.slots['idle' if record.slots['flipped'] else 'live']} is live"
    if record.stop.code in (LeaseLost.code, Stopped.code):
        record.back_batches = []
        return "nothing goes back: " + _WHY_NOTHING[record.stop.code]
    contract = migrating.migration_of(record)
    changed = [
        Upgraded(
            name=member.host,
            passed=member.state == "finished",
            reachable=member.state != "lost",
            target=None if migration.forbids_way_back(contract, member.release_before) else member.release_before,
        )
        for member in record.members.values()
        if member.changed
    ]
    if contract and any(
        migration.forbids_way_back(contract, m.release_before) for m in record.members.values() if m.changed
    ):
        record.notes.append(
            f"nothing goes back to {contract.from_version}: the contract of the migration {contract.name} has run, or begun, and "
            "took away what it needs"
        )
    # The order in which they were upgraded, so that the newest goes back first.
    order = {host: number for number, host in enumerate(host for batch in record.batches for host in batch)}
    changed.sort(key=lambda each: order.get(each.name, -1))  # what an earlier run of the same canary did is the oldest
    in_service = sum(_counts(member) for member in record.members.values()) + sum(record.others)
    total = len(record.members) + len(record.others)
    spare = in_service - record.floor
    zones = {member.host: member.zone for member in record.members.values()}
    # What a verdict sends back goes back whatever else stays, in as few batches as the floor allows.
    judged = record.stop.code == Judged.code
    sizes = (Amount(100, True),) if judged else settings.batches
    on_failure = "rollback" if judged else "freeze" if only_failed else settings.on_failure
    batches = plan_back(changed, on_failure, sizes, total, spare, zones)
    record.back_batches = [list(batch) for batch in batches]
    if not batches:
        return "nothing can or must be taken back"
    return "going back: " + "; ".join(", ".join(batch) for batch in batches)


def _counts(member: MemberRecord) -> bool:
    return member.in_service_before and member.state in ("untouched", "finished", "rolled_back")


def outcome(record: Record) -> str:
    """One of ``OUTCOMES``."""
    if record.stop is None and record.canary.get("end"):
        return HELD
    if record.stop is None:
        still_out = record.strategy == RECOVER and any(each.state == "left_out" for each in record.members.values())
        return "failed" if still_out else "succeeded"
    if record.stop.phase == "preflight":
        return "refused"
    if record.slots:
        if record.slots.get("unknown") or record.strategy == CONTRACT_SLOTS:
            return "failed"
        return "frozen" if record.slots["flipped"] else "rolled_back"
    if record.strategy in (MAINTAIN, RECOVER, CONTRACT):
        return "failed"  # there is no way back that could put anything right
    states = {member.state for member in record.members.values()}
    if states & {"lost", "left_out", "failed", "drained", "upgraded", "healthy"}:
        return "failed"
    return "frozen" if "finished" in states else "rolled_back"


def report(settings: Settings, record: Record, remote: Remote, witness: Mapping[str, Any] | None) -> dict[str, Any]:
    """The facts of the whole rollout, as written to ``report.json`` (its schema: ``docs/report.schema.json``)."""
    counted = record.counted or balancer_counts(settings, record, remote)
    record.contract_due = migrating.due_in(settings, record) if outcome(record) == "succeeded" else None
    data = _facts(record, outcome(record), _witness_counts(witness), counted)
    return {**data, "series": _series(record, witness)}


def _facts(record: Record, result: str, seen: dict[str, Any] | None, balancers: dict[str, Any]) -> dict[str, Any]:
    source: Mapping[str, Any] = seen or balancers
    duration = record.now()
    data: dict[str, Any] = {
        "schema": 1,
        "rollout_id": record.rollout_id,
        "service": record.service,
        "strategy": record.strategy,
        "from_version": record.from_version,
        "to_version": record.to_version or None,
        "outcome": result,
        "check": record.check,
        "started": datetime.fromtimestamp(record.started_at, UTC).isoformat(timespec="milliseconds"),
        "duration_seconds": round(duration, 3),
        "requests_total": source["requests"],
        "requests_failed": source["failed"],
        "requests_source": "witness" if seen else "balancers",
        "witness": seen,
        "balancers": balancers,
        "mixed_versions_seconds": round(_mixed(record, result, duration), 3),
        "floor": record.floor,
        "in_service": sum(each.in_service_before for each in record.members.values()) + sum(record.others),
        "batches": record.batches,
        "back_batches": record.back_batches,
        "members": {host: _member(member, duration) for host, member in record.members.items()},
        "slots": _slots(record),
        "stop": _stop(record),
        "migration": migrating.facts(record),
        "later": record.later,
        "override": record.override,
        "skipped_balancers": record.dead,
        "notes": record.notes,
        "events": record.events,
        "plan": record.plan or None,
        "told": record.told,
        "settings": record.settings,
        "series": None,
        "canary": canary.facts(record),
    }
    data["sentence"] = sentence(data)
    return data


def refusal_report(record: Record) -> dict[str, Any]:
    """The report of a rollout that preflight refused: no host was asked again."""
    nothing = {
        "requests": 0,
        "failed": 0,
        "responses_5xx": 0,
        "retried": 0,
        "not_counted": list(record.balancers),
        "reloads": {},
    }
    return _facts(record, "refused", None, nothing)


def _member(member: MemberRecord, now: float) -> dict[str, Any]:
    still_out = now - member.out_at if member.out_at is not None else 0.0
    return {
        "state": member.state,
        "in_service_before": member.in_service_before,
        "from": member.release_before,
        "to": member.release,
        "seconds": {phase: round(seconds, 3) for phase, seconds in member.seconds.items()},
        "out_of_service_seconds": round(member.out_seconds + still_out, 3),
        "out": [[round(at, 3) for at in span] for span in member.outs]
        + ([[round(member.out_at, 3), None]] if member.out_at is not None else []),
        "cut": member.cut,
        "cut_kinds": dict(member.cut_kinds),
        "look": member.look,
        "look_reason": member.look_reason,
        "trouble": member.trouble,
    }


def _stop(record: Record) -> dict[str, Any] | None:
    if record.stop is None:
        return None
    stop = record.stop
    return {
        "code": stop.code,
        "phase": stop.phase,
        "message": stop.message,
        "hint": stop.hint,
        "members": stop.members,
    }


def _mixed(record: Record, result: str, duration: float) -> float:
    if record.strategy in (MAINTAIN, RECOVER, CONTRACT):
        return 0.0
    if result in ("succeeded",):
        return mixed_versions_seconds(record.first_new_at, record.last_old_at)
    if result == "rolled_back":
        return mixed_versions_seconds(record.first_new_at, record.last_new_at)
    if result == HELD:
        return mixed_versions_seconds(record.first_new_at, duration)
    still_mixed = any(member.state == "finished" for member in record.members.values())
    return mixed_versions_seconds(record.first_new_at, duration if still_mixed else record.last_new_at)


def _witness_counts(summary: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if summary is None:
        return None
    return {
        "requests": summary["requests_total"],
        "failed": summary["failed"],
        "closed_idle": summary["closed_idle"],
        "late": summary["late"],
        "not_sent": summary.get("not_sent", 0),
        "by_class": summary.get("by_class", {}),
    }


def _series(record: Record, summary: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What the witness saw in each second, on the rollout's clock; None where none ran."""
    if summary is None or not summary.get("seconds", {}).get("failed"):
        return None
    began = datetime.fromisoformat(summary["started"]).timestamp() - record.started_at
    return {"at": round(began, 3), **summary["seconds"]}


def balancer_counts(settings: Settings, record: Record, remote: Remote) -> dict[str, Any]:
    """What the balancers' own counters say of the rollout's time, as far as they can."""
    # What reaches an inner pool has come through the outermost, where it is counted.
    places = {name: record.place(name) for name in record.balancers if not record.place(name).layer}
    params = balancer_params(settings.layers[0])
    replies = remote.run({name: Call("pool_read", params, 10, place.host) for name, place in places.items()})
    total = {"requests": 0, "failed": 0, "responses_5xx": 0, "retried": 0}
    not_counted = [name for name in record.dead if not record.place(name).layer]
    for name, reply in replies.items():
        before = record.counters.get(name)
        found = [each for each in reply.result.get("pools", []) if each["name"] == record.pool]
        if not found or before is None:
            not_counted.append(name)
            continue
        now = counters_of(Pool.from_dict(found[0]))
        counts = reply.result.get("capabilities", {}).get("counts_requests", True)
        if now["identity"] != before["identity"] or not counts:
            not_counted.append(name)  # its counters began anew at a reload, or it has none
            continue
        total["requests"] += now["requests"] - before["requests"]
        answers_5xx = now["responses_5xx"] - before["responses_5xx"]
        # A failed request may count as an error, as an answer of the 500s, or as both: at least so many failed.
        total["failed"] += max(now["errors"] - before["errors"], answers_5xx)
        total["responses_5xx"] += answers_5xx
        total["retried"] += sum(now[each] - before.get(each, 0) for each in ("retries", "redispatches"))
    return {**total, "not_counted": not_counted, "reloads": dict(record.reloads)}


def sentence(data: Mapping[str, Any]) -> str:
    """What changed, what was served and lost, how long two versions ran, and what to do next."""
    hint = data["stop"]["hint"] if data["stop"] else ""
    parts = (_what_changed(data), hint, _what_was_served(data), _what_was_migrated(data), _what_next(data))
    return " ".join(_ended(part) for part in parts if part)


def _ended(text: str) -> str:
    """With a full stop, which a user's own error message may lack."""
    text = text.rstrip()
    return text if text.endswith((".", "!", "?")) else text + "."


def _what_was_maintained(data: Mapping[str, Any]) -> str:
    service, stop = data["service"], data["stop"]
    if data["outcome"] == "refused":
        return f"{service}: the maintenance was refused and nothing was touched: {stop['message']}"
    batches = _count(data["batches"], "batch")
    if data["check"] and stop is None:
        return f"{service}: {_count(data['members'], 'member')} would be maintained in {batches}; nothing was changed."
    done = [host for host, member in data["members"].items() if member["state"] == "finished"]
    took = f"{data['duration_seconds']:.1f} s"
    if stop is None:
        were = "was" if len(done) == 1 else "were"
        return f"{service}: {_count(done, 'member')} {were} maintained in {batches} in {took}."
    return (
        f"{service}: the maintenance stopped after {took} and {len(done)} of {_count(data['members'], 'member')}, "
        f"in phase {stop['phase']}: {stop['message']}"
    )


def _what_was_recovered(data: Mapping[str, Any]) -> str:
    service, stop = data["service"], data["stop"]
    if data["outcome"] == "refused":
        return f"{service}: the recovery was refused and nothing was touched: {stop['message']}"
    todo = [host for batch in data["batches"] for host in batch]
    if data["check"]:
        return (
            f"{service}: {', '.join(todo)} would be put back; nothing was changed."
            if todo
            else f"{service}: there is nothing that would be put back."
        )
    back = [host for host in todo if data["members"][host]["state"] == "finished"]
    text = (
        f"{service}: {', '.join(back)} put back in {data['duration_seconds']:.1f} s"
        if back
        else (f"{service}: no member was put back")
    )
    return f"{text}; it stopped in phase {stop['phase']}: {stop['message']}" if stop else f"{text}."


def _what_was_contracted(data: Mapping[str, Any]) -> str:
    service, stop = data["service"], data["stop"]
    if data["outcome"] == "refused":
        return f"{service}: the contract was refused and nothing was touched: {stop['message']}"
    if stop is not None:
        return f"{service}: the contract stopped in phase {stop['phase']}: {stop['message']}"
    name = data["migration"]["name"]
    if data["check"]:
        return f"{service}: the contract of the migration {name} would run; nothing was changed."
    if not any(event["phase"] == migration.CONTRACT for event in data["events"]):
        return f"{service}: the contract of the migration {name} has run already; nothing was changed."
    return f"{service}: the contract of the migration {name} ran in {data['duration_seconds']:.1f} s; there is no way back over it."


def _what_was_migrated(data: Mapping[str, Any]) -> str:
    """When its contract may come, for a rollout that succeeded."""
    found = data.get("migration")
    if found is None or data["outcome"] != "succeeded" or data["check"] or found["contract_due_seconds"] is None:
        return ""
    due = found["contract_due_seconds"]
    when = f"in {due:.0f} s" if due else "now"
    return (
        f"The contract of the migration {found['name']} is due {when}: run the playbook zerodrop.rollout.contract then."
    )


def _what_was_flipped(data: Mapping[str, Any]) -> str:
    service, target, before, slots = data["service"], data["to_version"], data["from_version"], data["slots"]
    live, old = slots["live"], slots["before"]
    took = f"{data['duration_seconds']:.1f} s"
    if data["strategy"] == RECOVER_SLOTS:
        return f"{service}: {live} is live on every balancer, as the ledgers say."
    if data["outcome"] == "succeeded":
        if not data["batches"]:
            return f"{service} is on {target} on the slot that is live, {live}; nothing was changed."
        if data["check"]:
            return (
                f"{service} would go from {before or 'an unknown version'} to {target} by a flip; nothing was changed."
            )
        spread = slots["spread_ms"]
        between = f", {spread:.1f} ms between the first and the last balancer" if spread else ""
        return f"{service} went from {before or 'an unknown version'} to {target} by a flip from {old} to {live} in {took}{between}."
    why = f"in phase {data['stop']['phase']}: {data['stop']['message']}"
    if data["outcome"] == "frozen":
        return f"{service} is on {target}, with {live} live; the rollout stopped after {took} {why}"
    if data["outcome"] == "failed":
        return f"{service}: the rollout of {target} stopped after {took} {why}"
    return (
        f"{service} is on {before or 'its old version'} as before, with {live} live; the rollout of {target} stopped after "
        f"{took} {why}"
    )


def _slots(record: Record) -> dict[str, Any] | None:
    slots = record.slots
    if not slots:
        return None
    spread = slots["spread"]
    return {
        "before": slots["live"],
        "live": slots["idle"] if slots["flipped"] else slots["live"],
        "spread_ms": None if spread is None else round(spread * 1000, 1),
        "left": slots.get("left", 0),
        "cut": slots.get("cut", 0),
    }


def _what_changed(data: Mapping[str, Any]) -> str:
    if data["strategy"] == CONTRACT_SLOTS:
        return _what_was_contracted(data)
    if data.get("slots") and data["outcome"] != "refused":
        return _what_was_flipped(data)
    if data["strategy"] == RECOVER:
        return _what_was_recovered(data)
    if data["strategy"] == MAINTAIN:
        return _what_was_maintained(data)
    if data["strategy"] == CONTRACT:
        return _what_was_contracted(data)
    service, target, before = data["service"], data["to_version"], data["from_version"]
    finished = [host for host, member in data["members"].items() if member["state"] == "finished"]
    took = f"in {data['duration_seconds']:.1f} s"
    if data["outcome"] == "refused":
        return f"{service}: the rollout of {target} was refused and nothing was touched: {data['stop']['message']}"
    if data["outcome"] == "succeeded":
        if not data["batches"]:
            return f"{service} is on {target} on all {len(data['members'])} members; nothing was changed."
        if data["check"]:
            return f"{service} would go from {before or 'an unknown version'} to {target} in {_count(data['batches'], 'batch')}; nothing was changed."
        return (
            f"{service} went from {before or 'an unknown version'} to {target}: {_count(finished, 'member')} in "
            f"{_count(data['batches'], 'batch')} {took}."
        )
    if data["outcome"] == HELD:
        return (
            f"{service}: the canary of {target} holds on {', '.join(data['canary']['members'])} after {took[3:]}, since "
            f"{data['canary']['end']}. {data['canary']['sentence']}"
        )
    why = f"in phase {data['stop']['phase']}: {data['stop']['message']}"
    if data["stop"]["phase"] in migration.AFTER:
        return f"{service} is on {target} on all {len(data['members'])} members, and it stopped after {took[3:]} {why}"
    if data["outcome"] == "rolled_back":
        return f"{service} is on {before or 'its old version'} as before; the rollout of {target} stopped after {took[3:]} {why}"
    if data["outcome"] == "frozen":
        rest = [host for host, member in data["members"].items() if member["state"] != "finished"]
        return (
            f"{service} is frozen on two versions: {', '.join(finished)} on {target}, {', '.join(rest)} on "
            f"{before or 'the old one'}; the rollout stopped after {took[3:]} {why}"
        )
    return f"{service}: the rollout of {target} stopped after {took[3:]} {why}"


def _count(items: Any, word: str) -> str:
    number = len(items)
    return f"{number} {word}" + ("" if number == 1 else "es" if word.endswith("ch") else "s")


def _what_was_served(data: Mapping[str, Any]) -> str:
    if data["outcome"] == "refused" or not data["batches"] or data["check"]:
        return ""
    reloads = sum(data["balancers"]["reloads"].values())
    if data["requests_source"] == "witness":
        text = f"{data['requests_total']:,} requests were served and {data['requests_failed']:,} failed, "
        text += "by the witness's count"
        closed_idle = data["witness"]["closed_idle"]
        if closed_idle:
            text += f", {closed_idle} closed while idle" + (f" in {_times(reloads)} of a balancer" if reloads else "")
    elif data["requests_total"] or not data["balancers"]["not_counted"]:
        text = f"{data['requests_total']:,} requests were served and {data['requests_failed']:,} failed, "
        text += "by the balancers' own counters"
        if data["balancers"]["not_counted"]:
            text += f" without {', '.join(data['balancers']['not_counted'])}"
    else:
        text = "How many requests were served and how many failed nobody counted: no witness ran, and "
        text += f"{', '.join(data['balancers']['not_counted'])} cannot tell"
    if reloads and data["requests_source"] != "witness":
        text += f"; {_times(reloads)} of a balancer may have cost clients a kept connection"
    cut = sum(member["cut"] for member in data["members"].values())
    if cut:
        text += f"; {cut} cut at the drain's limit"
    retried = data["balancers"].get("retried", 0)
    if retried:
        text += f"; {retried:,} were tried again by the balancers"
    mixed = data["mixed_versions_seconds"]
    text += f"; two versions ran side by side for {mixed:.1f} s." if mixed else "."
    unsure = {host: each["look_reason"] for host, each in data["members"].items() if each["look"] == "inconclusive"}
    return text + "".join(f" {words[0].upper()}{words[1:]}." for words in not_judged(unsure))


def _times(reloads: int) -> str:
    return "one reload" if reloads == 1 else f"{reloads} reloads"


def _what_next(data: Mapping[str, Any]) -> str:
    parts = []
    if data["skipped_balancers"]:
        skipped = ", ".join(data["skipped_balancers"])
        parts.append(f"Left out because it could not be reached: {skipped}; run the same playbook again when it can.")
    if data["outcome"] == "succeeded":
        if data.get("later"):
            parts.append(f"Zones to come: {', '.join(data['later'])}. To approve them, run the same playbook again.")
        return " ".join(parts)
    if data["outcome"] == HELD:
        parts.append("Run the playbook promote to go on, or rollback to go back.")
        return " ".join(parts)
    out = [
        f"{host} ({member['trouble'].removeprefix(host + ': ') or member['state']})"
        for host, member in data["members"].items()
        if member["state"] in ("lost", "left_out", "failed", "drained", "upgraded", "healthy")
    ]
    if out:
        parts.append(f"Out of service: {'; '.join(out)}.")
    if data["outcome"] == "frozen":
        back = (
            ""
            if data["strategy"] == ROLLBACK or data["stop"]["phase"] in migration.AFTER
            else ", or with the old version to go back"
        )
        parts.append(f"Run the same playbook again to go on{back}.")
    elif data["outcome"] != "refused":
        parts.append("Put right what stopped it, then run the same playbook again.")
        if data["strategy"] == MAINTAIN and out:
            parts.append("It begins with the members that were left out.")
    return " ".join(part for part in parts if part)


def tell_ledgers(fleet: Fleet, data: Mapping[str, Any]) -> None:
    """How it ended, for the ledgers, and the lease back; a run that has lost it has nothing more to say."""
    seconds: dict[str, float] = {"total": data["duration_seconds"]}
    for event in data["events"]:
        seconds[event["phase"]] = round(seconds.get(event["phase"], 0.0) + event["seconds"], 3)
    end = {"outcome": data["outcome"], "sentence": data["sentence"], "seconds": seconds}
    told = migrating.closing(fleet.record, data["outcome"])
    fleet.ask(fleet.notes(end=end, release=True, **({"migration": told} if told else {})))


def write_report(record: Record, data: Mapping[str, Any]) -> str:
    """Write ``report.json`` and ``report.html`` beside the record; returns the path of the first."""
    path = os.path.join(os.path.dirname(record.path), "report.json")
    text = json.dumps({**data, "series": None}, indent=2)
    # The columns of numbers on one line: in strings a quotation mark is escaped, so this is the key.
    text = text.replace('"series": null', '"series": ' + json.dumps(data["series"]))
    with open(path, "w", encoding="utf-8") as file:
        file.write(text + "\n")
    with open(os.path.join(os.path.dirname(path), "report.html"), "w", encoding="utf-8") as file:
        file.write(page.html(data, canary.picture(record)))
    add_to_index(os.path.dirname(os.path.dirname(path)), data)
    metrics.write(data, str(record.settings.get("rollout_metrics_file", "")))
    return path
