# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The hosts that a pattern means, in the inventory of this run with what was added to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.inventory.manager import InventoryManager


def hosts_of(pattern: str, loader: Any, variables: Mapping[str, Any]) -> list[str]:
    """The names of the hosts, in the inventory's order."""
    manager = InventoryManager(loader, parse=False)
    for group, hosts in variables["groups"].items():
        manager.add_group(group)
        for host in hosts:
            manager.add_host(host, group=group)
    return [host.name for host in manager.list_hosts(pattern)]
