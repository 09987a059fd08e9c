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
    "nginx_mode": {"type": "str", "choices": ["auto", "reload", "links"], "default": "auto"},
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
    "pools": {"type": "raw"},
    "pool": {"type": "str"},
    "members": {"type": "list", "elements": "str"},
    "hosts": {"type": "list", "elements": "str"},
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
    "busy_sockets": {"type": "str", "choices": ["wait", "note", "ignore"], "default": "ignore"},
    "health_timeout": {"type": "float", "default": 60},
    "health": {"type": "dict"},
    "health_from_balancer": {"type": "str", "choices": ["auto", "always", "never"], "default": "auto"},
}

POOL_ROUTE: Mapping[str, Any] = {
    **BALANCER,
    "service": {"type": "str", "required": True},
    "blue_pool": {"type": "str", "required": True},
    "green_pool": {"type": "str", "required": True},
    "slot": {"type": "str", "choices": ["blue", "green"]},
    "prepare": {"type": "bool", "default": False},
    "mode": {"type": "str", "choices": ["flags", "reload"], "default": "flags"},
    "preview": {"type": "str"},
    "route_file": {"type": "str"},
    "route_flags": {"type": "str"},
}

# What stands in a poll is left to the verdict itself: it says what it expected, and is quick with many members.
VERDICT: Mapping[str, Any] = {
    "polls": {"type": "list", "elements": "dict", "required": True},
    "history": {"type": "list", "elements": "dict", "default": []},
    "false_alarm": {"type": "float", "default": 0.01},
    "missed_regression": {"type": "float", "default": 0.05},
    "unacceptable": {"type": "float", "default": 2.0},
    "tolerate": {"type": "raw", "default": {"errors": 1.0, "latency": 1.1}},
    "min_increase": {"type": "float", "default": 1.2},
    "warmup": {"type": "float", "default": 60},
    "interval": {"type": "float", "default": 10},
    "burst": {"type": "float", "default": 60},
    "min_requests": {"type": "int", "default": 200},
    "min_duration": {"type": "float", "default": 300},
    "max_duration": {"type": "float", "default": 1800},
    "weights": {"type": "dict", "default": {"errors": 0.5, "slow": 0.3, "restarts": 0.2}},
    "on_inconclusive": {"type": "str", "choices": ["ask", "promote", "roll_back"], "default": "ask"},
    "on_no_data": {"type": "str", "choices": ["wait", "inconclusive"], "default": "wait"},
    "guards": {"type": "bool", "default": True},
    "share": {"type": "raw"},
}
