# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The dead man's switch of a rollout: what each balancer is given to arm its own with."""

from __future__ import annotations

import base64
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.plugin_utils import _program
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import Settings


def order(settings: Settings, places: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """For one balancer with these pools, outermost first; None where no switch is wanted."""
    if not settings.silence:
        return None
    params = {
        "service": settings.service,
        "after": settings.silence,
        "health_url": settings.health_url,
        "health_status": list(settings.health_status),
        "places": list(places),
    }
    return {"program": program(), "params": params}


@functools.cache
def program() -> str:
    """What starts it, for whatever parameters."""
    return base64.b64encode(_program.sources_alone("switch_fire")).decode()


def no_switch(place: str, why: str) -> str:
    """What it means that a balancer has none, for people."""
    return (
        f"{place} puts nothing back by itself if this run dies, since {why}: members then stay out there until the next "
        "run, or until the playbook recover has run"
    )
