# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What the dead man's switch does when its run has been silent for too long.

It waits as long as the run gives signs of life, and ends when the run has ended
or another one has the lease. Otherwise it takes the ledger's lock, so that
neither a late operation of the dead run nor another run comes in between, and
puts back what the ledger says is safe and the balancer sees healthy.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Callable
from urllib.parse import urlsplit, urlunsplit

from ansible_collections.zerodrop.rollout.plugins.module_utils import _params
from ansible_collections.zerodrop.rollout.plugins.module_utils._drivers.base import Clock, Driver
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import RolloutError, Unhealthy
from ansible_collections.zerodrop.rollout.plugins.module_utils._health import health_gate
from ansible_collections.zerodrop.rollout.plugins.module_utils._lease import Lease, Moment
from ansible_collections.zerodrop.rollout.plugins.module_utils._ledger import (
    BY_ROLLOUT,
    Held,
    Ledger,
    MemberEntry,
    Tables,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Admin, Health, Member, Pool
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_operations import open_driver
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work.putting_back import Return
from ansible_collections.zerodrop.rollout.plugins.module_utils._switch import FLAG

_HEALTH_LIMIT = 20.0
_PROBE_LIMIT = 5.0
_INTERVAL = 0.1
_TRIES, _BETWEEN = 6, 5.0  # a balancer that is restarted in this very moment is back within seconds
_WORDS = {"draining": "nothing had been done on it", "healthy": "it had passed its gate"}

Open = Callable[[Mapping[str, Any], Clock], Driver]


@dataclass(frozen=True)
class Due:
    """Whether the time has come: in how many seconds to look again, or that it is over."""

    wait: float = 0.0
    over: str = ""


def due(lease: Lease | None, number: int, holder: str, after: float, now: Moment) -> Due:
    """By the lease as it stands; acts when neither a wait nor an end is said. Pure."""
    if lease is None:
        return Due(over="there is no lease")
    if (lease.number, lease.holder) != (number, holder):
        return Due(over=f"another run has had the lease since (number {lease.number})")
    if lease.released:
        return Due(over="the run ended")
    # From the last renewal on; the lease itself must have ended in any case.
    left = lease.left(now)
    silent_until = left + max(0.0, after - lease.seconds)
    if left <= 0:
        silent_until = max(0.0, lease.expires - lease.seconds + after - now.up) if lease.boot == now.boot else 0.0
    return Due(wait=silent_until)


def why_not(held: Held, entry: MemberEntry | None) -> str:
    """Why a member that is held out must stay out; empty when it may be put back. Pure."""
    if entry is None:
        return "the ledger does not say what was done to it"
    if not entry.safe:
        if entry.phase == "upgrading":
            return "its release may be touched by halves"
        return f"the ledger says that it is not safe (phase {entry.phase})"
    if held.setting.admin is not Admin.READY:
        return f"it was {held.setting.admin.value} before the run"
    return ""


def switch_fire(
    params: Mapping[str, Any],
    check: bool,
    opened: Open = open_driver,
    now: Callable[[], Moment] = Moment.now,
    sleep: Callable[[float], None] = time.sleep,
    clock: Clock | None = None,
) -> dict[str, Any]:
    """The program of the timer: wait for silence, then act once.

    ``params``: ``service``, ``marks``, ``number``, ``holder``, ``after``, ``health_url``, and ``places``, the pools of
    this balancer as every operation on a pool names them, outermost first.
    """
    ledger = Ledger(params["service"], params.get("marks"))
    number, holder = _params.whole(params, "number", 0, 1, 2**53), str(params["holder"])
    after = _params.number(params, "after", 60.0, 1.0, 86400.0)
    for attempt in range(1, _TRIES + 1):
        over = _wait(ledger, number, holder, after, now, sleep)
        if over:
            return {"changed": False, "said": [f"Nothing to do: {over}."]}
        try:
            with ledger.change() as tables:
                moment = now()
                found = due(tables.lease(), number, holder, after, moment)
                if found.over or found.wait:
                    continue
                said = Switch(tables, params, opened, moment, clock or Clock()).act()
                return {"changed": bool(said), "said": said}
        except RolloutError as error:
            _say(f"Try {attempt} of {_TRIES}: {error}")
            sleep(_BETWEEN)
    message = f"The switch of {holder} could not do its work; what is out of service stays so."
    with ledger.change() as tables:
        tables.event(now().wall, number, holder, message)
        tables.set_flag(FLAG, message, now().wall)
    return {"changed": False, "said": [message]}


def _wait(
    ledger: Ledger,
    number: int,
    holder: str,
    after: float,
    now: Callable[[], Moment],
    sleep: Callable[[float], None],
) -> str:
    """Until the run has been silent for so long; why it is over, if it is."""
    while True:
        with ledger.look() as tables:
            found = due(tables.lease() if tables else None, number, holder, after, now())
        if found.over or not found.wait:
            return found.over
        sleep(min(found.wait + 0.05, after))


class _Alone(Return):
    """Members on their way back, with nobody who asked for it."""

    def pause(self, seconds: float) -> None:
        self.clock.sleep(seconds)


class Switch:
    """One act of it, inside one transaction."""

    def __init__(self, tables: Tables, params: Mapping[str, Any], opened: Open, now: Moment, clock: Clock) -> None:
        self._tables = tables
        self._params = params
        self._opened = opened
        self._now = now
        self._clock = clock
        self._holder = str(params["holder"])
        self._entries = tables.members()
        self._out: dict[str, str] = {}  # hosts that stay out in a pool further in, and why

    def act(self) -> list[str]:
        """Put back what is safe, innermost pool first; what was done and why, in lines."""
        said: list[str] = []
        back: set[str] = set()
        for place in reversed(self._params["places"]):
            said += self._act_on(place, back)
        for host in sorted(back - set(self._out)):
            entry = self._entries[host]
            phase = "finished" if entry.phase == "healthy" else "planned"
            self._tables.set_member(replace(entry, phase=phase, safe=True, at=self._now.wall))
        for line in said:
            self._tables.event(self._now.wall, int(self._params["number"]), self._holder, line)
            _say(line)
        if said:
            self._tables.set_flag(FLAG, " ".join(said), self._now.wall)
        return said

    def _act_on(self, place: Mapping[str, Any], back: set[str]) -> list[str]:
        name = str(place["pool"])
        held = {each.member: each for each in self._tables.held(name, BY_ROLLOUT)}
        if not held:
            return []
        work = _Alone(name, self._opened(place, self._clock), self._clock)
        reasons = {member: self._why_not(each) for member, each in held.items()}
        pool = work.read(list(held))
        safe = [member for member, reason in reasons.items() if not reason]
        reasons.update(self._ill(work, pool, safe))
        good = [member for member in safe if not reasons[member]]
        if good:
            work.put_back({member: held[member].setting for member in good}, None, _INTERVAL, False)
            self._tables.let_go(name, good, BY_ROLLOUT)
        lines = []
        for member, each in held.items():
            host = each.host or member
            if reasons[member]:
                self._out[each.host] = reasons[member]
                lines.append(f"The run went silent: {host} stays out of {name}, since {reasons[member]}.")
            else:
                back.add(each.host)
                why = _WORDS.get(self._entries[each.host].phase, "the ledger says that it is safe")
                lines.append(
                    f"The run went silent: {host} was put back into {name} at weight {each.setting.weight}, since {why} "
                    "and it is healthy."
                )
        return lines

    def _why_not(self, held: Held) -> str:
        further_in = self._out.get(held.host)
        if held.host and further_in:
            return further_in
        return why_not(held, self._entries.get(held.host))

    def _ill(self, work: Return, pool: Pool, names: Sequence[str]) -> dict[str, str]:
        """Why members are not healthy, by the balancer's own checks, or by a request from here where it has none."""
        if not names:
            return {}
        found = dict.fromkeys(names, "")
        try:
            work.bring_to_health(names, _HEALTH_LIMIT, _INTERVAL, False)
        except Unhealthy as error:
            found.update(
                {name: f"the balancer does not see it healthy ({why})" for name, why in error.facts["members"].items()}
            )
        checks = work.driver.capabilities().checks_health
        for member in pool.chosen(list(names)):
            if not found[member.name] and (not checks or member.health is Health.UNCHECKED):
                found[member.name] = self._asked(member)
        return found

    def _asked(self, member: Member) -> str:
        """The answer to its health request as this balancer reaches it."""
        if not member.port:
            return "the balancer has no check, and it cannot be asked from here"
        wanted = urlsplit(str(self._params["health_url"]))
        address = f"[{member.address}]" if ":" in member.address else member.address
        url = urlunsplit((wanted.scheme, f"{address}:{member.port}", wanted.path, wanted.query, ""))
        health = {"url": url, "status": self._params.get("health_status"), "successes": 3, "timeout": _PROBE_LIMIT}
        try:
            health_gate({**health, "validate_certs": False}, False)
        except RolloutError as error:
            return f"it does not answer well from here ({error.message})"
        return ""


def _say(line: str) -> None:
    """For the journal: systemd keeps what a unit writes."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
