# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``pool_info`` on one balancer or on all of a fleet at once."""

from __future__ import annotations

from ansible_collections.zerodrop.rollout.plugins.module_utils._argspec import POOL_INFO
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._fleet_action import FleetAction


class ActionModule(FleetAction):
    """Reads every balancer."""

    operation = "pool_read"
    argument_spec = POOL_INFO
