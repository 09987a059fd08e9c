# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The ramp: members that come back get a part of their weight first, and the rest when they do well with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ansible_collections.zerodrop.rollout.plugins.module_utils import _params
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Admin, Setting
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work.wanted import DAY, LookOrder

_TO_BE_UP = 5.0  # seconds for a member to be seen up after it was let in


@dataclass(frozen=True)
class RampOrder:
    """Parts of the weight, in percent, and how long members are watched at each."""

    steps: tuple[int, ...]
    seconds: float
    max_errors: int
    max_slower: int = 0

    @classmethod
    def from_params(cls, value: object) -> RampOrder | None:
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise BadInput(f"ramp must have steps, seconds and max_errors, got {value!r}.")
        steps = tuple(_params.whole({"step": each}, "step", 0, 1, 99) for each in _params.items(value, "steps"))
        if list(steps) != sorted(set(steps)):
            raise BadInput(f"The steps of a ramp must rise, got {list(steps)}.")
        return cls(
            steps,
            _params.number(value, "seconds", 10.0, 0.0, DAY),
            _params.whole(value, "max_errors", 0, 0, 1000000000),
            _params.whole(value, "max_slower", 0, 0, 100000),
        )

    @property
    def look(self) -> LookOrder:
        """How members are watched at a step: errors count, however little traffic there is."""
        return LookOrder(0, self.seconds, self.seconds + _TO_BE_UP, self.max_errors, self.max_slower)

    def at(self, step: int, settings: Mapping[str, Setting]) -> dict[str, Setting]:
        """The settings at a step, of the members that a step makes a difference for."""
        found = {}
        for name, setting in settings.items():
            weight = max(1, setting.weight * step // 100)
            if setting.admin is Admin.READY and weight < setting.weight:
                found[name] = Setting(setting.admin, weight)
        return found
