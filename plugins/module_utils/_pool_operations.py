# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Drain, return, put back, weigh and look: the waiting and the undoing, the same for every balancer.

Each operation acts on the balancer of the host it runs on. It checks everything
before the first change, and what it cannot finish it undoes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable

from ansible_collections.zerodrop.rollout.plugins.module_utils import _params
from ansible_collections.zerodrop.rollout.plugins.module_utils._drivers.base import Clock, Driver
from ansible_collections.zerodrop.rollout.plugins.module_utils._drivers.haproxy import HAProxyDriver
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    BadInput,
    ChangedByOther,
    FloorBroken,
    RolloutError,
    TimedOut,
    Unhealthy,
    UnknownPool,
    Unreachable,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._marks import Marks
from ansible_collections.zerodrop.rollout.plugins.module_utils._names import member_name, pool_name
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Admin, Health, Member, Pool, Setting

DRIVERS: Mapping[str, Callable[[Mapping[str, Any], Clock], Driver]] = {
    HAProxyDriver.kind: HAProxyDriver.from_params,
}

ON_TIMEOUT = ("fail", "cut")

_DAY = 86400.0
_SHARE_OF_A_CORE = 0.04  # that waiting may use
_SLOWEST_SAMPLE = 1.0
_GRACE_SAMPLE = 0.25  # while clients are given time, only a reload is looked for
_PATIENCE = 10.0  # seconds a balancer may be away while it is waited for; a restart takes less
_CUT_LIMIT = 5.0  # seconds for cut sessions to be gone


# --- the operations ---


def pool_read(
    params: Mapping[str, Any], check: bool, *, driver: Driver | None = None, clock: Clock | None = None
) -> dict[str, Any]:
    """What the balancer can do, its pools' names, and the pools (one, or all)."""
    wanted = [pool_name(params["pool"], "pool")] if _params.given(params, "pool") else None
    rights = _params.flag(params, "rights", False)
    balancer = driver or _open(params, clock or Clock())
    capabilities = balancer.capabilities()
    if rights:
        balancer.check_rights()
    names = list(balancer.pools())
    unknown = [name for name in wanted or [] if name not in names]
    if unknown:
        raise UnknownPool(f"The balancer has no pool {unknown[0]!r}.", f"It has {', '.join(names) or 'none'}.")
    marks = _marks(params)
    return {
        "changed": False,
        "capabilities": capabilities.to_dict(),
        "pool_names": names,
        "pools": [balancer.read(name).to_dict() for name in (wanted or names)],
        "held_out": _plain(marks.read()) if marks else {},
    }


def pool_drain(
    params: Mapping[str, Any], check: bool, *, driver: Driver | None = None, clock: Clock | None = None
) -> dict[str, Any]:
    """Hold members out and wait until nothing is in flight on them.

    With a ``service``, what the members are to return to is kept on this host
    from before the first change until they are put back; ``return_to`` has it,
    also for members that an earlier run held out and left so.
    """
    work = _Work(params, driver, clock)
    drain = _Drain.from_params(params)
    marks = _marks(params)
    if marks is None:
        return work.take_out(drain, check)
    return_to = marks.returning_to(work.read(drain.names), drain.names)
    known = set(marks.read())
    if not check:
        marks.add(return_to)
    try:
        result = work.take_out(drain, check)
    except RolloutError as error:
        if not check and error.facts.get("undone", True):
            marks.remove(set(return_to) - known)
        raise
    return {**result, "return_to": _plain(return_to)}


def pool_return(
    params: Mapping[str, Any], check: bool, *, driver: Driver | None = None, clock: Clock | None = None
) -> dict[str, Any]:
    """Have the balancer judge members' health afresh, and wait for it; no new work yet."""
    work = _Work(params, driver, clock)
    names = _member_names(params)
    limit = _params.number(params, "timeout", 60.0, 0.0, _DAY)
    return work.bring_to_health(names, limit, _interval(params), check)


def pool_put_back(
    params: Mapping[str, Any], check: bool, *, driver: Driver | None = None, clock: Clock | None = None
) -> dict[str, Any]:
    """Return members to given settings, and look how they do under traffic."""
    work = _Work(params, driver, clock)
    settings = _settings(params.get("settings"))
    result = work.put_back(settings, _Look.from_params(params.get("look")), _interval(params), check)
    marks = _marks(params)
    if marks is not None and not check:
        held_out = marks.read()
        marks.remove(name for name, one in settings.items() if held_out.get(name) == one)
    return result


def pool_weigh(
    params: Mapping[str, Any], check: bool, *, driver: Driver | None = None, clock: Clock | None = None
) -> dict[str, Any]:
    """Set members' weights."""
    work = _Work(params, driver, clock)
    weights = params.get("weights")
    if not isinstance(weights, Mapping) or not weights:
        raise BadInput(f"weights must name at least one member and its weight, got {weights!r}.")
    wanted = {member_name(name): _params.whole(weights, name, 0, 0, 65535) for name in weights}
    return work.weigh(wanted, check)


def pool_member(
    params: Mapping[str, Any], check: bool, *, driver: Driver | None = None, clock: Clock | None = None
) -> dict[str, Any]:
    """Bring members into one state, with one weight."""
    work = _Work(params, driver, clock)
    names = _member_names(params)
    state = params.get("state")
    weight = _params.whole(params, "weight", 0, 0, 65535) if _params.given(params, "weight") else None
    if state not in (None, "drained", "draining", "out", "ready"):
        raise BadInput(f"state must be one of drained, draining, out, ready, got {state!r}.")
    if state is None and weight is None:
        raise BadInput("Neither a state nor a weight is asked for.", "Give state, weight or both.")
    drain = _Drain.from_params(
        {
            **params,
            "timeout": params.get("drain_timeout"),
            "samples": params.get("drain_samples"),
            "interval": params.get("poll_interval"),
            "on_timeout": params.get("on_drain_timeout"),
        },
        target=Admin.DRAIN if state == "draining" else Admin.OUT,
        wait=state == "drained",
    )
    health_limit = _params.number(params, "health_timeout", 60.0, 0.0, _DAY)
    if weight is not None:
        work.check_weights(dict.fromkeys(names, weight))

    before = work.read(names)
    result: dict[str, Any] = {}
    if state == "ready":
        result = work.bring_to_health(names, health_limit, drain.interval, check)
        settings = {
            member.name: Setting(Admin.READY, member.weight if weight is None else weight)
            for member in before.chosen(names)
        }
        work.put_back(settings, None, drain.interval, check)
    elif state is not None:
        result = work.take_out(drain, check)
    if weight is not None and state != "ready":
        work.weigh(dict.fromkeys(names, weight), check)
    wanted = {
        member.name: Setting(
            admin=member.admin if state is None else _admin_of(state, member),
            weight=member.weight if weight is None else weight,
        )
        for member in before.chosen(names)
    }
    return {**result, **_outcome(before, wanted)}


# --- parameters ---


def _open(params: Mapping[str, Any], clock: Clock) -> Driver:
    kind = params.get("driver") or HAProxyDriver.kind
    if kind not in DRIVERS:
        raise BadInput(f"There is no driver {kind!r}.", f"There is {', '.join(DRIVERS)}.")
    return DRIVERS[kind](params, clock)


def _member_names(params: Mapping[str, Any]) -> list[str]:
    names = [member_name(name) for name in _params.items(params, "members")]
    if not names:
        raise BadInput("No member is named.", "members takes a list of names.")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadInput(f"The member {twice[0]!r} is named twice.")
    return names


def _marks(params: Mapping[str, Any]) -> Marks | None:
    if not _params.given(params, "service"):
        return None
    return Marks(params["service"], params.get("pool"), params.get("marks"))


def _interval(params: Mapping[str, Any]) -> float:
    return _params.number(params, "interval", 0.02, 0.001, 60.0)


def _settings(value: object, what: str = "settings") -> dict[str, Setting]:
    if not isinstance(value, Mapping) or not value:
        raise BadInput(f"{what} must name at least one member, got {value!r}.")
    found = {}
    for name, setting in value.items():
        if not isinstance(setting, Mapping):
            raise BadInput(f"{what} of {name!r} must have admin and weight, got {setting!r}.")
        try:
            admin = Admin(setting.get("admin"))
        except ValueError:
            words = ", ".join(each.value for each in Admin)
            raise BadInput(f"{what} of {name!r}: admin must be one of {words}.") from None
        if not _params.given(setting, "weight"):
            raise BadInput(f"{what} of {name!r} has no weight.")
        found[member_name(name)] = Setting(admin, _params.whole(setting, "weight", 0, 0, 65535))
    return found


def _admin_of(state: str, member: Member) -> Admin:
    if state == "ready":
        return Admin.READY
    # Out is stricter than drain: a member that is out is not let in again to be drained.
    return Admin.DRAIN if state == "draining" and member.admin is not Admin.OUT else Admin.OUT


@dataclass(frozen=True)
class _Drain:
    """How members are taken out of service."""

    names: tuple[str, ...]
    target: Admin
    wait: bool
    floor: int | None
    wait_for_floor: float
    session_grace: float
    timeout: float
    samples: int
    interval: float
    on_timeout: str
    expect: Mapping[str, Setting]

    @classmethod
    def from_params(cls, params: Mapping[str, Any], target: Admin = Admin.OUT, wait: bool = True) -> _Drain:
        on_timeout = params.get("on_timeout") or "fail"
        if on_timeout not in ON_TIMEOUT:
            raise BadInput(f"What to do at the limit must be one of {', '.join(ON_TIMEOUT)}, got {on_timeout!r}.")
        return cls(
            names=tuple(_member_names(params)),
            target=target,
            wait=wait,
            floor=_params.whole(params, "floor", 0, 0, 1000000) if _params.given(params, "floor") else None,
            wait_for_floor=_params.number(params, "wait_for_floor", 0.0, 0.0, _DAY),
            session_grace=_params.number(params, "session_grace", 0.0, 0.0, _DAY) if target is Admin.OUT else 0.0,
            timeout=_params.number(params, "timeout", 60.0, 0.0, _DAY),
            samples=_params.whole(params, "samples", 3, 1, 100),
            interval=_interval(params),
            on_timeout=on_timeout,
            expect=_settings(params["expect"], "expect") if _params.given(params, "expect") else {},
        )


@dataclass(frozen=True)
class _Look:
    """What a member must do under traffic to be trusted."""

    requests: int
    seconds: float
    timeout: float
    max_errors: int

    @classmethod
    def from_params(cls, value: object) -> _Look | None:
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise BadInput(f"look must have requests, seconds, timeout and max_errors, got {value!r}.")
        return cls(
            requests=_params.whole(value, "requests", 1, 0, 1000000000),
            seconds=_params.number(value, "seconds", 0.0, 0.0, _DAY),
            timeout=_params.number(value, "timeout", 30.0, 0.0, _DAY),
            max_errors=_params.whole(value, "max_errors", 0, 0, 1000000000),
        )


# --- results ---


def _plain(settings: Mapping[str, Setting]) -> dict[str, dict[str, Any]]:
    return {name: {"admin": one.admin.value, "weight": one.weight} for name, one in settings.items()}


def _outcome(before: Pool, after: Mapping[str, Setting]) -> dict[str, Any]:
    """What every changing operation returns. Only settings count as a change, never what traffic does."""
    was = {member.name: member.setting for member in before.chosen(list(after))}
    return {
        "changed": was != dict(after),
        "pool": before.name,
        "before": _plain(was),
        "after": _plain(after),
        "diff": {
            "before": {"pool": before.name, "members": _plain(was)},
            "after": {"pool": before.name, "members": _plain(after)},
        },
    }


def _in_service(pool: Pool) -> list[str]:
    return [member.name for member in pool.members if member.in_service]


def _last_check(member: Member) -> str:
    words = [str(member.detail.get(key, "")) for key in ("check_status", "check_desc")]
    return ": ".join(word for word in words if word) or "the balancer says nothing about a check"


# --- the work ---


class _Work:
    """One operation on one pool of one balancer."""

    def __init__(self, params: Mapping[str, Any], driver: Driver | None, clock: Clock | None) -> None:
        self._pool = pool_name(params.get("pool"), "pool")
        self._clock = clock or Clock()
        self._driver = driver or _open(params, self._clock)
        self._used = self._clock.cpu()

    def read(self, names: Sequence[str]) -> Pool:
        """The pool now, with all these members; raises ``UnknownPool`` and ``UnknownMember``."""
        pool = self._driver.read(self._pool)
        pool.chosen(names)
        return pool

    # -- out of service --

    def take_out(self, drain: _Drain, check: bool) -> dict[str, Any]:
        names = drain.names
        before = self._when_floor_allows(drain, check)
        members = before.chosen(names)
        todo = [member.name for member in members if member.admin not in (drain.target, Admin.OUT)]
        capacity = len(_in_service(before))
        after = {
            member.name: Setting(drain.target if member.name in todo else member.admin, member.weight)
            for member in members
        }
        result = {
            **_outcome(before, after),
            "identity": before.identity,
            "members": {
                member.name: {"waited": 0.0, "in_flight_at_start": member.busy, "cut": 0, "undecided": 0}
                for member in members
            },
            "capacity": {
                "before": capacity,
                "after": len([name for name in _in_service(before) if name not in todo]),
            },
            "reloads_seen": 0,
        }
        if check:
            return result
        was = {member.name: member.setting for member in members if member.name in todo}
        try:
            if drain.target is Admin.DRAIN:
                self._driver.drain(self._pool, todo)
            else:
                if drain.session_grace > 0 and todo:
                    result["reloads_seen"] += self._give_grace(todo, before.identity, drain)
                self._driver.hold_out(self._pool, todo)
            if drain.wait:
                self._wait_until_empty(drain, result)
        except RolloutError as error:
            if todo:
                error.facts.update(self._undo(was))
            raise
        return result

    def _when_floor_allows(self, drain: _Drain, check: bool) -> Pool:
        deadline = self._clock.now() + (0.0 if check else drain.wait_for_floor)
        while True:
            pool = self.read(drain.names)
            for name, expected in drain.expect.items():
                if pool.member(name).setting != expected:
                    raise ChangedByOther(
                        f"{self._pool}/{name} is {_words(pool.member(name).setting)}, "
                        f"but was expected to be {_words(expected)}.",
                        "Somebody else changed it; nothing was touched. Look at it, then run this again.",
                        member=name,
                        found=_plain({name: pool.member(name).setting})[name],
                    )
            serving = _in_service(pool)
            staying = [name for name in serving if name not in drain.names]
            # Taking out what does not serve costs nothing: the way to mend a broken member must stay open.
            if drain.floor is None or len(staying) >= drain.floor or len(staying) == len(serving):
                return pool
            if self._clock.now() >= deadline:
                raise FloorBroken(
                    f"Taking {', '.join(drain.names)} out of {self._pool!r} would leave {len(staying)} of "
                    f"{len(pool.members)} members in service, and {drain.floor} must stay.",
                    f"In service now: {', '.join(serving) or 'none'}. Not in service: "
                    f"{_why_not(pool) or 'none'}. Nothing was changed.",
                    pool=self._pool,
                    floor=drain.floor,
                    in_service=serving,
                    would_stay=staying,
                )
            self._rest(max(drain.interval, 0.1))

    def _give_grace(self, names: Sequence[str], identity: str, drain: _Drain) -> int:
        """Let clients that are tied to these members finish what they do there; how many reloads were seen."""
        self._driver.drain(self._pool, names)
        deadline = self._clock.now() + drain.session_grace
        reloads = 0
        while self._clock.now() < deadline:
            self._clock.sleep(min(_GRACE_SAMPLE, max(0.001, deadline - self._clock.now())))
            now = self._driver.identity()
            if now != identity:
                reloads += 1
                identity = now
                self._driver.drain(self._pool, names)
        return reloads

    def _wait_until_empty(self, drain: _Drain, result: dict[str, Any]) -> None:
        """Until nothing is in flight in any process, several times in a row, in one and the same process."""
        names = drain.names
        start = self._clock.now()
        deadline = start + drain.timeout
        empty_since: dict[str, float] = {}
        row = 0
        identity = result["identity"] if not result["reloads_seen"] else self._driver.identity()
        away_since: float | None = None
        while True:
            try:
                now, busy, confirmed = self._sample(names, identity)
                if now != identity:
                    # A reload brings everything back as the file has it: out again, and all anew.
                    result["reloads_seen"] += 1
                    identity = now
                    self._driver.hold_out(self._pool, names)
                    row, confirmed = 0, False
                    empty_since.clear()
                away_since = None
            except Unreachable:
                away_since = away_since if away_since is not None else self._clock.now()
                if self._clock.now() - away_since >= _PATIENCE:
                    raise
                busy, confirmed = dict.fromkeys(names, 1), False
            for name in names:
                if busy[name]:
                    empty_since.pop(name, None)
                else:
                    empty_since.setdefault(name, self._clock.now())
            row = row + 1 if confirmed else 0
            if row >= drain.samples:
                result["identity"] = identity
                for name in names:
                    result["members"][name]["waited"] = round(empty_since[name] - start, 4)
                return
            if self._clock.now() >= deadline and not confirmed:
                if drain.on_timeout == "fail":
                    raise self._not_empty(drain, names, busy)
                if self._only_undecided(names, result):
                    return
                left = [name for name in names if busy[name]] or list(names)
                self._cut(left, result)
                deadline = self._clock.now() + drain.interval
                if self._clock.now() - start > drain.timeout + _CUT_LIMIT:
                    raise self._not_empty(drain, names, busy)
            if confirmed:
                self._clock.sleep(drain.interval)  # a few confirmations, however expensive
            else:
                self._rest(drain.interval)

    def _sample(self, names: Sequence[str], identity: str) -> tuple[str, dict[str, int], bool]:
        """The process, how busy each member is, and whether all are empty and out of service for certain."""
        glance = self._driver.glance(self._pool, names)
        if glance.identity != identity or any(glance.busy.values()):
            return glance.identity, dict(glance.busy), False
        pool = self.read(names)
        members = pool.chosen(names)
        if pool.identity == identity:
            for member in members:
                if member.admin is not Admin.OUT:
                    raise ChangedByOther(
                        f"{self._pool}/{member.name} was held out, but somebody made it {member.admin.value} again.",
                        "See who else works on this balancer, then run this again.",
                        member=member.name,
                    )
        busy = {member.name: member.busy for member in members}
        return pool.identity, busy, pool.identity == identity and not any(busy.values())

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
            result["members"][name]["cut"] += self._driver.cut(self._pool, [name])

    def _not_empty(self, drain: _Drain, names: Sequence[str], busy: Mapping[str, int]) -> TimedOut:
        left = {name: busy[name] for name in names if busy[name]}
        words = ", ".join(f"{name} ({count})" for name, count in left.items()) or "none for certain"
        undecided = self._undecided(list(left))
        if undecided:
            words += (
                f". Among them are {undecided} idle clients of an older process of the balancer, which was reloaded; "
                "their next request may still go there"
            )
        return TimedOut(
            f"Still in flight after {drain.timeout:g} s on {self._pool!r}: {words}.",
            "Give it more time, or allow what is left at the limit to be cut.",
            pool=self._pool,
            busy=left,
            work=self._work_left(list(left)),
        )

    def _undecided(self, names: Sequence[str]) -> int:
        try:
            return max((member.undecided for member in self.read(names).chosen(names)), default=0)
        except RolloutError:
            return 0  # only words for people

    def _work_left(self, names: Sequence[str]) -> list[dict[str, str]]:
        try:
            return self._driver.work(self._pool, names)[:20]
        except RolloutError:
            return []  # only words for people; the error itself counts

    def _undo(self, was: Mapping[str, Setting]) -> dict[str, Any]:
        """Put members back to what they were; what went wrong with it, as facts for the error that led here."""
        try:
            now = {member.name: member for member in self.read(list(was)).chosen(list(was))}
            self._apply(was, now)
        except RolloutError as error:
            return {"undone": False, "undo_error": str(error)}
        return {"undone": True}

    # -- back into service --

    def bring_to_health(self, names: Sequence[str], limit: float, interval: float, check: bool) -> dict[str, Any]:
        before = self.read(names)
        members = before.chosen(names)
        todo = [member.name for member in members if member.admin is not Admin.READY]
        after = {
            member.name: Setting(Admin.DRAIN if member.name in todo else Admin.READY, member.weight)
            for member in members
        }
        result = {
            **_outcome(before, after),
            "identity": before.identity,
            "members": {
                member.name: {
                    "waited": 0.0,
                    "health": member.health.value,
                    "checked": member.health is not Health.UNCHECKED,
                }
                for member in members
            },
            "reloads_seen": 0,
        }
        if check:
            return result
        self._driver.prepare_return(self._pool, todo)
        try:
            self._wait_until_healthy(names, todo, limit, interval, result)
        except Unhealthy as error:
            ill = [name for name in todo if name in error.facts["members"]]
            self._driver.hold_out(self._pool, ill)
            raise
        return result

    def _wait_until_healthy(
        self, names: Sequence[str], todo: Sequence[str], limit: float, interval: float, result: dict[str, Any]
    ) -> None:
        start = self._clock.now()
        waiting = list(names)
        while True:
            pool = self.read(names)
            if pool.identity != result["identity"]:
                result["identity"] = pool.identity
                result["reloads_seen"] += 1
                self._driver.prepare_return(self._pool, todo)
                waiting = list(names)
                continue
            for member in pool.chosen(list(waiting)):
                if member.health in (Health.UP, Health.STARTING, Health.UNCHECKED):
                    waiting.remove(member.name)
                    result["members"][member.name] = {
                        "waited": round(self._clock.now() - start, 4),
                        "health": member.health.value,
                        "checked": member.health is not Health.UNCHECKED,
                    }
            if not waiting:
                return
            if self._clock.now() - start >= limit:
                last = {member.name: _last_check(member) for member in pool.chosen(waiting)}
                words = ", ".join(f"{name} ({check})" for name, check in last.items())
                raise Unhealthy(
                    f"Not healthy in the balancer's eyes after {limit:g} s in {self._pool!r}: {words}.",
                    "It gets no new work. See why its check fails.",
                    pool=self._pool,
                    members=last,
                )
            self._rest(interval)

    def put_back(
        self, settings: Mapping[str, Setting], look: _Look | None, interval: float, check: bool
    ) -> dict[str, Any]:
        names = list(settings)
        self.check_weights({name: setting.weight for name, setting in settings.items()})
        before = self.read(names)
        result = {**_outcome(before, settings), "identity": before.identity, "reloads_seen": 0}
        if check:
            return {**result, "members": {name: {} for name in names}}
        after = self._apply_and_confirm(settings, before)
        result["identity"] = after.identity
        result["members"] = {name: {} for name in names}
        if look is not None:
            ready = {name: setting for name, setting in settings.items() if setting.admin is Admin.READY}
            result["members"].update(self._look(ready, look, interval, after, result))
        return result

    def _apply_and_confirm(self, settings: Mapping[str, Setting], before: Pool) -> Pool:
        self._apply(settings, {member.name: member for member in before.chosen(list(settings))})
        after = self.read(list(settings))
        if after.identity != before.identity:
            self._apply(settings, {member.name: member for member in after.chosen(list(settings))})
            after = self.read(list(settings))
        for name, setting in settings.items():
            found = after.member(name).setting
            if found != setting:
                raise ChangedByOther(
                    f"{self._pool}/{name} was made {_words(setting)}, but is {_words(found)}.",
                    "See who else works on this balancer, then run this again.",
                    member=name,
                )
        return after

    def _apply(self, settings: Mapping[str, Setting], now: Mapping[str, Member]) -> None:
        """Weights first, so that a member never serves at one that was not meant for it."""
        self._weigh({name: one.weight for name, one in settings.items() if now[name].weight != one.weight})
        wanted: dict[Admin, list[str]] = {admin: [] for admin in Admin}
        for name, setting in settings.items():
            if now[name].admin is not setting.admin:
                wanted[setting.admin].append(name)
        # A member that was out has not been checked since; it must not serve before it was.
        unseen = [name for name in wanted[Admin.READY] if now[name].admin is Admin.OUT]
        for change, names in (
            (self._driver.hold_out, wanted[Admin.OUT]),
            (self._driver.drain, wanted[Admin.DRAIN]),
            (self._driver.prepare_return, unseen),
            (self._driver.put_back, wanted[Admin.READY]),
        ):
            if names:
                change(self._pool, names)

    def _look(
        self, settings: Mapping[str, Setting], look: _Look, interval: float, first: Pool, result: dict[str, Any]
    ) -> dict[str, dict[str, Any]]:
        watches = {name: _Watch(first.member(name)) for name in settings}
        identity = first.identity
        start = self._clock.now()
        while watches:
            pool = self.read(list(settings))
            elapsed = self._clock.now() - start
            if pool.identity != identity:
                identity = result["identity"] = pool.identity
                result["reloads_seen"] += 1
                for watch in watches.values():
                    watch.restart()
                pool = self._apply_and_confirm(settings, pool)
            for name, watch in watches.items():
                watch.see(pool.member(name), look, elapsed)
            if all(watch.verdict for watch in watches.values()):
                break
            self._rest(interval)
        return {name: watch.to_dict() for name, watch in watches.items()}

    # -- weights --

    def check_weights(self, weights: Mapping[str, int]) -> None:
        limit = self._driver.capabilities().max_weight
        for name, weight in weights.items():
            if weight > limit:
                raise BadInput(f"The weight of {name!r} is {weight}; this balancer takes 0 to {limit}.")

    def weigh(self, weights: Mapping[str, int], check: bool) -> dict[str, Any]:
        self.check_weights(weights)
        before = self.read(list(weights))
        members = before.chosen(list(weights))
        after = {member.name: Setting(member.admin, weights[member.name]) for member in members}
        if not check:
            todo = [member for member in members if member.weight != weights[member.name]]
            try:
                self._weigh({member.name: weights[member.name] for member in todo})
            except RolloutError as error:
                error.facts.update(self._undo({member.name: member.setting for member in todo}))
                raise
        return {**_outcome(before, after), "identity": before.identity}

    def _weigh(self, weights: Mapping[str, int]) -> None:
        if weights:
            self._driver.weigh(self._pool, weights)

    def _rest(self, interval: float) -> None:
        """Wait for the next sample, longer where sampling itself is expensive (thousands of members)."""
        used = self._clock.cpu()
        cost, self._used = used - self._used, used
        self._clock.sleep(min(max(interval, cost / _SHARE_OF_A_CORE), max(interval, _SLOWEST_SAMPLE)))


class _Watch:
    """One member under traffic: what it served since it was put back, and what to make of it."""

    def __init__(self, member: Member) -> None:
        self._start = member.counters
        self._earlier = (0, 0)  # counted in processes that are gone
        self._now = (0, 0)
        self._was_up = False
        self.verdict = ""
        self._reason = ""

    def restart(self) -> None:
        """Another process serves now, and counts from zero."""
        self._earlier = self._now
        self._start = type(self._start)()

    def see(self, member: Member, look: _Look, elapsed: float) -> None:
        if self.verdict:
            return
        # A failed request may count as an error and as a 5xx; one that the member answered with 5xx counts once.
        errors = max(
            member.counters.errors - self._start.errors, member.counters.responses_5xx - self._start.responses_5xx
        )
        requests = member.counters.requests - self._start.requests
        self._now = (self._earlier[0] + requests, self._earlier[1] + errors)
        requests, errors = self._now
        up = member.health in (Health.UP, Health.STARTING, Health.UNCHECKED)
        at_limit = elapsed >= look.timeout
        if errors > look.max_errors:
            self._decide("fail", f"{errors} of {requests} requests failed")
        elif not up and (self._was_up or at_limit):
            self._decide("fail", f"the balancer sees it {member.health.value}: {_last_check(member)}")
        elif member.admin is not Admin.READY:
            self._decide("inconclusive", f"somebody made it {member.admin.value}")
        elif up and requests >= look.requests and elapsed >= look.seconds:
            self._decide("pass", f"{requests} requests, {errors} failed")
        elif at_limit:
            self._decide("inconclusive", f"{requests} of {look.requests} requests in {elapsed:.1f} s")
        self._was_up = self._was_up or up

    def _decide(self, verdict: str, reason: str) -> None:
        self.verdict = verdict
        self._reason = reason

    def to_dict(self) -> dict[str, Any]:
        return {"look": self.verdict, "requests": self._now[0], "errors": self._now[1], "reason": self._reason}


def _words(setting: Setting) -> str:
    return f"{setting.admin.value} at weight {setting.weight}"


def _why_not(pool: Pool) -> str:
    words = []
    for member in pool.members:
        if member.in_service:
            continue
        if member.admin is not Admin.READY:
            reason = member.admin.value
        elif member.backup:
            reason = "backup"
        elif member.weight == 0:
            reason = "weight 0"
        else:
            reason = member.health.value
        words.append(f"{member.name} ({reason})")
    return ", ".join(words)
