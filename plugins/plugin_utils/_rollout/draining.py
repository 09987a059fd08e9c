# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Drain: no new work for the batch, and nothing in flight; or everything as it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import Stopped
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Reply
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.joined import (
    are_back,
    floor_forbids,
    waiting_members,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.member_sockets import ask_members, first_look
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import MemberRecord
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.returning import Returning
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.step import Batch, Outcome, named


class Draining(Returning):
    """The first phase of a batch, which may put back the batch before it by the same change."""

    def drain(self) -> Outcome:
        """No new work for the batch on any balancer, and nothing in flight any more.

        An earlier batch that waits for it is put back by the same change; whatever goes wrong, it is put back.
        """
        if self.record.stop_asked and not self.batch.back:
            self.record.halt("stop", Stopped(f"{self.record.stop_asked} asked the run to stop."), [])
        waiting = waiting_members(self.record, self.batch.hosts)
        if self.record.canary.get("end") and not self.batch.back:
            return Outcome(f"not started: the canary holds, since {self.record.canary['end']}")
        if self.record.stop and not self.batch.back:
            returned = self._put_back_alone(waiting)
            return Outcome(f"{returned}not started: the rollout has stopped", changed=bool(returned))
        hosts = list(self.batch.hosts)
        since = self.record.now()
        for member in self.members():
            member.out_at = member.out_at if member.out_at is not None else since
        self.record.save()
        self.fleet.revive()
        along = first_look(self.fleet, self.members())
        replies = self.take_out(hosts, keep_floor=True, waiting=waiting, along=along, must_last=not self.batch.back)
        failed = {name: reply for name, reply in replies.items() if not reply.ok}
        if not failed:
            error = ask_members(self.fleet, self.members(), replies, self.record.now() - since)
            failed = {hosts[0]: Reply(hosts[0], error=error)} if error is not None else {}
        self.note_reloads("drain", replies)
        for balancer, reply in replies.items():
            self._note_before(balancer, reply)
        words = ""
        if waiting:
            if are_back(replies, self.joining()):
                words = self._note_joined(waiting, replies, since)
            else:
                words = self._put_back_alone(waiting)
                if floor_forbids(failed):
                    self.undo(
                        self.members(), {name: each.result["before"] for name, each in replies.items() if each.ok}
                    )
                    after = self.drain()
                    return replace(after, message=words + after.message, changed=True)
        if not failed:
            failed = self._begin_work()
        if failed:
            outcome = self._undo_drain(hosts, replies, failed)
            return replace(outcome, message=words + outcome.message, changed=bool(words))
        self._note_drained(replies, since)
        message = f"{words}{', '.join(hosts)} drained in {self.record.now() - since:.2f} s"
        cut = sum(member.cut for member in self.members())
        if cut:
            message += f", {cut} cut at the limit"
        self.record.event("drain", hosts, since, message)
        return Outcome(message, changed=any(reply.changed for reply in replies.values()))

    def _put_back_alone(self, members: Sequence[MemberRecord]) -> str:
        """Members that waited for a drain that does not come go back by themselves; what is to be said of it."""
        if not members:
            return ""
        batch = Batch(tuple(member.host for member in members), back=False, alone=True)
        return type(self)(self.settings, self.remote, self.record, batch, self.check).put_back().message + "; "

    def _note_joined(self, members: Sequence[MemberRecord], replies: Mapping[str, Reply], since: float) -> str:
        """Those that waited serve again, from the moment of the change on."""
        after = [
            float(reply.result["exchanged_after"]) for reply in replies.values() if "exchanged_after" in reply.result
        ]
        at = min(self.record.now(), since + max(after, default=0.0))
        if self.record.first_new_at is None:
            self.record.first_new_at = since
        for member in members:
            member.is_back(at)
            member.state = "finished"
        message = f"{', '.join(member.host for member in members)} in service by the same reload"
        self.record.event("put back", [member.host for member in members], since, message)
        return message + "; "

    def _begin_work(self) -> dict[str, Reply]:
        """From here on nobody but a run may put these members back; the balancers that could not be told so."""
        for member in self.members():
            member.opened = True
        failed = {place: reply for place, reply in self.fleet.run(self.fleet.notes()).items() if not reply.ok}
        for member in self.members() if failed else []:
            member.opened = False
        return failed

    def _note_before(self, balancer: str, reply: Reply) -> None:
        for host, setting in self.fleet.by_host(balancer, reply.result.get("return_to", {})).items():
            self.record.members[host].before.setdefault(balancer, setting)

    def _note_drained(self, replies: Mapping[str, Reply], since: float) -> None:
        now = self.record.now()
        for balancer, reply in replies.items():
            for host, facts in self.fleet.by_host(balancer, reply.result.get("members", {})).items():
                member = self.record.members[host]
                member.cut += int(facts.get("cut", 0))
                for kind, count in facts.get("cut_kinds", {}).items():
                    member.cut_kinds[kind] = member.cut_kinds.get(kind, 0) + count
                self._note_left(balancer, host, facts)
        for member in self.members():
            if member.state in ("untouched", "finished"):
                member.state = "upgraded" if member.keeps else "drained"
            member.drained_at = now
            member.seconds["drain"] = member.seconds.get("drain", 0.0) + now - since
            if member.release == self.record.to_version:
                self.record.last_new_at = now
            else:
                self.record.last_old_at = now

    def _note_left(self, balancer: str, host: str, facts: Mapping[str, Any]) -> None:
        """What was not cut and not waited for either."""
        tied = facts.get("tied", {})
        if tied.get("at_end"):
            self.record.notes.append(
                f"{host} got {tied['requests']} requests of clients that are tied to it in the session grace on "
                f"{balancer}, {tied['at_end']} of them in its last second: these clients were moved to other members"
            )
        if facts.get("undecided"):
            self.record.notes.append(
                f"{facts['undecided']} idle clients of an older process of {balancer} may still have been sent to {host}"
            )

    def _undo_drain(self, hosts: Sequence[str], replies: Mapping[str, Reply], failed: Mapping[str, Reply]) -> Outcome:
        """One balancer refused or was lost: on the others the batch goes back to what it was just before.

        A balancer that refuses has undone its own part; one that was lost may
        or may not have drained, which the message leaves to the reader.
        """
        name, reply = next(iter(failed.items()))
        error = named(name, reply.error)
        before = {balancer: each.result["before"] for balancer, each in replies.items() if each.ok}
        self.undo(self.members(), before)
        self.record.halt("drain", error, list(hosts))
        return Outcome(f"not drained: {error}", changed=False, error=error)
