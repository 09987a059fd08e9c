# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps of a data migration around a rollout: each is in every ledger before it begins, and after it.

What a step does is the user's, and a play runs it. Here is decided whether it
runs now, and kept what became of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    Cancelled,
    LeaseLost,
    Refused,
    RolloutError,
    Stopped,
    TimedOut,
    Unreachable,
    UpgradeFailed,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Reply
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout import migration
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.fleet import Fleet
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.migration import Migration, Step
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.preflight import member_calls
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import Record
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import (
    CONTRACT,
    CONTRACT_SLOTS,
    BlueGreen,
    Settings,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._work import Work

COORDINATOR = "migration"  # stands for the controller in the play that runs the steps

_NO_MORE = (LeaseLost.code, Stopped.code, Cancelled.code)


@dataclass(frozen=True)
class Begun:
    """Whether a step runs now, and what is to be said of it."""

    run: bool
    message: str = ""
    work: Work = Work()
    error: RolloutError | None = None


def migration_of(record: Record) -> Migration | None:
    return Migration.from_dict(record.migration) if record.migration else None


def to_run_before(settings: Settings, record: Record) -> list[str]:
    """The steps that come before the first member changes."""
    found = migration_of(record)
    if found is None or not record.batches:
        return []
    return migration.before(found, settings.steps, record.to_version)


def note(found: Migration, finished: bool) -> dict[str, Any]:
    """What the ledgers are told of it."""
    told = replace(found, age=None).to_dict()
    return {"revision": found.revision, "name": found.name, "told": told, "finished": finished}


def begin(fleet: Fleet, step: str, alive: Sequence[str]) -> Begun:
    """Decide whether a step runs now; if so, every ledger knows before it begins.

    ``alive`` are the hosts that Ansible has not given up.
    """
    settings, record = fleet.settings, fleet.record
    found = migration_of(record)
    if found is None:
        return Begun(False)
    if record.stop_asked and step in migration.BEFORE:
        record.halt("stop", Stopped(f"{record.stop_asked} asked the run to stop."), [])
    wanted = to_run_before(settings, record) if step in migration.BEFORE else to_run_after(settings, record)
    if step not in wanted:
        return Begun(False)
    if record.stop is not None and (step in migration.BEFORE or record.stop.code in _NO_MORE):
        return Begun(False)
    if record.check:
        return Begun(False, f"would run the {step} on {record.migrate_on}: {getattr(settings, step)}")
    error = _forbidden(fleet, step, alive)
    if error is None:
        running = found.mark(step, Step(migration.RUNNING, record.rollout_id, record.migrate_on))
        record.migration = running.to_dict()
        record.save()
        error = tell(fleet)
        if error is not None:  # nothing was begun, and whoever heard otherwise hears so
            record.migration = running.mark(
                step, Step(migration.FAILED, record.rollout_id, record.migrate_on, "it was not begun")
            ).to_dict()
            tell(fleet)
    if error is not None:
        record.halt(step, error, [])
        return Begun(False, str(error), error=error)
    return Begun(True, f"{step} runs on {record.migrate_on}", getattr(settings, step))


def to_run_after(settings: Settings, record: Record) -> list[str]:
    """The steps that come at the end, by where the members are now."""
    found = migration_of(record)
    if found is None:
        return []
    if record.canary.get("end"):
        return []  # the canary waits, and the old version serves beside it
    if record.stop is None:
        wanted = [] if record.later else migration.after(found, settings.steps, record.to_version)
        fresh = bool(record.batches)
        if migration.CONTRACT in wanted and migration.left(found, settings.contract_after, fresh) != 0:
            wanted.remove(migration.CONTRACT)
        return wanted
    # Stopped: only what takes back, and only where nothing of the new version is left.
    new = record.to_version in found.to_versions
    if record.slots:
        back = new and not record.slots["flipped"] and not record.slots.get("unknown")
        return migration.after(found, settings.steps, "") if back else []
    if not new or any(each.state not in ("untouched", "rolled_back") for each in record.members.values()):
        return []
    return migration.after(found, settings.steps, "")


def _forbidden(fleet: Fleet, step: str, alive: Sequence[str]) -> RolloutError | None:
    """Why a step must not begin now, by what the members themselves say at this moment."""
    record = fleet.record
    if record.migrate_on not in (migration.CONTROLLER, *alive):
        return Unreachable(f"The {step} was not begun: {record.migrate_on}, which was to run it, cannot be reached.")
    found = migration_of(record)
    if found is None or step in migration.BEFORE:
        return None
    if isinstance(fleet.settings, BlueGreen):
        return _forbidden_in_slots(fleet, fleet.settings, step, found)
    replies = fleet.remote.run(member_calls(fleet.settings, list(record.members)), False)
    silent = [host for host, reply in replies.items() if not reply.ok]
    if silent:
        return Refused(
            f"The {step} was not begun: {', '.join(silent)} cannot be asked which version answers there.",
            "Bring them back, or take them out of the inventory and the pool; then run it again.",
        )
    versions = {host: _versions(reply) for host, reply in replies.items()}
    if step == migration.CONTRACT:
        wrong = {host: found_there - set(found.to_versions) for host, found_there in versions.items()}
        which = "does not work with what it takes away"
    else:
        wrong = {host: found_there & set(found.to_versions) for host, found_there in versions.items()}
        which = "needs what it takes away"
    named = [f"{', '.join(sorted(map(str, each)))} on {host}" for host, each in wrong.items() if each]
    if named:
        return Refused(
            f"The {step} was not begun: {'; '.join(named)}, which {which}.",
            "Finish the rollout first; then run it again.",
        )
    if step == migration.CONTRACT and record.others:
        return Refused(
            f"The contract was not begun: the pool has {len(record.others)} members that are not in rollout_hosts, and "
            "nobody knows which version answers there.",
            "Run the playbook zerodrop.rollout.contract with all members in rollout_hosts.",
        )
    return None


def _versions(reply: Reply) -> set[str]:
    return {str(each) for each in (reply.result.get("release"), reply.result.get("runs")) if each is not None}


def _forbidden_in_slots(fleet: Fleet, settings: BlueGreen, step: str, found: Migration) -> RolloutError | None:
    """The same of a service with slots: what serves, and the slot without traffic as far as it answers."""
    slots, record = fleet.record.slots, fleet.record
    hosts = {slots["live"]: list(slots["old"]), slots["idle"]: list(record.members)}
    serves = slots["idle"] if slots["flipped"] else slots["live"]
    replies = {slot: fleet.remote.run(member_calls(settings.for_slot(slot), hosts[slot]), False) for slot in hosts}
    silent = [host for own in replies.values() for host, reply in own.items() if not reply.ok]
    if silent:
        return Refused(
            f"The {step} was not begun: {', '.join(silent)} cannot be asked which version answers there.",
            "Bring them back, or take them out of the inventory and the pool; then run it again.",
        )
    on_new = {host for host, reply in replies[serves].items() if _versions(reply) <= set(found.to_versions)}
    if step != migration.CONTRACT:
        if on_new or slots.get("left"):
            what = f"{', '.join(sorted(on_new))} of {serves}, which is live," if on_new else "what is still in flight"
            return Refused(f"The {step} was not begun: {what} needs what it takes away.", "Run it again later.")
        return None
    old = sorted(set(hosts[serves]) - on_new)
    warm = [
        host
        for slot in hosts
        for host, reply in replies[slot].items()
        if slot != serves and reply.result["healthy"] and not _versions(reply) <= set(found.to_versions)
    ]
    if old or warm:
        return Refused(
            f"The contract was not begun: {', '.join(old or warm)} answers with another version than "
            f"{', '.join(found.to_versions)}, and does not work with what it takes away.",
            "Stop the old slot first (rollout_retire: stop), or bring it to the new version; then run it again."
            if warm
            else "Finish the rollout first; then run it again.",
        )
    return None


def tell(fleet: Fleet) -> RolloutError | None:
    """Have every ledger know how far the migration is; the first balancer's error."""
    found = migration_of(fleet.record)
    if found is None or fleet.record.lease is None:
        return None
    finished = found.age is not None or found.contracted
    for place, reply in fleet.run(fleet.notes(migration=note(found, finished))).items():
        if reply.error is not None:
            reply.error.message = f"{place}: {reply.error.message}"
            return reply.error
    return None


def end(fleet: Fleet, step: str, result: Mapping[str, Any], since: float) -> tuple[str, RolloutError | None]:
    """Keep what became of a step that ran; ``result`` is what its play left: ``ok`` and ``said``, or nothing."""
    record, found = fleet.record, migration_of(fleet.record)
    host = record.migrate_on
    if found is None:
        return "", None
    if not result:
        error: RolloutError = Unreachable(
            f"{host} was lost while the {step} ran there, and nobody can tell whether it ran to its end.",
            f"See whether it did, and say so once: rollout_settle='{step} {migration.RAN}' or "
            f"rollout_settle='{step} {migration.NOT_RUN}'.",
        )
        record.halt(step, error, [host] if host in record.members else [])
        record.event(step, [host], since, error.message)
        return str(error), error
    if result.get("timed_out"):
        error = TimedOut(
            f"The {step} on {host} did not end within {fleet.settings.step_timeout} s, and nobody can tell whether it goes on "
            "there.",
            "When it has ended, see whether it did its work, and say so once: "
            f"rollout_settle='{step} {migration.RAN}' or rollout_settle='{step} {migration.NOT_RUN}'. rollout_step_timeout "
            "is the limit.",
        )
        record.halt(step, error, [host] if host in record.members else [])
        record.event(step, [host], since, error.message)
        return str(error), error
    ok, said = bool(result["ok"]), " ".join(str(result.get("said") or "").split())[:500]
    record.migration = found.mark(
        step, Step(migration.DONE if ok else migration.FAILED, record.rollout_id, host, "" if ok else said)
    ).to_dict()
    record.save()
    untold = tell(fleet)
    message = f"{step} ran on {host} in {record.now() - since:.2f} s" if ok else f"The {step} failed on {host}: {said}"
    record.event(step, [host], since, message)
    if ok and untold is None:
        return message, None
    failed = untold if ok and untold is not None else UpgradeFailed(message.rstrip(".") + ".", _hint(step, found))
    if record.stop is not None:
        record.notes.append(failed.message.rstrip("."))
    record.halt(step, failed, [host] if host in record.members else [])
    return str(failed), failed


def _hint(step: str, found: Migration) -> str:
    old = found.from_version or "the old version"
    if step == migration.EXPAND:
        return (
            f"No member was touched: {old} serves. Mend what it left half done, then run the same playbook again, which "
            f"runs it again; or say that it is done: rollout_settle='{step} {migration.RAN}'."
        )
    if step == migration.COMPAT:
        return (
            f"No member was touched: {old} serves, on the expanded data. If it does badly there, take the expand back at "
            "once; mend the expand before the next try."
        )
    return "The members were left as they are. Mend it, then run the same playbook again, which runs it again."


def rows(settings: Settings, record: Record) -> list[dict[str, Any]]:
    """The hosts of the play that runs the steps, its coordinator first; empty where no step can come."""
    if record.migration is None or not settings.steps or not (record.batches or to_run_after(settings, record)):
        return []
    names = [COORDINATOR, *([record.migrate_on] if record.migrate_on != migration.CONTROLLER else [])]
    return [{"name": name, "coordinator": name == COORDINATOR, "release": "", "previous": ""} for name in names]


def runs_on(record: Record) -> str:
    """The name of the host in that play which runs the steps."""
    return COORDINATOR if record.migrate_on == migration.CONTROLLER else record.migrate_on


def closing(record: Record, outcome: str) -> dict[str, Any] | None:
    """What the ledgers keep of the migration at the run's end."""
    found = migration_of(record)
    if found is None:
        return None
    kept, finished = migration.closed(found, "frozen" if record.later else outcome, record.to_version)
    record.migration = kept.to_dict()
    return note(kept, finished)


def facts(record: Record) -> dict[str, Any] | None:
    """The migration in the report."""
    found = migration_of(record)
    if found is None:
        return None
    return {
        "name": found.name,
        "from_version": found.from_version,
        "to_versions": list(found.to_versions),
        "steps": {
            name: {"state": step.state, "host": step.host, "rollout_id": step.run} for name, step in found.steps.items()
        },
        "contract_due_seconds": record.contract_due,
        "way_back": not found.contracted,
    }


def due_in(settings: Settings, record: Record) -> float | None:
    """Seconds until a contract that is to come may run; None where none is."""
    found = migration_of(record)
    if (
        found is None
        or record.later
        or not found.to_come
        or not settings.contract
        or record.to_version not in found.to_versions
    ):
        return None
    return migration.left(
        found, settings.contract_after, record.strategy not in (CONTRACT, CONTRACT_SLOTS) and bool(record.batches)
    )
