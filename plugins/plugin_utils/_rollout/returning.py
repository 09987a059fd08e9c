# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Put back: new work for the members that passed their gate, and a look at them under it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import RolloutError, Unhealthy, Unreachable
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work.look import NO_COUNTERS
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Reply
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout import outside
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.joined import places_to_join
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.ramp import at_weights, ramp_params
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import MemberRecord
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.step import Outcome, Step
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import MAINTAIN


class Returning(Step):
    """The last phase of a batch."""

    def put_back(self) -> Outcome:
        """New work for the members that passed, as before, and a look at them under it."""
        members = self.members("healthy")
        if not members:
            return Outcome("nothing to put back")
        since = self.record.now()
        hosts = [member.host for member in members]
        asked = self.settings.join_batches and not self.batch.back and not self.batch.alone
        later = places_to_join(self.record, self.batch.hosts, asked)
        replies = self._return(hosts, [name for name in self.record.balancers if name not in later])
        if later:
            if all(reply.ok for reply in replies.values()) and not self._do_badly(members, replies):
                return Outcome(f"{', '.join(hosts)} wait for the reload that drains the next batch")
            replies.update(self._return(hosts, later))
        self.note_reloads("put back", replies)
        problems = self.balancers_that_failed("put back", replies)
        stuck = [name for name in self.record.balancers if name not in replies or not replies[name].ok]
        if not self.batch.back and self.record.first_new_at is None:
            self.record.first_new_at = since
        for member in members:
            self.is_back(member)
            member.seconds["look"] = self.record.now() - since
            problems.extend(self._looked_at(member, replies))
            if stuck:
                member.state = "left_out"
                member.trouble = f"still out of service on {', '.join(stuck)}"
        if not problems and not self.check:
            problems.extend(self._look_from_outside(members))
        if self.settings.strategy == MAINTAIN or (self.record.stop is None and self.record.forgiven):
            self._hold_out_again([member for member in members if member.look == "fail"])
        message = f"{', '.join(hosts)} in service" + _look_words(members)
        self.record.event("put back", hosts, since, str(problems[0]) if problems else message)
        changed = any(reply.changed for reply in replies.values())
        return Outcome(str(problems[0]) if problems else message, changed, problems[0] if problems else None)

    def _do_badly(self, members: Sequence[MemberRecord], replies: Mapping[str, Reply]) -> bool:
        """Whether any balancer's look at one of them failed."""
        looks = [
            look
            for name, reply in replies.items()
            for look in self.fleet.by_host(name, reply.result.get("members", {})).values()
        ]
        return any(look.get("look") == "fail" for look in looks)

    def _return(self, hosts: Sequence[str], chosen: Sequence[str]) -> dict[str, Reply]:
        """Put back on one layer after the other of these places, innermost first; a layer that fails is the last."""
        replies: dict[str, Reply] = {}
        for layer in reversed(self.fleet.layers):
            places = [name for name in layer if name in chosen]
            if not places:
                continue
            look = {
                # Of the whole layer: its balancers share them.
                "requests": -(-self.settings.look_requests // len(places)),
                "seconds": self.settings.look_seconds,
                "timeout": self.settings.look_timeout,
                "max_errors": self.settings.look_max_errors,
                "max_slower": self.settings.look_max_slower,
            }
            settings = {place: each for place, each in self.settings_before(hosts).items() if place in places}
            if self.record.canary and not self.batch.back:
                settings = at_weights(settings, self.record.canary["weights"])
            ramp, limit = ramp_params(self.settings, self.batch.back)
            calls = self.fleet.calls(
                "pool_put_back",
                hosts,
                self.settings.look_timeout + limit,
                settings=settings,
                look=look,
                ramp=ramp,
                settled=bool(self.record.canary),
            )
            found = self.fleet.ask(calls)
            again = {name: calls[name] for name, reply in found.items() if isinstance(reply.error, Unreachable)}
            if again:  # the new version is installed: there is no better way out than to try once more
                found.update(self.fleet.ask(again))
            replies.update(self.fleet.living(found))
            if not all(reply.ok for reply in replies.values()):
                break
        return replies

    def _looked_at(self, member: MemberRecord, replies: Mapping[str, Reply]) -> list[RolloutError]:
        """The look's result over all balancers; a failed one is a problem."""
        seen = []
        for balancer, reply in replies.items():
            look = self.fleet.by_host(balancer, reply.result.get("members", {})).get(member.host)
            if look and look.get("look"):
                seen.append((balancer, look))
        results = {look["look"] for _balancer, look in seen}
        member.look = next((word for word in ("fail", "pass", "inconclusive") if word in results), "")
        member.look_reason = next((look.get("reason", "") for _name, look in seen if look["look"] == member.look), "")
        member.state = "rolled_back" if self.batch.back else "finished"
        if member.look != "fail":
            return []
        balancer, look = next(each for each in seen if each[1]["look"] == "fail")
        error = Unhealthy(
            f"{member.host} does not do well under traffic on {balancer}: "
            f"{look.get('reason') or str(look.get('errors')) + ' errors'}."
        )
        return [self.set_aside(member, "look", error)]

    def _look_from_outside(self, members: Sequence[MemberRecord]) -> list[RolloutError]:
        """The third view: the service as its users reach it, with the batch in it."""
        reason = outside.now(self.settings, self.record)
        if not reason:
            return []
        if self.batch.back or not self.record.outside_well:
            self.record.notes.append(f"after {', '.join(self.batch.hosts)}: {reason}")
            return []
        error = Unhealthy(
            f"With {', '.join(member.host for member in members)} back in service, {reason}",
            "Its members and balancers are healthy by themselves. See what lies between them and the users.",
        )
        for member in members:
            member.look = "fail"
            self.set_aside(member, "outside", error)
        return [error]

    def _hold_out_again(self, members: Sequence[MemberRecord]) -> None:
        """Where no way back follows, a member that does badly under traffic leaves at once, if the floor allows it."""
        if not members:
            return
        now = self.record.now()
        replies = self.take_out([member.host for member in members], keep_floor=True)
        errors = [f"{name}: {reply.error.message}" for name, reply in replies.items() if reply.error is not None]
        for member in members:
            if errors:
                member.trouble += f" It could not be taken out again: {'; '.join(errors)}"
            else:
                member.out_at = now


def not_judged(reasons: Mapping[str, str]) -> list[str]:
    """Of members whose look was inconclusive, by host with the reason: which could not be judged, and why."""
    blind = [host for host, reason in reasons.items() if reason == NO_COUNTERS]
    idle = [host for host in reasons if host not in blind]
    words = []
    if idle:
        words.append(f"too little traffic to judge {', '.join(idle)}")
    if blind:
        words.append(f"not judged under traffic, since the balancer counts no requests by member: {', '.join(blind)}")
    return words


def _look_words(members: Sequence[MemberRecord]) -> str:
    words = not_judged({member.host: member.look_reason for member in members if member.look == "inconclusive"})
    return "".join(f"; {each}" for each in words)
