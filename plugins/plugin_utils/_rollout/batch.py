# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The phases of a batch: drain, upgrade, gate, put back.

Each is one step that reaches every balancer, or every member of the batch, at
once. A phase that fails for some members stops the rollout and goes on for the
others as far as they need it to be back in service; nothing here raises for a
host that is lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    Refused,
    RolloutError,
    Stopped,
    Unhealthy,
    Unreachable,
    UpgradeFailed,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work.look import NO_COUNTERS
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Call, Remote, Reply
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout import outside
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.fleet import (
    Fleet,
    health_params,
    warm_up_params,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.joined import (
    are_back,
    floor_forbids,
    places_to_join,
    waiting_members,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.member_sockets import ask_members, first_look
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.methods import method_of
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.ramp import ramp_limit, ramp_params
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import MemberRecord, Record
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import MAINTAIN, RECOVER, Settings

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


class Phases:
    """The phases of one batch."""

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

    # -- drain ------------------------------------------------------------------

    def drain(self) -> Outcome:
        """No new work for the batch on any balancer, and nothing in flight any more.

        An earlier batch that waits for it is put back by the same change; whatever goes wrong, it is put back.
        """
        if self.record.stop_asked and not self.batch.back:
            self.record.halt("stop", Stopped(f"{self.record.stop_asked} asked the run to stop."), [])
        waiting = waiting_members(self.record, self.batch.hosts)
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
        replies = self._drain(hosts, keep_floor=True, waiting=waiting, along=along, must_last=not self.batch.back)
        failed = {name: reply for name, reply in replies.items() if not reply.ok}
        if not failed:
            error = ask_members(self.fleet, self.members(), replies, self.record.now() - since)
            failed = {hosts[0]: Reply(hosts[0], error=error)} if error is not None else {}
        self._note_reloads("drain", replies)
        for balancer, reply in replies.items():
            self._note_before(balancer, reply)
        words = ""
        if waiting:
            if are_back(replies, self._joining()):
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

    def _joining(self) -> list[str]:
        """The places whose next change puts back those that wait, and drains this batch."""
        return [name for name in self.fleet.layers[0] if self.record.place(name).by_reload]

    def _put_back_alone(self, members: Sequence[MemberRecord]) -> str:
        """Members that waited for a drain that does not come go back by themselves; what is to be said of it."""
        if not members:
            return ""
        batch = Batch(tuple(member.host for member in members), back=False, alone=True)
        return Phases(self.settings, self.remote, self.record, batch, self.check).put_back().message + "; "

    def _note_joined(self, members: Sequence[MemberRecord], replies: Mapping[str, Reply], since: float) -> str:
        """Those that waited serve again, from the moment of the change on."""
        after = [
            float(reply.result["exchanged_after"]) for reply in replies.values() if "exchanged_after" in reply.result
        ]
        at = min(self.record.now(), since + max(after, default=0.0))
        if self.record.first_new_at is None:
            self.record.first_new_at = since
        for member in members:
            member.out_seconds += max(0.0, at - (member.out_at if member.out_at is not None else at))
            member.out_at = None
            member.state = "finished"
        message = f"{', '.join(member.host for member in members)} in service by the same reload"
        self.record.event("put back", [member.host for member in members], since, message)
        return message + "; "

    def _drain(
        self,
        hosts: Sequence[str],
        keep_floor: bool,
        waiting: Sequence[MemberRecord] = (),
        along: Mapping[str, Call] | None = None,
        must_last: bool = False,
    ) -> dict[str, Reply]:
        """Drain on one layer after the other, outermost first; a layer that fails is the last.

        ``along`` are calls to other hosts that run beside the first of them. On the way forward a drain that would not
        outlive a reload is refused, where the settings say so. What does badly goes out in any case.
        """
        settings = self.settings_before([member.host for member in waiting])
        returning = {name: settings[name] for name in self._joining() if name in settings}
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
                lasting="accept" if required == "require" and not must_last else required,
                returning=returning if places == self.fleet.layers[0] else None,
                wait_for_floor=self.settings.floor_wait,
                session_grace=self.settings.session_grace,
                timeout=self.settings.drain_timeout,
                on_timeout=self.settings.on_drain_timeout,
                long_after=self.settings.long_after,
                long_timeout=self.settings.long_timeout,
                on_long_timeout=self.settings.on_long_timeout,
                idle_timeout=self.settings.idle_timeout,
                on_idle_timeout=self.settings.on_idle_timeout,
            )
            found = self.fleet.run({**calls, **(along or {})})
            along = None
            replies.update({name: reply for name, reply in found.items() if name in calls})
            if not all(reply.ok for reply in replies.values()):
                break
        return replies

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
        error = _named(name, reply.error)
        before = {balancer: each.result["before"] for balancer, each in replies.items() if each.ok}
        self.undo(self.members(), before)
        self.record.halt("drain", error, list(hosts))
        return Outcome(f"not drained: {error}", changed=False, error=error)

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
                self._is_back(member)

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

    # -- upgrade ----------------------------------------------------------------

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
                problems.append(self._set_aside(member, "upgrade", _named(member.host, reply.error)))
            else:
                member.release = self.batch.release(member, self.record)
        message = f"{', '.join(m.host for m in members)} switched in {self.record.now() - since:.2f} s"
        self.record.event("upgrade", [m.host for m in members], since, str(problems[0]) if problems else message)
        error = problems[0] if problems else None
        return Outcome(str(error) if error else message, any(r.changed for r in replies.values()), error)

    def _lease_lost(self) -> RolloutError | None:
        """Members know of no lease: who stood still since the balancers were asked must ask them again."""
        if self.fleet.lease_lasts:
            return None
        errors = [_named(place, each.error) for place, each in self.fleet.run(self.fleet.notes()).items() if each.error]
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
                problems.append(self._set_aside(member, work, error))
            elif member.host not in alive:
                error = Unreachable(f"{member.host} was lost during the {work}.", lost=True)
                problems.append(self._set_aside(member, work, error))
            else:
                member.release = self.batch.release(member, self.record)
        message = f"the {work} ran in {self.record.now() - since:.2f} s"
        self.record.event(work, [m.host for m in members], since, str(problems[0]) if problems else message)
        return Outcome(
            str(problems[0]) if problems else message, changed=False, error=problems[0] if problems else None
        )

    # -- gate -------------------------------------------------------------------

    def gate(self) -> Outcome:
        """The members answer healthily on their own host, every balancer sees it so too, and they are warm."""
        members = self.members("upgraded")
        if not members:
            return Outcome("nothing to gate")
        if self.check:
            return Outcome("would gate " + ", ".join(member.host for member in members))
        since = self.record.now()
        hosts = [member.host for member in members]
        limit = self.settings.health_timeout
        calls = {member.host: self._gate(member) for member in members}
        # Both at once: the balancers' checks rise, or they ask by themselves, while the members are probed.
        releases = {member.host: self.batch.release(member, self.record) for member in members}
        for place in self.record.balancers:
            view = self.fleet.view(place, releases)
            calls.update(self.fleet.calls("pool_return", hosts, limit, places=[place], timeout=limit, view=view))
        replies = self.fleet.run(calls)
        self._note_reloads("gate", replies)
        problems = []
        for member in members:
            member.seconds["gate"] = member.seconds.get("gate", 0.0) + self.record.now() - since
            error = replies[member.host].error or self._seen_unhealthy(member, replies)
            if error is not None:
                problems.append(self._set_aside(member, "gate", _named(member.host, error)))
            else:
                member.state, member.opened = "healthy", False
        problems.extend(self._balancers_that_failed("gate", replies))
        failed = [member.host for member in members if member.state != "healthy"]
        if failed:
            self._drain(failed, keep_floor=False)  # no client that is tied to it may reach it while it waits
        message = f"{', '.join(hosts)} healthy after {self.record.now() - since:.2f} s" + _warm_words(members, replies)
        self.record.event("gate", hosts, since, str(problems[0]) if problems else message)
        error = problems[0] if problems else None
        return Outcome(str(error) if error else message, any(replies[host].changed for host in hosts), error)

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
            error = replies[balancer].error
            unhealthy = error.facts.get("members", {}) if isinstance(error, Unhealthy) else {}
            if member.names[balancer] in unhealthy:
                return Unhealthy(f"{balancer} does not see {member.host} healthy: {unhealthy[member.names[balancer]]}.")
        return None

    def _balancers_that_failed(self, phase: str, replies: Mapping[str, Reply]) -> list[RolloutError]:
        """What went wrong with a balancer itself; the rollout stops, but healthy members still go back."""
        problems = []
        for balancer in self.record.balancers:
            error = replies[balancer].error if balancer in replies else None
            if error is not None and not isinstance(error, Unhealthy):
                problems.append(_named(balancer, error))
                self.record.halt(phase, problems[-1], [])
        return problems

    # -- put back ---------------------------------------------------------------

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
        self._note_reloads("put back", replies)
        problems = self._balancers_that_failed("put back", replies)
        stuck = [name for name in self.record.balancers if name not in replies or not replies[name].ok]
        if not self.batch.back and self.record.first_new_at is None:
            self.record.first_new_at = since
        for member in members:
            self._is_back(member)
            member.seconds["look"] = self.record.now() - since
            problems.extend(self._looked_at(member, replies))
            if stuck:
                member.state = "left_out"
                member.trouble = f"still out of service on {', '.join(stuck)}"
        if not problems and not self.check:
            problems.extend(self._look_from_outside(members))
        if self.settings.strategy == MAINTAIN:
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
            ramp, limit = ramp_params(self.settings), self.settings.look_timeout + ramp_limit(self.settings)
            calls = self.fleet.calls("pool_put_back", hosts, limit, settings=settings, look=look, ramp=ramp)
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
        return [self._set_aside(member, "look", error)]

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
            self._set_aside(member, "outside", error)
        return [error]

    def _hold_out_again(self, members: Sequence[MemberRecord]) -> None:
        """Where no way back follows, a member that does badly under traffic leaves at once, if the floor allows it."""
        if not members:
            return
        now = self.record.now()
        replies = self._drain([member.host for member in members], keep_floor=True)
        errors = [f"{name}: {reply.error.message}" for name, reply in replies.items() if reply.error is not None]
        for member in members:
            if errors:
                member.trouble += f" It could not be taken out again: {'; '.join(errors)}"
            else:
                member.out_at = now

    # -- shared -----------------------------------------------------------------

    def _note_reloads(self, phase: str, replies: Mapping[str, Reply]) -> None:
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

    def _is_back(self, member: MemberRecord) -> None:
        if member.out_at is not None:
            member.out_seconds += self.record.now() - member.out_at
            member.out_at = None
        member.opened = False
        if member.state == "drained":
            goes_back = self.batch.back and member.release == self.record.to_version
            member.state = "finished" if goes_back else "untouched"

    def _set_aside(self, member: MemberRecord, phase: str, error: RolloutError) -> RolloutError:
        """A member that does not go on with its batch; the rollout stops with the first reason."""
        lost = isinstance(error, Unreachable) and bool(error.facts.get("lost"))
        if self.batch.back:
            member.state = "left_out"
        else:
            member.state = "lost" if lost else "failed"
        member.trouble = error.message
        self.record.halt(phase, error, [member.host])
        return error


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


def _warm_words(members: Sequence[MemberRecord], replies: Mapping[str, Reply]) -> str:
    found = [each for member in members if (each := replies[member.host].result.get("warm_up"))]
    failed = [str(each["failed"]) for each in found if "failed" in each]
    if failed:
        return f"; not warm: {failed[0]}"
    if not found:
        return ""
    slowest = max(each["slowest"] for each in found)
    return f", warmed with {sum(each['requests'] for each in found)} requests (the slowest {slowest:.2f} s)"


def _named(host: str, error: RolloutError | None) -> RolloutError:
    """The error with the host's name in its message."""
    error = error or Refused("no reason given")
    if host not in error.message:
        error.message = f"{host}: {error.message}"
    return error
