# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Polls for the verdict: what every member did since the last one, added up over the fleet.

What a poll goes on from is its cursor, plain JSON: whoever has the cursor of the
last poll can take the next one, on any controller, and nothing is counted twice
or left out. Taking a poll again from the same cursor tells the same and more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._access_log.counts import BUCKETS
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput, RolloutError
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._observed import Tale, added_up
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._observed_command import ask_command, since, totals_of
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Call, Reply
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.fleet import Fleet
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import Settings

LIMIT = 20.0  # seconds for one look of a host

Cursor = dict[str, Any]


@dataclass(frozen=True)
class Observation:
    """One poll, and where the next one begins."""

    poll: dict[str, Any]  # as the verdict takes it
    cursor: Cursor
    notes: tuple[str, ...] = ()  # what the sources cannot see, or did not see this time
    dropped: str | None = None  # why the poll does not count
    kinds: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # failures of each arm by kind


class Observer:
    """Looks at members, whose arms are given by their hosts' names."""

    def __init__(self, fleet: Fleet, settings: Settings, arms: Mapping[str, str]) -> None:
        unknown = [host for host in arms if host not in fleet.record.members]
        if unknown or not arms:
            raise BadInput(f"{', '.join(unknown) or 'No host'} is no member of this rollout.")
        self._fleet = fleet
        self._settings = settings
        self._arms = dict(arms)

    @property
    def _places(self) -> list[str]:
        """Where requests are counted: the innermost pool, through which all of them go, so that none is counted twice."""
        return self._fleet.layers[-1]

    def begin(self) -> Cursor:
        """Where the first poll begins. Raises what keeps a source from being read, before anything is judged."""
        if self._settings.canary_source == "command":
            return {"totals": self._printed(), "restarts": self._restarts({})[0]}
        replies = self._fleet.ask({place: self._call(place, None) for place in self._places})
        for place, reply in replies.items():
            if reply.error is not None:
                reply.error.message = f"{place}: {reply.error.message}"
                raise reply.error
        places = {place: reply.result["cursor"] for place, reply in replies.items()}
        return {"places": places, "restarts": self._restarts({})[0]}

    def poll(self, at: float, cursor: Mapping[str, Any]) -> Observation:
        """What happened since; ``at`` is now, in seconds since any moment that all polls share."""
        of = "totals" if self._settings.canary_source == "command" else "places"
        known = cursor.get(of)
        if not isinstance(known, Mapping) or not known:
            raise BadInput(f"A cursor must be what begin or an earlier poll returned, got {cursor!r}.")
        away = [place for place in known if of == "places" and place not in self._fleet.record.balancers]
        known = {place: each for place, each in known.items() if place not in away}
        tales, now = self._by_command(known) if of == "totals" else self._by_balancers(known)
        restarts, rows, notes = self._restarts(cursor.get("restarts") or {})
        seen = added_up(at, self._arms, tales)
        for member in seen.poll["members"]:
            member.update(rows.get(member["name"], {}))
        # Whoever skips a balancer that is down says that it has no traffic. It is not waited for, and it is said.
        notes += [f"{place} is left out: what it still serves is not seen, and not judged" for place in away]
        return Observation(seen.poll, {of: now, "restarts": restarts}, (*seen.notes, *notes), seen.dropped, seen.kinds)

    def past(self, seconds: float, since: Mapping[str, float]) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
        """What members did before now, as far as the balancers' logs have it, as polls for the verdict's history.

        ``since``: by place, from when on all members had the version that they have, by that host's clock. Where one of the
        balancers cannot tell there is no history.
        """
        if self._settings.canary_source in ("counters", "command") or not seconds:
            return [], ()
        calls = {
            place: self._call(place, None, "observe_past", seconds=seconds, since=since.get(place, 0.0))
            for place in self._places
        }
        replies = self._fleet.ask(calls)
        notes = [f"{place}: {note}" for place, each in replies.items() if each.ok for note in each.result["notes"]]
        notes += [f"{place} does not tell the past: {each.error}" for place, each in replies.items() if each.error]
        if notes or not all(each.result["pieces"] for each in replies.values()):
            return [], tuple(dict.fromkeys(notes))
        longest = max(each.result["seconds"] for each in replies.values())
        pieces = [each.result["pieces"] for each in replies.values()]
        polls: list[dict[str, Any]] = []
        for number, rows in enumerate(zip(*pieces, strict=True), 1):
            at = longest * (number - len(pieces[0])) / len(pieces[0])
            tales = {
                place: Tale(self._fleet.by_host(place, row), buckets=len(BUCKETS) + 1)
                for place, row in zip(replies, rows, strict=True)
            }
            poll = added_up(round(at, 3), self._arms, tales).poll
            if polls or any(member["requests"] for member in poll["members"]):
                polls.append(poll)
        return polls, ()

    def _by_balancers(self, known: Mapping[str, Any]) -> tuple[dict[str, Tale | RolloutError], dict[str, Any]]:
        replies = self._fleet.ask({place: self._call(place, known[place]) for place in known})
        places = {
            place: known[place] if reply.error is not None else reply.result["cursor"]
            for place, reply in replies.items()
        }
        return {place: self._tale(place, reply) for place, reply in replies.items()}, places

    def _by_command(self, known: Mapping[str, Any]) -> tuple[dict[str, Tale | RolloutError], dict[str, Any]]:
        try:
            now = self._printed()
        except RolloutError as error:
            return {"rollout_canary_command": error}, dict(known)
        return {"rollout_canary_command": since(dict(known), now)}, now

    def _printed(self) -> dict[str, Any]:
        return totals_of(ask_command(self._settings.canary_command, LIMIT), list(self._arms))

    def _restarts(self, known: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, dict[str, Any]], list[str]]:
        """Where systemd's counts are, what is new of each member, and what is to be said; nothing unless all tell."""
        if not self._settings.canary_restarts:
            return {}, {}, []
        calls = {
            f"{host}'s unit": Call(
                "unit_restarts", {"unit": self._settings.unit, "cursor": known.get(host)}, LIMIT, host
            )
            for host in self._arms
        }
        replies = dict(zip(self._arms, self._fleet.ask(calls).values(), strict=True))
        silent = [host for host, reply in replies.items() if reply.error is not None]
        cursors = {
            host: known.get(host) if reply.error is not None else reply.result["cursor"]
            for host, reply in replies.items()
        }
        if silent:
            why = replies[silent[0]].error
            return cursors, {}, [f"restarts are not seen: {', '.join(silent)} ({why})"]
        rows = {
            host: {"restarts": reply.result["restarts"], "host_seconds": reply.result["seconds"]}
            for host, reply in replies.items()
        }
        return cursors, rows, []

    def _call(self, place: str, cursor: Any, operation: str = "observe", **more: Any) -> Call:
        members = self._fleet.record.members
        names = {members[host].names[place]: _as_logged(members[host].addresses.get(place)) for host in self._arms}
        source = self._settings.canary_source
        params = {"members": names, "source": source, "cursor": cursor, **more}
        return self._fleet.call(place, operation, LIMIT, params)

    def _tale(self, place: str, reply: Reply) -> Tale | RolloutError:
        if reply.error is not None:
            return reply.error
        return Tale(
            members=self._fleet.by_host(place, reply.result["members"]),
            reset=reply.result["reset"],
            notes=tuple(reply.result["notes"]),
            buckets=len(reply.result["buckets"]) + 1 if reply.result["buckets"] else 0,
        )


def _as_logged(address: tuple[str, int] | None) -> str:
    """How nginx writes a member's address."""
    if address is None:
        return ""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
