# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The phases of a whole slot that gets no traffic: wait for what it still has, upgrade, gate. No balancer is changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import Stopped, TimedOut
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Call, Remote, Reply
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.batch import Phases
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.fleet import Fleet
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import Record
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.step import Batch, Outcome, named
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import BlueGreen, Settings


class _SlotFleet(Fleet):
    def call(self, place: str, operation: str, limit: float, params: Mapping[str, Any]) -> Call:
        """Members of an idle slot are out of nothing: they are only waited for until the balancer sees them healthy."""
        return super().call(place, "pool_healthy" if operation == "pool_return" else operation, limit, params)


class SlotPhases(Phases):
    """The phases of the idle slot."""

    settings: BlueGreen

    def __init__(self, settings: Settings, remote: Remote, record: Record, batch: Batch, check: bool) -> None:
        super().__init__(settings, remote, record, batch, check)
        self.fleet = _SlotFleet(settings, remote, record, check)

    def drain(self) -> Outcome:
        """Nothing that the last flip left behind is in flight on the slot any more."""
        record, hosts = self.record, list(self.batch.hosts)
        if record.stop_asked:
            record.halt("stop", Stopped(f"{record.stop_asked} asked the run to stop."), [])
        if record.stop:
            return Outcome("not started: the rollout has stopped")
        since = record.now()
        touched = [member for member in self.members() if not member.keeps]
        if touched and not self.check:
            failed = self._wait(hosts) or self._begin_work()
            for name, reply in failed.items():
                error = named(name, reply.error)
                record.halt("drain", error, hosts)
                return Outcome(f"not touched: {error}", error=error)
        for member in self.members():
            member.state = "upgraded" if member.keeps else "drained"
            member.drained_at = record.now()
        message = f"{record.slots['idle']} has nothing in flight: {', '.join(hosts)}"
        record.event("drain", hosts, since, message)
        return Outcome(message)

    def _wait(self, hosts: list[str]) -> dict[str, Reply]:
        limit = self.settings.old_work_timeout
        then = self.settings.old_work
        replies = self.fleet.run(self.fleet.calls("pool_watch", hosts, limit, timeout=limit, on_timeout=then))
        for place, reply in replies.items():
            if reply.ok and reply.result["left"]:
                left = sum(reply.result["left"].values())
                error = TimedOut(
                    f"{left} requests or connections are still in flight on the slot that is to be upgraded, after {limit:g} s.",
                    "Wait, raise rollout_old_work_timeout, or have them ended: rollout_old_work=cut.",
                )
                replies[place] = Reply(place, error=error)
        return {place: reply for place, reply in replies.items() if not reply.ok}

    def take_out(self, *_hosts: Any, **_more: Any) -> dict[str, Reply]:
        """A member that failed gets no traffic anyway."""
        return {}

    def put_back(self) -> Outcome:
        """It is ready for the flip."""
        members = self.members("healthy")
        for member in members:
            member.state = "finished"
        if not members:
            return Outcome("nothing is ready")
        return Outcome(f"{self.record.slots['idle']} is ready on {self.record.to_version}")


def phases_of(settings: Settings, remote: Remote, record: Record, batch: Batch, check: bool) -> Phases:
    """The phases of this strategy."""
    return (SlotPhases if isinstance(settings, BlueGreen) else Phases)(settings, remote, record, batch, check)
