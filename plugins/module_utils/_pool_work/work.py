# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What every operation on a pool of a balancer is made of: read, apply and confirm, weigh, undo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils import _caller
from ansible_collections.zerodrop.rollout.plugins.module_utils._addresses import address_towards, local_addresses
from ansible_collections.zerodrop.rollout.plugins.module_utils._drivers.base import Clock, Driver
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    BadInput,
    ChangedByOther,
    LeaseLost,
    RolloutError,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Member, Pool, Setting
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work.words import outcome, words_for

# What waiting may use of a processor: a little at once, since most waits are over soon, and then a share of one core.
_SECONDS_AT_ONCE = 0.1
_SHARE_OF_A_CORE = 0.04
_SLOWEST_SAMPLE = 1.0


class Work:
    """One operation on one pool of one balancer."""

    def __init__(self, pool: str, driver: Driver, clock: Clock) -> None:
        self.pool = pool
        self.clock = clock
        self.driver = driver
        self._began = clock.now()
        self._used = clock.cpu()

    def read(self, names: Sequence[str]) -> Pool:
        """The pool now, with all these members; raises ``UnknownPool`` and ``UnknownMember``."""
        pool = self.driver.read(self.pool)
        pool.chosen(names)
        return pool

    def apply_and_confirm(self, settings: Mapping[str, Setting], before: Pool) -> Pool:
        self.apply(settings, {member.name: member for member in before.chosen(list(settings))})
        after = self.read(list(settings))
        if after.identity != before.identity:
            self.apply(settings, {member.name: member for member in after.chosen(list(settings))})
            after = self.read(list(settings))
        for name, setting in settings.items():
            found = after.member(name).setting
            if found != setting:
                raise ChangedByOther(
                    f"{self.pool}/{name} was made {words_for(setting)}, but is {words_for(found)}.",
                    "See who else works on this balancer, then run this again.",
                    member=name,
                )
        return after

    def apply(self, settings: Mapping[str, Setting], now: Mapping[str, Member]) -> None:
        self.driver.apply(self.pool, settings, now)

    def towards(self, names: Sequence[str]) -> dict[str, dict[str, Any]]:
        """For the member's own host: the addresses that this balancer may come from, and its idle connections."""
        pooled = self.driver.pooled(self.pool, names)
        own = local_addresses()
        found = {}
        for member in self.read(names).chosen(names):
            towards = address_towards(member.address, member.port) if member.port else ""
            if towards:
                found[member.name] = {
                    "addresses": sorted({towards, *own}),
                    "pooled": pooled[member.name],
                    "port": member.port,
                }
        return found

    def undo(self, was: Mapping[str, Setting]) -> dict[str, Any]:
        """Put members back to what they were; what went wrong with it, as facts for the error that led here."""
        try:
            now = {member.name: member for member in self.read(list(was)).chosen(list(was))}
            self.apply(was, now)
        except LeaseLost as error:
            error.facts["undone"] = False
            raise  # whatever went wrong is another run's doing then, and what is undone is that one's to say
        except RolloutError as error:
            return {"undone": False, "undo_error": str(error)}
        return {"undone": True}

    def check_weights(self, weights: Mapping[str, int]) -> None:
        limit = self.driver.capabilities().max_weight
        for name, weight in weights.items():
            if weight > limit:
                raise BadInput(f"The weight of {name!r} is {weight}; this balancer takes 0 to {limit}.")

    def weigh(self, weights: Mapping[str, int], check: bool) -> dict[str, Any]:
        self.check_weights(weights)
        before = self.read(list(weights))
        members = before.chosen(list(weights))
        after = {member.name: Setting(member.admin, weights[member.name]) for member in members}
        if not check:
            todo = [member for member in members if member.weight != weights[member.name]]
            try:
                self.set_weights({member.name: weights[member.name] for member in todo})
            except RolloutError as error:
                error.facts.update(self.undo({member.name: member.setting for member in todo}))
                raise
        return {**outcome(before, after), "identity": before.identity}

    def set_weights(self, weights: Mapping[str, int]) -> None:
        if weights:
            self.driver.weigh(self.pool, weights)

    def rest(self, interval: float) -> None:
        """Wait for the next sample, longer where sampling itself is expensive (thousands of members)."""
        used = self.clock.cpu() - self._used - _SECONDS_AT_ONCE
        due = used / _SHARE_OF_A_CORE - (self.clock.now() - self._began)
        self.pause(min(max(interval, due), max(interval, _SLOWEST_SAMPLE)))

    def pause(self, seconds: float) -> None:
        """Wait; raises ``Unreachable`` when whoever asked for this work is gone, so that it undoes what it can."""
        _caller.require("work on the pool")
        self.clock.sleep(seconds)
