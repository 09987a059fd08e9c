# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How far a data migration has come, and what a run may do about it. Pure.

A migration has a name, which is that of the version it is for unless the user
says otherwise. Its steps are done once under that name, whichever run comes to
them. A step that was running when its run died is unknown, and stays so until
the operator says what became of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput, Refused

EXPAND, COMPAT, CONTRACT, SYNC_BACK, EXPAND_UNDO = "expand", "compat", "contract", "sync_back", "expand_undo"
BEFORE = (EXPAND, COMPAT)  # before the first member changes
AFTER = (SYNC_BACK, EXPAND_UNDO, CONTRACT)  # when the last one has
STEPS = (*BEFORE, *AFTER)

RUNNING, DONE, FAILED = "running", "done", "failed"
RAN, NOT_RUN = "ran", "not run"
CONTROLLER = "localhost"  # as the host that runs the steps: the controller itself
_KEPT = 20  # versions that are remembered as gone


@dataclass(frozen=True)
class Step:
    """What became of one step."""

    state: str  # running, done, failed
    run: str  # the rollout that did it
    host: str = ""  # where it ran
    said: str = ""  # why it failed


@dataclass(frozen=True)
class Migration:
    """One data migration of a service."""

    name: str
    from_version: str | None  # the version that cannot work any more once the contract has run
    to_versions: tuple[str, ...]  # those that were rolled out with it
    revision: int = 0  # grows with every change, over all migrations of the service
    steps: Mapping[str, Step] = field(default_factory=dict)
    contract: bool = False  # whether one is to come
    gone_back: bool = False  # the old version serves again everywhere
    gone: tuple[str, ...] = ()  # versions that the contracts until now have made impossible
    age: float | None = None  # seconds since the old version is out of service, by the balancers

    def state(self, step: str) -> str:
        found = self.steps.get(step)
        return found.state if found else ""

    @property
    def contracted(self) -> bool:
        """Whether the contract may have changed anything."""
        return bool(self.state(CONTRACT))

    @property
    def to_come(self) -> bool:
        """Whether its contract is still to come."""
        return self.contract and self.state(CONTRACT) != DONE and not self.gone_back

    def unknown(self, run: str = "") -> list[str]:
        """The steps that another run than this one has begun and not ended. A check is none: it may be run again."""
        return [
            name for name, step in self.steps.items() if step.state == RUNNING and step.run != run and name != COMPAT
        ]

    def mark(self, name: str, step: Step) -> Migration:
        """With this word about a step. An undo takes back what it undoes; a contract leaves the old version no way."""
        steps = {**self.steps, name: step}
        changed = replace(self, steps=steps, revision=self.revision + 1)
        if name == EXPAND_UNDO and step.state == DONE:
            return replace(changed, steps={EXPAND_UNDO: step})
        if name == EXPAND:
            return replace(changed, steps={each: steps[each] for each in steps if each not in (EXPAND_UNDO, SYNC_BACK)})
        if name == CONTRACT and self.from_version and self.from_version not in self.gone:
            return replace(changed, gone=(*self.gone, self.from_version)[-_KEPT:])
        return changed

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for record and ledger."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Migration:
        steps = {name: Step(**step) for name, step in data["steps"].items()}
        lists = {name: tuple(data[name]) for name in ("to_versions", "gone")}
        return cls(**{**data, "steps": steps, **lists})


def read(ledgers: Iterable[Mapping[str, Any] | None]) -> Migration | None:
    """What the balancers know of the last migration: the newest word, and the least age that any of them counts."""
    told = [each["migration"] for each in ledgers if each and each.get("migration")]
    if not told:
        return None
    revision = max(each["revision"] for each in told)
    newest = [each for each in told if each["revision"] == revision]
    ages = [each["age"] for each in newest]
    age = None if None in ages else min(ages)
    return replace(Migration.from_dict(newest[0]["told"]), age=age)


def settled(found: Migration, said: tuple[str, str], run: str) -> Migration:
    """With the operator's word on a step whose end is not known; raises ``BadInput`` where it is known."""
    name, what = said
    state = found.state(name)
    if state == DONE or (not state and what == NOT_RUN):
        known = "ran" if state == DONE else "has not run"
        raise BadInput(
            f"rollout_settle says '{name} {what}', but it is known that the {name} of the migration {found.name} {known}.",
            "Leave rollout_settle out: it is for a step whose end nobody knows, and for the one run after that.",
        )
    if what == RAN:
        return found.mark(name, Step(DONE, run, said="by the operator's word"))
    steps = {each: step for each, step in found.steps.items() if each != name}
    gone = tuple(each for each in found.gone if name != CONTRACT or each != found.from_version)
    return replace(found, steps=steps, gone=gone, revision=found.revision + 1)


@dataclass(frozen=True)
class Wish:
    """What a run is about."""

    run: str
    name: str  # of the migration, as the settings have it
    version: str  # that the members are to have
    from_version: str | None
    back: bool  # the playbook rollback
    contract_only: bool  # the playbook contract
    steps: frozenset[str]  # that the settings give work for
    members: frozenset[str | None]  # the releases that members have
    changes: bool  # whether any member is to change
    settle: tuple[str, str] | None = None


def taken_up(found: Migration | None, wish: Wish) -> Migration | None:
    """The migration that this run is part of, if it is part of one; raises ``Refused``."""
    ours = found is not None and (found.name == wish.name or wish.contract_only)
    if found is not None and wish.settle and (ours or wish.settle[0] in found.unknown()):
        found = settled(found, wish.settle, wish.run)
        wish = replace(wish, settle=None)
    if found is not None:
        _refuse_unknown(found)
        _refuse_impossible(found, wish)
    if wish.contract_only:
        return found if found is not None else _new(None, wish)
    if found is not None and (wish.back or (wish.version == found.from_version and not found.contracted)):
        return found
    if found is not None and found.name == wish.name:
        versions = tuple(dict.fromkeys((*found.to_versions, wish.version)))
        origin = (wish.from_version or found.from_version) if found.gone_back else found.from_version
        contract = found.contract or CONTRACT in wish.steps
        return replace(found, from_version=origin, to_versions=versions, contract=contract, gone_back=False)
    if not wish.changes or not wish.steps & {EXPAND, COMPAT, CONTRACT}:
        return found if found is not None and wish.version in found.to_versions else None
    if found is not None and found.to_come:
        raise Refused(
            f"The contract of the migration {found.name} is still to come, and {wish.version} would begin another one.",
            f"If {wish.version} belongs to it, say so: rollout_migration={found.name}. Otherwise finish it first: with the "
            "playbook zerodrop.rollout.contract, or, if it was done by hand, with that playbook and "
            f"rollout_settle='{CONTRACT} {RAN}'.",
        )
    fresh = _new(found, wish)
    if wish.settle:
        fresh = settled(fresh, wish.settle, wish.run)
    if EXPAND in wish.steps and fresh.state(EXPAND) != DONE and wish.version in wish.members:
        raise Refused(
            f"Members run {wish.version} already, and by the ledgers the expand of the migration {fresh.name} has not run.",
            f"If it was done in another way, say so once: rollout_settle='{EXPAND} {RAN}'. Otherwise bring these members "
            "back to the old version first.",
        )
    return fresh


def _new(found: Migration | None, wish: Wish) -> Migration:
    revision, gone = (found.revision + 1, found.gone) if found else (1, ())
    contract = CONTRACT in wish.steps
    return Migration(wish.name, wish.from_version, (wish.version,), revision, contract=contract, gone=gone)


def _refuse_unknown(found: Migration) -> None:
    for name in found.unknown():
        step = found.steps[name]
        where = f" on {step.host}" if step.host else ""
        raise Refused(
            f"The {name} of the migration {found.name} was running{where} when its run ended, and nobody can tell whether "
            "it ran to its end.",
            f"See whether it did, and say so once: rollout_settle='{name} {RAN}', or rollout_settle='{name} {NOT_RUN}' when "
            "it is to run (again). It is never run twice without your word.",
        )


def _refuse_impossible(found: Migration, wish: Wish) -> None:
    back_over = wish.back and found.contracted and wish.version not in found.to_versions
    if wish.version in found.gone or back_over:
        raise Refused(
            f"{wish.version} cannot serve any more: the contract of the migration {found.name} has run, or begun, and took "
            "away what it needs.",
            "Mend forward: deploy a version that works with the data as they are now.",
        )


def before(found: Migration, steps: frozenset[str], version: str) -> list[str]:
    """The steps that come before the first member changes."""
    if version not in found.to_versions:
        return []
    return [name for name in BEFORE if name in steps and found.state(name) != DONE]


def after(found: Migration, steps: frozenset[str], version: str) -> list[str]:
    """The steps that come when every member has this version; whether the contract is due yet is asked then."""
    wanted: tuple[str, ...] = (CONTRACT,)
    if version not in found.to_versions:
        wanted = (SYNC_BACK, EXPAND_UNDO) if found.state(EXPAND) == DONE and not found.contracted else ()
    return [name for name in wanted if name in steps and found.state(name) != DONE]


def left(found: Migration, after_seconds: float, fresh: bool) -> float | None:
    """Seconds until the contract is due; None where it is not known since when the old version is gone.

    ``fresh`` says that this very run took its last member away.
    """
    age = 0.0 if fresh else found.age
    return None if age is None else max(0.0, after_seconds - age)


def refuse_too_early(found: Migration, version: str, after_seconds: float) -> None:
    """Raise ``Refused`` where a contract as a run of its own must not run yet."""
    if found.state(CONTRACT) == DONE:
        return
    if version not in found.to_versions:
        raise Refused(
            f"The members run {version}, and the migration {found.name} is for {', '.join(found.to_versions)}: its contract "
            "would take away what they need.",
            f"Roll out {found.to_versions[-1]} first.",
        )
    seconds = left(found, after_seconds, False)
    if seconds is None:
        if after_seconds == 0:
            return
        raise Refused(
            f"It is not known since when every member runs {version}, so nobody can tell whether rollout_contract_after "
            f"({after_seconds:g} s) has passed.",
            "A rollout that finishes keeps that moment. To run it now all the same, set rollout_contract_after to 0.",
        )
    if seconds > 0:
        raise Refused(
            f"It is {seconds:.0f} s too early for the contract of the migration {found.name}: rollout_contract_after is "
            f"{after_seconds:g} s from when the old version was gone.",
            "Until then a rollback is possible, and after the contract it is not.",
        )


def closed(found: Migration, outcome: str, version: str) -> tuple[Migration, bool]:
    """What is to be kept at a run's end, and whether the old version is out of service now."""
    new = version in found.to_versions
    if (outcome == "succeeded" and not new) or (outcome == "rolled_back" and new):
        return replace(found, gone_back=True, revision=found.revision + 1), False
    finished = outcome == "succeeded" or found.age is not None or found.contracted
    return replace(found, revision=found.revision + 1), finished


def forbids_way_back(found: Migration | None, release: str | None) -> bool:
    """Whether a member may not go back to this release any more."""
    return found is not None and found.contracted and release not in found.to_versions
