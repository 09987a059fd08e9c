# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Operations on the ledger of this balancer: read it, have the lease, note what is done, ask a run to stop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils import _params, _switch
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput
from ansible_collections.zerodrop.rollout.plugins.module_utils._fence import STOP, Fence
from ansible_collections.zerodrop.rollout.plugins.module_utils._lease import (
    Lease,
    Moment,
    Wish,
    acquire,
    release,
    renew,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._ledger import (
    ENDED,
    Ledger,
    MemberEntry,
    MigrationEntry,
    RolloutEntry,
    Tables,
)

_DAY = 86400.0
ORDER = "order"  # the name under which an operator's is kept
ORDERS = ("promote", "rollback")
_LISTED = 10  # rollouts and events that are read, unless more are asked for


def ledger_read(params: Mapping[str, Any], check: bool) -> dict[str, Any]:
    """Everything that people ask for: lease, flags, members, last rollouts and events, what is held out."""
    count = _params.whole(params, "count", _LISTED, 0, 1000)
    with _ledger(params).look() as tables:
        if tables is None:
            return {"changed": False, "ledger": None}
        found = summary(tables)
        found["rollouts"] = [asdict(each) for each in tables.rollouts(count)]
        found["events"] = tables.events(count)
        found["held"] = [
            {**asdict(each), "setting": {"admin": each.setting.admin.value, "weight": each.setting.weight}}
            for each in tables.held()
        ]
        return {"changed": False, "ledger": found}


def summary(tables: Tables) -> dict[str, Any]:
    """What a run must know before it plans."""
    lease, interrupted = tables.lease(), tables.interrupted()
    return {
        "lease": lease.to_dict(Moment.now()) if lease else None,
        "stop": tables.flag(STOP),
        "switched": tables.flag(_switch.FLAG),
        "route": tables.route(),
        "interrupted": asdict(interrupted) if interrupted else None,
        "last": next((asdict(each) for each in tables.rollouts() if each.to_version), None),
        "members": {host: asdict(each) for host, each in tables.members().items()},
        "migration": _told(tables.migration(), Moment.now()),
    }


def _told(entry: MigrationEntry | None, now: Moment) -> dict[str, Any] | None:
    """With its age instead of a time, since no other host's clock need agree with this one's."""
    if entry is None:
        return None
    age = None if entry.finished is None else max(0.0, now.wall - entry.finished)
    return {"revision": entry.revision, "told": entry.told, "age": age}


def lease_acquire(params: Mapping[str, Any], check: bool) -> dict[str, Any]:
    """Have the lease of the service on this balancer; raises ``LeaseHeld``. Changes nothing with ``check``.

    With a ``switch`` the dead man's switch is armed for it; ``no_switch`` says why it is not, where it cannot be. With
    ``instead_of``, the number of a lease that its holder has still, it takes the place of that one; raises ``LeaseLost``.
    """
    wish = Wish(
        number=_params.whole(params, "number", 0, 0, 2**53),
        holder=_required(params, "holder"),
        owner=_required(params, "owner"),
        reason=_required(params, "reason"),
        seconds=_params.number(params, "seconds", 60.0, 1.0, _DAY),
        process=_params.text(params, "process") or "",
        over=_params.text(params, "over") or "",
    )
    ledger, now = _ledger(params), Moment.now()
    if check:
        with ledger.look() as tables:
            return {"changed": False, "lease": acquire(tables.lease() if tables else None, wish, now).to_dict(now)}
    with ledger.change() as tables:
        old = tables.lease()
        if params.get("instead_of"):
            renew(old, _params.whole(params, "instead_of", 0, 1, 2**53), wish.holder, now)
        lease = acquire(old, wish, now)
        tables.set_lease(lease)
        if old is None or old.holder != wish.holder:
            tables.clear_flags()
            tables.event(now.wall, lease.number, wish.holder, _how(old, lease, now))
    switch = params.get("switch")
    reason = _switch.arm(ledger, lease.number, lease.holder, switch) if switch else ""
    return {"changed": True, "lease": lease.to_dict(now), "no_switch": reason}


def ledger_note(params: Mapping[str, Any], check: bool) -> dict[str, Any]:
    """Renew the lease and note what is about to be done, or was done; raises ``LeaseLost``.

    ``lease`` is as for every change. ``begin`` is the rollout that begins, ``end`` how it ended, ``event`` a line for
    people; with ``release`` the lease is given back, and with ``forget`` the rollout was none. ``migration`` is how far
    the data migration has come. ``keep`` is what a ``canary`` goes on from, by name; ``order`` is then what an operator
    asked of it.
    """
    fence = Fence.from_params(params, False)
    if fence is None:
        raise BadInput("ledger_note needs a lease.")
    if check:
        return {"changed": False}
    now = Moment.now()
    order = None
    with fence.ledger.change() as tables:
        fence.let_in(tables)
        canary = _params.text(params, "canary")
        if canary is not None:
            order = tables.kept(canary).get(ORDER)
            tables.keep(canary, params.get("keep") or {}, now.wall)
        if params.get("begin"):
            _begin(tables, fence, params["begin"], now)
        if params.get("event"):
            tables.event(now.wall, fence.number, fence.holder, str(params["event"]))
        if params.get("migration"):
            _note_migration(tables, params["migration"], now)
        end = params.get("end")
        if end:
            tables.end_rollout(fence.holder, now.wall, end["outcome"], end["sentence"], end.get("seconds") or {})
            tables.event(now.wall, fence.number, fence.holder, end["sentence"])
        if params.get("forget"):
            tables.forget_rollout(fence.holder)
        lease = tables.lease()
        if params.get("release") and lease is not None:
            tables.set_lease(release(lease, now))
    if params.get("release"):
        _switch.disarm(fence.ledger, fence.number)
    return {"changed": True, "stop": fence.stop, "order": order}


def canary_read(params: Mapping[str, Any], check: bool) -> dict[str, Any]:
    """What was kept of a canary, by name."""
    with _ledger(params).look() as tables:
        return {"changed": False, "kept": tables.kept(_required(params, "canary")) if tables else {}}


def canary_order(params: Mapping[str, Any], check: bool) -> dict[str, Any]:
    """Tell the run that judges a canary what an operator wants; the run sees it at its next look.

    ``runs`` says whether there is such a run.
    """
    order, by, now = _required(params, "order"), _required(params, "by"), Moment.now()
    if order not in ORDERS:
        raise BadInput(f"order must be one of {', '.join(ORDERS)}, got {order!r}.")
    nobody = {"changed": False, "runs": False}
    ledger = _ledger(params)
    with ledger.look() as tables:
        if tables is None or _canary_at_work(tables, now) is None:
            return nobody
    if check:
        return {"changed": True, "runs": True}
    with ledger.change() as tables:
        lease, canary = tables.lease(), _canary_at_work(tables, now)
        if canary is None or lease is None:
            return nobody
        old = tables.kept(canary).get(ORDER)
        if old is not None and old["order"] == order:
            return {"changed": False, "runs": True, "by": old["by"]}
        tables.keep(canary, {ORDER: {"order": order, "by": by, "at": now.wall}}, now.wall)
        tables.event(now.wall, lease.number, lease.holder, f"{by} asked for: {order}")
    return {"changed": True, "runs": True, "by": by}


def _canary_at_work(tables: Tables, now: Moment) -> str | None:
    """The canary of the run that has the lease; None where nobody works, or it has none."""
    lease, rollout = tables.lease(), tables.interrupted()
    if lease is None or lease.left(now) <= 0 or rollout is None or rollout.id != lease.holder:
        return None
    canary = (rollout.plan or {}).get("canary")
    return str(canary["id"]) if canary else None


def lease_stop(params: Mapping[str, Any], check: bool) -> dict[str, Any]:
    """Ask the run that has the lease to end after the batch in hand."""
    by, now = _required(params, "by"), Moment.now()
    with _ledger(params).look() as tables:
        lease = tables.lease() if tables else None
        asked = tables.flag(STOP) if tables else None
    if lease is None or lease.left(now) <= 0:
        return {"changed": False, "lease": lease.to_dict(now) if lease else None, "runs": False}
    if asked is None and not check:
        with _ledger(params).change() as tables:
            found = tables.lease()
            if found is None or found.number != lease.number:
                return {"changed": False, "lease": found.to_dict(now) if found else None, "runs": False}
            tables.set_flag(STOP, by, now.wall)
            tables.event(now.wall, lease.number, lease.holder, f"{by} asked it to stop after the batch in hand")
    return {"changed": asked is None, "lease": lease.to_dict(now), "runs": True}


def _begin(tables: Tables, fence: Fence, begin: Mapping[str, Any], now: Moment) -> None:
    """A rollout begins; what an earlier one left by halves stays known until it is mended."""
    lease = tables.lease()
    for earlier in tables.rollouts():
        if earlier.ended is None and earlier.id != fence.holder:
            tables.end_rollout(earlier.id, now.wall, "interrupted", "It never came to its end.", {})
    tables.add_rollout(
        RolloutEntry(
            id=fence.holder,
            number=fence.number,
            strategy=str(begin["strategy"]),
            owner=lease.owner if lease else "",
            from_version=begin.get("from_version"),
            to_version=begin.get("to_version"),
            plan=begin.get("plan"),
            started=now.wall,
        )
    )
    known = tables.members()
    hosts = {str(row["host"]) for row in begin.get("members") or []}
    for host, entry in known.items():
        if host not in hosts and entry.phase in ENDED:
            tables.remove_member(host)
    for row in begin.get("members") or []:
        old = known.get(str(row["host"]))
        if old is not None and old.phase not in ENDED:
            continue
        releases = row.get("release_before"), row.get("release")
        phase = str(row.get("phase") or "planned")
        tables.set_member(MemberEntry(str(row["host"]), fence.holder, phase, True, *releases, {}, now.wall))


def _note_migration(tables: Tables, given: Mapping[str, Any], now: Moment) -> None:
    """An older word about it changes nothing; since when the old version is gone is kept for as long as it is so."""
    old = tables.migration()
    revision, name = int(given["revision"]), str(given["name"])
    if old is not None and old.revision > revision:
        return
    since = old.finished if old is not None and old.name == name else None
    finished = (now.wall if since is None else since) if given.get("finished") else None
    tables.set_migration(MigrationEntry(revision, name, given["told"], finished))


def _how(old: Lease | None, lease: Lease, now: Moment) -> str:
    if old is None or old.released:
        return f"{lease.owner} has the lease ({lease.reason})"
    ended = "had not ended" if old.left(now) > 0 else "had ended without being given back"
    return f"{lease.owner} took over the lease ({lease.reason}); that of {old.words()} {ended}"


def _ledger(params: Mapping[str, Any]) -> Ledger:
    return Ledger(params.get("service"), params.get("marks"))


def _required(params: Mapping[str, Any], key: str) -> str:
    value = _params.text(params, key)
    if value is None:
        raise BadInput(f"{key} is not given.")
    return value
