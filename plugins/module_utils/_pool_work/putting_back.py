# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Back into service: health in the balancer's eyes first, then new work and a look under it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import Unhealthy
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Admin, Health, Member, Pool, Setting
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work import own_view
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work.logged import Logged
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work.look import Watch, cannot_look
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work.own_view import ViewOrder
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work.ramp import RampOrder
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work.wanted import LookOrder
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work.words import last_check, outcome
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work.work import Work


class Return(Work):
    """Members on their way back."""

    def bring_to_health(
        self, names: Sequence[str], limit: float, interval: float, check: bool, view: ViewOrder | None = None
    ) -> dict[str, Any]:
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
        start = self.clock.now()
        asked = [member for member in members if view is not None and view.chooses(member)]
        # Those without a check stay out until they were asked: once draining, clients that are tied to them come back.
        unseen = [member.name for member in asked if member.health is Health.UNCHECKED and member.name in todo]
        self.driver.prepare_return(self.pool, [name for name in todo if name not in unseen])
        reasons = own_view.ask(asked, view, limit) if view is not None and asked else {}
        well = [name for name in names if name not in reasons]
        lifted = [name for name in todo if name in well]
        if unseen:
            self.driver.prepare_return(self.pool, [name for name in unseen if name in well])
        for member in asked:
            result["members"][member.name]["asked"] = True
        try:
            if well:
                rest = max(0.0, limit - (self.clock.now() - start))
                self._wait_until_healthy(well, lifted, rest, interval, result)
        except Unhealthy as error:
            reasons.update(error.facts["members"])
        if reasons:
            self.driver.hold_out(self.pool, [name for name in todo if name in reasons and name not in unseen])
            raise self._unhealthy(reasons, limit)
        return result

    def _unhealthy(self, reasons: Mapping[str, str], limit: float) -> Unhealthy:
        words = ", ".join(f"{name} ({reason})" for name, reason in reasons.items())
        return Unhealthy(
            f"Not healthy in the balancer's eyes after {limit:g} s in {self.pool!r}: {words}.",
            "It gets no new work. See why its check fails, and whether the balancer reaches its address and port.",
            pool=self.pool,
            members=dict(reasons),
        )

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
                    result["members"][member.name].update(
                        waited=round(self.clock.now() - start, 4),
                        health=member.health.value,
                        checked=member.health is not Health.UNCHECKED,
                    )
            if not waiting:
                return
            if self.clock.now() - start >= limit:
                raise self._unhealthy({one.name: last_check(one) for one in pool.chosen(waiting)}, limit)
            self.rest(interval)

    def put_back(
        self,
        settings: Mapping[str, Setting],
        look: LookOrder | None,
        interval: float,
        check: bool,
        ramp: RampOrder | None = None,
        log: Logged | None = None,
    ) -> dict[str, Any]:
        """``log`` is asked beside the balancer's own counters, or instead of them where it has none."""
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
            failed = self._climb(settings, ramp, interval, result, log)
            settings = {name: setting for name, setting in settings.items() if name not in failed}
            result["members"].update(failed)
            before = self.read(names)
        if log is not None and look is not None:
            log.begin(before)
        after = self.apply_and_confirm(settings, before)
        result["identity"] = after.identity
        if look is not None:
            ready = {name: setting for name, setting in settings.items() if setting.admin is Admin.READY}
            result["members"].update(self._look(ready, look, interval, after, result, log))
        return result

    def _climb(
        self,
        settings: Mapping[str, Setting],
        ramp: RampOrder,
        interval: float,
        result: dict[str, Any],
        log: Logged | None,
    ) -> dict[str, dict[str, Any]]:
        """Let the members in step by step; those that fail at one go out again, and are returned."""
        failed: dict[str, dict[str, Any]] = {}
        for step in ramp.steps:
            wanted = {name: one for name, one in ramp.at(step, settings).items() if name not in failed}
            if not wanted:
                continue
            before = self.read(list(wanted))
            if log is not None:
                log.begin(before)
            after = self.apply_and_confirm(wanted, before)
            result["identity"] = after.identity
            looks = self._look(wanted, ramp.look, interval, after, result, log)
            ill = {name: one for name, one in looks.items() if one["look"] == "fail"}
            if ill:
                self.driver.hold_out(self.pool, list(ill))
            for name, one in ill.items():
                failed[name] = {**one, "reason": f"at {step} % of its weight, {one['reason']}", "step": step}
        return failed

    def _look(
        self,
        settings: Mapping[str, Setting],
        look: LookOrder,
        interval: float,
        first: Pool,
        result: dict[str, Any],
        log: Logged | None,
    ) -> dict[str, dict[str, Any]]:
        if log is None and not self.driver.capabilities().counts_requests:
            return {name: cannot_look() for name in settings}
        watches = {name: Watch(first.member(name), _others(first, settings)) for name in settings}
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
            if log is not None:
                log.read()
            for name, watch in watches.items():
                others = _others(pool, settings)
                if log is None:
                    watch.see(pool.member(name), look, elapsed, others=others)
                else:
                    watch.see(pool.member(name), look, elapsed, log.of(name), log.trouble, others)
            if all(watch.verdict for watch in watches.values()):
                break
            self.rest(interval)
        return {name: watch.to_dict() for name, watch in watches.items()}


def _others(pool: Pool, settings: Mapping[str, Setting]) -> list[Member]:
    """The members that serve beside those that are looked at."""
    return [member for member in pool.members if member.in_service and member.name not in settings]
