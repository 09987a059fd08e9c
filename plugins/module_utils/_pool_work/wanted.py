# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What an operation on a pool is asked for: its parameters, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils import _params
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput
from ansible_collections.zerodrop.rollout.plugins.module_utils._names import member_name
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Admin, Setting
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work.bounds import Bounds

ON_TIMEOUT = ("fail", "cut")
ON_OWN_TIMEOUT = ("fail", "cut", "wait")
DAY = 86400.0


def member_names(params: Mapping[str, Any]) -> list[str]:
    names = [member_name(name) for name in _params.items(params, "members")]
    if not names:
        raise BadInput("No member is named.", "members takes a list of names.")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadInput(f"The member {twice[0]!r} is named twice.")
    return names


def interval_of(params: Mapping[str, Any]) -> float:
    return _params.number(params, "interval", 0.02, 0.001, 60.0)


def _limit(params: Mapping[str, Any], kind: str, words: str) -> tuple[float | None, str]:
    """The limit that a kind of work has of its own (None: it has none), and what is to be done then."""
    then = params.get(f"on_{kind}_timeout") or "fail"
    if then not in ON_OWN_TIMEOUT:
        raise BadInput(f"What to do at the limit of {words} must be one of {', '.join(ON_OWN_TIMEOUT)}, got {then!r}.")
    key = f"{kind}_timeout"
    return (_params.number(params, key, 0.0, 0.0, DAY) if _params.given(params, key) else None), str(then)


def settings_of(value: object, what: str = "settings") -> dict[str, Setting]:
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


@dataclass(frozen=True)
class DrainOrder:
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
    long_after: float  # the age from which a request counts as long-lived
    long_timeout: float | None  # None: what is long-lived has no limit of its own
    on_long_timeout: str
    idle_timeout: float | None  # the same for idle clients of processes that leave
    on_idle_timeout: str
    expect: Mapping[str, Setting]
    returning: Mapping[str, Setting]  # members that go back into service in the same change
    beside: bool  # other members may be taken out at the same moment
    bounds: Bounds  # what the balancer may have to carry when they go out

    @property
    def idle_limit(self) -> tuple[float, str]:
        """How long idle clients of a process that leaves may stay, and what becomes of them then."""
        if self.idle_timeout is None:
            return self.timeout, self.on_timeout
        return self.idle_timeout, self.on_idle_timeout

    @property
    def long_limit(self) -> tuple[float, str]:
        """How long what is long-lived may last, and what becomes of it then."""
        if self.long_timeout is None:
            return self.timeout, self.on_timeout
        return self.long_timeout, self.on_long_timeout

    @property
    def first_limit(self) -> float:
        return min(self.timeout, self.long_limit[0], self.idle_limit[0])

    def kind(self, piece: Mapping[str, str]) -> str:
        """What a piece of work is: ``request``, ``long_request``, ``websocket`` or ``tcp``."""
        kind = piece.get("kind", "request")
        return "long_request" if kind == "request" and float(piece.get("seconds", 0)) >= self.long_after else kind

    @classmethod
    def from_params(cls, params: Mapping[str, Any], target: Admin = Admin.OUT, wait: bool = True) -> DrainOrder:
        on_timeout = params.get("on_timeout") or "fail"
        if on_timeout not in ON_TIMEOUT:
            raise BadInput(f"What to do at the limit must be one of {', '.join(ON_TIMEOUT)}, got {on_timeout!r}.")
        long, on_long_timeout = _limit(params, "long", "long-lived work")
        idle, on_idle_timeout = _limit(params, "idle", "idle clients")
        names = tuple(member_names(params))
        returning = settings_of(params["returning"], "returning") if _params.given(params, "returning") else {}
        if set(names) & set(returning):
            raise BadInput(f"{sorted(set(names) & set(returning))[0]!r} cannot be drained and returned at once.")
        return cls(
            names=names,
            target=target,
            wait=wait,
            floor=_params.whole(params, "floor", 0, 0, 1000000) if _params.given(params, "floor") else None,
            wait_for_floor=_params.number(params, "wait_for_floor", 0.0, 0.0, DAY),
            session_grace=_params.number(params, "session_grace", 0.0, 0.0, DAY) if target is Admin.OUT else 0.0,
            timeout=_params.number(params, "timeout", 60.0, 0.0, DAY),
            samples=_params.whole(params, "samples", 3, 1, 100),
            interval=interval_of(params),
            on_timeout=on_timeout,
            long_after=_params.number(params, "long_after", 10.0, 0.0, DAY),
            long_timeout=long,
            on_long_timeout=on_long_timeout,
            idle_timeout=idle,
            on_idle_timeout=on_idle_timeout,
            expect=settings_of(params["expect"], "expect") if _params.given(params, "expect") else {},
            returning=returning,
            beside=_params.flag(params, "beside", False),
            bounds=Bounds.from_params(params.get("bounds")),
        )


@dataclass(frozen=True)
class LookOrder:
    """What a member must do under traffic to be trusted."""

    requests: int
    seconds: float
    timeout: float
    max_errors: int
    max_slower: int = 0  # percent more time than the others take for an answer; 0: not looked at

    @classmethod
    def from_params(cls, value: object) -> LookOrder | None:
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise BadInput(f"look must have requests, seconds, timeout and max_errors, got {value!r}.")
        return cls(
            requests=_params.whole(value, "requests", 1, 0, 1000000000),
            seconds=_params.number(value, "seconds", 0.0, 0.0, DAY),
            timeout=_params.number(value, "timeout", 30.0, 0.0, DAY),
            max_errors=_params.whole(value, "max_errors", 0, 0, 1000000000),
            max_slower=_params.whole(value, "max_slower", 0, 0, 100000),
        )
