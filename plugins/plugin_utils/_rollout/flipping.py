# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What follows when the idle slot is ready: preview, flip, bake, and the old slot's end; or back to where it was."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    Refused,
    RolloutError,
    Stopped,
    TimedOut,
    Unhealthy,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Pool
from ansible_collections.zerodrop.rollout.plugins.module_utils._route import Preview
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._flip import flip_fleet, undo, undone_words
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Call, Remote, Reply
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout import outside
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.fleet import Fleet
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.handing_over import count_sessions, hand_over
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import Record
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.slots import beside_params, route_params
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.witness import too_many_failed
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import (
    FLIP_BACK,
    HAND_OVER,
    KEEP,
    SHARED,
    STOP,
    BlueGreen,
)

_LIMIT = 30.0
_LOOK_EVERY = 0.5
_APART = 0.02  # seconds between two services that flip together
_SETTLE = 2.0  # seconds for a health check, or for a connection that is just closing, to be over on a member
_BAD_LOOKS = 3  # in a row, for a member that is out of service


class Flip:
    """The flip of one rollout."""

    def __init__(
        self, settings: BlueGreen, remote: Remote, record: Record, check: bool, say: Callable[[str], None]
    ) -> None:
        self.settings, self.remote, self.record, self.check, self.say = settings, remote, record, check, say
        self.fleet = Fleet(settings, remote, record, check)
        self.live, self.idle = str(record.slots["live"]), str(record.slots["idle"])
        self.previewed: Mapping[str, Any] = {}  # what became of the user's tasks

    def repair(self) -> bool:
        """Where a flip was broken off, all balancers get the slot that the ledgers say; whether anything was done."""
        if not self.record.slots["repair"] or self.check:
            return False
        well = undo(self._ask, self.places, self.record.slots["repair"])
        if not all(well.values()):
            error = Refused(undone_words(well))
            self.record.halt("flip", error, [])
        self.record.slots.update(repair="", repaired=True)
        words = f"{self.live} is set on every balancer, as the ledgers say: the flip of an earlier run was broken off"
        self.record.notes.append(words)
        self.say(words)
        self.record.save()
        return True

    def run(self) -> bool:
        """Preview, flip, bake and what follows; whether anything changed."""
        record = self.record
        if record.stop is not None or not record.batches:
            return False
        unready = [member.host for member in record.members.values() if member.state != "finished"]
        if self.check:
            self.say(f"would flip from {self.live} to {self.idle}")
            return True
        if record.stop_asked:
            record.halt("stop", Stopped(f"{record.stop_asked} asked the run to stop."), [])
            return False
        if unready:
            record.halt("flip", Refused(f"{', '.join(unready)} of {self.idle} is not ready."), unready)
            return False
        if not self._step("preview", self._preview):
            return False
        if not self._step("hand over", self._hand_over):
            return False
        if not self._step("flip", self._flip):
            return False
        if not self._step("hand over", self._hand_over):
            self._back()
            return True
        if not self._step("bake", self._bake):
            self._back()
            return True
        self._watch_old()
        self._end_sessions()
        self._retire()
        return True

    def _step(self, name: str, step: Callable[[], str]) -> bool:
        since = self.record.now()
        try:
            message = step()
        except RolloutError as error:
            self.record.halt(name, error, [])
            self.record.event(name, [], since, str(error))
            self.say(f"{name}: {error}")
            self.record.save()
            return False
        if message:
            self.record.event(name, [], since, message)
            self.say(f"{name}: {message}")
        self.record.save()
        return True

    # -- preview ----------------------------------------------------------------

    def _preview(self) -> str:
        if self.record.step_tasks.get("preview_tasks"):
            if not self.previewed.get("ok"):
                said = " ".join(str(self.previewed.get("said") or "they did not run to their end").split())[:300]
                raise Unhealthy(
                    f"rollout_preview_tasks failed on {self.idle}: {said}. Nothing was flipped.",
                    f"{self.idle} stays on {self.record.to_version}, without traffic.",
                )
            if not self.settings.preview_command:
                return f"{self.idle} passed rollout_preview_tasks"
        if not self.settings.preview_command:
            return ""
        preview = Preview.parse(self.settings.preview, "rollout_preview")
        own = {
            "ROLLOUT_SLOT": self.idle,
            "ROLLOUT_VERSION": self.record.to_version,
            "ROLLOUT_PREVIEW_KIND": preview.kind,
            "ROLLOUT_PREVIEW_NAME": preview.name,
            "ROLLOUT_PREVIEW_VALUE": preview.value,
        }
        try:
            done = subprocess.run(
                self.settings.preview_command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=self.settings.preview_timeout,
                env={**os.environ, **own},
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise TimedOut(
                f"rollout_preview_command did not end within {self.settings.preview_timeout:g} s; nothing was flipped."
            ) from None
        except OSError as error:
            raise Refused(f"rollout_preview_command cannot be run: {error}; nothing was flipped.") from None
        if done.returncode:
            said = " ".join(done.stdout.split())[-300:]
            raise Unhealthy(
                f"rollout_preview_command ended with {done.returncode} on {self.idle}: {said or 'it said nothing'}. Nothing was "
                "flipped.",
                f"{self.idle} stays on {self.record.to_version}, without traffic.",
            )
        return f"{self.idle} passed rollout_preview_command"

    # -- sessions ---------------------------------------------------------------

    def _hand_over(self) -> str:
        """Before the flip all sessions are known to the idle slot, and after it what changed meanwhile."""
        if self.settings.sessions != HAND_OVER:
            return ""
        old = list(self.record.slots["old"])
        done = hand_over(self.settings, self.remote, old, list(self.record.members))
        if done.error is not None:
            raise done.error
        return f"{done.sessions} sessions of {self.live} are known to {self.idle}"

    def _end_sessions(self) -> None:
        """What the last requests to the old slot have changed; or how many sessions stay behind there."""
        if self.settings.sessions == SHARED or not self.settings.session_export:
            return
        if self.settings.sessions == HAND_OVER:
            self._step("hand over", self._hand_over)
            return
        left = count_sessions(self.settings, self.remote, list(self.record.slots["old"]))
        words = f"{left.sessions} sessions stayed behind on {self.live}"
        self.record.notes.append(
            words if left.error is None else f"how many sessions stayed behind is not known: {left.error}"
        )
        self.say(f"sessions: {self.record.notes[-1]}")

    # -- flip -------------------------------------------------------------------

    def _ask(self, operation: str, params: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Reply]:
        own, beside = route_params(self.settings), self.record.slots.get("beside", {})
        calls = {}
        for key, each in params.items():
            if key in beside:
                place, service = beside[key]
                also = {**beside_params(self.settings, service), **each, "beside": True}
                if "at" in also:  # in the order that was asked for
                    also["at"] += _APART * (1 + self.settings.services.index(service))
                calls[key] = Call(operation, also, _LIMIT, self.record.place(place).host)
            else:
                calls[key] = self.fleet.call(key, operation, _LIMIT, {**own, **each})
        return self.fleet.ask(calls)

    @property
    def places(self) -> list[str]:
        """Where something is flipped: each balancer, for this service and for those that flip along."""
        return [*self.record.balancers, *self.record.slots.get("beside", {})]

    def _flip(self) -> str:
        record = self.record
        too_many = too_many_failed(self.settings, record)
        if too_many is not None:
            raise too_many
        record.slots["under_way"] = True  # whoever cancels the run from here on looks which slot is live
        record.save()
        done = flip_fleet(self._ask, self.places, self.live, self.idle)
        record.slots["under_way"] = False
        for place in record.balancers:
            if done.reloads:
                record.reloads[place] = max(1, record.reloads.get(place, 0))
        if done.error is not None:
            bad = [place for place, well in done.undone.items() if not well]
            if bad:
                record.slots["unknown"] = bad
            words = undone_words(done.undone)
            raise type(done.error)(f"{done.error.message} {words}".strip(), done.error.hint)
        record.slots.update(flipped=True, spread=round(done.spread, 6))
        record.counted = {}  # what was counted of the slot until now is of the time before it served
        ago = time.monotonic() - done.at
        record.first_new_at = round(record.now() - ago - done.spread, 4)
        record.last_old_at = round(record.now() - ago, 4)
        along = f" and {', '.join(self.settings.services)} with it" if self.settings.services else ""
        return f"{self.idle} is live on {', '.join(record.balancers)}{along}; {done.spread * 1000:.1f} ms between the first and the last of them"

    def _back(self) -> None:
        """The old slot is live again; it is as warm as it was."""
        record = self.record
        if self.settings.on_failure == "freeze":
            return
        since = record.now()
        done = flip_fleet(self._ask, self.places, self.idle, self.live)
        if done.error is not None:
            record.notes.append(f"the flip back failed: {done.error} {undone_words(done.undone)}".strip())
            return
        record.slots["flipped"] = False
        record.last_new_at = record.now()
        words = f"{self.live} is live again, {done.spread * 1000:.1f} ms between the first and the last balancer"
        record.event("flip back", [], since, words)
        self.say(f"flip back: {words}")
        record.save()

    # -- bake -------------------------------------------------------------------

    def _bake(self) -> str:
        if not self.settings.bake:
            return ""
        pool = self.settings.pool_in(self.idle)
        end, bad = time.monotonic() + self.settings.bake, 0
        before: dict[str, Pool] = {}
        requests = 0
        while True:
            pools = self._pools(pool)
            if not before:
                before = pools
            out = [
                f"{each.name} on {place}" for place, own in pools.items() for each in own.members if not each.in_service
            ]
            bad = bad + 1 if out else 0
            if bad >= _BAD_LOOKS:
                raise Unhealthy(f"{', '.join(out)} went out of service after the flip.", "Read the members' logs.")
            errors, requests = _errors(before, pools)
            if errors > self.settings.look_max_errors:
                raise Unhealthy(
                    f"{self.idle} had {errors} errors in {requests} requests after the flip, and rollout_look_max_errors is "
                    f"{self.settings.look_max_errors}.",
                    "Read the members' logs.",
                )
            too_many = too_many_failed(self.settings, self.record)
            if too_many is not None:
                raise too_many
            if time.monotonic() >= end:
                break
            time.sleep(min(_LOOK_EVERY, max(0.0, end - time.monotonic())))
        reason = outside.now(self.settings, self.record)
        if reason and self.record.outside_well:
            raise Unhealthy(f"With {self.idle} live, {reason}")
        if not requests:
            words = (
                f"{self.idle} could not be judged in {self.settings.bake:g} s: its balancers counted no request of it"
            )
            self.record.notes.append(words)
            return f"inconclusive: {words}"
        return f"{self.idle} served {requests} requests in {self.settings.bake:g} s without an error too many"

    def _pools(self, pool: str) -> dict[str, Pool]:
        calls = {place: self.fleet.call(place, "pool_read", 10.0, {"pool": pool}) for place in self.record.balancers}
        found = {}
        for place, reply in self.fleet.ask(calls).items():
            if reply.error is not None:
                reply.error.message = f"{place}: {reply.error.message}"
                raise reply.error
            found[place] = Pool.from_dict(reply.result["pools"][0])
        return found

    # -- the old slot -----------------------------------------------------------

    def _watch_old(self) -> None:
        """What the old slot still has is waited for, then kept or cut, and said."""
        since, old = self.record.now(), self.record.slots["old"]
        limit = self.settings.old_work_timeout
        calls = {
            place: self.fleet.call(
                place,
                "pool_watch",
                limit,
                {
                    "pool": self.settings.pool_in(self.live),
                    "members": [names[place] for names in old.values()],
                    "timeout": limit,
                    "on_timeout": self.settings.old_work,
                },
            )
            for place in self.record.balancers
        }
        replies = self.fleet.ask(calls)
        left = sum(sum(reply.result["left"].values()) for reply in replies.values() if reply.ok)
        cut = sum(int(reply.result["cut"]) for reply in replies.values() if reply.ok)
        self.record.slots.update(left=left, cut=cut)
        for place, reply in replies.items():
            if reply.error is not None:
                self.record.notes.append(f"what {self.live} still has in flight on {place} is not known: {reply.error}")
        if cut:
            self.record.notes.append(f"{cut} requests or connections on {self.live} were cut after {limit:g} s")
        if left:
            self.record.notes.append(f"{left} requests or connections are still in flight on {self.live}, and go on")
        members = self._on_old_members(replies)
        words = f"{self.live} has nothing in flight" if not left and not cut and not members else self.record.notes[-1]
        self.record.event("old work", [], since, words)
        self.say(f"old work: {words}")
        self.record.save()

    def _on_old_members(self, replies: Mapping[str, Reply]) -> bool:
        """Whether connections from the balancers are still busy on the members themselves; what is so is said."""
        if self.settings.busy_sockets == "ignore":
            return False
        calls = {}
        for host, names in self.record.slots["old"].items():
            found = {
                place: reply.result["towards"][names[place]]
                for place, reply in replies.items()
                if reply.ok and names[place] in reply.result.get("towards", {})
            }
            if found:
                port = next(iter(found.values()))["port"]
                params = {"port": port, "balancers": found, "limit": _SETTLE}
                calls[host] = Call("member_sockets", params, _SETTLE)
        busy = {
            host: sum(reply.result["busy"].values())
            for host, reply in (self.remote.run(calls) if calls else {}).items()
            if reply.ok and reply.result["busy"]
        }
        if busy:
            words = ", ".join(f"{count} on {host}" for host, count in busy.items())
            self.record.notes.append(
                f"connections from the balancers that {self.live}'s members still see busy: {words}"
            )
        return bool(busy)

    def _retire(self) -> None:
        if self.settings.retire == KEEP or self.record.strategy == FLIP_BACK:
            return
        time.sleep(self.settings.keep_warm)
        since, unit = self.record.now(), self.settings.for_slot(self.live).unit
        if self.record.slots.get("left"):
            self.record.notes.append(f"{self.live} was not retired, since it still has work in flight")
            return
        hosts = list(self.record.slots["old"])
        if self.settings.retire != STOP:
            self.record.slots["retiring"] = hosts  # a play of their own follows
            return
        replies = self.remote.run({host: Call("unit_stop", {"unit": unit}, 90.0) for host in hosts}, self.check)
        bad = [f"{host}: {reply.error}" for host, reply in replies.items() if reply.error is not None]
        words = f"{unit} stopped on {', '.join(hosts)}" if not bad else f"{unit} could not be stopped: {'; '.join(bad)}"
        if bad:
            self.record.notes.append(words)
        self.record.event("retire", hosts, since, words)
        self.say(f"retire: {words}")


def _errors(before: Mapping[str, Pool], now: Mapping[str, Pool]) -> tuple[int, int]:
    """Errors and requests of the members since then, as far as the same processes count them."""
    errors = requests = 0
    for place, pool in now.items():
        if pool.identity != before[place].identity:
            continue
        for member in pool.members:
            old = before[place].member(member.name).counters
            own = member.counters
            errors += max(own.errors - old.errors, own.responses_5xx - old.responses_5xx)
            requests += own.requests - old.requests
    return errors, requests


def end_of_a_flip(settings: BlueGreen, remote: Remote, record: Record) -> None:
    """The run was cancelled in the middle of a flip: every balancer sends new requests to the old slot again."""
    if not record.slots.get("under_way"):
        return
    flip = Flip(settings, remote, record, False, lambda _text: None)
    well = undo(flip._ask, flip.places, flip.live)
    record.slots["under_way"] = False
    record.notes.append(f"the flip was broken off: {undone_words(well)}")
