# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a user may set of a verdict, with its defaults, checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils import _params
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput

ERRORS = "errors"
SLOW = "slow"
RESTARTS = "restarts"
METRICS = (ERRORS, SLOW, RESTARTS)
DAY = 86400.0

TOLERATE: Mapping[str, float] = MappingProxyType({"errors": 1.0, "latency": 1.1})
WEIGHTS: Mapping[str, float] = MappingProxyType({ERRORS: 0.5, SLOW: 0.3, RESTARTS: 0.2})


def _number(low: float, high: float) -> Callable[[Mapping[str, Any], str, Any], Any]:
    return lambda params, key, default: _params.number(params, key, default, low, high)


def _whole(low: int, high: int) -> Callable[[Mapping[str, Any], str, Any], Any]:
    return lambda params, key, default: _params.whole(params, key, default, low, high)


def _choice(*choices: str) -> Callable[[Mapping[str, Any], str, Any], Any]:
    def check(params: Mapping[str, Any], key: str, default: Any) -> Any:
        value = params[key] if _params.given(params, key) else default
        if value not in choices:
            raise BadInput(f"{key} must be one of {', '.join(choices)}, got {value!r}.")
        return value

    return check


def _risk(params: Mapping[str, Any], key: str, default: float) -> float:
    """A probability that is worth promising: above 0, below a half."""
    value = _params.number(params, key, default, -1e9, 1e9)
    if not 0.0 < value < 0.5:
        raise BadInput(f"{key} must be a probability between 0 and 0.5, both excluded, got {params[key]!r}.")
    return value


def _share(params: Mapping[str, Any], key: str, _default: None) -> float | None:
    """Percent of the traffic; a canary with all of it has nothing to be compared with."""
    if not _params.given(params, key):
        return None
    text = str(params[key]).strip()
    value = _params.number({key: text[:-1] if text.endswith("%") else params[key]}, key, 0.0, -1e9, 1e9)
    if not 0.0 < value < 100.0:
        raise BadInput(
            f"{key} must be a percentage of the traffic between 0 and 100, both excluded, got {params[key]!r}."
        )
    return value


def _by_name(
    known: Mapping[str, float], low: float, high: float, params: Mapping[str, Any], key: str
) -> dict[str, float]:
    given = params[key]
    unknown = sorted(set(map(str, given)) - set(known))
    if unknown:
        raise BadInput(f"{key} has {', '.join(unknown)}, which it does not know; it knows {', '.join(known)}.")
    return {name: _params.number(given, name, default, low, high) for name, default in known.items()}


def _tolerate(params: Mapping[str, Any], key: str, default: Mapping[str, float]) -> Mapping[str, float]:
    if not _params.given(params, key):
        return default
    if isinstance(params[key], Mapping):
        return _by_name(TOLERATE, 1.0, 100.0, params, key)
    return dict.fromkeys(TOLERATE, _params.number(params, key, 1.0, 1.0, 100.0))


def _weights(params: Mapping[str, Any], key: str, default: Mapping[str, float]) -> Mapping[str, float]:
    if not _params.given(params, key):
        return default
    if not isinstance(params[key], Mapping):
        raise BadInput(f"{key} must name metrics and their weights, such as {dict(WEIGHTS)}, got {params[key]!r}.")
    weights = _by_name(dict.fromkeys(WEIGHTS, 0.0), 0.0, 1.0, params, key)
    if not sum(weights.values()):
        raise BadInput(f"{key} must give at least one metric a weight, got {params[key]!r}.")
    return weights


def _flag(params: Mapping[str, Any], key: str, default: bool) -> bool:
    return _params.flag(params, key, default)


def _setting(default: Any, check: Callable[[Mapping[str, Any], str, Any], Any]) -> Any:
    metadata = {"check": check, "default": default}
    if isinstance(default, Mapping):
        return field(default_factory=lambda: default, metadata=metadata)  # pylint: disable=invalid-field-call
    return field(default=default, metadata=metadata)  # pylint: disable=invalid-field-call  # called in a dataclass below


@dataclass(frozen=True)
class VerdictSettings:
    """Times in seconds; the guarantee is ``false_alarm`` and ``missed_regression``."""

    false_alarm: float = _setting(0.01, _risk)
    missed_regression: float = _setting(0.05, _risk)
    unacceptable: float = _setting(2.0, _number(1.01, 100.0))
    tolerate: Mapping[str, float] = _setting(TOLERATE, _tolerate)
    min_increase: float = _setting(1.2, _number(1.0, 100.0))
    warmup: float = _setting(60.0, _number(0.0, DAY))
    interval: float = _setting(10.0, _number(0.1, 3600.0))
    burst: float = _setting(60.0, _number(0.0, DAY))
    min_requests: int = _setting(200, _whole(0, 10**9))
    min_duration: float = _setting(300.0, _number(0.0, 30 * DAY))
    max_duration: float = _setting(1800.0, _number(1.0, 30 * DAY))
    weights: Mapping[str, float] = _setting(WEIGHTS, _weights)
    on_inconclusive: str = _setting("ask", _choice("ask", "promote", "roll_back"))
    on_no_data: str = _setting("wait", _choice("wait", "inconclusive"))
    guards: bool = _setting(True, _flag)
    share: float | None = _setting(None, _share)

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> VerdictSettings:
        """From a module's parameters or the inventory; raises ``BadInput``."""
        values = {
            each.name: each.metadata["check"](params, each.name, each.metadata["default"]) for each in fields(cls)
        }
        settings = cls(**values)
        if settings.min_duration > settings.max_duration:
            raise BadInput(
                f"min_duration ({settings.min_duration:g} s) must not be above max_duration ({settings.max_duration:g} s)."
            )
        return settings

    def tolerated(self, metric: str) -> float:
        """The increase of this metric that is never a reason to roll back."""
        return {ERRORS: self.tolerate["errors"], SLOW: self.tolerate["latency"]}.get(metric, 1.0)

    @property
    def needed_to_roll_back(self) -> float:
        """Evidence, to 1. The guards take a fifth of the risk for the history; the 1 makes their discount exact."""
        return 1.0 / (0.8 * self.false_alarm) + 1.0 if self.guards else 1.0 / self.false_alarm

    @property
    def needed_to_promote(self) -> float:
        return 1.0 / (0.8 * self.missed_regression) + 1.0 if self.guards else 1.0 / self.missed_regression
