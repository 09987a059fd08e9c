# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reports of rollouts that never were, as large and as hostile as a test wants them."""

from __future__ import annotations

import random
from typing import Any

_PARTS = (("drain", 0.2), ("upgrade", 0.4), ("gate", 0.2), ("put back", 0.15))


def report(
    members: int = 6, batches: int = 3, seconds: int = 60, name: str = "web{}", **changes: Any
) -> dict[str, Any]:
    """A rollout of so many members; ``name`` is a pattern of their names."""
    dice = random.Random(members)
    hosts = [name.format(number) for number in range(1, members + 1)]
    size = -(-members // batches)
    plan = [hosts[at : at + size] for at in range(0, members, size)]
    events, told = [], {f"lb{number}": list[dict[str, Any]]() for number in (1, 2, 3, 4)}
    rows: dict[str, Any] = {}
    each = seconds * 0.9 / len(plan)
    for number, batch in enumerate(plan):
        began = at = 1.0 + number * seconds * 0.95 / len(plan)
        for phase, share in _PARTS:
            took = each * share
            events.append({"phase": phase, "members": batch, "at": at, "seconds": took, "message": f"{phase} is over"})
            at += took
        for entries in told.values():
            entries.append({"at": began, "words": [f"set server shop/{host} state maint" for host in batch]})
            entries.append({"at": at, "words": [f"set server shop/{host} state ready" for host in batch]})
        for host in batch:
            rows[host] = {
                "state": "finished",
                "in_service_before": True,
                "from": "1.0",
                "to": "2.0",
                "seconds": {"drain": each * 0.2, "upgrade": each * 0.4, "gate": each * 0.2, "look": each * 0.1},
                "out_of_service_seconds": at - began,
                "out": [[began, at]],
                "cut": 0,
                "cut_kinds": {},
                "look": "pass",
                "look_reason": "5 requests, 0 failed",
                "trouble": "",
            }
    old = [max(0, int(1000 * (1 - at / seconds) + dice.gauss(0, 15))) for at in range(seconds)]
    failed = [3 if at == seconds // 2 else 0 for at in range(seconds)]
    total = sum(old) + sum(1000 - count for count in old)
    made: dict[str, Any] = {
        "schema": 1,
        "rollout_id": "20261124T120000Z-abcdef",
        "service": "shop",
        "strategy": "rolling",
        "from_version": "1.0",
        "to_version": "2.0",
        "outcome": "succeeded",
        "check": False,
        "started": "2026-11-24T12:00:00.000+00:00",
        "duration_seconds": seconds + 2.0,
        "requests_total": total,
        "requests_failed": 3,
        "requests_source": "witness",
        "witness": {"requests": total, "failed": 3, "closed_idle": 0, "late": 0, "not_sent": 0, "by_class": {}},
        "balancers": {
            "requests": total,
            "failed": 0,
            "responses_5xx": 0,
            "retried": 0,
            "not_counted": [],
            "reloads": {},
        },
        "mixed_versions_seconds": seconds * 0.9,
        "floor": members // 2,
        "in_service": members,
        "batches": plan,
        "back_batches": [],
        "members": rows,
        "stop": None,
        "skipped_balancers": [],
        "notes": [],
        "events": events,
        "told": told,
        "settings": {"rollout_service": "shop", "rollout_batches": [2]},
        "series": {
            "at": 0.5,
            "step": 1,
            "versions": {"1.0": old, "2.0": [1000 - min(1000, count) for count in old]},
            "failed": failed,
            "closed_idle": [0] * seconds,
            "p50": [round(1.5 + dice.random(), 1) for _number in range(seconds)],
            "p99": [round(30 + 40 * dice.random(), 1) for _number in range(seconds)],
            "hosts": [members - dice.randint(0, size) for _number in range(seconds)],
        },
        "sentence": f"shop went from 1.0 to 2.0: {members} members in {len(plan)} batches in {seconds}.0 s.",
    }
    return {**made, **changes}


def stopped(**changes: Any) -> dict[str, Any]:
    """One that stopped at its second batch and went back."""
    made = report()
    for host in ("web3", "web4"):
        made["members"][host].update(state="failed", look="", look_reason="", trouble="it did not start")
        made["members"][host]["out"] = [[made["members"][host]["out"][0][0], None]]
    for host in ("web1", "web2"):
        made["members"][host]["state"] = "rolled_back"
    made.update(
        outcome="failed",
        back_batches=[["web3", "web4"], ["web1", "web2"]],
        notes=["lb2 was reloaded by someone else"],
        stop={
            "code": "unhealthy",
            "phase": "gate",
            "message": "web3 did not become healthy within 8 s.",
            "hint": "Look at the service's log.",
            "members": ["web3"],
        },
    )
    return {**made, **changes}


def hostile(text: str) -> dict[str, Any]:
    """The same with this text wherever a user, a host or a service may have put it."""
    made = stopped(service=text, from_version=text, to_version=text, sentence=text, notes=[text])
    made["stop"] = {"code": "x", "phase": "gate", "message": text, "hint": text, "members": [text]}
    made["members"] = {f"{text}{host}": {**row, "trouble": text} for host, row in made["members"].items()}
    made["batches"] = [[f"{text}{host}" for host in batch] for batch in made["batches"]]
    made["events"] = [{**e, "members": [f"{text}{h}" for h in e["members"]], "message": text} for e in made["events"]]
    made["told"] = {text: [{"at": 1.0, "words": [text, f"set server shop/{text} state maint"]}]}
    made["settings"] = {f"rollout_{text}": text, "rollout_list": [text]}
    made["series"]["versions"] = {text: made["series"]["versions"]["1.0"]}
    made["skipped_balancers"] = [text]
    return made
