# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A module on a whole fleet: the same operation on every balancer at once, undone on all when one refuses.

Without ``balancers`` the module runs on the task's host, as any module does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.zerodrop.rollout.plugins.module_utils._argspec import BALANCER
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput, RolloutError
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Call, Remote, Reply

_UNDO_LIMIT = 20.0


class FleetAction(ActionBase):
    """An action whose module is an operation; subclasses say which."""

    _supports_check_mode = True
    _supports_async = False

    operation = ""
    argument_spec: Mapping[str, Any] = {}

    def limit(self, arguments: Mapping[str, Any]) -> float:
        """Seconds that the operation may take by its own options."""
        return 10.0

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        if not self._task.args.get("balancers"):
            result.update(self._execute_module(task_vars=variables))
            return result
        arguments: dict[str, Any]
        _result, arguments = self.validate_argument_spec(argument_spec=dict(self.argument_spec))
        remote = Remote(variables, self._task, self._play_context, self._templar)
        try:
            result.update(self._on_all(remote, arguments, variables))
        except RolloutError as error:
            result.update(failed=True, msg=str(error), code=error.code, hint=error.hint)
        return result

    def _on_all(self, remote: Remote, arguments: dict[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
        balancers = arguments.pop("balancers")
        unknown = [name for name in balancers if name not in variables["hostvars"]]
        if unknown or len(set(balancers)) != len(balancers):
            raise BadInput(f"balancers must be hosts of the inventory, each once, got {', '.join(balancers)}.")
        check = bool(self._task.check_mode)
        limit = self.limit(arguments)
        replies = remote.run({name: Call(self.operation, arguments, limit) for name in balancers}, check)
        failed = {name: reply.error for name, reply in replies.items() if reply.error is not None}
        results = {name: dict(reply.result) for name, reply in replies.items() if reply.ok}
        diffs = [self._diff_of(name, each.pop("diff")) for name, each in results.items() if "diff" in each]
        merged: dict[str, Any] = {
            "changed": any(reply.changed for reply in replies.values()),
            "balancers": results,
        }
        if self._task.diff:
            merged["diff"] = diffs
        if failed:
            undone = self._undo(remote, replies, arguments) if not check else {}
            first = next(iter(failed.values()))
            words = "; ".join(f"{name}: {error.message}" for name, error in failed.items())
            merged.update(
                failed=True,
                changed=not all(undone.values()),
                msg=" ".join(filter(None, (words, first.hint, _what_was_undone(undone)))),
                code=first.code,
                hint=first.hint,
                undone=undone,
            )
        return merged

    def _undo(self, remote: Remote, replies: Mapping[str, Reply], arguments: Mapping[str, Any]) -> dict[str, bool]:
        """Put back, where the operation went through, what it changed; by balancer, whether that went well."""
        calls = {}
        for name, reply in replies.items():
            if reply.ok and reply.changed:
                params = {key: arguments.get(key) for key in (*BALANCER, "pool") if key != "balancers"}
                params["settings"] = reply.result["before"]
                if arguments.get("service"):
                    params.update(service=arguments["service"], by_hand=True)
                    if arguments.get("state") == "ready":
                        params["return_to"] = reply.result["return_to"]  # it waits again to be put back
                calls[name] = Call("pool_put_back", params, _UNDO_LIMIT)
        return {name: reply.ok for name, reply in remote.run(calls).items()}

    @staticmethod
    def _diff_of(name: str, diff: Mapping[str, Any]) -> dict[str, Any]:
        return {"before_header": name, "after_header": name, **diff}


def _what_was_undone(undone: Mapping[str, bool]) -> str:
    good = [name for name, well in undone.items() if well]
    bad = [name for name, well in undone.items() if not well]
    words = []
    if good:
        words.append(f"Put back as it was on {', '.join(good)}.")
    if bad:
        words.append(f"It could not be put back on {', '.join(bad)}: look there.")
    return " ".join(words)
