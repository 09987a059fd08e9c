# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Apache httpd 2.4 with mod_proxy_balancer, through its balancer-manager on this host.

What makes this more than a form that is sent:

* A change without a Referer of its own is answered with 200 and ignored. So every change is read back.
* A graceful reload draws a new nonce and forgets drains and counts. So the nonce is the identity.
* Processes that leave keep a shared memory of their own, where the manager does not look. So what they still do,
  told by server-status, counts for every member.
* With ``BalancerPersist On`` a reload keeps drains, but also the busy counts of that moment, for good.
"""

from __future__ import annotations

import http.client
import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any, Callable, ClassVar
from urllib.parse import urlencode, urlsplit, urlunsplit

from ansible_collections.zerodrop.rollout.plugins.module_utils import _http, _params
from ansible_collections.zerodrop.rollout.plugins.module_utils._apache import manager
from ansible_collections.zerodrop.rollout.plugins.module_utils._drivers.base import Capabilities, Clock, Driver
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    BadInput,
    BadReply,
    PermissionDenied,
    Refused,
    UnknownMember,
    UnknownPool,
    Unreachable,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._names import member_name, pool_name
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Admin, Counters, Health, Member, Pool

MANAGER_URL = "http://127.0.0.1/balancer-manager"
MAX_WEIGHT = 100

_ANSWER_LIMIT = 10.0
_LARGEST = 16 * 1024 * 1024
_ATTEMPTS = 8
# A reload that was asked for just before a change takes hold some milliseconds later, and undoes it.
_PAUSE = 0.05

_READY = {"w_status_N": "0", "w_status_D": "0", "w_status_S": "0"}
_DRAIN = {**_READY, "w_status_N": "1"}
_OUT = {"w_status_D": "1"}


class ApacheDriver(Driver):
    """The Apache on this host."""

    kind: ClassVar[str] = "apache"

    def __init__(self, manager_url: str = MANAGER_URL, clock: Clock | None = None) -> None:
        self._clock = clock or Clock()
        self._manager = _loopback(manager_url)
        self._referer = manager_url
        parts = urlsplit(manager_url)
        self._status = _loopback(urlunsplit((parts.scheme, parts.netloc, "/server-status", "auto", "")))

    @classmethod
    def from_params(cls, params: Mapping[str, Any], clock: Clock) -> ApacheDriver:
        """``manager_url``: where the balancer-manager is, on this host's loopback."""
        return cls(_params.text(params, "manager_url") or MANAGER_URL, clock)

    # --- what there is ---

    def capabilities(self) -> Capabilities:
        page = self._page()
        leaving = self._leaving()
        notes = ["Apache counts no errors of a member, and cannot end what is in flight."]
        if leaving is None:
            notes.append(
                "There is no /server-status beside the manager that tells of leaving processes (mod_status, mpm_event), "
                "so requests that older processes still serve after a reload are not counted."
            )
        else:
            notes.append("What older processes still serve after a reload counts for every member.")
        if page.persisted:
            notes.append(
                "BalancerPersist is on: what is in flight at a reload stays in the busy counts until Apache is started "
                "without its persisted files, and a drain of such a member times out."
            )
        return Capabilities(
            version=page.version.partition("/")[2],
            runtime_changes=True,
            exact_in_flight=False,
            checks_health=any(worker.checked for one in page.balancers for worker in one.workers),
            max_weight=MAX_WEIGHT,
            notes=tuple(notes),
        )

    def check_rights(self) -> None:
        # Whoever may read the page is given the nonce, and so may change; a proof would need a change.
        for balancer in self._page().balancers:
            if not balancer.nonce:
                raise PermissionDenied(
                    f"The balancer-manager gives no nonce for {balancer.name!r}.", "Remove 'nonce=none' there."
                )

    def identity(self) -> str:
        return _identity(self._page())

    def pools(self) -> Sequence[str]:
        return [balancer.name for balancer in self._page().balancers]

    def read(self, pool: str) -> Pool:
        # First the leaving ones: a reload in between is then seen as another identity by the next look.
        before = self._page()
        leaving = self._leaving()
        page = self._page()
        if _identity(page) != _identity(before):
            leaving = self._leaving()
        balancer = _find(page, pool)
        # A leaving process that shows no request may be between two, or hold a connection without a thread.
        elsewhere = max(leaving.requests, leaving.processes) if leaving and leaving.processes else 0
        return Pool(
            name=pool,
            identity=_identity(page),
            members=tuple(_member(worker, elsewhere) for worker in balancer.workers),
            leaving=leaving.processes if leaving else 0,
            counters=Counters(requests=sum(worker.elected for worker in balancer.workers)),
        )

    # --- changes ---

    def drain(self, pool: str, names: Sequence[str]) -> None:
        self._change(pool, names, lambda worker: _DRAIN, lambda worker: _admin(worker) is Admin.DRAIN, "draining")

    def hold_out(self, pool: str, names: Sequence[str]) -> None:
        self._change(pool, names, lambda worker: _OUT, lambda worker: _admin(worker) is Admin.OUT, "disabled")

    def prepare_return(self, pool: str, names: Sequence[str]) -> None:
        # The mark of a failed check is taken away only by checks that pass.
        self._change(
            pool,
            names,
            lambda worker: {**_DRAIN, "w_status_C": "1"} if worker.checked else _DRAIN,
            lambda worker: _admin(worker) is Admin.DRAIN,
            "draining",
        )

    def put_back(self, pool: str, names: Sequence[str]) -> None:
        self._change(pool, names, lambda worker: _READY, lambda worker: _admin(worker) is Admin.READY, "ready")

    def weigh(self, pool: str, weights: Mapping[str, int]) -> None:
        for name, weight in weights.items():
            if not 1 <= weight <= MAX_WEIGHT:
                raise BadInput(
                    f"The weight of {name!r} is {weight!r}; Apache takes 1 to {MAX_WEIGHT}.",
                    "A member that is to get nothing is drained or held out.",
                )
        self._change(
            pool,
            list(weights),
            lambda worker: {"w_lf": str(weights[worker.name])},
            lambda worker: worker.factor == weights[worker.name],
            "at the wanted weight",
        )

    def lasting(self, pool: str) -> str:
        return (
            f"A graceful reload of Apache undoes what is changed in {pool}: its balancer manager works on memory alone."
        )

    def cut(self, pool: str, names: Sequence[str]) -> int:
        raise Refused(
            "Apache cannot end what is in flight on a member.",
            "Wait for it, or let the drain fail at its limit (on_drain_timeout: fail).",
            pool=pool,
        )

    def _change(
        self,
        pool: str,
        names: Sequence[str],
        fields: Callable[[manager.Worker], Mapping[str, str]],
        holds: Callable[[manager.Worker], bool],
        wanted: str,
    ) -> None:
        pool_name(pool)
        for name in names:
            member_name(name)
        todo: list[str] = list(names)
        for _attempt in range(_ATTEMPTS):
            before = _find(self._page(), pool)
            for worker in [_worker(before, name) for name in names]:
                self._send({"b": pool, "w": worker.url, "nonce": before.nonce, **fields(worker)})
            self._clock.sleep(_PAUSE)
            after = _find(self._page(), pool)
            todo = [name for name in names if not holds(_worker(after, name))]
            if after.nonce == before.nonce and not todo:
                return
        raise Refused(
            f"Apache said yes, but {pool}/{todo[0] if todo else names[0]} is not {wanted}.",
            "Its error log may say why (AH10187: the change came without the right Referer), or it is reloaded again "
            "and again.",
            pool=pool,
        )

    # --- HTTP ---

    def _page(self) -> manager.Page:
        return manager.page(self._ask(self._manager))

    def _send(self, fields: Mapping[str, str]) -> None:
        self._ask(self._manager, urlencode(fields))

    def _leaving(self) -> manager.Leaving | None:
        try:
            return manager.leaving(self._ask(self._status))
        except (PermissionDenied, BadReply):
            return None

    def _ask(self, where: _http.Address, form: str | None = None) -> str:
        headers = {**where.headers, "Referer": self._referer, "Connection": "close"}
        if form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        left = _http.left_until(self._clock.now() + _ANSWER_LIMIT, self._clock.now)
        connection = http.client.HTTPConnection(where.host, where.port)
        try:
            connection.sock = _http.LimitedSocket(_http.connect(where.host, where.port, left), left)
            connection.request("GET" if form is None else "POST", where.path, form, headers)
            answer = connection.getresponse()
            body = answer.read(_LARGEST)
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(
                f"Apache does not answer at {where.shown}: {type(error).__name__} {error}.",
                "Does it run, and does it listen there?",
            ) from error
        finally:
            connection.close()
        if answer.status in (401, 403):
            raise PermissionDenied(
                f"Apache refuses {where.shown} ({answer.status}).", "Give that location 'Require local'."
            )
        if answer.status != 200:
            raise BadReply(
                f"Apache answers {answer.status} at {where.shown}.",
                "Is there a location with 'SetHandler balancer-manager', and 'ProxyPass' with '!' for it?",
            )
        return body.decode("utf-8", "replace")


def _loopback(url: str) -> _http.Address:
    where = _http.address(url, "manager_url")
    try:
        local = where.host == "localhost" or ipaddress.ip_address(where.host).is_loopback
    except ValueError:
        local = False
    if where.secure or not local:
        raise BadInput(
            f"manager_url {where.shown!r} is not plain HTTP on this host's loopback.",
            f"The driver runs on the balancer's own host, and the manager should be open to no other: {MANAGER_URL}.",
        )
    return where


def _identity(page: manager.Page) -> str:
    return "apache " + " ".join(sorted({balancer.nonce for balancer in page.balancers}))


def _find(page: manager.Page, pool: str) -> manager.Balancer:
    pool_name(pool)
    found = [balancer for balancer in page.balancers if balancer.name == pool]
    known = ", ".join(balancer.name for balancer in page.balancers) or "none"
    if not found:
        raise UnknownPool(f"Apache has no balancer {pool!r}.", f"It has {known}.", pool=pool)
    return found[0]


def _worker(balancer: manager.Balancer, name: str) -> manager.Worker:
    for worker in balancer.workers:
        if worker.name == name:
            return worker
    known = ", ".join(worker.name for worker in balancer.workers) or "no member at all"
    raise UnknownMember(
        f"The balancer {balancer.name!r} has no member {name!r}.", f"It has {known}.", pool=balancer.name, member=name
    )


def _member(worker: manager.Worker, elsewhere: int) -> Member:
    return Member(
        name=worker.name,
        address=worker.host,
        port=worker.port,
        admin=_admin(worker),
        health=_health(worker),
        # Load factors may have decimals; ones below 1 still get work.
        weight=max(1, round(worker.factor)),
        in_flight=worker.busy + elsewhere,
        queued=0,
        backup=bool(worker.flags & {"Stby", "Spar"}),
        counters=Counters(requests=worker.elected),
        detail={
            "status": " ".join(sorted(worker.flags)),
            "url": worker.url,
            "factor": worker.factor,
            "in_flight_leaving": elsewhere,
        },
    )


def _admin(worker: manager.Worker) -> Admin:
    if worker.flags & {"Dis", "Stop"}:
        return Admin.OUT
    return Admin.DRAIN if "Drn" in worker.flags else Admin.READY


def _health(worker: manager.Worker) -> Health:
    if worker.flags & {"HcFl", "Err"}:
        return Health.DOWN
    return Health.UP if worker.checked else Health.UNCHECKED
