# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The record of one rollout: what was planned, what became of every member, and when.

A playbook's steps run in separate processes, so the record is a file between
them: small, replaced atomically, on the controller. Times are seconds since the
rollout's start.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import RolloutError
from ansible_collections.zerodrop.rollout.plugins.module_utils._files import take_lock
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._progress import ENVIRONMENT

_PATIENCE = 2.0  # seconds for a process that was told to end


def new_id(at: float) -> str:
    """A rollout's name: when it started, and something that sets it apart."""
    return f"{datetime.fromtimestamp(at, UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:6]}"


@dataclass
class Place:
    """One pool on one balancer: where members stand, and are drained and put back."""

    host: str  # the balancer's name in the inventory
    layer: int = 0  # which of the settings' layers it is of; 0 is the outermost
    floor: int = 0  # members that stay in service there
    by_reload: bool = False  # each change of it is a reload


@dataclass
class LeaseRecord:
    """The lease that the rollout has."""

    number: int
    holder: str
    request: dict[str, Any]  # what the balancers were asked for it, the number apart
    needed: int  # on how many balancers it must be had
    hosts: dict[str, str]  # one place of each balancer, and the balancer's name in the inventory
    renewed: float  # seconds since this machine's boot, when the balancers were last asked
    keeper: int | None = None  # the process that renews it
    told: dict[str, dict[str, str]] = field(default_factory=dict)  # by place and host: what its ledger says of members


@dataclass
class MemberRecord:
    """What became of one member."""

    host: str
    names: dict[str, str]  # its name in the pool, by place
    in_service_before: bool
    release_before: str | None
    release: str | None  # what it has now, as far as is known
    state: str = "untouched"  # untouched, drained, upgraded, healthy, finished, failed, lost, rolled_back, left_out
    before: dict[str, dict[str, Any]] = field(default_factory=dict)  # admin and weight to return to, by place
    addresses: dict[str, tuple[str, int]] = field(default_factory=dict)  # address and port as each place has them
    seconds: dict[str, float] = field(default_factory=dict)  # time in each phase
    out_at: float | None = None  # when it was taken out, while it is out
    drained_at: float = 0.0
    out_seconds: float = 0.0
    outs: list[list[float]] = field(default_factory=list)  # from when to when it was out, each time
    cut: int = 0  # requests or connections ended at the drain's limit
    cut_kinds: dict[str, int] = field(default_factory=dict)  # the same by kind
    look: str = ""  # pass, fail, inconclusive
    look_reason: str = ""  # why it is so
    trouble: str = ""
    zone: str = ""
    keeps: bool = False  # it has the release that it is to have: nothing is installed on it
    opened: bool = False  # its release may be touched from now on, whatever its state says

    def is_back(self, at: float) -> None:
        """It gets new work again since then, if it was out."""
        if self.out_at is not None and at > self.out_at:
            self.out_seconds += at - self.out_at
            self.outs.append([self.out_at, at])
        self.out_at = None

    @property
    def phase(self) -> str:
        """Where it is, as the ledgers say it."""
        if self.state in ("untouched", "drained"):
            return "upgrading" if self.opened else "draining" if self.out_at is not None else "planned"
        if self.state in ("healthy", "finished", "rolled_back"):
            return self.state
        return "upgrading" if self.state == "upgraded" else "left_out"

    @property
    def serves(self) -> bool:
        """Whether it is where the rollout found it, or is to be: in service, unless an operator took it out."""
        return self.state in ("untouched", "finished", "rolled_back")

    @property
    def port(self) -> int | None:
        """Where it serves: its port in the innermost pool that has one."""
        ports = [port for _address, port in self.addresses.values() if port]
        return ports[-1] if ports else None

    @property
    def changed(self) -> bool:
        """Whether its release was or may have been touched."""
        return self.state in ("upgraded", "healthy", "finished", "failed", "lost", "left_out")


@dataclass
class Stop:
    """Why a rollout did not go on."""

    code: str
    phase: str
    message: str
    hint: str = ""
    members: list[str] = field(default_factory=list)


@dataclass
class Record:
    """One rollout."""

    rollout_id: str
    service: str
    strategy: str
    pool: str
    from_version: str | None
    to_version: str
    started_at: float  # seconds since the epoch
    check: bool
    method: str
    upgrade: str  # the user's tasks file or role, as a path that Ansible finds; empty for a ready method
    floor: int
    balancers: list[str]  # the places, by name: a balancer's own, with the pool's where it has several
    batches: list[list[str]]
    members: dict[str, MemberRecord]
    places: dict[str, Place] = field(default_factory=dict)  # by name; one not listed is a balancer with the one pool
    dead: list[str] = field(default_factory=list)  # places that could not be reached, and were left out as asked
    artefact: str = ""  # what exactly the version stands for, where a method knows more than its name
    to_stage: list[str] = field(default_factory=list)  # members that the release must be brought to
    others: list[bool] = field(default_factory=list)  # the pool's other members, by whether each is in service
    back_batches: list[list[str]] = field(default_factory=list)
    counters: dict[str, Any] = field(default_factory=dict)  # of each balancer at the start
    identities: dict[str, str] = field(default_factory=dict)  # of the process that served each place when last seen
    reloads: dict[str, int] = field(default_factory=dict)  # that the rollout itself made, by place
    settings: dict[str, Any] = field(default_factory=dict)  # as a report may show them
    plan: dict[str, Any] = field(default_factory=dict)  # what was foreseen, where nothing is to be done
    told: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # what each place was told, and when
    counted: dict[str, Any] = field(default_factory=dict)  # what the balancers say of the time since then
    witness: dict[str, Any] = field(default_factory=dict)
    outside_well: bool | None = None  # whether the service answered from outside before; None: it is not asked there
    stop: Stop | None = None
    migration: dict[str, Any] | None = None  # the data migration that the rollout is part of
    migrate_on: str = ""  # the host that runs its steps; empty where there are none
    step_tasks: dict[str, str] = field(default_factory=dict)  # the steps' tasks files, as paths that Ansible finds
    contract_due: float | None = None  # seconds until its contract may run; None where none is to come
    lease: LeaseRecord | None = None
    lease_seen: int = 0  # the number of the last lease before this one
    unended: bool = False  # an earlier run has not come to its end, or lives still
    capacity: dict[str, float] = field(default_factory=dict)  # requests per second of members, where the load counts
    window: int = 0  # how many members may be out at once, each a batch of its own; 0: batch by batch
    done: list[str] = field(default_factory=list)  # members that an interrupted run finished, and this one leaves alone
    stop_asked: str = ""  # by whom the run was asked to stop
    events: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what the user should know beside the outcome
    first_new_at: float | None = None  # first member with the new version in service
    last_old_at: float | None = None  # last member with the old version taken out
    last_new_at: float | None = None  # last member with the new version taken out again
    later: list[str] = field(default_factory=list)  # members of zones that wait for a run of their own
    override: str = ""  # why it was begun though the calendar forbids it
    forgiven: dict[str, Any] | None = None  # the first failure of a member that the budget allowed
    rolled: bool = False  # the batches of a ready method have begun
    slots: dict[str, Any] = field(
        default_factory=dict
    )  # of blue/green: which are live and idle, and what the flip came to
    canary: dict[str, Any] = field(default_factory=dict)  # its steps, and how far it is; empty for another strategy
    hooks: dict[str, list[dict[str, str]]] = field(default_factory=dict)  # by point, what the playbook runs there
    hooks_may_fail: list[str] = field(default_factory=list)  # the points at which a failure stops nothing
    path: str = ""
    keeper: int = 0  # the process that cancels the rollout when the playbook ends too early

    def place(self, name: str) -> Place:
        return self.places.get(name) or Place(name, 0, self.floor)

    def now(self) -> float:
        """Seconds since the rollout's start."""
        return round(time.time() - self.started_at, 4)

    def event(self, phase: str, members: list[str], since: float, message: str) -> None:
        """Note that a phase is over."""
        self.events.append(
            {
                "phase": phase,
                "members": members,
                "at": since,
                "seconds": round(self.now() - since, 4),
                "message": message,
            }
        )

    def halt(self, phase: str, error: RolloutError, members: list[str]) -> None:
        """Stop the rollout; the first reason stands."""
        if self.stop is None:
            self.stop = Stop(error.code, phase, error.message, error.hint, members)

    def forgive(self, phase: str, error: RolloutError, members: list[str]) -> None:
        """A failure that does not stop the rollout; the first one is told at its end."""
        if self.forgiven is None:
            self.forgiven = asdict(Stop(error.code, phase, error.message, error.hint, members))

    def end_forgiveness(self) -> bool:
        """At the end of the way forward: what was forgiven is the reason why not all are on the new version."""
        if self.stop is not None or self.forgiven is None:
            return False
        self.stop = Stop(**self.forgiven)
        return True

    @classmethod
    def refused(cls, variables: Mapping[str, Any], error: RolloutError, strategy: str = "rolling") -> Record:
        """A rollout that preflight refused: what the user asked for, and why not."""
        now = time.time()
        return cls(
            rollout_id=new_id(now),
            service=" ".join(str(variables.get("rollout_service") or "the service").split()),
            strategy=strategy,
            pool=str(variables.get("rollout_pool") or ""),
            from_version=None,
            to_version=" ".join(str(variables.get("rollout_version") or "no version").split()),
            started_at=now,
            check=False,
            method="",
            upgrade="",
            floor=0,
            balancers=[],
            batches=[],
            members={},
            stop=Stop(error.code, "preflight", error.message, error.hint),
        )

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Work on the fleet as the only process of this run; one that was told to end and does not is ended."""
        with open(os.path.join(os.path.dirname(self.path), "at-work"), "a+", encoding="utf-8") as file:
            if not take_lock(file.fileno(), _PATIENCE):
                file.seek(0)
                with suppress(ValueError, ProcessLookupError):
                    os.kill(int(file.read()), signal.SIGKILL)
                take_lock(file.fileno(), _PATIENCE)
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield

    def save(self) -> None:
        folder = os.path.dirname(self.path)
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=".record-")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(asdict(self), file)
        os.chmod(temporary, 0o640)
        os.replace(temporary, self.path)
        self._announce()

    def _announce(self) -> None:
        """Tell who shows the progress of this run where its record is."""
        pointer = os.environ.get(ENVIRONMENT)
        if pointer:
            with suppress(OSError):
                Path(pointer).write_text(self.path, encoding="utf-8")

    @classmethod
    def load(cls, path: str) -> Record:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        data["members"] = {name: MemberRecord(**member) for name, member in data["members"].items()}
        data["places"] = {name: Place(**place) for name, place in data["places"].items()}
        data["stop"] = Stop(**data["stop"]) if data["stop"] else None
        data["lease"] = LeaseRecord(**data["lease"]) if data["lease"] else None
        return cls(**data)
