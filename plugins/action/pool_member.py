# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``pool_member`` on one balancer or on all of a fleet at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._argspec import POOL_MEMBER
from ansible_collections.zerodrop.rollout.plugins.plugin_utils import _member_sockets
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._fleet_action import FleetAction, what_was_undone
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Remote


class ActionModule(FleetAction):
    """Changes every balancer, or none. Where it knows the members' hosts, these have the last word of a drain."""

    operation = "pool_member"
    argument_spec = POOL_MEMBER

    def afterwards(self, remote: Remote, hosts: list[str], arguments: Mapping[str, Any]) -> dict[str, Any]:
        choice = arguments["busy_sockets"]
        if arguments["state"] != "drained" or choice == "ignore" or not hosts:
            return {}
        asked: dict[str, _member_sockets.Asked] = {}
        for replies, _arguments, calls in self._done:
            for balancer, reply in replies.items():
                towards = reply.result.get("towards", {})
                for host, name in zip(hosts, calls[balancer].params["members"], strict=True):
                    if name in towards:
                        port = towards[name]["port"]
                        asked.setdefault(host, _member_sockets.Asked(port)).add(balancer, towards[name])
        waits = choice == "wait"
        limit = max(_member_sockets.LEAST, float(arguments["drain_timeout"])) if waits else 0.0
        questions = _member_sockets.calls(asked, limit)
        replies = remote.run(questions) if questions else {}
        busy = _member_sockets.still_busy(replies)
        said = {"busy_sockets": busy, "notes": _member_sockets.strangers(replies, asked)}
        if not busy or not waits or arguments["on_drain_timeout"] != "fail":
            return said
        error = _member_sockets.too_long(busy, limit, "busy_sockets")
        undone = self._undo_layers(remote)
        message = " ".join(filter(None, (error.message, error.hint, what_was_undone(undone))))
        good = all(undone.values())
        return {**said, "failed": True, "changed": not good, "msg": message, "code": error.code, "undone": undone}

    def limit(self, arguments: Mapping[str, Any]) -> float:
        waits = ("wait_for_floor", "session_grace", "drain_timeout", "long_timeout", "idle_timeout", "health_timeout")
        own = 86400.0 if "wait" in (arguments["on_long_timeout"], arguments["on_idle_timeout"]) else 0.0
        return 10.0 + own + sum(float(arguments[name] or 0.0) for name in waits)
