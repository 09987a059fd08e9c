# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What every change of a balancer by a run has to pass: the run's lease, on this host, in this moment.

An operation is let in once: its lease is renewed and what it is about to do is
in the ledger before it begins. Each single change that it then makes is made
under the ledger's lock and only while the lease lasts, so that an operation of
a run that is dead changes nothing after another run, or the dead man's switch,
had its turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Callable, cast

from ansible_collections.zerodrop.rollout.plugins.module_utils._drivers.base import Driver
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput
from ansible_collections.zerodrop.rollout.plugins.module_utils._lease import Lease, Moment, renew
from ansible_collections.zerodrop.rollout.plugins.module_utils._ledger import PHASES, Ledger, MemberEntry, Tables

STOP = "stop"  # the flag that ends a run after the batch in hand

# What changes a balancer; everything else only looks.
_CHANGES = (
    "drain",
    "hold_out",
    "prepare_return",
    "lift",
    "put_back",
    "weigh",
    "cut",
    "end",
    "end_idle",
    "apply",
    "exchange",
    "save",
    "set_route",
    "prepare_route",
)


class Fence:
    """The lease that an operation's ``lease`` names, and what it has to say to the ledger."""

    def __init__(self, ledger: Ledger, lease: Mapping[str, Any], now: Callable[[], Moment] = Moment.now) -> None:
        if not isinstance(lease, Mapping):
            raise BadInput(f"lease must be a mapping, got {lease!r}.")
        try:
            self.number, self.holder = int(lease["number"]), str(lease["holder"])
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput("lease must say its number and its holder.") from error
        self.ledger = ledger
        self.hosts: dict[str, str] = dict(lease.get("hosts") or {})  # inventory hosts by their names in the pool
        self._entries = member_entries(lease.get("members") or [], self.holder)
        self._now = now
        self.stop: str | None = None  # what was asked of the run by others, known when it has been let in

    @classmethod
    def from_params(cls, params: Mapping[str, Any], check: bool) -> Fence | None:
        """None where an operation comes without a lease: by hand, or in check mode."""
        if check or not params.get("lease"):
            return None
        return cls(Ledger(params.get("service"), params.get("marks")), params["lease"])

    def let_in(self, tables: Tables) -> None:
        """Renew the lease and write the entries, in a transaction of the caller's; raises ``LeaseLost``."""
        now = self._now()
        tables.set_lease(self._renewed(tables, now))
        for entry in self._entries:
            tables.set_member(MemberEntry(**{**entry, "at": now.wall}))
        self.stop = tables.flag(STOP)

    def enter(self) -> None:
        """The same in a transaction of its own."""
        self._there()
        with self.ledger.change() as tables:
            self.let_in(tables)

    @contextmanager
    def passing(self) -> Iterator[None]:
        """One change, made under the lock and while the lease lasts; raises ``LeaseLost`` before it."""
        self._there()
        with self.ledger.change() as tables:
            self._renewed(tables, self._now())
            yield

    def around(self, driver: Driver) -> Driver:
        """The same driver, each of whose changes has to pass."""
        return cast(Driver, _Fenced(driver, self))

    def _renewed(self, tables: Tables, now: Moment) -> Lease:
        return renew(tables.lease(), self.number, self.holder, now)

    def _there(self) -> None:
        if not self.ledger.exists():
            renew(None, self.number, self.holder, self._now())


class _Fenced:
    def __init__(self, driver: Driver, fence: Fence) -> None:
        self._driver = driver
        self._fence = fence
        self._passed = False  # the lock is held, and the lease was seen to last

    @contextmanager
    def one_step(self) -> Iterator[None]:
        with self._fence.passing():
            self._passed = True
            try:
                yield
            finally:
                self._passed = False

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._driver, name)
        if name not in _CHANGES:
            return attribute

        def change(*arguments: Any) -> Any:
            if self._passed:
                return attribute(*arguments)
            with self._fence.passing():
                return attribute(*arguments)

        return change


def member_entries(rows: Sequence[Mapping[str, Any]], rollout: str) -> list[dict[str, Any]]:
    """What the controller says of members, checked; without the time, which is this host's."""
    entries = []
    for row in rows:
        phase = str(row.get("phase"))
        if phase not in PHASES:
            raise BadInput(f"There is no phase {phase!r} of a member.")
        entries.append(
            {
                "host": str(row["host"]),
                "rollout": rollout,
                "phase": phase,
                "safe": PHASES[phase],
                "release_before": row.get("release_before"),
                "release": row.get("release"),
                "before": dict(row.get("before") or {}),
            }
        )
    return entries
