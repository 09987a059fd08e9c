# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The canary in preflight: its steps and members, or what an earlier run of the same canary has left."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput, Refused
from ansible_collections.zerodrop.rollout.plugins.module_utils._ledger_operations import ORDER
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Pool
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._canary.plan import CanaryPlan, Unended, unended
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._canary.steps import Target
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._canary.weights import weight_of
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Call, Remote
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._report.evidence_svg import evidence_svg
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import Place, Record
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import CANARY, Canary, Promotion

_LIMIT = 20.0
# The names under which it is kept.
STATE, CURSOR, POLL, LOOK, HISTORY = "state", "cursor", "poll ", "look ", "history"


def find(
    settings: Canary, last: Mapping[str, Any] | None, remote: Remote, places: Mapping[str, Place]
) -> tuple[Canary, Unended | None]:
    """The canary that goes on, if there is one, and the settings with its version. Raises ``Refused``."""
    before = unended(last)
    if settings.strategy == CANARY:
        if before is None or before.to_version != settings.version:
            return settings, None
    elif before is None:
        what = (
            f"the last run was {last['strategy']} to {last['to_version']}: {last['outcome'] or 'no end'}"
            if last
            else ""
        )
        raise Refused(
            f"There is no canary of {settings.service} that could be promoted" + (f"; {what}." if what else "."),
            "Begin one with the playbook zerodrop.rollout.canary.",
        )
    elif settings.version not in ("", before.to_version):
        raise Refused(
            f"The canary of {settings.service} has {before.to_version}, and rollout_version is {settings.version}.",
            "Leave rollout_version out, or begin a canary of the other version when this one has ended.",
        )
    if isinstance(settings, Promotion):
        settings = settings.to(before.to_version)
    hosts = dict.fromkeys(place.host for place in places.values())
    params = {"service": settings.service, "canary": before.id}
    replies = remote.run({host: Call("canary_read", params, _LIMIT) for host in hosts})
    kept: dict[str, Any] = max((each.result["kept"] for each in replies.values() if each.ok), key=_how_far, default={})
    return settings, replace(
        before,
        state=kept.get(STATE, {}),
        polls=[value for name, value in kept.items() if name.startswith(POLL)],
        looks=[value for name, value in kept.items() if name.startswith(LOOK)],
        cursor=kept.get(CURSOR),
        history=kept.get(HISTORY) or [],
        order=kept.get(ORDER),
    )


def _how_far(kept: Mapping[str, Any]) -> tuple[int, int]:
    """A balancer that was away for a while has fewer polls."""
    return sum(name.startswith(POLL) for name in kept), len(kept)


def shares(
    targets: Sequence[Target],
    names: Mapping[str, Mapping[str, str]],
    order: Sequence[str],
    pools: Mapping[str, Pool],
    highest: Mapping[str, int],
) -> list[dict[str, int] | None]:
    """For each step with a share, the canary's weight by place; raises ``BadInput`` where it cannot be had."""
    found: list[dict[str, int] | None] = []
    for target in targets:
        if target.share is None:
            found.append(None)
            continue
        canaries = order[: target.count]
        found.append(
            {
                place: weight_of(pool, [names[host][place] for host in canaries], target.share, highest[place], place)
                for place, pool in pools.items()
            }
        )
    return found


def adopt(
    record: Record, state: dict[str, Any], before: Unended | None, entries: Mapping[str, Mapping[str, Any]]
) -> None:
    """The record goes on from the state: what is on the version by that canary goes back with it, if it goes back.

    ``entries`` is what the ledgers say of the members.
    """
    record.canary = state
    if before is None:
        return
    state["stored"] = {
        "polls": list(before.polls),
        "looks": list(before.looks),
        "cursor": before.cursor,
        "history": list(before.history),
    }
    record.from_version = record.from_version or state["from_version"]
    state["from_version"] = record.from_version
    for member in record.members.values():
        entry = entries.get(member.host, {})
        had = state["released"].get(member.host) or entry.get("release_before")
        if member.release != record.to_version or member.state != "untouched" or not had or had == record.to_version:
            continue
        if any(member.host in batch for batch in record.batches):
            continue
        member.state, member.release_before = "finished", had
        member.before = dict(state["before"].get(member.host) or entry.get("before") or {})
        if member.host not in record.done:
            record.done.append(member.host)


# --- polls and looks, beside the record ---


class Book:
    """What was seen so far: a file, since a canary's polls outgrow the record, and steps of a playbook come and go."""

    def __init__(self, record: Record) -> None:
        self._path = Path(os.path.dirname(record.path)) / "canary.json"
        self.polls: list[dict[str, Any]] = []
        self.looks: list[dict[str, Any]] = []
        self.cursor: Any = None
        self.history: list[dict[str, Any]] = []  # polls from before the first member changed
        if self._path.exists():
            data = json.loads(self._path.read_text(encoding="utf-8"))
            self.polls, self.looks, self.cursor = data["polls"], data["looks"], data["cursor"]
            self.history = data["history"]

    def save(self) -> None:
        data = {"polls": self.polls, "looks": self.looks, "cursor": self.cursor, "history": self.history}
        temporary = self._path.with_suffix(".new")
        temporary.write_text(json.dumps(data), encoding="utf-8")
        temporary.replace(self._path)


def take_up(record: Record) -> None:
    """Put what the ledgers have kept of it beside the record of this run."""
    stored = record.canary.pop("stored", None)
    if stored:
        book = Book(record)
        book.polls, book.looks, book.cursor = stored["polls"], stored["looks"], stored["cursor"]
        book.history = stored["history"]
        book.save()


def planned(plan: CanaryPlan, finished: Sequence[str]) -> list[str]:
    """Members in the order in which they get the version."""
    return [*finished, *(host for batch in plan.plan.batches for host in batch)]


def picture(record: Record) -> str:
    """The evidence so far as a picture for the report; empty where nothing was judged."""
    book = Book(record) if record.canary else None
    if book is None or not book.polls:
        return ""
    params = {**record.canary.get("judged_by", {}), "polls": book.polls, "history": book.history}
    with suppress(BadInput):  # the numbers are in the report in any case
        return evidence_svg(params)
    return ""


def facts(record: Record) -> dict[str, Any] | None:
    """A canary for the report: its steps, and every look at it; None for another strategy."""
    state = record.canary
    if not state:
        return None
    book = Book(record)
    return {
        "id": state["id"],
        "steps": state["steps"],
        "steps_over": state["step"],
        "members": [each.host for each in record.members.values() if each.release == record.to_version],
        "end": state["end"],
        "foreseen": (state.get("foreseen") or {}).get("sentence", ""),
        "polls": len(book.polls),
        "looks": book.looks,
        "sentence": book.looks[-1]["sentence"] if book.looks else "",
    }
