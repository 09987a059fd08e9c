# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A rollout with a ready method, from the first batch to the last, and back if it stops.

Where the members are upgraded by us and not by tasks of the user's, all batches
are one step: hosts are asked over lasting connections, and Ansible's own cost
does not grow with the batches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import methodcaller

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import RolloutError
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Remote
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout import bake as baking
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.batch import Phases
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.ending import decide_back
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.methods import method_of
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import Record
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.slot_phases import phases_of
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.step import Batch, Outcome
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.window import Window
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.witness import too_many_failed
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.zones import bake
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import Settings

FORWARD, BACK = "batch", "back"

DRAIN, UPGRADE, GATE, PUT_BACK = map(
    methodcaller, ("drain", "upgrade", "gate", "put_back")
)  # a strategy may have its own
_PHASES: Sequence[Callable[[Phases], Outcome]] = (DRAIN, UPGRADE, GATE, PUT_BACK)


def name_of(direction: str, number: int, batches: Sequence[object]) -> str:
    """What a batch is called: in the output, and as its coordinator's name."""
    return f"{direction} {number} of {len(batches)}"


def roll(
    settings: Settings, remote: Remote, record: Record, archive: str, check: bool, say: Callable[[str], None]
) -> bool:
    """Bring the release to the members, run every batch, and the way back after a stop.

    Returns whether anything was changed.
    """
    staged = stage(settings, remote, record, archive, check, say)
    if staged is None:
        return False
    changed = _run(settings, remote, record, check, say, FORWARD) or staged
    if record.stop is not None or record.forgiven is not None:
        say(decide_back(settings, record))
        changed = _run(settings, remote, record, check, say, BACK) or changed
    return changed


def stage(
    settings: Settings, remote: Remote, record: Record, archive: str, check: bool, say: Callable[[str], None]
) -> bool | None:
    """Bring the release to the members; whether anything was changed, or None where it could not be: the rollout stops."""
    try:
        staged = method_of(settings).stage(settings, remote, record, archive, check)
    except RolloutError as error:
        record.halt("preflight", error, [])  # no member was touched: it is still a refusal
        return None
    if staged:
        say(f"{settings.version} staged on {', '.join(staged)}")
    return bool(staged)


def _run(
    settings: Settings, remote: Remote, record: Record, check: bool, say: Callable[[str], None], direction: str
) -> bool:
    if record.window and direction == FORWARD and not check:

        def steps(number: int, elsewhere: Callable[[str | None], bool]) -> bool:
            phases = phases_of(settings, remote, record, Batch(tuple(record.batches[number - 1]), back=False), check)
            phases.fleet = replace(phases.fleet, elsewhere=elsewhere)
            return _run_batch(phases, name_of(direction, number, record.batches), say)

        return Window(remote, record).slide(steps)
    batches = record.batches if direction == FORWARD else record.back_batches
    changed = False
    for number, hosts in enumerate(batches, 1):
        phases = phases_of(settings, remote, record, Batch(tuple(hosts), back=direction == BACK), check)
        if direction == FORWARD and not judge(phases, number - 1, say):
            break
        changed = _run_batch(phases, name_of(direction, number, batches), say) or changed
        if record.stop is not None and direction == FORWARD:
            break
    else:
        if batches and direction == FORWARD:
            watch(phases, say)
    return changed


def _run_batch(phases: Phases, name: str, say: Callable[[str], None]) -> bool:
    """The phases of one batch; returns whether anything was changed."""
    changed = False
    for phase in _PHASES:
        outcome = run_phase(phases, phase)
        say(f"{name}: {outcome.message}")
        changed = changed or outcome.changed
        if phase is DRAIN and outcome.error is not None:
            break
    return changed


def judge(phases: Phases, batches_over: int, say: Callable[[str], None]) -> bool:
    """Whether the batch that follows so many may begin: where there is a canary, it has the say."""
    if not phases.record.canary:
        return True
    run_phase(phases, lambda each: baking.judge(each, batches_over, say))
    return phases.record.stop is None and not phases.record.canary["end"]


def watch(phases: Phases, say: Callable[[str], None]) -> None:
    """A last look at a canary that every member has now."""
    if phases.record.canary and phases.record.stop is None:
        run_phase(phases, lambda each: baking.watch(each, say))


def run_phase(phases: Phases, phase: Callable[[Phases], Outcome]) -> Outcome:
    """One phase of a batch: stopped beforehand by too many failed requests, and kept in the record."""
    record = phases.record
    too_many = too_many_failed(phases.settings, record)
    if too_many is not None and not phases.batch.back:
        record.halt("witness", too_many, [])
    if phase is DRAIN:
        bake(phases)
    outcome = phase(phases)
    record.save()
    return outcome
