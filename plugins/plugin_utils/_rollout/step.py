# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What all phases of a batch have in common: its members, taking out and undoing, and what the record is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    Refused,
    RolloutError,
    Unhealthy,
    Unreachable,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Call, Remote, Reply
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.fleet import Fleet
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import MemberRecord, Record
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import MAINTAIN, RECOVER, ROLLING, Settings

# Undoing a drain waits until the balancer lets the members serve again, but for no traffic.
_UNDO_LIMIT = 20.0
_UNDO_LOOK = {"requests": 0, "seconds": 0.0, "timeout": _UNDO_LIMIT, "max_errors": 1_000_000}


@dataclass(frozen=True)
class Outcome:
    """What a phase did, for the playbook's output."""

    message: str
    changed: bool = False
    error: RolloutError | None = None


@dataclass(frozen=True)
class Batch:
    """The members of a batch, and which way it goes."""

    hosts: tuple[str, ...]
    back: bool  # to the release each member had before
    alone: bool = False  # put back at once, also where that could be one change with the next drain

    def release(self, member: MemberRecord, record: Record) -> str | None:
        stays = self.back or record.strategy in (MAINTAIN, RECOVER)
        return member.release_before if stays else record.to_version


class Step:
    """A phase's ground: the batch, the fleet and the record."""

    def __init__(self, settings: Settings, remote: Remote, record: Record, batch: Batch, check: bool) -> None:
        self.settings = settings
        self.remote = remote
        self.record = record
        self.batch = batch
        self.check = check
        self.fleet = Fleet(settings, remote, record, check)

    def members(self, *states: str) -> list[MemberRecord]:
        """The batch's members in one of these states; all of them when none is named."""
        chosen = [self.record.members[host] for host in self.batch.hosts]
        return [member for member in chosen if not states or member.state in states]

    def settings_before(self, hosts: Sequence[str]) -> dict[str, dict[str, Any]]:
        """By balancer and by its name of the member: what to return to."""
        members = [self.record.members[host] for host in hosts]
        found = {
            balancer: {
                member.names[balancer]: member.before[balancer] for member in members if balancer in member.before
            }
            for balancer in self.record.balancers
        }
        return {balancer: settings for balancer, settings in found.items() if settings}

    def joining(self) -> list[str]:
        """The places whose next change puts back those that wait, and drains this batch."""
        return [name for name in self.fleet.layers[0] if self.record.place(name).by_reload]

    def take_out(
        self,
        hosts: Sequence[str],
        keep_floor: bool,
        waiting: Sequence[MemberRecord] = (),
        along: Mapping[str, Call] | None = None,
        must_last: bool = False,
        bounds: Mapping[str, Mapping[str, float]] | None = None,
        only_new: bool = False,
    ) -> dict[str, Reply]:
        """Drain on one layer after the other, outermost first; a layer that fails is the last.

        ``along`` are calls to other hosts that run beside the first of them. On the way forward a drain that would not
        outlive a reload is refused, where the settings say so. What does badly goes out in any case. ``bounds`` are what
        each place may come to carry until then. With ``only_new`` clients that are tied to a member still come to it.
        """
        settings = self.settings_before([member.host for member in waiting])
        returning = {name: settings[name] for name in self.joining() if name in settings}
        limit = self.settings.floor_wait + self.settings.session_grace + self.settings.longest_drain
        replies: dict[str, Reply] = {}
        for places in self.fleet.layers:
            required = self.settings.layers[self.record.place(places[0]).layer].lasting
            calls = self.fleet.calls(
                "pool_drain",
                hosts,
                limit,
                places=places,
                keep_floor=keep_floor,
                beside=bool(self.record.window),
                lasting="accept" if required == "require" and not must_last else required,
                returning=returning if places == self.fleet.layers[0] else None,
                wait_for_floor=self.settings.floor_wait,
                only_new=only_new,
                session_grace=0.0 if only_new else self.settings.session_grace,
                timeout=self.settings.drain_timeout,
                on_timeout=self.settings.on_drain_timeout,
                long_after=self.settings.long_after,
                long_timeout=self.settings.long_timeout,
                on_long_timeout=self.settings.on_long_timeout,
                idle_timeout=self.settings.idle_timeout,
                on_idle_timeout=self.settings.on_idle_timeout,
            )
            for place, bound in (bounds or {}).items():
                if place in calls and bound:
                    calls[place] = replace(calls[place], params={**calls[place].params, "bounds": bound})
            found = self.fleet.run({**calls, **(along or {})})
            along = None
            replies.update({name: reply for name, reply in found.items() if name in calls})
            if not all(reply.ok for reply in replies.values()):
                break
        return replies

    def undo(
        self, members: Sequence[MemberRecord], before: Mapping[str, Mapping[str, Any]], limit: float = _UNDO_LIMIT
    ) -> None:
        """Members on which nothing was done serve again as they did; ``before`` says how, by place."""
        if before and not self.check:
            look = {**_UNDO_LOOK, "timeout": limit}
            calls = self.fleet.calls(
                "pool_put_back", [member.host for member in members], limit, settings=before, look=look
            )
            undone = self.fleet.ask(calls)
            stuck = [balancer for balancer, each in undone.items() if not each.ok]
            for member in members if stuck else []:
                member.state = "left_out"
                member.trouble = f"still out of service on {', '.join(stuck)}"
        for member in members:
            if member.state in ("untouched", "finished", "drained"):
                self.is_back(member)

    def note_reloads(self, phase: str, replies: Mapping[str, Reply]) -> None:
        """Say which balancers serve with another process than when they were last seen: somebody reloaded them."""
        for place, reply in replies.items():
            result = reply.result
            if place not in self.record.balancers or not result.get("identity"):
                continue
            known = self.record.identities.get(place, result["identity_before"])
            if result["identity_before"] != known or result.get("reloads_seen"):
                hosts = ", ".join(self.batch.hosts)
                self.record.notes.append(
                    f"{place} was reloaded or restarted by someone else before or in the {phase} of {hosts}; "
                    "it was brought to the state that the rollout needs"
                )
            self.record.identities[place] = result["identity"]

    def balancers_that_failed(self, phase: str, replies: Mapping[str, Reply]) -> list[RolloutError]:
        """What went wrong with a balancer itself; the rollout stops, but healthy members still go back."""
        problems = []
        for balancer in self.record.balancers:
            error = replies[balancer].error if balancer in replies else None
            if error is not None and not isinstance(error, Unhealthy):
                problems.append(named(balancer, error))
                self.record.halt(phase, problems[-1], [])
        return problems

    def is_back(self, member: MemberRecord) -> None:
        """It serves again."""
        member.is_back(self.record.now())
        member.opened = False
        if member.state == "drained":
            goes_back = self.batch.back and member.release == self.record.to_version
            member.state = "finished" if goes_back else "untouched"

    def set_aside(self, member: MemberRecord, phase: str, error: RolloutError) -> RolloutError:
        """A member that does not go on with its batch; the rollout stops with the first reason."""
        lost = isinstance(error, Unreachable) and bool(error.facts.get("lost"))
        if self.batch.back:
            member.state = "left_out"
        else:
            member.state = "lost" if lost else "failed"
        member.trouble = error.message
        budget = self.settings.max_failed_members
        failed = sum(each.state in ("failed", "lost") for each in self.record.members.values())
        if not self.batch.back and self.settings.strategy == ROLLING and failed <= budget:
            self.record.forgive(phase, error, [member.host])
            return error
        if budget and not self.batch.back:
            error.hint = f"{failed} members failed, and rollout_max_failed_members is {budget}. {error.hint}".rstrip()
        self.record.halt(phase, error, [member.host])
        return error


def named(host: str, error: RolloutError | None) -> RolloutError:
    """The error with the host's name in its message."""
    error = error or Refused("no reason given")
    if host not in error.message:
        error.message = f"{host}: {error.message}"
    return error
