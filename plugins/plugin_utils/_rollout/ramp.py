# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ramp of members that come back: whether their weights allow it, and what balancers are told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Pool
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import ROLLBACK, Settings

_STEP_GRACE = 5.0  # seconds that a step may take beyond its own


def check_ramp(settings: Settings, pools: Mapping[str, Pool], names: Mapping[str, Mapping[str, str]]) -> None:
    """Raise ``BadInput`` where a member's weight is too small for the first step."""
    for name in ("ramp", "rollback_share_steps"):
        steps: tuple[int, ...] = getattr(settings, name)
        if steps:
            _check(f"rollout_{name}", steps[0], pools, names)


def _check(setting: str, first: int, pools: Mapping[str, Pool], names: Mapping[str, Mapping[str, str]]) -> None:
    for host, places in names.items():
        for place, name in places.items():
            weight = pools[place].member(name).weight
            if 0 < weight * first < 100:
                raise BadInput(
                    f"{setting} begins with {first}%, but {host} has the weight {weight} on {place}, "
                    f"of which {first} % is less than the smallest weight, 1.",
                    f"Give all members of the pool larger weights, such as 100, or leave {setting} out.",
                )


def ramp_params(settings: Settings, back: bool) -> tuple[dict[str, Any] | None, float]:
    """The steps, on the way back those for it where there are any; and how long they may take."""
    going_back = back or settings.strategy == ROLLBACK
    steps = settings.rollback_share_steps if going_back and settings.rollback_share_steps else settings.ramp
    if not steps:
        return None, 0.0
    ramp = {
        "steps": list(steps),
        "seconds": settings.ramp_seconds,
        "max_errors": settings.look_max_errors,
        "max_slower": settings.look_max_slower,
    }
    return ramp, len(steps) * (settings.ramp_seconds + _STEP_GRACE)


def at_weights(
    settings: Mapping[str, Mapping[str, Any]], weights: Mapping[str, int]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Settings to return to, by place and member, with the weight that a canary gets at each place."""
    return {
        place: {name: {**one, "weight": weights.get(place, one["weight"])} for name, one in each.items()}
        for place, each in settings.items()
    }
