# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The lease on a service as one balancer sees it: who may have it, renew it, and go on with it. Pure.

Time is this balancer's own, counted from its boot: no two hosts' clocks are ever
compared, and nobody who sets the clock ends a lease. After a reboot nobody knows
how long the host was off, so a lease counts as if it had been renewed at boot:
it may last too long, and never ends too early.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import LeaseHeld, LeaseLost

ANYBODY = "*"  # whose lease is taken over when the user says so


@dataclass(frozen=True)
class Moment:
    """Now: the boot that this host is in, the seconds since then, and the date for people."""

    boot: str
    up: float
    wall: float

    @classmethod
    def now(cls) -> Moment:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
        return cls(boot, time.clock_gettime(time.CLOCK_BOOTTIME), time.time())


@dataclass(frozen=True)
class Lease:
    """A lease that was given, also when it is over."""

    number: int  # the fencing number: every lease of a service has a higher one than those before
    holder: str  # the run that has it, by its rollout's id
    owner: str  # the same for people: who, where
    reason: str
    seconds: float  # how long it lasts from each renewal
    started: float  # dates for people
    renewed: float
    boot: str
    expires: float  # seconds since that boot
    released: bool = False
    process: str = ""  # the holder's process, by a name that no other process ever has; empty where there is none

    def left(self, now: Moment) -> float:
        """For how many seconds it goes on unless it is renewed; 0 when it is over."""
        if self.released:
            return 0.0
        left = self.expires - now.up if now.boot == self.boot else self.seconds - now.up
        return max(0.0, min(left, self.seconds))

    def words(self) -> str:
        """Whose it is, for people."""
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self.started))
        return f"{self.owner} ({self.reason}, since {since})"

    def to_dict(self, now: Moment) -> dict[str, Any]:
        return {**asdict(self), "left": round(self.left(now), 3)}


@dataclass(frozen=True)
class Wish:
    """What somebody who wants the lease says; ``number`` 0 leaves the number to the balancer."""

    number: int
    holder: str
    owner: str
    reason: str
    seconds: float
    process: str = ""
    over: str = ""  # the holder whose lease may be taken though it lasts, or ``ANYBODY``


def acquire(lease: Lease | None, wish: Wish, now: Moment) -> Lease:
    """The lease that is given; raises ``LeaseHeld``.

    Somebody who has it may have it again, under a higher number. ``facts`` of the error say whether it is the number
    alone that is too low.
    """
    number = wish.number or (lease.number + 1 if lease else 1)
    started = now.wall
    if lease is not None:
        own = lease.holder == wish.holder and not lease.released
        if not own and lease.left(now) > 0 and wish.over not in (ANYBODY, lease.holder):
            raise LeaseHeld(
                f"Another run has the lease on this service: {lease.words()}.",
                f"It ends by itself {lease.left(now):.0f} s after that run is dead. "
                "Set rollout_take_over to true if you know better.",
                lease=lease.to_dict(now),
                number=lease.number,
            )
        if number < lease.number or (number == lease.number and not own):
            raise LeaseHeld(
                f"A lease with the number {number} would be older than {lease.number}, which was given before.",
                number=lease.number,
            )
        started = lease.started if own else now.wall
    return Lease(
        number,
        wish.holder,
        wish.owner,
        wish.reason,
        wish.seconds,
        started,
        now.wall,
        now.boot,
        now.up + wish.seconds,
        process=wish.process,
    )


def renew(lease: Lease | None, number: int, holder: str, now: Moment) -> Lease:
    """The same lease from now on; raises ``LeaseLost`` when it is over or another's."""
    if lease is None:
        raise LeaseLost("This balancer has no record of the lease any more.", _NOTHING)
    if (lease.number, lease.holder) != (number, holder):
        raise LeaseLost(f"The lease of this run (number {number}) is over: {lease.words()} has it now.", _NOTHING)
    if lease.left(now) <= 0:
        how = "was given back" if lease.released else f"ended, {lease.seconds:g} s after it was last renewed"
        raise LeaseLost(f"The lease of this run (number {number}) {how}.", _NOTHING)
    return replace(lease, renewed=now.wall, boot=now.boot, expires=now.up + lease.seconds)


def release(lease: Lease, now: Moment) -> Lease:
    """The lease when its holder needs it no more."""
    return replace(lease, renewed=now.wall, released=True)


_NOTHING = "Nothing was changed. Run the same playbook again: it looks at what there is and goes on from it."
