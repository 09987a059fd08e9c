# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Drain, return, put back, weigh and look: the waiting and the undoing, the same for every balancer.

Each operation acts on the balancer of the host it runs on. It checks everything
before the first change, and what it cannot finish it undoes. One that a rollout
asks for brings the rollout's ``lease``, without which nothing is changed, and what
is to stand in the ledger before anything is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Callable, TypeVar

from ansible_collections.zerodrop.rollout.plugins.module_utils import _params, _switch
from ansible_collections.zerodrop.rollout.plugins.module_utils._drivers.base import Clock, Driver
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    BadInput,
    LeaseHeld,
    RolloutError,
    UnknownPool,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._fence import Fence
from ansible_collections.zerodrop.rollout.plugins.module_utils._lease import Moment
from ansible_collections.zerodrop.rollout.plugins.module_utils._ledger_operations import summary
from ansible_collections.zerodrop.rollout.plugins.module_utils._marks import BY_HAND, BY_ROLLOUT, Marks
from ansible_collections.zerodrop.rollout.plugins.module_utils._names import member_name, pool_name
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Admin, Member, Pool, Setting
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work import own_view
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work.drain import Drain
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work.load import Load
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work.logged import Logged
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work.putting_back import Return
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work.ramp import RampOrder
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work.wanted import (
    DAY,
    DrainOrder,
    LookOrder,
    interval_of,
    member_names,
    settings_of,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work.words import outcome, plain
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work.work import Work


def _haproxy(params: Mapping[str, Any], clock: Clock) -> Driver:
    from ansible_collections.zerodrop.rollout.plugins.module_utils._drivers.haproxy import HAProxyDriver

    return HAProxyDriver.from_params(params, clock)


def _nginx(params: Mapping[str, Any], clock: Clock) -> Driver:
    from ansible_collections.zerodrop.rollout.plugins.module_utils._drivers.nginx_links import NginxLinksDriver

    return NginxLinksDriver.from_params(params, clock)


def _apache(params: Mapping[str, Any], clock: Clock) -> Driver:
    from ansible_collections.zerodrop.rollout.plugins.module_utils._drivers.apache import ApacheDriver

    return ApacheDriver.from_params(params, clock)


# Each imports its driver when it is asked for: a balancer has no use for the code of the other kinds.
DRIVERS: Mapping[str, Callable[[Mapping[str, Any], Clock], Driver]] = {
    "haproxy": _haproxy,
    "nginx": _nginx,
    "apache": _apache,
}
_DEFAULT = "haproxy"

_Kind = TypeVar("_Kind", bound=Work)


# --- the operations ---


def pool_read(
    params: Mapping[str, Any], check: bool, *, driver: Driver | None = None, clock: Clock | None = None
) -> dict[str, Any]:
    """What the balancer can do, its pools' names, and the pools (one, or all)."""
    wanted = [pool_name(params["pool"], "pool")] if _params.given(params, "pool") else None
    rights = _params.flag(params, "rights", False)
    balancer = driver or open_driver(params, clock or Clock())
    capabilities = balancer.capabilities()
    if rights:
        balancer.check_rights()
    names = list(balancer.pools())
    unknown = [name for name in wanted or [] if name not in names]
    if unknown:
        raise UnknownPool(f"The balancer has no pool {unknown[0]!r}.", f"It has {', '.join(names) or 'none'}.")
    marks = _marks(params)
    pools = [balancer.read(name) for name in (wanted or names)]
    log = Logged.from_params(params) if rights and wanted else None
    if log is not None:
        log.open(pools[0])
    return {
        "changed": False,
        "capabilities": capabilities.to_dict(),
        "pool_names": names,
        "pools": [pool.to_dict() for pool in pools],
        "held_out": plain(marks.read()) if marks else {},
        "ledger": _summary(marks) if marks else None,
        "no_switch": _switch.lacking() if rights else "",
        "lasting": {name: balancer.lasting(name) for name in wanted or names} if rights else {},
        "ties": {name: balancer.ties(name) for name in wanted or names} if rights else {},
    }


def pool_load(
    params: Mapping[str, Any], check: bool, *, driver: Driver | None = None, clock: Clock | None = None
) -> dict[str, Any]:
    """What the pool carries, measured for some seconds: requests per second and at once, and how long answers take.

    A balancer that counts no requests is asked by its access log, where one is named; else ``rate`` is None.
    """
    seconds = _params.number(params, "seconds", 1.0, 0.0, 60.0)
    work = _work(Load, params, driver, clock)
    log = None if work.driver.capabilities().counts_requests else Logged.from_params(params)
    return work.measure(seconds, log)


def pool_drain(
    params: Mapping[str, Any], check: bool, *, driver: Driver | None = None, clock: Clock | None = None
) -> dict[str, Any]:
    """Hold members out and wait until nothing is in flight on them.

    With a ``service``, what the members are to return to is kept on this host
    from before the first change until they are put back; ``return_to`` has it,
    also for members that an earlier run held out and left so. ``only_new`` keeps nobody but new clients away, where the
    balancer can tell those that are tied to a member from them; it waits for nothing.
    """
    fence = Fence.from_params(params, check)
    work = _work(Drain, params, driver, clock, fence)
    if _params.flag(params, "only_new", False):
        if not work.driver.drains(work.pool):
            return _heard(fence, {"changed": False, "before": {}})
        drain = DrainOrder.from_params(params, target=Admin.DRAIN, wait=False)
    else:
        drain = DrainOrder.from_params(params)
    return _heard(fence, _counting(work, lambda: _take_out(work, drain, _marks(params), check, fence)))


def pool_return(
    params: Mapping[str, Any], check: bool, *, driver: Driver | None = None, clock: Clock | None = None
) -> dict[str, Any]:
    """Have the balancer judge members' health afresh, and wait for it; no new work yet.

    With a ``view``, members that the balancer does not check are asked from its host (see ``own_view``).
    """
    fence = Fence.from_params(params, check)
    work = _work(Return, params, driver, clock, fence)
    names = member_names(params)
    limit = _params.number(params, "timeout", 60.0, 0.0, DAY)
    view = own_view.ViewOrder.from_params(params.get("view"))
    if fence is not None:
        fence.enter()
    interval = interval_of(params)
    return _heard(fence, _counting(work, lambda: work.bring_to_health(names, limit, interval, check, view)))


def pool_put_back(
    params: Mapping[str, Any], check: bool, *, driver: Driver | None = None, clock: Clock | None = None
) -> dict[str, Any]:
    """Return members to given settings, step by step with a ramp, and look how they do under traffic.

    ``settled`` says that this is what they are to have, whatever was kept of them when they were held out.
    """
    fence = Fence.from_params(params, check)
    work = _work(Return, params, driver, clock, fence)
    settings = settings_of(params.get("settings"))
    look, ramp = LookOrder.from_params(params.get("look")), RampOrder.from_params(params.get("ramp"))
    log = Logged.from_params(params)
    marks, settled = _marks(params), _params.flag(params, "settled", False)
    if marks is not None and _params.given(params, "return_to") and not check:
        marks.add(settings_of(params["return_to"], "return_to"), fence)
    elif fence is not None:
        fence.enter()
    result = _counting(work, lambda: work.put_back(settings, look, interval_of(params), check, ramp, log))
    if marks is not None and not check:
        back = {name: one for name, one in settings.items() if "step" not in result["members"][name]}
        if settled:
            marks.remove(back)
        else:
            _forget(marks, back)
    return _heard(fence, result)


def pool_rehearse(
    params: Mapping[str, Any], check: bool, *, driver: Driver | None = None, clock: Clock | None = None
) -> dict[str, Any]:
    """What the balancer would be told to take each of some batches out, and to let it back in; changes nothing."""
    balancer = driver or open_driver(params, clock or Clock())
    balancer.rehearsing = True
    pool = pool_name(params.get("pool"), "pool")
    rehearsed = []
    for batch in params.get("batches") or []:
        names = [member_name(name) for name in batch]
        words = {}
        for step, change in (
            ("out", balancer.hold_out),
            ("checked", balancer.prepare_return),
            ("back", balancer.put_back),
        ):
            balancer.told.clear()
            if balancer.rehearses:
                change(pool, names)
            words[step] = list(balancer.told)
        rehearsed.append(words)
    return {"changed": False, "batches": rehearsed}


def pool_weigh(
    params: Mapping[str, Any], check: bool, *, driver: Driver | None = None, clock: Clock | None = None
) -> dict[str, Any]:
    """Set members' weights."""
    fence = Fence.from_params(params, check)
    work = _work(Work, params, driver, clock, fence)
    weights = params.get("weights")
    if not isinstance(weights, Mapping) or not weights:
        raise BadInput(f"weights must name at least one member and its weight, got {weights!r}.")
    wanted = {member_name(name): _params.whole(weights, name, 0, 0, 65535) for name in weights}
    if fence is not None:
        fence.enter()
    return _heard(fence, work.weigh(wanted, check))


def pool_member(
    params: Mapping[str, Any], check: bool, *, driver: Driver | None = None, clock: Clock | None = None
) -> dict[str, Any]:
    """Bring members into one state, with one weight."""
    clock = clock or Clock()
    work = _work(Return, params, driver, clock)
    names = member_names(params)
    state = params.get("state")
    weight = _params.whole(params, "weight", 0, 0, 65535) if _params.given(params, "weight") else None
    if state not in (None, "drained", "draining", "out", "ready"):
        raise BadInput(f"state must be one of drained, draining, out, ready, got {state!r}.")
    if state is None and weight is None:
        raise BadInput("Neither a state nor a weight is asked for.", "Give state, weight or both.")
    share = _share(params)
    drain = DrainOrder.from_params(
        {
            **params,
            "floor": None if share is not None else params.get("floor"),
            "timeout": params.get("drain_timeout"),
            "samples": params.get("drain_samples"),
            "interval": params.get("poll_interval"),
            "on_timeout": params.get("on_drain_timeout"),
        },
        target=Admin.DRAIN if state == "draining" and work.driver.drains(work.pool) else Admin.OUT,
        wait=state == "drained",
    )
    health_limit = _params.number(params, "health_timeout", 60.0, 0.0, DAY)
    view = own_view.of_all(params, names)
    if weight is not None:
        work.check_weights(dict.fromkeys(names, weight))
        if state == "ready" and _params.given(params, "service"):
            raise BadInput("With a service, members return to the weight that they had.", "Leave out one of the two.")

    marks = _marks(params, by_hand=True)
    if marks is not None and state not in (None, "ready"):
        _nobody_rolls_out(marks)
    before = work.read(names)
    if share is not None:
        count = sum(not member.backup for member in before.members)
        drain = replace(drain, floor=-(-share * count // 100))
    result: dict[str, Any] = {}
    if state == "ready" and marks is not None:
        return _return_to_marks(work, before, names, marks, health_limit, drain.interval, check, view)
    if state == "ready":
        result = work.bring_to_health(names, health_limit, drain.interval, check, view)
        settings = {
            member.name: Setting(Admin.READY, member.weight if weight is None else weight)
            for member in before.chosen(names)
        }
        work.put_back(settings, None, drain.interval, check)
    elif state is not None:
        result = _take_out(_work(Drain, params, work.driver, clock), drain, marks, check)
    if weight is not None and state != "ready":
        work.weigh(dict.fromkeys(names, weight), check)
    wanted = {
        member.name: Setting(
            admin=member.admin if state is None else _admin_of(state, member, drain.target),
            weight=member.weight if weight is None else weight,
        )
        for member in before.chosen(names)
    }
    return {**result, **outcome(before, wanted)}


def _nobody_rolls_out(marks: Marks) -> None:
    """Taking members out beside a rollout would break the floor that it has planned with; raises ``LeaseHeld``."""
    with marks.ledger.look() as tables:
        lease = tables.lease() if tables else None
    if lease is not None and lease.left(Moment.now()) > 0:
        raise LeaseHeld(
            f"A run works on this service: {lease.words()}. Nothing was changed.",
            "Wait until it has ended, or ask it to stop with the playbook zerodrop.rollout.stop.",
            lease=lease.to_dict(Moment.now()),
        )


def _return_to_marks(
    work: Return,
    before: Pool,
    names: Sequence[str],
    marks: Marks,
    limit: float,
    interval: float,
    check: bool,
    view: own_view.ViewOrder | None,
) -> dict[str, Any]:
    """Members that were held out by hand return to what they were; all others stay as they are."""
    return_to = marks.returning_to(before, names)
    serving = [name for name, one in return_to.items() if one.admin is Admin.READY]
    result = work.bring_to_health(serving, limit, interval, check, view) if serving else {}
    work.put_back(return_to, None, interval, check)
    if not check:
        marks.remove(names)
    return {**result, **outcome(before, return_to), "return_to": plain(return_to)}


# --- parameters ---


def open_driver(params: Mapping[str, Any], clock: Clock) -> Driver:
    kind = params.get("driver") or _DEFAULT
    if kind not in DRIVERS:
        raise BadInput(f"There is no driver {kind!r}.", f"There is {', '.join(DRIVERS)}.")
    return DRIVERS[kind](params, clock)


def _work(
    kind: type[_Kind], params: Mapping[str, Any], driver: Driver | None, clock: Clock | None, fence: Fence | None = None
) -> _Kind:
    clock = clock or Clock()
    balancer = driver or open_driver(params, clock)
    return kind(pool_name(params.get("pool"), "pool"), fence.around(balancer) if fence else balancer, clock)


def _heard(fence: Fence | None, result: dict[str, Any]) -> dict[str, Any]:
    """The result, with what others asked of the run."""
    return result if fence is None else {**result, "stop_asked": fence.stop}


def _summary(marks: Marks) -> dict[str, Any] | None:
    with marks.ledger.look() as tables:
        return summary(tables) if tables else None


def _counting(work: Work, operation: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What an operation returns or raises, with how many reloads of the balancer it took, and what that was told."""
    try:
        return {**operation(), "reloads_made": work.driver.reloads, "told": list(work.driver.told)}
    except RolloutError as error:
        error.facts.update(reloads_made=work.driver.reloads, told=list(work.driver.told))
        raise


def _share(params: Mapping[str, Any]) -> int | None:
    """A floor in percent of the pool's members, where it is given so."""
    text = str(params.get("floor") or "").strip()
    if not text.endswith("%"):
        return None
    return _params.whole({"floor": text[:-1].strip() or text}, "floor", 0, 0, 100)


def _marks(params: Mapping[str, Any], by_hand: bool = False) -> Marks | None:
    if not _params.given(params, "service"):
        return None
    held_by = BY_HAND if _params.flag(params, "by_hand", by_hand) else BY_ROLLOUT
    return Marks(params["service"], params.get("pool"), params.get("marks"), held_by)


def _take_out(
    work: Drain, drain: DrainOrder, marks: Marks | None, check: bool, fence: Fence | None = None
) -> dict[str, Any]:
    """Hold members out; with marks, what they return to is kept from before the first change."""
    if marks is None:
        return work.take_out(drain, check)
    return_to = marks.returning_to(work.read(drain.names), drain.names)
    known = set(marks.read())
    if not check:
        marks.add(return_to, fence)
        if known:
            # A run that was killed may have held them out without making it last.
            work.driver.save(work.pool, [name for name in drain.names if name in known])
    try:
        result = work.take_out(drain, check)
    except RolloutError as error:
        if not check and error.facts.get("undone", True):
            marks.remove(set(return_to) - known)
        if error.facts.get("returned"):
            _forget(marks, drain.returning)
        raise
    if drain.returning and not check:
        _forget(marks, drain.returning)
    return {**result, "return_to": plain(return_to)}


def _forget(marks: Marks, settings: Mapping[str, Setting]) -> None:
    """Members are back at what was kept of them."""
    held_out = marks.read()
    marks.remove(name for name, one in settings.items() if held_out.get(name) == one)


def _admin_of(state: str, member: Member, target: Admin) -> Admin:
    if state == "ready":
        return Admin.READY
    # Out is stricter than drain: a member that is out is not let in again to be drained.
    return target if member.admin is not Admin.OUT else Admin.OUT
