# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Every operation by its name, so that the controller and the modules call the same function."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Callable

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput

PACKAGE = "ansible_collections.zerodrop.rollout.plugins.module_utils."

# Where each operation stands. Names, not functions: a host is sent only what its operation needs.
OPERATIONS: Mapping[str, str] = {
    "pool_read": "_pool_operations",
    "pool_load": "_pool_operations",
    "pool_drain": "_pool_operations",
    "pool_return": "_pool_operations",
    "pool_put_back": "_pool_operations",
    "pool_weigh": "_pool_operations",
    "pool_rehearse": "_pool_operations",
    "pool_member": "_pool_operations",
    "route_read": "_route_operations",
    "route_prepare": "_route_operations",
    "route_set": "_route_operations",
    "route_settle": "_route_operations",
    "pool_watch": "_route_operations",
    "pool_healthy": "_route_operations",
    "unit_stop": "_route_operations",
    "pool_route": "_route_operations",
    "ledger_read": "_ledger_operations",
    "ledger_note": "_ledger_operations",
    "lease_acquire": "_ledger_operations",
    "lease_stop": "_ledger_operations",
    "canary_read": "_ledger_operations",
    "canary_order": "_ledger_operations",
    "switch_fire": "_switch_fire",
    "release_info": "_release",
    "release_stage": "_release",
    "release_switch": "_release",
    "package_info": "_package",
    "package_stage": "_package",
    "package_switch": "_package",
    "container_info": "_container",
    "container_resolve": "_container",
    "container_stage": "_container",
    "container_switch": "_container",
    "health_gate": "_health",
    "health_probe": "_health",
    "member_info": "_member",
    "member_gate": "_member",
    "member_sockets": "_member_sockets",
    "sessions_export": "_member_sessions",
    "sessions_import": "_member_sessions",
    "access_log_read": "_access_log.read",
    "observe": "_observation.observe",
    "observe_past": "_observation.past",
    "unit_restarts": "_observation.restarts",
    "nginx_links": "_nginx_links",
}

Operation = Callable[[Mapping[str, Any], bool], dict[str, Any]]


def operation(name: str) -> Operation:
    """The function behind a name; raises ``BadInput``."""
    if name not in OPERATIONS:
        raise BadInput(f"There is no operation {name!r}.")
    function: Operation = getattr(importlib.import_module(PACKAGE + OPERATIONS[name]), name)
    return function
