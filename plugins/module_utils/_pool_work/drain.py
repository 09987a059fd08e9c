# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Out of service: hold members out, and wait until nothing is in flight on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Callable

from ansible_collections.zerodrop.rollout.plugins.module_utils._drivers.base import Clock, Driver
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    ChangedByOther,
    FloorBroken,
    RolloutError,
    TimedOut,
    Unreachable,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Admin, Pool, Setting
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work.grace import give_grace
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work.wanted import DrainOrder
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work.words import (
    in_service,
    outcome,
    plain,
    why_not,
    with_settings,
    words_for,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work.work import Work

_PATIENCE = 10.0  # seconds a balancer may be away while it is waited for; a restart takes less
_IDLE_SAMPLE = 0.1  # seconds between two tries to end idle clients
_STATE_SAMPLE = 1.0  # seconds between two looks whether busy members are still held out
_STATE_REST = 25  # times as long as such a look takes, at the least
_WAIT_SAMPLE = 1.0  # seconds between two looks at work that may last
_LISTED = 50  # pieces of work that are named one by one
_FLOOR_SAMPLE = 0.1  # seconds between two looks whether the floor allows it
_CUT_LIMIT = 5.0  # seconds for cut sessions to be gone
_SOONER = 0.5  # of the time between two samples: who waits for the confirmations waits for all that follows


# The kinds of work, in words; all but the first are long-lived.
KINDS = {
    "request": "short requests",
    "long_request": "long requests",
    "websocket": "WebSockets",
    "tcp": "TCP sessions",
}


class Drain(Work):
    """Members on their way out."""

    def __init__(self, pool: str, driver: Driver, clock: Clock) -> None:
        super().__init__(pool, driver, clock)
        self._ended: set[tuple[str | None, str]] = set()  # what was ended, by process and handle
        self._ended_at = 0.0
        self._floor_deadline = 0.0  # until when it is waited for members that others have out
        self._next_state = 0.0  # when to look again whether members that are busy are still held out

    def take_out(self, drain: DrainOrder, check: bool) -> dict[str, Any]:
        names = drain.names
        before = self._when_floor_allows(drain, check)
        members = before.chosen(names)
        todo = [member.name for member in members if member.admin not in (drain.target, Admin.OUT)]
        capacity = len(in_service(before))
        after = {
            member.name: Setting(drain.target if member.name in todo else member.admin, member.weight)
            for member in members
        }
        result = {
            **outcome(before, after),
            "identity_before": before.identity,
            "identity": before.identity,
            "members": {
                member.name: {
                    "waited": 0.0,
                    "in_flight_at_start": member.busy,
                    "cut": 0,
                    "cut_kinds": {},
                    "undecided": 0,
                }
                for member in members
            },
            "capacity": {"before": capacity, "after": len([name for name in in_service(before) if name not in todo])},
            "cut_work": [],
            "reloads_seen": 0,
        }
        if check:
            return result
        was = {member.name: member.setting for member in members if member.name in todo}
        returned = False
        try:
            graced = drain.session_grace > 0 and bool(todo) and self.driver.drains(self.pool)
            if drain.returning:
                self._exchange(todo, drain, Admin.DRAIN if graced else drain.target, before, result)
                returned = True
            if graced:
                if drain.beside:
                    self._begin(drain, todo, self.driver.drain)
                reloads, tied = give_grace(self, todo, before.identity, drain.session_grace)
                result["reloads_seen"] += reloads
                for name, counts in tied.items():
                    result["members"][name]["tied"] = counts
                self.driver.hold_out(self.pool, todo)
            elif not drain.returning:
                self._begin(drain, todo, self.driver.drain if drain.target is Admin.DRAIN else self.driver.hold_out)
            if todo and self.driver.by_reload:
                result["identity"] = self.driver.identity()  # this reload is our own
            if drain.wait:
                self._wait_until_empty(drain, result)
                result["towards"] = self.towards(names)
        except RolloutError as error:
            error.facts["returned"] = returned
            if todo:
                error.facts.update(self.undo(was))
            raise
        return result

    def _begin(self, drain: DrainOrder, todo: Sequence[str], change: Callable[[str, Sequence[str]], None]) -> None:
        """The first change; beside other drains what allows it is seen once more, as one step with it."""
        if not drain.beside:
            change(self.pool, todo)
            return
        while True:
            with self.driver.one_step():
                broken = self._floor_broken(drain, self.read(drain.names))
                if broken is None:
                    change(self.pool, todo)
                    return
            if self._too_late(broken):
                raise broken
            self.rest(max(drain.interval, _FLOOR_SAMPLE))

    def _exchange(
        self, todo: Sequence[str], drain: DrainOrder, target: Admin, before: Pool, result: dict[str, Any]
    ) -> None:
        """Let in those that come back and take out the others, with one change of the balancer's where it can."""
        names = [*todo, *drain.returning]
        now = {member.name: member for member in before.chosen(names)}
        start = self.clock.now()
        self.driver.exchange(self.pool, drain.returning, todo, target, now)
        result["exchanged_after"] = round(self.clock.now() - start, 4)
        result["changed"] |= any(now[name].setting != setting for name, setting in drain.returning.items())
        if self.driver.by_reload:
            result["identity"] = self.driver.identity()

    def _when_floor_allows(self, drain: DrainOrder, check: bool) -> Pool:
        self._floor_deadline = self.clock.now() + (0.0 if check else drain.wait_for_floor)
        while True:
            pool = self.read([*drain.names, *drain.returning])
            for name, expected in drain.expect.items():
                if pool.member(name).setting != expected:
                    raise ChangedByOther(
                        f"{self.pool}/{name} is {words_for(pool.member(name).setting)}, "
                        f"but was expected to be {words_for(expected)}.",
                        "Somebody else changed it; nothing was touched. Look at it, then run this again.",
                        member=name,
                        found=plain({name: pool.member(name).setting})[name],
                    )
            broken = self._floor_broken(drain, pool)
            if broken is None:
                return pool
            if self._too_late(broken):
                raise broken
            self.rest(max(drain.interval, _FLOOR_SAMPLE))

    def _too_late(self, broken: FloorBroken) -> bool:
        """Whether waiting is over. For the load nobody waits here: who has all balancers' figures decides anew."""
        return "load" in broken.facts or self.clock.now() >= self._floor_deadline

    def _floor_broken(self, drain: DrainOrder, pool: Pool) -> FloorBroken | None:
        """Why these members may not go out of the pool as it is now; None when they may."""
        serving = in_service(pool)
        # Taking out what does not serve costs nothing: the way to mend a broken member must stay open.
        if not set(drain.names) & set(serving):
            return None
        coming = in_service(with_settings(pool, drain.returning))
        staying = [name for name in coming if name not in drain.names]
        if drain.floor is not None and len(staying) < drain.floor:
            return FloorBroken(
                f"Taking {', '.join(drain.names)} out of {self.pool!r} would leave {len(staying)} of "
                f"{len(pool.members)} members in service, and {drain.floor} must stay.",
                f"In service now: {', '.join(serving) or 'none'}. Not in service: "
                f"{why_not(pool) or 'none'}. Nothing was changed.",
                pool=self.pool,
                floor=drain.floor,
                in_service=serving,
                would_stay=staying,
            )
        too_much = drain.bounds.broken_by(pool)
        if too_much:
            return FloorBroken(
                f"Taking {', '.join(drain.names)} out of {self.pool!r} would leave too little for the load: {too_much}.",
                "Nothing was changed.",
                pool=self.pool,
                load=too_much,
            )
        return None

    def _wait_until_empty(self, drain: DrainOrder, result: dict[str, Any]) -> None:
        """Until nothing is in flight in any process, several times in a row, in one and the same process.

        The last time is a look at everything: who serves, what is in flight, and that all are still held out.
        """
        names = drain.names
        start = self.clock.now()
        self._next_state = start + _STATE_SAMPLE
        deadline = start + drain.first_limit
        empty_since: dict[str, float] = {}
        row = 0
        identity = result["identity"] if not result["reloads_seen"] else self.driver.identity()
        away_since: float | None = None
        while True:
            try:
                now, busy, confirmed = self._sample(names, identity, row, drain.samples)
                if now != identity:
                    # A reload brings everything back as the file has it: out again, and all anew.
                    result["reloads_seen"] += 1
                    identity = now
                    self.driver.hold_out(self.pool, names)
                    row, confirmed = 0, False
                    empty_since.clear()
                away_since = None
            except Unreachable:
                away_since = away_since if away_since is not None else self.clock.now()
                if self.clock.now() - away_since >= _PATIENCE:
                    raise
                busy, confirmed = dict.fromkeys(names, 1), False
            for name in names:
                if busy[name]:
                    empty_since.pop(name, None)
                else:
                    empty_since.setdefault(name, self.clock.now())
            row = row + 1 if confirmed else 0
            if row >= drain.samples:
                result["identity"] = identity
                for name in names:
                    result["members"][name]["waited"] = round(empty_since[name] - start, 4)
                return
            if self.clock.now() >= deadline and not confirmed:
                again = self._at_limit(drain, start, busy, result)
                if again is None:
                    return
                deadline = again
            if confirmed:
                self.pause(drain.interval * _SOONER)
            else:
                self.rest(drain.interval)

    def _sample(self, names: Sequence[str], identity: str, row: int, samples: int) -> tuple[str, dict[str, int], bool]:
        """The process, how busy each member is, and whether all are empty; the last of a row sees that for certain.

        Raises ``ChangedByOther`` for a member that somebody put back; one that is busy would be waited for in vain.
        """
        last = row + 1 >= samples
        now = self.clock.now()
        if not row or not last:
            glance = self.driver.glance(self.pool, names)
            empty = not any(glance.busy.values())
            now = self.clock.now()
            if glance.identity != identity or (not last if empty else now < self._next_state):
                return glance.identity, dict(glance.busy), empty and glance.identity == identity
        pool = self.read(names)
        self._next_state = self.clock.now() + max(_STATE_SAMPLE, _STATE_REST * (self.clock.now() - now))
        members = pool.chosen(names)
        if pool.identity == identity:
            for member in members:
                if member.admin is not Admin.OUT:
                    raise ChangedByOther(
                        f"{self.pool}/{member.name} was held out, but somebody made it {member.admin.value} again.",
                        "See who else works on this balancer, then run this again.",
                        member=member.name,
                    )
        busy = {member.name: member.busy for member in members}
        return pool.identity, busy, pool.identity == identity and not any(busy.values())

    def _at_limit(
        self, drain: DrainOrder, start: float, busy: Mapping[str, int], result: dict[str, Any]
    ) -> float | None:
        """See to what outlasts its limit; when to look at the limits again, or None where nothing need be waited for."""
        passed = self.clock.now() - start
        limits = {"short": (drain.timeout, drain.on_timeout), "long": drain.long_limit, "idle": drain.idle_limit}
        if all(passed >= limit and then == "fail" for limit, then in limits.values()):
            raise self._not_empty(drain, max(limit for limit, _then in limits.values()), busy)
        members = self.read(drain.names).chosen(drain.names)
        only_idle = not any(member.in_flight or member.queued for member in members)
        idle = [member.name for member in members if member.undecided]
        work = [] if only_idle and idle else self.driver.work(self.pool, drain.names)
        due = []
        for name in ("short", "long"):
            limit, then = limits[name]
            part = [piece for piece in work if (drain.kind(piece) == "request") == (name == "short")]
            if part and passed >= limit and then == "fail":
                raise self._not_empty(drain, limit, busy)
            due += part if passed >= limit and then == "cut" else []
        later = [limit for limit, _then in limits.values() if limit > passed]
        if idle and passed >= drain.idle_limit[0] and drain.idle_limit[1] != "wait":
            if drain.idle_limit[1] == "fail":
                raise self._not_empty(drain, drain.idle_limit[0], busy)
            if not self._end_idle(drain, idle, result) and only_idle and passed >= drain.timeout:
                # A process that also serves what is to live cannot be ended: their next request may fail.
                if drain.on_timeout == "fail":
                    raise self._not_empty(drain, drain.timeout, busy)
                if self._only_undecided(drain.names, result):
                    return None
            later.append(passed + max(drain.interval, _IDLE_SAMPLE))
        if not work and not (only_idle and idle) and passed >= drain.timeout:
            if drain.on_timeout == "fail":
                raise self._not_empty(drain, drain.timeout, busy)
            self._cut([name for name in drain.names if busy[name]] or drain.names, result)
            if passed > drain.timeout + _CUT_LIMIT:
                raise self._not_empty(drain, drain.timeout, busy)
        elif due:
            self._end(drain, due, busy, result)
        if due or (not work and not idle):
            later.append(passed + drain.interval)
        return start + min(later, default=passed + _WAIT_SAMPLE)

    def _end_idle(self, drain: DrainOrder, idle: Sequence[str], result: dict[str, Any]) -> bool:
        """End the idle clients of leaving processes; whether that could be done.

        They belong to no member: they are counted once, at the first that they might have been sent to.
        """
        ended = self.driver.end_idle(self.pool, drain.names)
        if ended:
            member = result["members"][idle[0]]
            member["cut"] += ended
            member["cut_kinds"]["idle"] = member["cut_kinds"].get("idle", 0) + ended
        return ended is not None

    def _end(
        self, drain: DrainOrder, due: Sequence[Mapping[str, str]], busy: Mapping[str, int], result: dict[str, Any]
    ) -> None:
        """End these pieces of work, each once, and count them by member and kind."""
        unnamed = sorted({piece["member"] for piece in due if "handle" not in piece})
        if unnamed:
            self._cut(unnamed, result)
        new = [piece for piece in due if (piece.get("process"), piece.get("handle", "")) not in self._ended]
        for piece in new:
            if "handle" not in piece:
                continue
            self._ended.add((piece["process"], piece["handle"]))
            if self.driver.end(self.pool, piece):
                kind = drain.kind(piece)
                member = result["members"][piece["member"]]
                member["cut"] += 1
                member["cut_kinds"][kind] = member["cut_kinds"].get(kind, 0) + 1
                if len(result["cut_work"]) < _LISTED:
                    result["cut_work"].append({**_shown(piece), "kind": kind})
                self._ended_at = self.clock.now()
        if not new and self.clock.now() - self._ended_at > _CUT_LIMIT:
            raise self._not_empty(drain, drain.timeout, busy)

    def _only_undecided(self, names: Sequence[str], result: dict[str, Any]) -> bool:
        """Whether all that is left are idle clients of leaving processes: nothing is there to be cut."""
        pool = self.read(names)
        members = pool.chosen(names)
        if any(member.in_flight or member.queued or member.admin is not Admin.OUT for member in members):
            return False
        for member in members:
            result["members"][member.name]["undecided"] = member.undecided
        result["identity"] = pool.identity
        return True

    def _cut(self, names: Sequence[str], result: dict[str, Any]) -> None:
        for name in names:
            count = self.driver.cut(self.pool, [name])
            if count:
                member = result["members"][name]
                member["cut"] += count
                member["cut_kinds"]["unknown"] = member["cut_kinds"].get("unknown", 0) + count

    def _not_empty(self, drain: DrainOrder, limit: float, busy: Mapping[str, int]) -> TimedOut:
        left = {name: busy[name] for name in drain.names if busy[name]}
        words = ", ".join(f"{name} ({count})" for name, count in left.items()) or "none for certain"
        work = self._work_left(list(left))
        kinds = Counter(drain.kind(piece) for piece in work)
        if set(kinds) - {"request"}:
            words += "; " + ", ".join(f"{kinds[kind]} {KINDS[kind]}" for kind in KINDS if kinds[kind])
        undecided = self._undecided(list(left))
        if undecided:
            words += (
                f". Among them are {undecided} idle clients of an older process of the balancer, which was reloaded; "
                "their next request may still go there"
            )
        return TimedOut(
            f"Still in flight after {limit:g} s on {self.pool!r}: {words}.",
            "Give it more time, or allow what is left at the limit to be cut.",
            pool=self.pool,
            busy=left,
            idle=undecided,
            kinds=dict(kinds),
            work=[{**_shown(piece), "kind": drain.kind(piece)} for piece in work[:_LISTED]],
        )

    def _undecided(self, names: Sequence[str]) -> int:
        try:
            return max((member.undecided for member in self.read(names).chosen(names)), default=0)
        except RolloutError:
            return 0  # only words for people

    def _work_left(self, names: Sequence[str]) -> list[dict[str, str]]:
        try:
            return self.driver.work(self.pool, names)
        except RolloutError:
            return []  # only words for people; the error itself counts


def _shown(piece: Mapping[str, str]) -> dict[str, str]:
    """What people are told of a piece of work."""
    return {key: piece[key] for key in ("member", "client", "frontend", "age", "process") if key in piece}
