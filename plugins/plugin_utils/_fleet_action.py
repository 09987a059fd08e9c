# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A module on a whole fleet: the same operation on every balancer at once, undone on all when one refuses.

Where members are in several pools, it is done on one after the other. Without ``balancers`` the module runs on
the task's host, as any module does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.zerodrop.rollout.plugins.module_utils._argspec import BALANCER
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput, RolloutError
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Pool
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._inventory import hosts_of
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._members import find_members
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Call, Remote, Reply
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import pools as checked_pools

_UNDO_LIMIT = 20.0
_READ_LIMIT = 10.0


class FleetAction(ActionBase):
    """An action whose module is an operation; subclasses say which."""

    _supports_check_mode = True
    _supports_async = False

    operation = ""
    argument_spec: Mapping[str, Any] = {}

    def limit(self, arguments: Mapping[str, Any]) -> float:
        """Seconds that the operation may take by its own options."""
        return 10.0

    def afterwards(self, remote: Remote, hosts: list[str], arguments: Mapping[str, Any]) -> dict[str, Any]:
        """What is to be done once all balancers have done theirs; what it adds to the result, or changes of it."""
        return {}

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        given = self._task.args
        if not given.get("balancers") and not given.get("pools"):
            if given.get("hosts"):
                result.update(
                    failed=True, msg="hosts are found on the balancers of a fleet: give balancers or pools too."
                )
            else:
                result.update(self._execute_module(task_vars=variables))
            return result
        arguments: dict[str, Any]
        _result, arguments = self.validate_argument_spec(argument_spec=dict(self.argument_spec))
        remote = Remote(variables, self._task, self._play_context, self._templar)
        self._done: list[tuple[Mapping[str, Reply], Mapping[str, Any], Mapping[str, Call]]] = []
        hosts = list(arguments.get("hosts") or [])
        try:
            result.update(self._on_layers(remote, arguments, variables))
            if not result.get("failed") and not self._task.check_mode:
                result.update(self.afterwards(remote, hosts, arguments))
        except RolloutError as error:
            result.update(failed=True, msg=str(error), code=error.code, hint=error.hint)
        return result

    def _on_layers(self, remote: Remote, arguments: dict[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
        """On one pool after the other: outermost first, and innermost first to put back. All of them, or none."""
        pools = arguments.pop("pools", None)
        if pools in (None, "", []):
            return self._on_all(remote, arguments, self._calls(remote, arguments, variables))
        if arguments.get("balancers") or arguments.get("pool"):
            raise BadInput("Each of pools has its own balancers and pool.", "Leave out balancers and pool beside it.")
        layers = [self._layer(each, arguments, variables) for each in checked_pools(pools, "pools")]
        # Every pool has been read before the first is changed.
        prepared = [(each, self._calls(remote, each, variables)) for each in layers]
        merged: dict[str, Any] = {"changed": False, "balancers": {}}
        for layer, calls in reversed(prepared) if arguments.get("state") == "ready" else prepared:
            found = self._on_all(remote, layer, calls)
            seen = found.pop("balancers")
            twice = set(seen) & set(merged["balancers"])
            merged["balancers"].update(
                {f"{n} ({layer['pool']})" if n in twice else n: each for n, each in seen.items()}
            )
            if "diff" in found:
                merged.setdefault("diff", []).extend(found.pop("diff"))
            changed = merged["changed"] or found.pop("changed")
            merged.update(found, changed=changed)
            if found.get("failed"):
                undone = self._undo_layers(remote)
                merged["msg"] = " ".join(filter(None, (found["msg"], what_was_undone(undone))))
                merged["undone"] = {**undone, **found["undone"]}
                merged["changed"] = not all(merged["undone"].values())
                break
        return merged

    def _layer(
        self, pool: Mapping[str, Any], arguments: Mapping[str, Any], variables: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The arguments for one of several pools."""
        hosts = hosts_of(pool["balancers"], self._loader, variables)
        if not hosts:
            raise BadInput(f"{pool['balancers']!r} of pools matches no host of the inventory.")
        own = {**arguments, **pool, "balancers": hosts}
        own["master_socket"] = {"none": "", "": None}.get(own["master_socket"], own["master_socket"])
        return own

    def _calls(self, remote: Remote, arguments: dict[str, Any], variables: Mapping[str, Any]) -> dict[str, Call]:
        """What each balancer of a pool is asked, with the members as it names them."""
        balancers, hosts = arguments.pop("balancers"), arguments.pop("hosts", None)
        unknown = [name for name in balancers if name not in variables["hostvars"]]
        if unknown or len(set(balancers)) != len(balancers):
            raise BadInput(f"balancers must be hosts of the inventory, each once, got {', '.join(balancers)}.")
        if "members" in self.argument_spec and bool(hosts) == bool(arguments.get("members")):
            raise BadInput("Give either members, by their names in the pool, or hosts.")
        limit = self.limit(arguments)
        names = self._names(remote, balancers, hosts, arguments, variables) if hosts else {}
        return {
            name: Call(self.operation, {**arguments, "members": names[name]} if names else arguments, limit)
            for name in balancers
        }

    def _names(
        self,
        remote: Remote,
        balancers: list[str],
        hosts: list[str],
        arguments: Mapping[str, Any],
        variables: Mapping[str, Any],
    ) -> dict[str, list[str]]:
        """By balancer, the members that the hosts are there."""
        unknown = [host for host in hosts if host not in variables["hostvars"]]
        if unknown:
            raise BadInput(f"{', '.join(unknown)}: not in the inventory.")
        params = {key: arguments.get(key) for key in (*BALANCER, "pool") if key != "balancers"}
        replies = remote.run({name: Call("pool_read", params, _READ_LIMIT) for name in balancers})
        pools = {}
        for name, reply in replies.items():
            if reply.error is not None:
                reply.error.message = f"{name}: {reply.error.message}"
                raise reply.error
            pools[name] = Pool.from_dict(next(p for p in reply.result["pools"] if p["name"] == arguments["pool"]))
        found = find_members(hosts, variables["hostvars"], pools)
        return {name: [found[host][name] for host in hosts] for name in balancers}

    def _on_all(self, remote: Remote, arguments: Mapping[str, Any], calls: Mapping[str, Call]) -> dict[str, Any]:
        check = bool(self._task.check_mode)
        replies = remote.run(calls, check)
        failed = {name: reply.error for name, reply in replies.items() if reply.error is not None}
        results = {name: dict(reply.result) for name, reply in replies.items() if reply.ok}
        diffs = [diff for name, each in results.items() for diff in self._diffs_of(name, each.pop("diff", []))]
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
                msg=" ".join(filter(None, (words, first.hint, what_was_undone(undone)))),
                code=first.code,
                hint=first.hint,
                undone=undone,
            )
        elif not check:
            self._done.append((replies, arguments, calls))
        return merged

    def _undo_layers(self, remote: Remote) -> dict[str, bool]:
        """Put back the pools that were changed before one failed, the last one first."""
        undone: dict[str, bool] = {}
        for replies, arguments, _calls in reversed(self._done):
            undone.update(self._undo(remote, replies, arguments))
        return undone

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
    def _diffs_of(name: str, diffs: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """What an operation would show, of one thing or of several files, with the balancer's name."""
        found = []
        for diff in [diffs] if isinstance(diffs, Mapping) else diffs:
            headers = {
                key: f"{name}: {diff[key]}" if key in diff else name for key in ("before_header", "after_header")
            }
            found.append({**diff, **headers})
        return found


def what_was_undone(undone: Mapping[str, bool]) -> str:
    """In words, where the members are as they were."""
    good = [name for name, well in undone.items() if well]
    bad = [name for name, well in undone.items() if not well]
    words = []
    if good:
        words.append(f"Put back as it was on {', '.join(good)}.")
    if bad:
        words.append(f"It could not be put back on {', '.join(bad)}: look there.")
    return " ".join(words)
