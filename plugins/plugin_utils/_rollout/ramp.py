# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ramp of members that come back: whether their weights allow it, and what balancers are told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Pool
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import Settings

_STEP_GRACE = 5.0  # seconds that a step may take beyond its own


def check_ramp(settings: Settings, pools: Mapping[str, Pool], names: Mapping[str, Mapping[str, str]]) -> None:
    """Raise ``BadInput`` where a member's weight is too small for the first step."""
    if not settings.ramp:
        return
    first = settings.ramp[0]
    for host, places in names.items():
        for place, name in places.items():
            weight = pools[place].member(name).weight
            if 0 < weight * first < 100:
                raise BadInput(
                    f"rollout_ramp begins with {first}%, but {host} has the weight {weight} on {place}, "
                    f"of which {first} % is less than the smallest weight, 1.",
                    "Give all members of the pool larger weights, such as 100, or leave rollout_ramp out.",
                )


def ramp_params(settings: Settings) -> dict[str, Any] | None:
    if not settings.ramp:
        return None
    return {
        "steps": list(settings.ramp),
        "seconds": settings.ramp_seconds,
        "max_errors": settings.look_max_errors,
        "max_slower": settings.look_max_slower,
    }


def ramp_limit(settings: Settings) -> float:
    """How long a ramp may take."""
    return len(settings.ramp) * (settings.ramp_seconds + _STEP_GRACE)
