# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Drain: no new work for the batch, and nothing in flight; or everything as it was."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import FloorBroken, RolloutError, Stopped
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._load import Room
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Reply
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout import load
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.handing_over import count_sessions, hand_over
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.joined import (
    are_back,
    floor_forbids,
    waiting_members,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.member_sockets import ask_members, first_look
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import MemberRecord, Record
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.returning import Returning
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.step import Batch, Outcome, named
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import HAND_OVER, SHARED

_LOAD_SAMPLE = 0.5  # seconds between two looks whether the load lets a batch begin


class Draining(Returning):
    """The first phase of a batch, which may put back the batch before it by the same change."""

    _load_deadline: float | None = None  # until when it is waited for a load that lets the batch go

    def others_at_work(self) -> bool:
        """Whether other members are out that will soon be back."""
        return self.fleet.elsewhere(None)

    def drain(self) -> Outcome:
        """No new work for the batch on any balancer, and nothing in flight any more.

        An earlier batch that waits for it is put back by the same change; whatever goes wrong, it is put back.
        """
        if self.record.stop_asked and not self.batch.back:
            self.record.halt("stop", Stopped(f"{self.record.stop_asked} asked the run to stop."), [])
        # In a window members that are healthy are on their own way back.
        waiting = [] if self.record.window else waiting_members(self.record, self.batch.hosts)
        if self.record.canary.get("end") and not self.batch.back:
            return Outcome(f"not started: the canary holds, since {self.record.canary['end']}")
        if self.record.stop and not self.batch.back:
            returned = self._put_back_alone(waiting)
            return Outcome(f"{returned}not started: the rollout has stopped", changed=bool(returned))
        out = other_zones_out(self.record, self.batch.hosts)
        if out and not self.batch.back:
            self.record.notes.append(
                f"{', '.join(self.batch.hosts)} waits for another run: {', '.join(out)} failed and is out, and no two zones "
                "are out at once"
            )
            return Outcome(f"not started: {', '.join(out)} of another zone is out")
        bounds, refusal = self._fit_to_load(waiting)
        if refusal is not None:
            words = self._put_back_alone(waiting)
            self.record.halt("drain", refusal, list(self.batch.hosts))
            return Outcome(f"{words}not started: {refusal}", changed=bool(words), error=refusal)
        hosts = list(self.batch.hosts)
        since = self.record.now()
        for member in self.members():
            member.out_at = member.out_at if member.out_at is not None else since
        self.record.save()
        if not self.others_at_work():  # what is on its way elsewhere could not be brought in line
            self.fleet.revive()
        along = first_look(self.fleet, self.members())
        soft: dict[str, Any] = {}
        if self.settings.sessions == HAND_OVER and not self.check:
            must_last = not self.batch.back
            replies = self.take_out(hosts, keep_floor=True, must_last=must_last, bounds=bounds, only_new=True)
            soft = {name: reply.result["before"] for name, reply in replies.items() if reply.ok}
            failed = {name: reply for name, reply in replies.items() if not reply.ok}
            if _for_the_load(failed) and not self._too_late():
                self.undo(self.members(), {name: before for name, before in soft.items() if before})
                return self.drain()
            failed = failed or self._hand_over(hosts)
            if failed:
                return self._undo_drain(hosts, replies, failed)
        replies = self.take_out(
            hosts,
            keep_floor=not soft,
            waiting=waiting,
            along=along,
            must_last=not self.batch.back,
            bounds=None if soft else bounds,
        )
        for name, before in soft.items():
            if name in replies and replies[name].ok:
                replies[name].result["before"] = {**replies[name].result["before"], **before}
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
        if _for_the_load(failed) and not self._too_late():
            self.undo(self.members(), {name: each.result["before"] for name, each in replies.items() if each.ok})
            after = self.drain()  # it came to more just now: what may go is decided anew
            return replace(after, message=words + after.message)
        if not failed:
            failed = self._end_sessions(hosts)
        if not failed:
            failed = self._begin_work()
        if failed:
            outcome = self._undo_drain(hosts, replies, failed, soft)
            return replace(outcome, message=words + outcome.message, changed=bool(words))
        self._note_drained(replies, since)
        message = f"{words}{', '.join(hosts)} drained in {self.record.now() - since:.2f} s"
        cut = sum(member.cut for member in self.members())
        if cut:
            message += f", {cut} cut at the limit"
        self.record.event("drain", hosts, since, message)
        return Outcome(message, changed=any(reply.changed for reply in replies.values()))

    def _fit_to_load(
        self, waiting: Sequence[MemberRecord]
    ) -> tuple[Mapping[str, Mapping[str, float]], RolloutError | None]:
        """Make the batch as small as the load wants it, or wait; the bounds for each balancer, or why it cannot begin.

        It waits while others of this run are out, and then as long as the floor may be waited for.
        """
        if not self.settings.floor.load or self.check:
            return {}, None
        while True:
            hosts = list(self.batch.hosts)
            try:
                room = load.now(self.fleet, hosts, [each.host for each in waiting], self.record.capacity)
            except RolloutError as error:
                return {}, error
            whole = room.count == len(hosts)
            if whole or (room.count and self.settings.ready_method):
                if not whole:
                    self._shrink(room)
                return room.bounds, None
            if self._load_deadline is None or self.others_at_work():
                self._load_deadline = time.monotonic() + self.settings.floor_wait
            if self.record.stop_asked and not self.batch.back:
                return {}, Stopped(f"{self.record.stop_asked} asked the run to stop.")
            if time.monotonic() >= self._load_deadline:
                return {}, load.too_much(room, hosts, self.settings.headroom)
            self.remote.pause(_LOAD_SAMPLE)
            self.fleet.run(self.fleet.notes())  # renews the lease, and hears whether the run is asked to stop

    def _too_late(self) -> bool:
        self._load_deadline = self._load_deadline or time.monotonic() + self.settings.floor_wait
        return time.monotonic() >= self._load_deadline

    def _shrink(self, room: Room) -> None:
        hosts = self.batch.hosts
        load.split_batch(self.record, hosts, room.count, self.batch.back)
        self.batch = replace(self.batch, hosts=hosts[: room.count])
        self.record.notes.append(f"{', '.join(hosts[room.count :])} wait for another batch, for the load: {room.words}")

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

    def _hand_over(self, hosts: Sequence[str]) -> dict[str, Reply]:
        """The sessions of the batch are known to all members that stay; the member that failed in it."""
        since = self.record.now()
        staying = [each.host for each in self.record.members.values() if each.serves and each.host not in hosts]
        done = hand_over(self.settings, self.remote, hosts, staying)
        words = f"{done.sessions} sessions of {', '.join(hosts)} are known to {', '.join(staying)}"
        if done.error is not None:
            return {hosts[0]: Reply(hosts[0], error=done.error)}
        self.record.event("hand over", list(hosts), since, words)
        return {}

    def _end_sessions(self, hosts: Sequence[str]) -> dict[str, Reply]:
        """What the last requests have changed is handed over too; or it is said how many sessions end with the batch."""
        if self.check or self.settings.sessions == SHARED or not self.settings.session_export:
            return {}
        if self.settings.sessions == HAND_OVER:
            return self._hand_over(hosts)
        left = count_sessions(self.settings, self.remote, hosts)
        words = f"{left.sessions} sessions end with {', '.join(hosts)}"
        self.record.notes.append(words if left.error is None else f"how many sessions end is not known: {left.error}")
        return {}

    def _undo_drain(
        self,
        hosts: Sequence[str],
        replies: Mapping[str, Reply],
        failed: Mapping[str, Reply],
        soft: Mapping[str, Any] | None = None,
    ) -> Outcome:
        """One balancer refused or was lost: on the others the batch goes back to what it was just before.

        A balancer that refuses has undone its own part; one that was lost may
        or may not have drained, which the message leaves to the reader.
        """
        name, reply = next(iter(failed.items()))
        error = named(name, reply.error)
        before = {balancer: each.result["before"] for balancer, each in replies.items() if each.ok}
        before = {place: own for place, own in {**before, **(soft or {})}.items() if own}
        self.undo(self.members(), before)
        self.record.halt("drain", error, list(hosts))
        return Outcome(f"not drained: {error}", changed=False, error=error)


def _for_the_load(failed: Mapping[str, Reply]) -> bool:
    """Whether all that failed is that the load has become too much between the look and the change."""
    errors = [reply.error for reply in failed.values()]
    return bool(errors) and all(isinstance(error, FloorBroken) and "load" in error.facts for error in errors)


def other_zones_out(record: Record, hosts: Sequence[str]) -> list[str]:
    """Members of other zones that failed in this rollout and are still out; a budget may have let it go on."""
    zone = record.members[hosts[0]].zone
    return [
        each.host
        for each in record.members.values()
        if each.zone != zone and each.out_at is not None and each.state in ("failed", "lost", "left_out")
    ]
