# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""A pool and its members as a balancer sees them at one moment."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import UnknownMember


class Admin(str, Enum):
    """What an operator (or we) asked of a member."""

    READY = "ready"
    DRAIN = "drain"  # no new work but for clients that are tied to it
    OUT = "out"  # no new work at all


class Health(str, Enum):
    """What the balancer's own checks say of a member."""

    UP = "up"
    DOWN = "down"
    STARTING = "starting"  # on its way up, slow start included
    STOPPING = "stopping"
    UNCHECKED = "unchecked"  # the balancer has no check; it would send traffic to a dead member


@dataclass(frozen=True)
class Counters:
    """Totals since the serving process started (see ``Pool.identity``)."""

    requests: int = 0  # sessions or requests that this member was given
    errors: int = 0  # connect, response and server-aborted errors; a lower bound, see docs
    responses_5xx: int = 0
    retries: int = 0
    redispatches: int = 0
    unanswered: int = 0  # given to this member and without an answer so far, those in flight among them
    response_ms: int = -1  # a sliding average of the time to an answer, rounded up; -1: not told


@dataclass(frozen=True)
class Setting:
    """The part of a member's state that is set by people: what a put back returns to."""

    admin: Admin
    weight: int


@dataclass(frozen=True)
class Member:
    """One server line of a pool at one moment."""

    name: str
    address: str  # IP address, or `unix` for a UNIX socket
    port: int  # 0 for a UNIX socket
    admin: Admin
    health: Health
    weight: int  # in the balancer's unit
    in_flight: int  # requests or connections now, all processes of the balancer summed
    queued: int  # waiting for this very member
    undecided: int = 0  # clients of leaving processes that are idle now and may still be sent to it
    backup: bool = False
    limit: int = 0  # most that the balancer gives it at once; 0: no limit of the balancer's
    counters: Counters = field(default_factory=Counters)
    detail: Mapping[str, Any] = field(default_factory=dict)  # the balancer's own words, for people

    @property
    def setting(self) -> Setting:
        return Setting(admin=self.admin, weight=self.weight)

    @property
    def busy(self) -> int:
        """Everything that would be lost if the member stopped now."""
        return self.in_flight + self.queued + self.undecided

    @property
    def in_service(self) -> bool:
        """Whether it takes new work now (backups are not counted as capacity)."""
        return (
            self.admin is Admin.READY
            and self.health in (Health.UP, Health.UNCHECKED)
            and self.weight > 0
            and not self.backup
        )

    def to_dict(self) -> dict[str, Any]:
        # Not `asdict`: it copies whatever is in there, which takes a quarter of a second for thousands of members.
        data = dict(vars(self))
        data.update(
            admin=self.admin.value,
            health=self.health.value,
            counters=dict(vars(self.counters)),
            detail=dict(self.detail),
            in_service=self.in_service,
        )
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Member:
        values = {key: value for key, value in data.items() if key != "in_service"}
        values.update(
            admin=Admin(values["admin"]),
            health=Health(values["health"]),
            counters=Counters(**values.get("counters", {})),
        )
        return cls(**values)


@dataclass(frozen=True)
class Pool:
    """A pool on one balancer at one moment."""

    name: str
    identity: str  # names the serving process; another value means a reload or a restart
    members: tuple[Member, ...]
    queued: int = 0  # waiting for any member
    leaving: int = 0  # older processes of the balancer that still serve
    counters: Counters = field(default_factory=Counters)  # of the pool, requests that reached no member included
    rate: int = -1  # requests in the last second; -1: not told

    def member(self, name: str) -> Member:
        """The member of that name; raises ``UnknownMember`` and names what is there."""
        for member in self.members:
            if member.name == name:
                return member
        known = ", ".join(m.name for m in self.members) or "no member at all"
        raise UnknownMember(
            f"The pool {self.name!r} has no member {name!r}.", f"It has {known}.", pool=self.name, member=name
        )

    def chosen(self, names: Sequence[str]) -> list[Member]:
        """The members of these names, in this order; raises ``UnknownMember``."""
        if len(names) < 8:
            return [self.member(name) for name in names]
        known = {member.name: member for member in self.members}
        return [known.get(name) or self.member(name) for name in names]

    def at_address(self, address: str, port: int | None = None) -> list[Member]:
        """The members at this address (and port)."""
        wanted = _same_form(address)
        return [m for m in self.members if _same_form(m.address) == wanted and (port is None or m.port == port)]

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "identity": self.identity,
            "queued": self.queued,
            "leaving": self.leaving,
            "counters": asdict(self.counters),
            "rate": self.rate,
            "members": [member.to_dict() for member in self.members],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Pool:
        members = tuple(Member.from_dict(member) for member in data["members"])
        return cls(**{**data, "members": members, "counters": Counters(**data.get("counters", {}))})


def _same_form(address: str) -> str:
    """An IP address as it is written most shortly; anything else as it is."""
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return address
