# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``pool_member`` on one balancer or on all of a fleet at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._argspec import POOL_MEMBER
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._fleet_action import FleetAction


class ActionModule(FleetAction):
    """Changes every balancer, or none."""

    operation = "pool_member"
    argument_spec = POOL_MEMBER

    def limit(self, arguments: Mapping[str, Any]) -> float:
        waits = ("wait_for_floor", "session_grace", "drain_timeout", "long_timeout", "idle_timeout", "health_timeout")
        own = 86400.0 if "wait" in (arguments["on_long_timeout"], arguments["on_idle_timeout"]) else 0.0
        return 10.0 + own + sum(float(arguments[name] or 0.0) for name in waits)
