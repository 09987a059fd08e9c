# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Upgrade: a ready method switches the batch to its release, or the user's own tasks have done it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import RolloutError, Unreachable, UpgradeFailed
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Call
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.methods import method_of
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import MemberRecord
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.step import Outcome, Step, named
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import MAINTAIN


class Upgrading(Step):
    """The phase in which the members' releases are touched."""

    def upgrade(self) -> Outcome:
        """Switch the batch to its release with a ready method."""
        members = self.members("drained", "failed") if self.batch.back else self.members("drained")
        members = [member for member in members if self.batch.release(member, self.record)]
        if not members:
            return Outcome("nothing to upgrade")
        lost = self._lease_lost()
        if lost is not None:
            self.record.halt("upgrade", lost, [member.host for member in members])
            return Outcome(str(lost), error=lost)
        since = self.record.now()
        for member in members:
            member.state = "upgraded"  # from here on its release may have been touched
        self.record.save()
        replies = self.remote.run({member.host: self._switch(member) for member in members}, self.check)
        problems = []
        for member in members:
            reply = replies[member.host]
            member.seconds["upgrade"] = member.seconds.get("upgrade", 0.0) + reply.seconds
            if reply.error is not None:
                problems.append(self.set_aside(member, "upgrade", named(member.host, reply.error)))
            else:
                member.release = self.batch.release(member, self.record)
        message = f"{', '.join(m.host for m in members)} switched in {self.record.now() - since:.2f} s"
        self.record.event("upgrade", [m.host for m in members], since, str(problems[0]) if problems else message)
        error = problems[0] if problems else None
        return Outcome(str(error) if error else message, any(r.changed for r in replies.values()), error)

    def switch_again(self, limit: float) -> None:
        """Where nobody heard whether it was done: what is done takes no time, and what still runs is waited for.

        What comes of it the gate tells.
        """
        found = [each for each in self.members("upgraded") if not each.keeps]
        members = [each for each in found if self.batch.release(each, self.record)]
        self.remote.run({each.host: replace(self._switch(each), limit=limit) for each in members}, self.check)

    def _lease_lost(self) -> RolloutError | None:
        """Members know of no lease: who stood still since the balancers were asked must ask them again."""
        if self.fleet.lease_lasts:
            return None
        errors = [named(place, each.error) for place, each in self.fleet.run(self.fleet.notes()).items() if each.error]
        return errors[0] if errors else None

    def _switch(self, member: MemberRecord) -> Call:
        protect = [name for name in (member.release_before, self.record.to_version) if name]
        return method_of(self.settings).switch(self.settings, self.batch.release(member, self.record), protect)

    def users_upgrade_ended(self, alive: Sequence[str], failures: Mapping[str, str]) -> Outcome:
        """See what the user's own tasks left: members that failed in them, and members that were lost.

        ``alive`` are the hosts that Ansible has not given up; ``failures`` is
        what a failed member's tasks said.
        """
        problems: list[RolloutError] = []
        members = self.members("drained", "failed") if self.batch.back else self.members("drained")
        if not members:
            return Outcome("nothing was upgraded")
        work = "maintenance" if self.settings.strategy == MAINTAIN else "upgrade"
        since = min(member.drained_at for member in members)
        for member in members:
            member.state = "upgraded"
            member.seconds["upgrade"] = member.seconds.get("upgrade", 0.0) + self.record.now() - member.drained_at
            if member.host in failures:
                error: RolloutError = UpgradeFailed(f"The {work} failed on {member.host}: {failures[member.host]}")
                problems.append(self.set_aside(member, work, error))
            elif member.host not in alive:
                error = Unreachable(f"{member.host} was lost during the {work}.", lost=True)
                problems.append(self.set_aside(member, work, error))
            else:
                member.release = self.batch.release(member, self.record)
        message = f"the {work} ran in {self.record.now() - since:.2f} s"
        self.record.event(work, [m.host for m in members], since, str(problems[0]) if problems else message)
        return Outcome(
            str(problems[0]) if problems else message, changed=False, error=problems[0] if problems else None
        )
