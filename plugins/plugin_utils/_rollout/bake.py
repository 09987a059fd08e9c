# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The bake: a canary under real traffic, polled and judged again and again, until a step is over or it goes back.

All that a decision follows from is in the ledgers before it is acted on: the polls, where they ended, and what was
decided. So whoever goes on from there comes to the same verdict.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from math import exp
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import Judged, LeaseLost, RolloutError, Stopped
from ansible_collections.zerodrop.rollout.plugins.module_utils._ledger_operations import ORDER
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._canary.look import Action, Next, Policy, Seen, follow
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._canary.plan import next_step
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._canary.steps import Target
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.batch import Phases
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.canary import (
    CURSOR,
    HISTORY,
    LOOK,
    POLL,
    STATE,
    Book,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.observe import Observation, Observer
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.step import Outcome
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.witness import too_many_failed
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import Canary
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict import verdict
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.breaker import REQUESTS, Breaker
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.polls import BASELINE, CANARY

_RECENT = 60  # polls that the circuit breaker looks back on, at most
_SETTLED = 4.0  # seconds that members who joined are watched at most before the next batch begins
_LIMIT = 20.0

Say = Callable[[str], None]


def judge(phases: Phases, batches_over: int, say: Say) -> Outcome:
    """Before the batch that follows so many: every step that is to be judged by now, or a short look at who joined."""
    return Bake(phases, say).judge(batches_over)


def watch(phases: Phases, say: Say) -> Outcome:
    """After the last batch: nothing is left to compare with, but a version that fails outright is seen."""
    return Bake(phases, say).watch()


class Bake:
    """One canary of one rollout."""

    def __init__(
        self,
        phases: Phases,
        say: Say,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.time,
    ) -> None:
        settings = phases.settings
        if not isinstance(settings, Canary):
            raise TypeError("only a canary is judged")
        self.settings = settings
        self.phases = phases
        self.record = phases.record
        self.fleet = phases.fleet
        self.state: dict[str, Any] = phases.record.canary
        self.say = say
        self.sleep = sleep
        self.now = now  # of the wall: another controller may go on from it
        self.book = Book(phases.record)
        given = self.state.get("order") or {"order": "", "by": ""}
        self._noted = ""  # what was said last of that which the sources cannot see
        self._kept_history = False
        self.order, self.by = str(given["order"]), str(given["by"])
        self._policy = Policy(
            settings.canary_end,
            settings.canary_on_inconclusive,
            settings.canary_ask_timeout,
            settings.canary_on_ask_timeout,
        )

    # -- steps ------------------------------------------------------------------

    def judge(self, batches_over: int) -> Outcome:
        since = self.record.now()
        if next_step(self.state, batches_over) is None:
            return self.watch() if self.book.polls or self.book.cursor is not None else Outcome("")
        while not self._over and (step := next_step(self.state, batches_over)) is not None:
            target = Target(**self.state["steps"][step])
            if self.phases.check:
                self.state["step"] += 1
                self.say(f"would judge {target.words(self.state['total'])} here")
                continue
            self._step(target)
        if self.phases.check:
            return Outcome("")
        message = self.book.looks[-1]["sentence"] if self.book.looks else "not judged"
        self.record.event("judge", self._hosts(CANARY), since, message)
        stop = self.record.stop
        return Outcome(message, False, Judged(stop.message) if stop else None)

    @property
    def _over(self) -> bool:
        return self.record.stop is not None or bool(self.state["end"])

    def _step(self, target: Target) -> None:
        if self.state["since"] is None:
            self._begin(target)
        observer = Observer(self.fleet, self.settings, self.arms())
        if self.book.cursor is None:
            self.book.cursor = observer.begin()
        self._keep(None)
        step = self.state["step"]
        if self.book.polls and (self.order or self.book.polls[-1]["at"] >= self._at() - 1.0):
            self._look(target, "", "")
        while not self._over and self.state["step"] == step:
            observation = self._observe(observer)
            self._take(observation)
            self._look(target, observation.dropped or "", self._news(observation))

    def _begin(self, target: Target) -> None:
        now = self.now()
        self.state["began"] = self.state["began"] or now
        self.state.update(since=now, asked=None, changed=now)
        self.book.cursor = None
        self._share()
        for host in self._hosts(CANARY):
            member = self.record.members[host]
            if member.release_before and member.release_before != self.record.to_version:
                self.state["released"][host] = member.release_before
            if member.before:
                self.state["before"][host] = member.before
        least = target.seconds if target.seconds is not None else self.settings.canary_min_duration
        self.say(
            f"canary: {target.words(self.state['total'])} ({', '.join(self._hosts(CANARY))}), judged every "
            f"{self.settings.canary_poll_seconds:g} s for {least:g} s at least and {self.settings.canary_max_duration:g} s at most"
        )

    def _share(self) -> None:
        """The canary gets the weight of its step, or its own again."""
        shares = self.state["shares"][self.state["step"]]
        if not shares and not self.state["weights"]:
            return
        self.state["weights"] = shares or {}
        hosts = self._hosts(CANARY)
        settings: dict[str, dict[str, Any]] = {}
        for place in self.record.balancers:
            for host in hosts:
                member = self.record.members[host]
                before = member.before.get(place)
                if before is not None:
                    weight = self.state["weights"].get(place, before["weight"])
                    settings.setdefault(place, {})[member.names[place]] = {**before, "weight": weight}
        calls = self.fleet.calls("pool_put_back", hosts, _LIMIT, settings=settings, settled=True)
        for place, reply in self.fleet.run(calls).items():
            if reply.error is not None:
                reply.error.message = f"{place}: {reply.error.message}"
                self.record.halt("judge", reply.error, [])

    def _end_step(self) -> None:
        self.state.update(step=self.state["step"] + 1, since=None, asked=None)
        self.book.cursor = None
        if self.state["step"] == len(self.state["judged_before"]) and self.state["weights"]:
            self._share()

    # -- one look ---------------------------------------------------------------

    def _at(self) -> float:
        """Seconds since the canary began, always later than the last poll: another controller's clock may be behind."""
        last = float(self.book.polls[-1]["at"]) if self.book.polls else 0.0
        return round(max(self.now() - float(self.state["began"]), last + 0.001), 3)

    def _observe(self, observer: Observer) -> Observation:
        """The next poll when it is due, or as soon as the canary is seen to fail outright."""
        last = float(self.book.polls[-1]["at"]) if self.book.polls else 0.0
        begun = max(last, float(self.state["since"]) - float(self.state["began"]))
        due = begun + self.settings.canary_poll_seconds
        while (left := due - self._at()) > 0.05:
            self.sleep(min(self.settings.canary_breaker_seconds, left))
            if due - self._at() <= 0.05 or self._asked():
                break
            peek = self._poll(observer)
            if not peek.dropped and self._trips(peek.poll):
                return peek
        return self._poll(observer)

    def _poll(self, observer: Observer) -> Observation:
        at = self._at()
        try:
            return observer.poll(at, self.book.cursor)
        except RolloutError as error:
            poll = {"at": at, "members": [], "skip": "no data"}
            return Observation(poll, self.book.cursor, dropped=str(error))

    def _trips(self, poll: Mapping[str, Any]) -> bool:
        breaker = Breaker()
        for each in [*self.book.polls[-_RECENT:], poll]:
            if not each.get("skip"):
                breaker.see(*_sums(each))
        return breaker.tripped is not None

    def _take(self, observation: Observation) -> None:
        # Plain, as whoever goes on from the ledgers has it: what hosts answer are Ansible's own kinds of text and numbers.
        poll = json.loads(json.dumps(observation.poll))
        joined = float(self.state["changed"]) - float(self.state["began"])
        if self.state["step"] and not poll.get("skip") and poll["at"] <= joined + self.settings.canary_warmup:
            poll["cold"] = True
        self.book.polls.append(poll)
        self.book.cursor = observation.cursor

    def _news(self, observation: Observation) -> str:
        """What the sources cannot see, where that was not said before."""
        notes = "; ".join(observation.notes)
        if notes == self._noted:
            return ""
        self._noted = notes
        self.record.notes.extend(each for each in observation.notes if each not in self.record.notes)
        return notes

    def verdict(self, share: float | None) -> dict[str, Any]:
        """What the polls so far say."""
        return verdict({**self.settings.verdict(share), "polls": self.book.polls, "history": self.book.history})

    def _look(self, target: Target, dropped: str, notes: str) -> None:
        found = self.verdict(target.share)
        now = self.now()
        asked = float(self.state["asked"]) if self.state["asked"] else now
        in_step = now - float(self.state["since"])
        decision = found["decision"]
        if (
            decision == "inconclusive"
            and self.state["step"]
            and in_step < self.settings.canary_max_duration
            and self.settings.canary_on_no_data == "wait"
        ):
            decision = "wait"  # the verdict's time is of the whole canary; each step has as long for itself
        seen = Seen(
            decision=decision,
            rule=found["rule"],
            dropped=dropped,
            order=self.order,
            in_step=in_step,
            seconds=target.seconds if target.seconds is not None else self.settings.canary_min_duration,
            ask=target.ask,
            asked=now - asked,
        )
        then = follow(seen, self._policy)
        look = {
            "at": self.book.polls[-1]["at"] if self.book.polls else 0.0,
            "step": self.state["step"] + 1,
            "decision": found["decision"],
            "rule": found["rule"],
            "action": then.action.value,
            "sentence": _sentence(found["sentence"], dropped, notes),
        }
        self.book.looks.append(look)
        self.state["evidence"] = evidence_of(found)
        if then.action is Action.ASK and not self.state["asked"]:
            self.state["asked"] = now
        self._keep(look)
        self.say(f"canary, {look['at']:.0f} s: {look['sentence']}{self._words(then)}")
        self._act(then, look["sentence"])

    def _words(self, then: Next) -> str:
        if then.action is Action.ASK:
            until = time.gmtime(float(self.state["asked"] or self.now()) + self.settings.canary_ask_timeout)
            return (
                f" It waits for the playbook promote or rollback until {time.strftime('%H:%M:%S UTC', until)}, then: "
                f"{self.settings.canary_on_ask_timeout} ({then.why})."
            )
        return f" [{then.action.value}: {then.why}]" if then.why and then.action is not Action.WAIT else ""

    def _act(self, then: Next, sentence: str) -> None:
        too_many = too_many_failed(self.settings, self.record)
        if too_many is not None:
            self.record.halt("witness", too_many, [])
        elif then.action is Action.BACK:
            why = f"{self.by} asked for it. {sentence}" if self.order == "rollback" else sentence
            if then.why not in ("the verdict", "an operator asked for it"):
                why = f"{then.why}. {sentence}"
            self.record.halt(
                "judge", Judged(why, "Look into the new version's log before you try again."), self._hosts(CANARY)
            )
        elif then.action is Action.PASS:
            self._end_step()
            if self.order:
                self.record.notes.append(f"{self.by} promoted step {self.state['step']} of the canary")
            self.state["order"] = None
            self._keep(None, consumed=True)
            self.order = ""
        elif then.action is Action.END:
            self.state["end"] = then.why
            self._keep(None)
        elif self.record.stop_asked:
            self.record.halt("stop", Stopped(f"{self.record.stop_asked} asked the run to stop."), [])

    def _keep(self, look: Mapping[str, Any] | None, consumed: bool = False) -> None:
        """In the ledgers, and beside the record; and what others want of this run."""
        keep: dict[str, Any] = {
            STATE: {**self.state, "end": "", "weights": {}, "order": None},
            CURSOR: self.book.cursor,
        }
        if look is not None:
            keep[f"{LOOK}{len(self.book.looks):06d}"] = look
            if self.book.polls:
                keep[f"{POLL}{len(self.book.polls):06d}"] = self.book.polls[-1]
        if self.book.history and not self._kept_history:
            keep[HISTORY] = self.book.history
            self._kept_history = True
        if consumed:
            keep[ORDER] = None
        self.book.save()
        self.record.save()
        event = {"event": f"canary: {look['sentence']}"} if look is not None else {}
        self._tell(keep, consumed, **event)

    def _tell(self, keep: Mapping[str, Any], consumed: bool = False, **more: Any) -> None:
        replies = self.fleet.run(self.fleet.notes(canary=self.state["id"], keep=dict(keep), **more))
        for place, reply in replies.items():
            if isinstance(reply.error, LeaseLost):
                self.record.halt("judge", reply.error, [])
            elif reply.error is None and reply.result.get("order") and not consumed:
                self.order, self.by = str(reply.result["order"]["order"]), str(reply.result["order"]["by"])
            elif reply.error is not None:
                note = f"{place} could not be told of a poll: {reply.error}"
                if note not in self.record.notes:
                    self.record.notes.append(note)

    def _asked(self) -> bool:
        """Whether somebody wants something of this run; a look at it also renews the lease."""
        before = (self.order, self.record.stop_asked)
        self._tell({})
        return (self.order, self.record.stop_asked) != before or self.record.stop is not None

    # -- beside the steps -------------------------------------------------------

    def watch(self) -> Outcome:
        """Members joined after the canary was promoted: polled once, until they had some traffic."""
        if self.phases.check or self._over:
            return Outcome("")
        if self.state["began"] is None:
            return Outcome("")
        if self.book.cursor is None:
            self.book.cursor = Observer(self.fleet, self.settings, self.arms()).begin()
        observer = Observer(self.fleet, self.settings, self.arms())
        deadline = self.now() + _SETTLED
        observation = self._poll(observer)
        while self.now() < deadline and (observation.dropped or _sums(observation.poll)[0] < REQUESTS):
            self.sleep(0.5)
            observation = self._poll(observer)
        self.state["changed"] = self.now()
        self._take(observation)
        found = self.verdict(None)
        dropped = observation.dropped or ""
        look = {
            "at": self.book.polls[-1]["at"],
            "step": len(self.state["steps"]),
            "decision": found["decision"],
            "rule": found["rule"],
            "action": Action.BACK.value if found["decision"] == "roll_back" else Action.WAIT.value,
            "sentence": _sentence(found["sentence"], dropped, self._news(observation)),
        }
        self.book.looks.append(look)
        self._keep(look)
        if found["decision"] == "roll_back" or self.order == "rollback":
            self.say(f"canary, {look['at']:.0f} s: {look['sentence']}")
            self._act(Next(Action.BACK, "the verdict"), look["sentence"])
        self.book.cursor = None  # the next batch changes who is who
        self.book.save()
        return Outcome("")

    # -- who is who -------------------------------------------------------------

    def arms(self) -> dict[str, str]:
        """Members that serve, by the version that they have."""
        found = {}
        for member in self.record.members.values():
            if not member.serves or not (member.in_service_before or member.state == "finished"):
                continue
            found[member.host] = CANARY if member.release == self.record.to_version else BASELINE
        return found

    def _hosts(self, arm: str) -> list[str]:
        return [host for host, each in self.arms().items() if each == arm]


def evidence_of(found: Mapping[str, Any]) -> dict[str, Any]:
    """What a verdict has for and against the canary, for those who watch the run."""
    last = {way: series["combined"][-1:] or [0.0] for way, series in found["log_evidence"].items()}
    errors = found["metrics"]["errors"]
    return {
        "decision": found["decision"],
        "odds": {way: exp(min(value, 50.0)) for way, (value,) in last.items()},
        "needed": found["needed"],
        "canary": errors["canary"],
        "baseline": errors["baseline"],
    }


def _sums(poll: Mapping[str, Any]) -> tuple[int, int, int, int]:
    """Requests and errors of the canary, then of the baseline."""
    sums = [0, 0, 0, 0]
    for member in poll["members"]:
        at = 0 if member["arm"] == CANARY else 2
        sums[at] += member["requests"]
        sums[at + 1] += member["errors"]
    return sums[0], sums[1], sums[2], sums[3]


def _sentence(said: str, dropped: str, notes: str) -> str:
    extra = "; ".join(dict.fromkeys(each for each in (dropped, notes) if each))
    return f"{said} This look saw nothing new: {extra.rstrip('.')}." if dropped else f"{said} {extra}".strip()
