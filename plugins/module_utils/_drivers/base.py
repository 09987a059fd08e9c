# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The contract between a rollout and a balancer.

One instance speaks to the balancer on the host it runs on. It decides nothing
and waits for nothing but the balancer's own confirmation: waiting for emptiness
and health, limits and undoing live above, in ``_pool_operations.py``, and are
the same for every balancer.

Every operation may raise ``Unreachable``, ``PermissionDenied`` and ``BadReply``;
one that takes a pool or members also ``UnknownPool`` and ``UnknownMember``, before
anything is changed; and one that reads the configuration ``InvalidConfiguration``.
An operation that changes something first checks all names, then changes, then reads
back: ``Refused`` when the state did not take or the balancer says no,
``ChangedByOther`` when somebody else is at work. It returns only when the change
holds in the process that serves now. What was true before an operation that raises
may be true by halves after it; the layer above then applies what was before.

Cost is counted in looks (one question to the balancer, milliseconds) and changes (a
look or two more; where a balancer knows only its configuration, one reload for all
members named together). ``docs/add-a-balancer.md`` has all of this as one table.
"""

from __future__ import annotations

import abc
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import Refused
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Admin, Counters, Member, Pool, Setting
from ansible_collections.zerodrop.rollout.plugins.module_utils._route import Route, Slots


class Clock:
    """Time, in one place, so that tests need not wait. Never the wall clock: that one jumps."""

    def now(self) -> float:
        return time.monotonic()

    def cpu(self) -> float:
        """The processor time that this process has used."""
        return time.process_time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@dataclass(frozen=True)
class Capabilities:
    """What this balancer, in this version, can do."""

    version: str
    runtime_changes: bool  # changes without a reload
    exact_in_flight: bool  # else an upper bound
    checks_health: bool  # of its own accord
    max_weight: int
    notes: tuple[str, ...] = ()  # what is missing and what that means, for people
    counts_requests: bool = True  # has counters of requests and errors for each member

    def to_dict(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "runtime_changes": self.runtime_changes,
            "exact_in_flight": self.exact_in_flight,
            "checks_health": self.checks_health,
            "max_weight": self.max_weight,
            "counts_requests": self.counts_requests,
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Glance:
    """What a wait looks at again and again: much cheaper than a pool."""

    identity: str
    busy: Mapping[str, int]  # `Member.busy` for each member that was asked for


class Driver(abc.ABC):
    """One balancer on this host."""

    kind: ClassVar[str]  # the value of ``rollout_driver``
    by_reload: ClassVar[bool] = False  # every change is a reload, so ``prepare_return`` changes nothing
    reloads: int = 0  # how many this instance has asked for
    rehearses: ClassVar[bool] = False  # whether it knows what ``rehearsing`` is
    rehearsing: bool = False  # changes are only noted in ``told``, as they would be made from the present state

    def one_step(self) -> AbstractContextManager[None]:
        """What is looked at and changed within is one step: no other run, and no other part of this one, comes between."""
        return nullcontext()

    @property
    def told(self) -> list[str]:
        """What this instance has told the balancer, in its own words: commands, and lines of its files that it changed."""
        found: list[str] = self.__dict__.setdefault("_told", [])
        return found

    @classmethod
    @abc.abstractmethod
    def from_params(cls, params: Mapping[str, Any], clock: Clock) -> Driver:
        """The driver for an operation's parameters; raises ``BadInput``. Touches nothing."""

    @abc.abstractmethod
    def capabilities(self) -> Capabilities:
        """What it can do in the version that runs; one look, changes nothing."""

    @abc.abstractmethod
    def check_rights(self) -> None:
        """Raise ``PermissionDenied`` unless every other operation is allowed; one look, changes nothing."""

    @abc.abstractmethod
    def identity(self) -> str:
        """Name the process that serves now: another name means that our changes may be undone. One cheap look."""

    @abc.abstractmethod
    def pools(self) -> Sequence[str]:
        """The names of all pools; one look."""

    @abc.abstractmethod
    def read(self, pool: str) -> Pool:
        """The pool now, in flight summed over this process and all that are leaving; one look at each.

        What is in flight is never too low, or the notes of ``capabilities`` say so.
        """

    def counted(self, pool: str) -> dict[str, dict[str, tuple[Counters, int]]]:
        """By process, those that are leaving included, and by member: what it has counted since its start, and its
        requests in flight.

        The process that serves now is the first. One look at each.
        """
        now = self.read(pool)
        return {now.identity: {member.name: (member.counters, member.in_flight) for member in now.members}}

    def glance(self, pool: str, names: Sequence[str]) -> Glance:
        """How busy these members are, at the least cost. Emptiness is confirmed by ``read``."""
        now = self.read(pool)
        return Glance(now.identity, {member.name: member.busy for member in now.chosen(names)})

    def work(self, pool: str, names: Sequence[str]) -> list[dict[str, str]]:
        """What these members are busy with; a balancer that cannot tell says nothing.

        Each has ``member``, ``client`` and ``age`` for people. One that can be ended alone has ``kind`` (``request``,
        ``websocket`` or ``tcp``), ``seconds`` (its age) and what names it, ``process`` and ``handle``.
        """
        return []

    def end(self, pool: str, piece: Mapping[str, str]) -> bool:
        """End one piece of ``work``; whether it was still there. Only asked for one with a handle."""
        return False

    def pooled(self, pool: str, names: Sequence[str]) -> dict[str, int]:
        """How many connections this balancer keeps idle to each member's address and port, whichever pool they are of.

        One that keeps none to a member that is out has nothing to do here.
        """
        return dict.fromkeys(names, 0)

    def ties(self, pool: str) -> bool:
        """Whether this balancer keeps a client on the member that it was given first, for as long as that serves."""
        return False

    def drains(self, pool: str) -> bool:
        """Whether this pool knows a state between in service and out, for clients tied to a member."""
        return True

    @abc.abstractmethod
    def drain(self, pool: str, names: Sequence[str]) -> None:
        """No new work for these members, but for clients tied to them. What is in flight goes on.

        Before: any state. After: draining, in every balancer process that takes new work. One change.
        """

    @abc.abstractmethod
    def hold_out(self, pool: str, names: Sequence[str]) -> None:
        """No new work at all for these members. What is in flight goes on.

        Before: any state. After: out. One change.
        """

    @abc.abstractmethod
    def prepare_return(self, pool: str, names: Sequence[str]) -> None:
        """Let the balancer judge the members' health afresh, still without new work.

        A balancer without checks of its own changes nothing here.

        Before: held out or draining. After: draining, and ``health`` is down
        until the balancer's own checks have passed again. A member without a
        check is draining and ``unchecked``. One change.
        """

    def lift(self, pool: str, names: Sequence[str]) -> None:
        """Bring up members in service that are down though nothing would ever find them up; others stay as they are.

        Before: ready. After: the same, and up where it was stuck. One look, and a change where one was.
        """
        return

    @abc.abstractmethod
    def put_back(self, pool: str, names: Sequence[str]) -> None:
        """New work for these members from now on. The caller has seen to their health.

        Before: draining or out, and healthy. After: ready, at the weight they have. One change.
        """

    @abc.abstractmethod
    def weigh(self, pool: str, weights: Mapping[str, int]) -> None:
        """Set members' weights; raises ``BadInput`` for one that is out of range.

        Before: any state. After: the same at these weights. One change.
        """

    def save(self, pool: str, names: Sequence[str]) -> None:
        """Make it outlive a reload and a restart that we hold these members out, where this balancer can.

        A driver does so itself with every change; this is for what an earlier run did not get to. One whose
        changes are made in its configuration has nothing to do here.
        """
        return

    def lasting(self, pool: str) -> str:
        """Why a reload would undo changes of this pool, and what to do about it; empty when none does."""
        return ""

    def end_idle(self, pool: str, names: Sequence[str]) -> int | None:
        """End the clients of leaving processes that are on no member, as far as they may still be sent to these.

        Returns how many; None while that cannot be done without ending what a process serves besides.
        """
        return None

    @abc.abstractmethod
    def cut(self, pool: str, names: Sequence[str]) -> int:
        """End what is in flight on these members now; returns how much that was. Raises ``Refused`` where it cannot.

        Before: out or draining. After: the same, and what was in flight is on its end. One change.
        """

    def route(self, slots: Slots) -> Route:
        """Which of two pools gets new requests now, and which one after a start; one look at each process and the disk.

        Raises ``InvalidConfiguration`` where the balancer is not prepared, with the lines that are missing.
        """
        raise Refused(f"The driver {self.kind} cannot flip from one pool to another.")

    def check_route(self, slots: Slots) -> None:
        """Raise ``InvalidConfiguration`` unless the configuration passes requests by the route; one test of it."""
        self.route(slots)

    def set_route(self, slots: Slots, pool: str) -> None:
        """New requests go to this pool, and do so after a start: the disk first, then every process; read back.

        Before: both pools are there. After: `route` says the pool for both. One change.
        """
        raise Refused(f"The driver {self.kind} cannot flip from one pool to another.")

    def prepare_route(self, slots: Slots, pool: str, mode: str, check: bool) -> dict[str, tuple[str, str]]:
        """Write the files of a route where they are not as they are to be; by path, what was there and what is now.

        A route that is there stays as it is live. The configuration that reads the files is the user's to change.
        """
        raise Refused(f"The driver {self.kind} cannot flip from one pool to another.")

    def exchange(
        self,
        pool: str,
        returning: Mapping[str, Setting],
        names: Sequence[str],
        target: Admin,
        now: Mapping[str, Member],
    ) -> None:
        """Let some members in and take others out, in this order; a balancer that reloads does it in one reload.

        The caller has seen to the health of those that come back. ``target`` is ``OUT``, or ``DRAIN`` where the pool
        knows that; ``now`` has all of them.
        """
        self.apply(pool, returning, now)
        (self.hold_out if target is Admin.OUT else self.drain)(pool, names)

    def apply(self, pool: str, settings: Mapping[str, Setting], now: Mapping[str, Member]) -> None:
        """Bring members from what they are now to these settings; a balancer that reloads does it in one reload.

        Weights first, so that a member never serves at one that was not meant for it.
        """
        weights = {name: one.weight for name, one in settings.items() if now[name].weight != one.weight}
        if weights:
            self.weigh(pool, weights)
        wanted: dict[Admin, list[str]] = {admin: [] for admin in Admin}
        for name, setting in settings.items():
            if now[name].admin is not setting.admin:
                wanted[setting.admin].append(name)
        # A member that was out has not been checked since; it must not serve before it was.
        unseen = [name for name in wanted[Admin.READY] if now[name].admin is Admin.OUT]
        for change, names in (
            (self.hold_out, wanted[Admin.OUT]),
            (self.drain, wanted[Admin.DRAIN]),
            (self.prepare_return, unseen),
            (self.put_back, wanted[Admin.READY]),
        ):
            if names:
                change(pool, names)
