# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``pool_route`` on one balancer, or on all of a fleet: all of them flip, or none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._argspec import POOL_ROUTE
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput, LeaseHeld
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._fleet_action import FleetAction
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._flip import flip_fleet, live_slot, undone_words
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Call, Remote, Reply

_LIMIT = 30.0


class ActionModule(FleetAction):
    """Flips every balancer in one moment, or leaves all as they are."""

    operation = "pool_route"
    argument_spec = POOL_ROUTE

    def limit(self, arguments: Mapping[str, Any]) -> float:
        return _LIMIT

    def _undo(self, remote: Remote, replies: Mapping[str, Reply], arguments: Mapping[str, Any]) -> dict[str, bool]:
        """Nothing: files that were prepared on the other balancers change no traffic, and are wanted there."""
        return {}

    def _on_all(self, remote: Remote, arguments: Mapping[str, Any], calls: Mapping[str, Call]) -> dict[str, Any]:
        slot = arguments.get("slot")
        if not slot or arguments.get("prepare"):
            found = super()._on_all(remote, arguments, calls)
            found["changed"] = any(each["changed"] for each in found["balancers"].values())
            return found
        check = bool(self._task.check_mode)

        def ask(operation: str, params: Mapping[str, Mapping[str, Any]]) -> dict[str, Reply]:
            own = {place: Call(operation, {**arguments, **each}, _LIMIT) for place, each in params.items()}
            return remote.run(own, check)

        routes = {}
        for name, reply in ask("route_read", {name: {"rights": True} for name in calls}).items():
            if reply.error is not None:
                reply.error.message = f"{name}: {reply.error.message}"
                raise reply.error
            routes[name] = reply.result
            lease = reply.result["lease"]
            if lease is not None and lease["left"] > 0:
                raise LeaseHeld(
                    f"A run works on this service: {lease['owner']} ({lease['reason']}). Nothing was changed.",
                    "Wait until it has ended.",
                )
        live = live_slot(str(arguments["service"]), routes)
        merged: dict[str, Any] = {"changed": live != slot, "live": slot, "before": live, "balancers": routes}
        if self._task.diff:
            merged["diff"] = [{"before": f"live: {live}\n", "after": f"live: {slot}\n"}] if live != slot else []
        if live == slot:
            return merged
        if check:
            for name, reply in ask("route_prepare", {name: {"to": slot, "expect": live} for name in calls}).items():
                if reply.error is not None:
                    raise BadInput(f"{name}: {reply.error.message}", reply.error.hint)
            return merged
        done = flip_fleet(ask, list(calls), live, slot)
        merged["spread_ms"] = round(done.spread * 1000, 1)
        if done.error is not None:
            merged.update(
                failed=True,
                live=live,
                changed=not all(done.undone.values()),
                msg=f"{done.error} {undone_words(done.undone)}".strip(),
                code=done.error.code,
                hint=done.error.hint,
                undone=dict(done.undone),
            )
        return merged
