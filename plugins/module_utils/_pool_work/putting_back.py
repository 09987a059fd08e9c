# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Back into service: health in the balancer's eyes first, then new work and a look under it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import Unhealthy
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Admin, Health, Pool, Setting
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work.look import Watch, cannot_look
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work.ramp import RampOrder
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work.wanted import LookOrder
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work.words import last_check, outcome
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work.work import Work


class Return(Work):
    """Members on their way back."""

    def bring_to_health(self, names: Sequence[str], limit: float, interval: float, check: bool) -> dict[str, Any]:
        before = self.read(names)
        members = before.chosen(names)
        todo = [member.name for member in members if member.admin is not Admin.READY]
        after = {
            member.name: Setting(
                Admin.DRAIN if member.name in todo and not self.driver.by_reload else member.admin, member.weight
            )
            for member in members
        }
        result = {
            **outcome(before, after),
            "identity_before": before.identity,
            "identity": before.identity,
            "members": {
                member.name: {
                    "waited": 0.0,
                    "health": member.health.value,
                    "checked": member.health is not Health.UNCHECKED,
                }
                for member in members
            },
            "reloads_seen": 0,
        }
        if check:
            return result
        down = [member.name for member in members if member.admin is Admin.READY and member.health is Health.DOWN]
        if down:
            self.driver.lift(self.pool, down)
        self.driver.prepare_return(self.pool, todo)
        try:
            self._wait_until_healthy(names, todo, limit, interval, result)
        except Unhealthy as error:
            ill = [name for name in todo if name in error.facts["members"]]
            self.driver.hold_out(self.pool, ill)
            raise
        return result

    def _wait_until_healthy(
        self, names: Sequence[str], todo: Sequence[str], limit: float, interval: float, result: dict[str, Any]
    ) -> None:
        start = self.clock.now()
        waiting = list(names)
        while True:
            pool = self.read(names)
            if pool.identity != result["identity"]:
                result["identity"] = pool.identity
                result["reloads_seen"] += 1
                self.driver.prepare_return(self.pool, todo)
                waiting = list(names)
                continue
            for member in pool.chosen(list(waiting)):
                if member.health in (Health.UP, Health.STARTING, Health.UNCHECKED):
                    waiting.remove(member.name)
                    result["members"][member.name] = {
                        "waited": round(self.clock.now() - start, 4),
                        "health": member.health.value,
                        "checked": member.health is not Health.UNCHECKED,
                    }
            if not waiting:
                return
            if self.clock.now() - start >= limit:
                last = {member.name: last_check(member) for member in pool.chosen(waiting)}
                words = ", ".join(f"{name} ({check})" for name, check in last.items())
                raise Unhealthy(
                    f"Not healthy in the balancer's eyes after {limit:g} s in {self.pool!r}: {words}.",
                    "It gets no new work. See why its check fails.",
                    pool=self.pool,
                    members=last,
                )
            self.rest(interval)

    def put_back(
        self,
        settings: Mapping[str, Setting],
        look: LookOrder | None,
        interval: float,
        check: bool,
        ramp: RampOrder | None = None,
    ) -> dict[str, Any]:
        names = list(settings)
        self.check_weights({name: setting.weight for name, setting in settings.items()})
        before = self.read(names)
        result = {
            **outcome(before, settings),
            "identity_before": before.identity,
            "identity": before.identity,
            "reloads_seen": 0,
        }
        if check:
            return {**result, "members": {name: {} for name in names}}
        result["members"] = {name: {} for name in names}
        if ramp is not None:
            failed = self._climb(settings, ramp, interval, result)
            settings = {name: setting for name, setting in settings.items() if name not in failed}
            result["members"].update(failed)
            before = self.read(names)
        after = self.apply_and_confirm(settings, before)
        result["identity"] = after.identity
        if look is not None:
            ready = {name: setting for name, setting in settings.items() if setting.admin is Admin.READY}
            result["members"].update(self._look(ready, look, interval, after, result))
        return result

    def _climb(
        self, settings: Mapping[str, Setting], ramp: RampOrder, interval: float, result: dict[str, Any]
    ) -> dict[str, dict[str, Any]]:
        """Let the members in step by step; those that fail at one go out again, and are returned."""
        failed: dict[str, dict[str, Any]] = {}
        for step in ramp.steps:
            wanted = {name: one for name, one in ramp.at(step, settings).items() if name not in failed}
            if not wanted:
                continue
            after = self.apply_and_confirm(wanted, self.read(list(wanted)))
            result["identity"] = after.identity
            looks = self._look(wanted, ramp.look, interval, after, result)
            ill = {name: one for name, one in looks.items() if one["look"] == "fail"}
            if ill:
                self.driver.hold_out(self.pool, list(ill))
            for name, one in ill.items():
                failed[name] = {**one, "reason": f"at {step} % of its weight, {one['reason']}", "step": step}
        return failed

    def _look(
        self, settings: Mapping[str, Setting], look: LookOrder, interval: float, first: Pool, result: dict[str, Any]
    ) -> dict[str, dict[str, Any]]:
        if not self.driver.capabilities().counts_requests:
            return {name: cannot_look() for name in settings}
        watches = {name: Watch(first.member(name)) for name in settings}
        identity = first.identity
        start = self.clock.now()
        while watches:
            pool = self.read(list(settings))
            elapsed = self.clock.now() - start
            if pool.identity != identity:
                identity = result["identity"] = pool.identity
                result["reloads_seen"] += 1
                for watch in watches.values():
                    watch.restart()
                pool = self.apply_and_confirm(settings, pool)
            for name, watch in watches.items():
                watch.see(pool.member(name), look, elapsed)
            if all(watch.verdict for watch in watches.values()):
                break
            self.rest(interval)
        return {name: watch.to_dict() for name, watch in watches.items()}
