# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The options of the modules that also run as an action on a whole fleet; their documentation is the modules' own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# How to reach a balancer.
BALANCER: Mapping[str, Any] = {
    "balancers": {"type": "list", "elements": "str"},
    "driver": {"type": "str", "choices": ["haproxy", "nginx", "apache"], "default": "haproxy"},
    "socket": {"type": "str"},
    "master_socket": {"type": "str"},
    "lasting": {"type": "str", "choices": ["require", "accept", "never"], "default": "accept"},
    "manager_url": {"type": "str"},
    "nginx_config": {"type": "str"},
    "nginx_binary": {"type": "str"},
    "nginx_pid_file": {"type": "str"},
    "nginx_leaving_wait": {"type": "float", "default": 30},
}

POOL_INFO: Mapping[str, Any] = {
    **BALANCER,
    "pool": {"type": "str"},
    "rights": {"type": "bool", "default": False},
}

POOL_MEMBER: Mapping[str, Any] = {
    **BALANCER,
    "pool": {"type": "str", "required": True},
    "members": {"type": "list", "elements": "str", "required": True},
    "state": {"type": "str", "choices": ["drained", "draining", "out", "ready"]},
    "weight": {"type": "int"},
    "service": {"type": "str"},
    "floor": {"type": "str"},
    "wait_for_floor": {"type": "float", "default": 0},
    "session_grace": {"type": "float", "default": 0},
    "drain_timeout": {"type": "float", "default": 60},
    "drain_samples": {"type": "int", "default": 3},
    "poll_interval": {"type": "float", "default": 0.02},
    "on_drain_timeout": {"type": "str", "choices": ["fail", "cut"], "default": "fail"},
    "long_after": {"type": "float", "default": 10},
    "long_timeout": {"type": "float"},
    "on_long_timeout": {"type": "str", "choices": ["fail", "cut", "wait"], "default": "fail"},
    "idle_timeout": {"type": "float"},
    "on_idle_timeout": {"type": "str", "choices": ["fail", "cut", "wait"], "default": "fail"},
    "health_timeout": {"type": "float", "default": 60},
}
