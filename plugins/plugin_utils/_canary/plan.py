# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which members are the canary, which batches each step takes, and what an earlier run of it has left. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._canary.steps import Step, Target, targets
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._plan import (
    Amount,
    Candidate,
    Plan,
    cut_in_batches,
    plan_rolling,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import CANARIES

_OVER = ("succeeded", "rolled_back", "refused")
_ALL = (Amount(100, True),)


@dataclass(frozen=True)
class Unended:
    """A canary that has not come to its end, by the ledgers."""

    id: str
    to_version: str
    from_version: str | None
    owner: str = ""
    state: Mapping[str, Any] = field(default_factory=dict)  # what was kept of it last
    polls: Sequence[Mapping[str, Any]] = ()
    looks: Sequence[Mapping[str, Any]] = ()
    cursor: Any = None
    history: Sequence[Mapping[str, Any]] = ()
    order: Mapping[str, Any] | None = None  # of an operator


def unended(last: Mapping[str, Any] | None) -> Unended | None:
    """The last rollout of a service, if it is a canary that can go on."""
    if not last or last["strategy"] not in CANARIES or last["outcome"] in _OVER:
        return None
    canary = (last["plan"] or {}).get("canary")
    if not canary or not last["to_version"]:
        return None
    return Unended(str(canary["id"]), str(last["to_version"]), canary.get("from_version"), str(last["owner"]))


@dataclass(frozen=True)
class CanaryPlan:
    """The batches of all steps, and which step is judged before which batch."""

    plan: Plan
    targets: tuple[Target, ...]
    judged_before: tuple[int, ...]  # by step but the last: how many batches are over when it is judged
    total: int


def plan_canary(
    candidates: Sequence[Candidate],
    version: str,
    steps: Sequence[Step],
    batches: Sequence[Amount],
    floor: Amount,
    others: Sequence[bool] = (),
    most_out: int | None = None,
) -> CanaryPlan:
    """The steps' batches; members that are on the version already are the first of the canary. Raises as ``plan_rolling``."""
    base = plan_rolling(candidates, version, (Amount(1, False),), floor, others, most_out)
    total = len(candidates)
    aims = targets(steps, total)
    by_name = {each.name: each for each in candidates}
    todo = [host for batch in base.batches for host in batch]
    # A canary that takes no traffic shows nothing: one that serves well is taken, or one that was begun with.
    fit = [host for host in todo if by_name[host].left_out or by_name[host].unfinished or _serves(by_name[host])]
    rest = [host for host in todo if host not in fit]
    spare = base.in_service - base.floor
    spare = spare if most_out is None else min(spare, most_out)
    zones = {each.name: each.zone for each in candidates}
    result: list[tuple[str, ...]] = []
    ends: list[int] = []
    shrunk = False
    done = len(base.finished)
    for aim in aims:
        count = max(0, aim.count - done)
        chosen = [host for host in todo if host in fit or host in rest] if aim.last else (fit + rest)[:count]
        fit, rest = _without(fit, chosen), _without(rest, chosen)
        done += len(chosen)
        # The canary itself goes in one batch, where the floor allows it; what follows goes on from the second one.
        sizes = (batches[1:] or batches) if aim.last else _ALL
        regained = {host for host in chosen if by_name[host].left_out and not by_name[host].in_service}
        todo_now = [(host, by_name[host].in_service) for host in chosen]
        cut, smaller = cut_in_batches(todo_now, sizes, total + len(others), spare, regained, zones)
        result.extend(cut)
        shrunk = shrunk or smaller
        spare += len(regained)
        if not aim.last:
            ends.append(len(result))
    return CanaryPlan(replace(base, batches=tuple(result), shrunk=shrunk), aims, tuple(ends), total)


def _serves(each: Candidate) -> bool:
    return each.in_service and each.healthy


def _without(hosts: Sequence[str], gone: Collection[str]) -> list[str]:
    return [host for host in hosts if host not in gone]


def begin_state(plan: CanaryPlan, canary_id: str, from_version: str | None, before: Unended | None) -> dict[str, Any]:
    """What is kept of a canary from now on: new, or what was kept of it before.

    ``step`` is the one that is under judgement, or will be next; with the last one there is nothing to judge.
    """
    old = dict(before.state) if before is not None else {}
    state: dict[str, Any] = {
        "id": canary_id,
        "from_version": from_version,
        "step": 0,
        "since": None,  # when the step began to be judged, in seconds since the epoch
        "began": None,  # of all polls
        "asked": None,  # since when somebody is asked
        "changed": None,  # when members joined last
        "before": {},  # admin and weight that the canary returns to, by host and place
        "released": {},  # the release that each had, by host
        **old,
        "steps": [each.to_dict() for each in plan.targets],
        "judged_before": list(plan.judged_before),
        "total": plan.total,
        "end": "",  # why the job ends here, and the canary stays
        "weights": {},
    }
    state["step"] = min(int(state["step"]), len(plan.targets) - 1)
    return state


def next_step(state: Mapping[str, Any], batches_over: int) -> int | None:
    """The step to be judged before the batch that follows so many; None where there is none."""
    step = int(state["step"])
    ends = state["judged_before"]
    return step if step < len(ends) and ends[step] <= batches_over else None
