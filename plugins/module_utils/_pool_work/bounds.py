# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What a balancer may have to carry at most for members to go out: held right before they do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ansible_collections.zerodrop.rollout.plugins.module_utils import _params
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Pool


@dataclass(frozen=True)
class Bounds:
    """The most that this balancer may have to carry for members to go out now; None where that is not known."""

    rate: float | None = None  # requests per second
    in_flight: float | None = None  # at work and waiting

    @classmethod
    def from_params(cls, value: object) -> Bounds:
        if value is None:
            return cls()
        if not isinstance(value, Mapping):
            raise BadInput(f"bounds must have rate and in_flight, got {value!r}.")

        def bound(name: str) -> float | None:
            return _params.number(value, name, 0.0, 0.0, 1e12) if _params.given(value, name) else None

        return cls(bound("rate"), bound("in_flight"))

    def broken_by(self, pool: Pool) -> str:
        """What is above its bound in the pool as it is, in words; empty when nothing is."""
        if self.rate is not None and pool.rate > self.rate:
            return f"{pool.rate} requests/s, and at most {self.rate:.0f} could be carried"
        at_once = carried_at_once(pool)
        if self.in_flight is not None and at_once > self.in_flight:
            return f"{at_once} requests at once, and at most {self.in_flight:.0f} could be carried"
        return ""


def carried_at_once(pool: Pool) -> int:
    """What is at work on the pool's members or waits for them."""
    return pool.queued + sum(member.in_flight + member.queued for member in pool.members)
