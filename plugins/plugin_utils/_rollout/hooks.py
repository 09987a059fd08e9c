# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hooks of a rollout: which tasks run at a point, what they are told, and what follows when they fail.

The playbook runs the tasks; here is what it asks before and after. Where no hook is set, it does not ask.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput, HookFailed
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._hooks import (
    AFTER_ROLLBACK,
    AFTER_ROLLOUT,
    BEFORE_ROLLBACK,
    BEFORE_ROLLOUT,
    FAILURE,
    OF_A_BATCH,
    READY,
    Hooks,
    may_fail,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout import canary
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.batch import Phases
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import Record
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import FLIP_BACK, ROLLBACK

_COLLECTION = "zerodrop.rollout"
# Where a batch is drained, and nothing was done on it yet: a stop there puts it back as it was.
_NOTHING_DONE = ("after_drain", "before_upgrade")
# Where there is nothing any more that could be stopped.
_TOO_LATE = (BEFORE_ROLLBACK, AFTER_ROLLBACK, FAILURE, AFTER_ROLLOUT)
_OF_THE_REPORT = (
    *("outcome", "sentence", "duration_seconds", "requests_total", "requests_failed", "requests_source"),
    *("mixed_versions_seconds", "stop", "notes"),
)
_WORDS = {
    BEFORE_ROLLOUT: "begins",
    BEFORE_ROLLBACK: "goes back",
    AFTER_ROLLBACK: "has gone back",
}

Found = dict[str, list[dict[str, str]]]


def find(
    settings: Hooks, strategy: str, find_file: Callable[[str, str], str], is_there: Callable[[str], bool]
) -> Found:
    """By point, what is to be run: a ``file``, or a ``role`` with its ``tasks``. Raises ``BadInput``."""
    found: Found = {}
    for point, names in settings.hooks.items():
        found[point] = [_found(name, point, find_file, is_there) for name in names]
    if strategy in (ROLLBACK, FLIP_BACK):  # the whole run is the way back
        for own, whole in ((BEFORE_ROLLBACK, BEFORE_ROLLOUT), (AFTER_ROLLBACK, AFTER_ROLLOUT)):
            if own in found:
                found[whole] = [*found.pop(own), *found.get(whole, [])]
    return found


def _found(
    name: str, point: str, find_file: Callable[[str, str], str], is_there: Callable[[str], bool]
) -> dict[str, str]:
    if name not in READY:
        return {"file": find_file(name, f"rollout_hook_{point}"), "role": "", "tasks": ""}
    role, tasks, _needs, collection = READY[name]
    if collection and not is_there(collection):
        raise BadInput(
            f"rollout_hook_{point} is {name}, which needs the collection {collection}, and that is not installed.",
            f"Install it on the controller: ansible-galaxy collection install {collection}.",
        )
    return {"file": "", "role": f"{_COLLECTION}.{role}", "tasks": tasks}


def in_batches(found: Mapping[str, Any]) -> bool:
    """Whether any hook has to run between the phases of a batch, or around the way back."""
    return bool(set(found) & {*OF_A_BATCH, BEFORE_ROLLBACK, AFTER_ROLLBACK})


def facts(record: Record, point: str, batch: str, hosts: Sequence[str]) -> dict[str, Any]:
    """What a hook is told, as ``rollout_hook``."""
    members = list(hosts) or list(record.members)
    told: dict[str, Any] = {
        "point": point,
        "service": record.service,
        "strategy": record.strategy,
        "rollout_id": record.rollout_id,
        "from_version": record.from_version or "",
        "to_version": record.to_version,
        "batch": batch,
        "back": batch.startswith("back "),
        "members": members,
        "addresses": {host: sorted({name for name, _port in _addresses(record, host)}) for host in members},
        "batches": record.batches,
        "verdict": (canary.facts(record) or {}).get("sentence", ""),
        "slots": {name: record.slots.get(name, "") for name in ("live", "idle")} if record.slots else {},
        "stop": record.stop.message if record.stop else "",
        "report": os.path.join(os.path.dirname(record.path), "report.json"),
    }
    if point in (FAILURE, AFTER_ROLLOUT):
        told.update(_of_report(told["report"]))
    told["text"] = _text(record, told)
    return told


def _addresses(record: Record, host: str) -> list[tuple[str, int]]:
    return list(record.members[host].addresses.values()) if host in record.members else []


def _of_report(path: str) -> dict[str, Any]:
    """How it ended; the report is written by then."""
    report = json.loads(Path(path).read_text(encoding="utf-8"))
    told = {name: report.get(name) for name in _OF_THE_REPORT}
    told["stop"] = (report.get("stop") or {}).get("message", "")
    return told


def _text(record: Record, told: Mapping[str, Any]) -> str:
    """One line for people."""
    if told.get("sentence"):
        return str(told["sentence"])
    versions = f"{record.from_version or 'unknown'} to {record.to_version}" if record.to_version else record.strategy
    head = f"{record.service}: {versions}"
    if told["batch"]:
        return f"{head}, {told['batch']} ({', '.join(told['members'])}): {told['point'].replace('_', ' ')}"
    if told["point"] in _WORDS:
        why = (
            f": {told['stop']}" if told["stop"] else f", {len(record.members)} members in {len(record.batches)} batches"
        )
        return f"{head} {_WORDS[told['point']]}{why}"
    return f"{head}: {told['point'].replace('_', ' ')}"


def ended(record: Record, point: str, failure: str, phases: Phases | None) -> tuple[str, HookFailed | None]:
    """What follows: words for the user, and the error where a hook failed that must not."""
    if not failure:
        return "", None
    said = f"The hook {point} failed: {failure}"
    if may_fail(point, record.hooks_may_fail):
        record.notes.append(f"{said.rstrip('.')}; the rollout went on, as rollout_hooks_may_fail says")
        return f"{said} It may; the rollout goes on.", None
    error = HookFailed(said, f"Mend it and run again, or let it fail: rollout_hooks_may_fail={point}.")
    back = phases is not None and phases.batch.back
    if point in _TOO_LATE or back:
        record.notes.append(said)
        return said, error
    hosts = list(phases.batch.hosts) if phases else []
    if phases is not None and point in _NOTHING_DONE:
        phases.undo(phases.members("drained"), phases.settings_before(hosts))
    # Before the first batch nothing was touched: it is still a refusal.
    record.halt("preflight" if point == BEFORE_ROLLOUT else "hook", error, hosts)
    return said, error
