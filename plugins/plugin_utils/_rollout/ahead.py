# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Look ahead: have the balancers say what they would be told, read how long rollouts took, and hold a run to its plan."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import Refused
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Call, Remote
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._report import plan as plan_page
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout import foresight
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.fleet import balancer_params
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import Record
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import Settings

_LIMIT = 30.0
_EARLIER = 50  # rollouts


def look_ahead(settings: Settings, remote: Remote, record: Record) -> dict[str, Any]:
    """The plan as plain data; raises what a balancer raises."""
    calls = {}
    for place in record.balancers:
        where = record.place(place)
        batches = [[record.members[host].names[place] for host in batch] for batch in record.batches]
        params = {**balancer_params(settings.layers[where.layer]), "batches": batches}
        calls[place] = Call("pool_rehearse", params, _LIMIT, where.host)
    first = record.place(record.balancers[0]).host
    ledger = Call("ledger_read", {"service": settings.service, "count": _EARLIER}, _LIMIT, first)
    replies = remote.run({**calls, "the ledger": ledger})
    for place in calls:
        error = replies[place].error
        if error is not None:
            error.message = f"{place}: {error.message}"
            raise error
    found = replies["the ledger"]
    history = (found.result["ledger"] or {}).get("rollouts", []) if found.ok else []
    return foresight.plan_data(record, {place: replies[place].result["batches"] for place in calls}, history)


def check_plan(settings: Settings, record: Record) -> None:
    """Raise ``Refused`` where this is another plan than the one that was asked for, saying what is different."""
    if not settings.plan_hash:
        return
    now = foresight.hash_of(record)
    different = foresight.differences(settings.plan_hash, now)
    if different:
        raise Refused(
            f"The plan has changed since rollout_plan_hash was taken: {', '.join(different)}. Now it would be {now}.",
            "Look at the plan again with the playbook zerodrop.rollout.plan, and run it with the new hash.",
        )


def write_plan(record: Record, data: Mapping[str, Any]) -> str:
    """``plan.json`` and ``plan.html`` beside the record; returns the path of the first."""
    folder = os.path.dirname(record.path)
    path = os.path.join(folder, "plan.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(data, file, indent=2)
        file.write("\n")
    with open(os.path.join(folder, "plan.html"), "w", encoding="utf-8") as file:
        file.write(plan_page.html(data))
    return path
