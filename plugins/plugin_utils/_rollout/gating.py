# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Gate: each member is healthy on its own host, and each balancer sees it so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import RolloutError, Unhealthy
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Call, Reply
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.fleet import health_params, warm_up_params
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.handing_over import Handed, hand_over
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import MemberRecord
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.step import Outcome, Step, named
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import HAND_OVER


class Gating(Step):
    """The phase that decides which members go back."""

    def gate(self) -> Outcome:
        """The members answer healthily on their own host, every balancer sees it so too, and they are warm."""
        members = self.members("upgraded")
        if not members:
            return Outcome("nothing to gate")
        if self.check:
            return Outcome("would gate " + ", ".join(member.host for member in members))
        since = self.record.now()
        hosts = [member.host for member in members]
        own = {member.host: self._gate(member) for member in members}
        if self.settings.sessions == HAND_OVER:
            replies = self._one_after_the_other(own)
        else:
            # Both at once: the balancers' checks rise, or they ask by themselves, while the members are probed.
            replies = self.fleet.run({**own, **self._judge(members)})
        self.note_reloads("gate", replies)
        problems = []
        for member in members:
            member.seconds["gate"] = member.seconds.get("gate", 0.0) + self.record.now() - since
            error = replies[member.host].error or self._seen_unhealthy(member, replies)
            if error is not None:
                problems.append(self.set_aside(member, "gate", named(member.host, error)))
            else:
                member.state, member.opened = "healthy", False
        problems.extend(self.balancers_that_failed("gate", replies))
        failed = [member.host for member in members if member.state != "healthy"]
        if failed:
            self.take_out(failed, keep_floor=False)  # no client that is tied to it may reach it while it waits
        message = f"{', '.join(hosts)} healthy after {self.record.now() - since:.2f} s" + _warm_words(members, replies)
        self.record.event("gate", hosts, since, str(problems[0]) if problems else message)
        error = problems[0] if problems else None
        return Outcome(str(error) if error else message, any(replies[host].changed for host in hosts), error)

    def _judge(self, members: Sequence[MemberRecord]) -> dict[str, Call]:
        """Have every balancer judge these members."""
        limit, hosts = self.settings.health_timeout, [member.host for member in members]
        releases = {member.host: self.batch.release(member, self.record) for member in members}
        calls: dict[str, Call] = {}
        for place in self.record.balancers:
            view = self.fleet.view(place, releases)
            calls.update(self.fleet.calls("pool_return", hosts, limit, places=[place], timeout=limit, view=view))
        return calls

    def _one_after_the_other(self, own: Mapping[str, Call]) -> dict[str, Reply]:
        """A balancer that judges a member lets clients in that are tied to it: by then it has to know their sessions."""
        replies = dict(self.fleet.run(own))
        good = [host for host in own if replies[host].ok]
        error = self._know_sessions(good) if good else None
        if error is not None:
            replies.update({host: Reply(host, error=error) for host in good})
        elif good:
            replies.update(self.fleet.run(self._judge([self.record.members[host] for host in good])))
        return replies

    def _know_sessions(self, hosts: Sequence[str]) -> RolloutError | None:
        """A client that did not come meanwhile is still tied to its member, which has to know it again."""
        since = self.record.now()
        others = [each.host for each in self.record.members.values() if each.serves and each.host not in hosts]
        done = hand_over(self.settings, self.remote, others, hosts) if others else Handed()
        if done.error is None:
            words = f"{done.sessions} sessions of {', '.join(others)} are known to {', '.join(hosts)}"
            self.record.event("hand over", list(hosts), since, words)
        return done.error

    def _gate(self, member: MemberRecord) -> Call:
        release = self.batch.release(member, self.record)
        params = {
            "service": self.settings.service,
            "health": health_params(self.settings, release),
            "release": release,
            "previous": member.release_before,
            # A path that only the new version has must not keep a member from going back.
            "warm_up": warm_up_params(self.settings, member, required=not self.batch.back),
        }
        limit = self.settings.health_timeout + (self.settings.warm_up_timeout if self.settings.warm_up else 0.0)
        return Call("member_gate", params, limit)

    def _seen_unhealthy(self, member: MemberRecord, replies: Mapping[str, Reply]) -> RolloutError | None:
        """Why a balancer does not let this member back, if one does not."""
        for balancer in self.record.balancers:
            if balancer not in replies:
                continue  # it came back since they were asked
            error = replies[balancer].error
            unhealthy = error.facts.get("members", {}) if isinstance(error, Unhealthy) else {}
            if member.names[balancer] in unhealthy:
                return Unhealthy(f"{balancer} does not see {member.host} healthy: {unhealthy[member.names[balancer]]}.")
        return None


def _warm_words(members: Sequence[MemberRecord], replies: Mapping[str, Reply]) -> str:
    found = [each for member in members if (each := replies[member.host].result.get("warm_up"))]
    failed = [str(each["failed"]) for each in found if "failed" in each]
    if failed:
        return f"; not warm: {failed[0]}"
    if not found:
        return ""
    slowest = max(each["slowest"] for each in found)
    return f", warmed with {sum(each['requests'] for each in found)} requests (the slowest {slowest:.2f} s)"
