# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The dead man's switch of a rollout: what each balancer is given to arm its own with."""

from __future__ import annotations

import base64
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.plugin_utils import _program
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.fleet import balancer_params
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import Record
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import Settings


def switch_for(settings: Settings, record: Record, host: str) -> dict[str, Any] | None:
    """For one balancer: the program, and its pools, outermost first; None where no switch is wanted."""
    after = settings.silence
    if not after:
        return None
    layers = sorted({place.layer for place in record.places.values() if place.host == host})
    params = {
        "service": settings.service,
        "after": after,
        "health_url": settings.health_url,
        "health_status": list(settings.health_status),
        "places": [balancer_params(settings.layers[number]) for number in layers],
    }
    return {"program": base64.b64encode(_program.opening("switch_fire")).decode(), "params": params}
