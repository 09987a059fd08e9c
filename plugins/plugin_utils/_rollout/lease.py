# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lease on a service over the whole fleet: had by a majority of the balancers, or not at all.

The balancers are asked in one order, and the first of them alone decides
between two runs that begin at once. A lease that somebody else has is waited
for as long as nobody renews it: then its run is dead or stands still. As soon
as it is seen renewed, its run lives, and this one is refused.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import LeaseHeld, RolloutError, Unreachable
from ansible_collections.zerodrop.rollout.plugins.module_utils._lease import ANYBODY
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Call, Remote, Reply
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.fleet import Fleet
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.owner import are_dead
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import LeaseRecord, Record
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.switch import no_switch
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import MAINTAIN, Settings

_CALL_LIMIT = 10.0
_LOOK_AGAIN = 0.5
_SPLITS = 20  # tries against another run that asks in another order


def quorum(balancers: int, skip_dead: bool) -> int:
    """How many balancers a run must have: a majority, so that no two runs can.

    Of two, the one that is left will do where the user has said that a dead balancer is one without traffic.
    """
    return 1 if balancers == 2 and skip_dead else balancers // 2 + 1


@dataclass(frozen=True)
class Request:
    """What a run asks the balancers for."""

    service: str
    holder: str
    owner: str
    reason: str
    seconds: float
    process: str = ""


@dataclass(frozen=True)
class Granted:
    """The lease that a run has."""

    number: int
    places: list[str]  # where, by a place of each balancer
    waited: bool  # somebody else had it meanwhile: what was read before may be old
    no_switch: Mapping[str, str] = field(default_factory=dict)  # the places without a dead man's switch, and why


class Balancers:
    """The balancers that give the lease, each by one of its places."""

    def __init__(
        self,
        remote: Remote,
        request: Request,
        hosts: Mapping[str, str],
        switches: Mapping[str, Mapping[str, Any] | None] | None = None,
    ) -> None:
        self._remote = remote
        self._request = request
        self._switches = switches or {}
        self.hosts = dict(hosts)  # a balancer's place, and its name in the inventory

    def ask(self, places: Iterable[str], number: int, over: str) -> dict[str, Reply]:
        params = {**asdict(self._request), "number": number, "over": over}
        return self._remote.run(
            {place: Call("lease_acquire", self._of(place, params), _CALL_LIMIT, self.hosts[place]) for place in places}
        )

    def _of(self, place: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """With what the balancer arms its dead man's switch with."""
        switch = self._switches.get(self.hosts[place])
        return {**params, "switch": switch} if switch else dict(params)

    def give_back(self, places: Iterable[str], number: int) -> None:
        lease = {"number": number, "holder": self._request.holder}
        params = {"service": self._request.service, "lease": lease, "release": True}
        self._remote.run({place: Call("ledger_note", params, _CALL_LIMIT, self.hosts[place]) for place in places})


class Acquisition:
    """The way to the lease; ``run`` it once."""

    def __init__(
        self,
        balancers: Balancers,
        total: int,
        needed: int,
        take_over: bool = False,
        say: Callable[[str], None] = lambda _text: None,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._balancers = balancers
        self._total = total  # balancers of the service, those that cannot be reached included
        self._needed = needed
        self._say = say
        self._sleep = sleep
        self._now = now
        self._over = ANYBODY if take_over else ""
        # By balancer, holder and number: when that lease had been renewed as it was first seen.
        self._seen: dict[tuple[str, str, int], float] = {}
        self._deadline = 0.0  # when the first one that was seen is over at the latest
        self._waited = False

    def run(self, seen: int) -> Granted:
        """Have it, at a number above ``seen``; raises ``LeaseHeld``, or what is wrong with the balancers."""
        places = sorted(self._balancers.hosts)
        number, splits = seen + 1, 0
        while True:
            first = self._balancers.ask(places[:1], number, self._over)[places[0]]
            if isinstance(first.error, LeaseHeld):
                number = max(number, self._number_after(places[0], first.error))
                continue
            replies = {places[0]: first}
            if len(places) > 1:
                replies.update(self._balancers.ask(places[1:], number, self._over))
            granted = [place for place, reply in replies.items() if reply.ok]
            refusals = {place: each.error for place, each in replies.items() if isinstance(each.error, LeaseHeld)}
            broken = {place: each.error for place, each in replies.items() if each.error and place not in refusals}
            if broken or len(places) < self._needed:
                self._balancers.give_back(granted, number)
                raise next((_named(*item) for item in broken.items()), too_few(len(places), self._needed))
            if not refusals:
                lacking = {place: str(why) for place in granted if (why := replies[place].result.get("no_switch"))}
                return Granted(number, granted, self._waited or number > seen + 1, lacking)
            splits += 1
            if splits > _SPLITS:
                self._balancers.give_back(granted, number)
                raise next(iter(refusals.values()))
            if 2 * len(granted) > self._total:
                # No other run can have a majority now: what is left of one there is of one that failed, or is over.
                self._over = ANYBODY
                number = max(number, *(int(each.facts["number"]) + 1 for each in refusals.values()))
                continue
            self._balancers.give_back(granted, number)
            for place, refusal in refusals.items():
                number = max(number, self._number_after(place, refusal))
            self._sleep(random.uniform(0.05, 0.3) * splits)

    def _number_after(self, place: str, error: LeaseHeld) -> int:
        """The number to try next, after a wait where somebody has the lease; raises when nothing can come of it."""
        lease = error.facts.get("lease")
        higher = int(error.facts["number"]) + 1
        self._waited = True
        if lease is None:
            return higher
        holder, renewed, left = str(lease["holder"]), float(lease["renewed"]), float(lease["left"])
        if are_dead(str(lease.get("process") or "")):
            self._say(f"The run that has the lease is dead: {lease['owner']}. This one takes it over.")
            self._over = holder
            return higher
        if not self._seen:
            self._say(f"{error.message} It is taken over in {left:.0f} s, unless that run is seen to live.")
            self._deadline = self._now() + left + 10.0
        # With a higher number it is no renewal: that run gave it back and asks for it again, as this one does.
        if renewed != self._seen.setdefault((place, holder, higher), renewed) or self._now() > self._deadline:
            raise error
        self._sleep(min(_LOOK_AGAIN, left + 0.05))
        return higher


def _named(place: str, error: RolloutError) -> RolloutError:
    error.message = error.message if place in error.message else f"{place}: {error.message}"
    return error


def too_few(reached: int, needed: int) -> Unreachable:
    """Not enough balancers for a lease that nobody else can have."""
    return Unreachable(
        f"The lease on the service needs {needed} of its balancers, and {reached} can be reached: another run might "
        "have it on the others.",
        "Bring the others back, or take those that are gone for good out of rollout_balancers.",
    )


# --- of a rollout ---


def take(
    settings: Settings, remote: Remote, record: Record, owner: str, process: str, say: Callable[[str], None]
) -> tuple[LeaseRecord, bool, list[str]]:
    """Have the lease for a rollout; whether somebody else had it since the fleet was read; and which balancers lack a switch.

    Raises ``RolloutError``.
    """
    maintenance = settings.strategy == MAINTAIN
    reason = "maintenance" if maintenance else f"{settings.strategy} to {record.to_version}"
    request = Request(settings.service, record.rollout_id, owner, reason, settings.lease_seconds, process)
    everywhere = {place.host for place in record.places.values()}
    hosts: dict[str, str] = {}
    for name in record.balancers:
        if record.place(name).host not in hosts.values():
            hosts[name] = record.place(name).host
    skip = settings.dead_balancer == "skip"
    # All that can be reached must give it, so with two of them both; one alone has to be the only one that is left.
    needed = quorum(len(everywhere), skip and len(hosts) == 1)
    fleet = Fleet(settings, remote, record, False)
    switches = {host: fleet.switch(host) for host in hosts.values()}
    acquisition = Acquisition(
        Balancers(remote, request, hosts, switches), len(everywhere), needed, settings.take_over, say
    )
    granted = acquisition.run(record.lease_seen)
    lacking = [no_switch(place, why) for place, why in granted.no_switch.items()]
    since = time.clock_gettime(time.CLOCK_BOOTTIME)
    lease = LeaseRecord(
        granted.number, request.holder, asdict(request), quorum(len(everywhere), skip), hosts, renewed=since
    )
    return lease, granted.waited, lacking


def begin(fleet: Fleet) -> None:
    """The plan is in every ledger before anything is touched; raises ``RolloutError``."""
    record = fleet.record
    members = [
        {
            "host": member.host,
            "release_before": member.release_before,
            "release": member.release,
            "phase": "finished" if member.host in record.done else "planned",
        }
        for member in record.members.values()
    ]
    begin: dict[str, Any] = {
        "strategy": record.strategy,
        "from_version": record.from_version,
        "to_version": record.to_version or None,
        "plan": {
            "batches": record.batches,
            "floor": record.floor,
            "upgrade": record.upgrade,
            "pool": record.pool,
            "balancers": sorted({place.host for place in record.places.values()}),
            "counters": record.counters,
            "override": record.override,
        },
        "members": members,
    }
    if record.canary:
        begin["plan"]["canary"] = {"id": record.canary["id"], "from_version": record.canary["from_version"]}
    fleet.note_plan(begin)


def give_back(fleet: Fleet) -> None:
    """Before anything was touched: nobody has to wait for it, and there is nothing to be said of the rollout."""
    if fleet.record.lease is not None:
        fleet.ask(fleet.notes(release=True, forget=True))
        fleet.record.lease = None


class Renewal:
    """What the keeper does meanwhile: it renews the lease of the rollout whose record this is."""

    def __init__(self, path: str, open_remote: Callable[[float], Remote], now: Callable[[], float] = time.monotonic):
        self._path = path
        self._open = open_remote
        self._now = now
        self._remote: Remote | None = None
        self._due: float | None = None  # None until there is a lease, which is fresh then

    def __call__(self) -> None:
        if self._due is not None and self._now() < self._due:
            return
        lease = Record.load(self._path).lease
        if lease is None:
            return
        seconds = float(lease.request["seconds"])
        if self._due is None:
            self._due = self._now() + seconds / 4
            return
        limit = min(2.0, seconds / 8)
        self._remote = self._remote or self._open(limit)
        params = {"service": lease.request["service"], "lease": {"number": lease.number, "holder": lease.holder}}
        self._remote.run({place: Call("ledger_note", params, limit, host) for place, host in lease.hosts.items()})
        self._due = self._now() + seconds / 4
