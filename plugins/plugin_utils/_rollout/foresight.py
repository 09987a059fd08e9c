# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a rollout will do, before it does anything: batches, capacity, words for the balancers, how long, and the way back.

Pure. A plan has a hash of some parts, so that a run which must find the same plan can say what is different.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._report.plan import back, how_long
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import Record

# What a plan hangs on; each has its part of the hash, in this order.
PARTS = ("what goes where", "batches", "releases", "members in service", "balancers", "settings")
_DIGITS = 6
# Where things are written, who is told, and who may be pushed aside, change no plan.
_BESIDE = (
    "rollout_report_dir",
    "rollout_status_file",
    "rollout_metrics_file",
    "rollout_take_over",
    "rollout_plan_strategy",
)
_TELLING = ("rollout_notice_", "rollout_silence_")


def hash_of(record: Record) -> str:
    """Six digits for each of ``PARTS``."""
    members = record.members.values()
    parts: tuple[Any, ...] = (
        [record.service, record.strategy, record.to_version, record.artefact],
        [record.batches, record.floor],
        {each.host: each.release for each in members},
        [{each.host: each.in_service_before for each in members}, record.others],
        [record.balancers, {each.host: [each.names, each.addresses] for each in members}],
        {
            name: value
            for name, value in record.settings.items()
            if name not in _BESIDE and not name.startswith(_TELLING)
        },
    )
    return "-".join(hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()[:_DIGITS] for part in parts)


def differences(asked: str, found: str) -> list[str]:
    """Which parts of two plans are not the same."""
    pairs = zip(PARTS, asked.split("-"), found.split("-"), strict=True)
    return [name for name, one, other in pairs if one != other]


def plan_data(
    record: Record, words: Mapping[str, Sequence[Mapping[str, Sequence[str]]]], history: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The plan as plain data; ``words`` are for each batch, by place, and ``history`` the ledgers' earlier rollouts."""
    in_service = sum(each.in_service_before for each in record.members.values()) + sum(record.others)
    batches = []
    for number, hosts in enumerate(record.batches):
        taken = sum(record.members[host].in_service_before for host in hosts)
        batches.append(
            {
                "members": hosts,
                "in_service_meanwhile": in_service - taken,
                "told": {place: each[number] for place, each in words.items()},
            }
        )
        in_service += sum(not record.members[host].in_service_before for host in hosts)
    return {
        "hash": hash_of(record),
        "service": record.service,
        "strategy": record.strategy,
        "from_version": record.from_version,
        "to_version": record.to_version or None,
        "members": len(record.members),
        "in_service": sum(each.in_service_before for each in record.members.values()) + sum(record.others),
        "floor": record.floor,
        "batches": batches,
        "prediction": prediction(len(record.batches), record.strategy, history),
        "back": {host: record.members[host].release_before for batch in record.batches for host in batch},
        "notes": record.notes,
    }


def prediction(batches: int, strategy: str, history: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """How long it will take, from rollouts that went well: seconds per batch, their median, least and most."""
    per_batch = [
        float(each["seconds"]["total"]) / len(each["plan"]["batches"])
        for each in history
        if each.get("outcome") == "succeeded"
        and each.get("strategy") == strategy
        and (each.get("seconds") or {}).get("total")
        and (each.get("plan") or {}).get("batches")
    ]
    if not per_batch or not batches:
        return None
    low, usual, high = min(per_batch), median(per_batch), max(per_batch)
    return {
        "seconds": round(usual * batches, 1),
        "least": round(low * batches, 1),
        "most": round(high * batches, 1),
        "rollouts": len(per_batch),
    }


def text(data: Mapping[str, Any]) -> str:
    """The plan for people."""
    versions = (
        f"{data['from_version'] or 'unknown'} to {data['to_version']}" if data["to_version"] else data["strategy"]
    )
    if not data["batches"]:
        return f"{data['service']}: {versions}: nothing to do.\nplan {data['hash']}"
    head = f"{data['service']}: {versions}, {data['members']} members in {len(data['batches'])} batches"
    lines = [f"{head}; {data['in_service']} are in service and at least {data['floor']} stay so."]
    for number, batch in enumerate(data["batches"], 1):
        hosts = ", ".join(batch["members"])
        lines.append(f"  batch {number}: {hosts}; {batch['in_service_meanwhile']} stay in service")
        for place, steps in batch["told"].items():
            lines.extend(f"    {place}: {line}" for step in steps.values() for line in step)
    lines += [how_long(data["prediction"]), back(data)]
    lines += [f"  note: {note}." for note in data["notes"]]
    lines.append(f"rollout_plan_hash: {data['hash']}")
    return "\n".join(line for line in lines if line)
