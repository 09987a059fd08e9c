# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a phase works with: the settings, the fleet and the record."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import Unreachable
from ansible_collections.zerodrop.rollout.plugins.module_utils._package import upstream
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Pool
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Call, Remote, Reply
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout import switch
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.lookout import heard_from
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import LeaseRecord, MemberRecord, Record
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import Settings

_OF_A_FLIP = ("route_prepare", "route_set", "route_settle", "pool_watch")
# What a balancer lets nobody do without the lease.
_FENCED = ("pool_drain", "pool_return", "pool_put_back", "pool_weigh", "ledger_note", *_OF_A_FLIP)
_NOTE_LIMIT = 10.0


def balancer_params(settings: Settings) -> dict[str, Any]:
    """What every operation on a balancer needs to know."""
    return {
        "driver": settings.driver,
        "socket": settings.socket,
        "master_socket": "" if settings.master_socket == "none" else settings.master_socket or None,
        "lasting": settings.lasting,
        "nginx_mode": settings.nginx_mode,
        "nginx_config": settings.nginx_config,
        "nginx_binary": settings.nginx_binary,
        "nginx_pid_file": settings.nginx_pid_file or None,
        "nginx_leaving_wait": settings.nginx_leaving_wait,
        "access_log": list(settings.access_log),
        "access_log_format": settings.access_log_format or None,
        "pool": settings.pool,
        "service": settings.service,
    }


def health_params(settings: Settings, release: str | None) -> dict[str, Any]:
    """The health gate's parameters; ``release`` is the version that the answer must name, if it names one."""
    named = settings.names_version or settings.health_version_in_text
    return {
        "url": settings.health_url,
        "status": list(settings.health_status),
        "version": release if named else None,
        "version_also": upstream(release) if named and release and settings.method == "package" else None,
        "version_key": settings.health_version_key or None,
        "version_header": settings.health_version_header or None,
        "successes": settings.health_successes,
        "seconds": settings.health_seconds,
        "timeout": settings.health_timeout,
        "interval": settings.health_interval,
        "request_timeout": settings.health_request_timeout,
        "validate_certs": settings.health_validate_certs,
    }


def warm_up_params(settings: Settings, member: MemberRecord, required: bool) -> dict[str, Any] | None:
    """What a member is warmed with, on its own host, once it is healthy; None for nothing."""
    if not settings.warm_up:
        return None
    return {
        "paths": list(settings.warm_up),
        "port": member.port,
        "count": settings.warm_up_count,
        "concurrency": settings.warm_up_concurrency,
        "timeout": settings.warm_up_timeout,
        "required": required,
    }


def _nobody(_host: str | None) -> bool:
    return False


@dataclass(frozen=True)
class Fleet:
    """All balancers of a rollout, by place: one call of a phase reaches those of a layer all at once."""

    settings: Settings
    remote: Remote
    record: Record
    check: bool
    # Whether another part of the run works on a host now: then what the ledgers are told of it is that one's to say. What
    # this one has seen of it may be old by the time it arrives.
    elsewhere: Callable[[str | None], bool] = _nobody

    @property
    def layers(self) -> list[list[str]]:
        """The places of each layer, outermost first."""
        layers: dict[int, list[str]] = {}
        for place in self.record.balancers:
            layers.setdefault(self.record.place(place).layer, []).append(place)
        return [layers[number] for number in sorted(layers)]

    def call(self, place: str, operation: str, limit: float, params: Mapping[str, Any]) -> Call:
        """A call for the balancer and the pool of this place."""
        where = self.record.place(place)
        own = balancer_params(self.settings.layers[where.layer])
        if self.record.lease is not None and operation in _FENCED and not self.check:
            own["lease"] = self._lease(self.record.lease, place, params.get("members", []))
        return Call(operation, {**own, **params}, limit, where.host)

    def _lease(self, lease: LeaseRecord, place: str, names: Iterable[str]) -> dict[str, Any]:
        """What a change has to bring: the lease, and what the balancer's ledger does not know yet."""
        told = lease.told.get(place, {})
        members = [each for each in self.record.members.values() if not self.elsewhere(each.host)]
        rows = [_row(each) for each in members if told.get(each.host) != _said(each)]
        hosts = self.by_host(place, {name: name for name in names})
        return {
            "number": lease.number,
            "holder": lease.holder,
            "members": rows,
            "hosts": {name: host for host, name in hosts.items()},
        }

    def notes(self, **params: Any) -> dict[str, Call]:
        """The call that renews the lease on every balancer, and tells its ledger what it does not know yet."""
        if self.record.lease is None or self.check:
            return {}
        places = [place for place in self.record.lease.hosts if place in self.record.balancers]
        return {place: self.call(place, "ledger_note", _NOTE_LIMIT, params) for place in places}

    def note_plan(self, begin: Mapping[str, Any]) -> None:
        """Have every ledger know the plan; raises the first balancer's error."""
        lease = self.record.lease
        if lease is None:
            return
        said = {member.host: _said(member) for member in self.record.members.values()}
        for place in self.record.balancers:
            lease.told[place] = dict(said)
        for place, reply in self.run(self.notes(begin=begin)).items():
            if reply.error is not None:
                lease.told.clear()
                reply.error.message = f"{place}: {reply.error.message}"
                raise reply.error

    @property
    def lease_lasts(self) -> bool:
        """Whether the lease lasts by what this side knows, without asking."""
        lease = self.record.lease
        if lease is None or self.check:
            return True
        return time.clock_gettime(time.CLOCK_BOOTTIME) - lease.renewed < float(lease.request["seconds"]) / 2

    def ask(self, calls: Mapping[str, Call]) -> dict[str, Reply]:
        """What each call came to, whoever is down; and what the balancers said beside it, such as reloads that they made."""
        lease, since = self.record.lease, time.clock_gettime(time.CLOCK_BOOTTIME)
        replies = self.remote.run(calls, self.check)
        for place, reply in replies.items():
            facts = reply.error.facts if reply.error is not None else reply.result
            made = int(facts.get("reloads_made", 0))
            if made and not self.check:
                self.record.reloads[place] = self.record.reloads.get(place, 0) + made
            if facts.get("told") and not self.check:
                said = {"at": self.record.now(), "words": list(facts["told"])}
                self.record.told.setdefault(place, []).append(said)
        if lease is None:
            return replies
        renewed = set()
        for place, call in calls.items():
            sent, reply = call.params.get("lease"), replies[place]
            if not sent or not reply.ok:
                continue
            renewed.add(call.host)
            told = lease.told.setdefault(place, {})
            told.update({row["host"]: _said_row(row) for row in sent["members"]})
            asked = reply.result.get("stop_asked") or reply.result.get("stop")
            self.record.stop_asked = self.record.stop_asked or str(asked or "")
        if len(renewed) >= lease.needed:
            lease.renewed = since
        return replies

    def calls(
        self,
        operation: str,
        hosts: Iterable[str],
        limit: float,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        places: Iterable[str] | None = None,
        keep_floor: bool = False,
        returning: Mapping[str, Mapping[str, Any]] | None = None,
        **params: Any,
    ) -> dict[str, Call]:
        """The call that each place gets for these members, under its own names for them.

        ``settings`` differ by place; where they are given, only the places among them are called. With
        ``keep_floor`` each place is given its own. ``returning`` are settings of other members, by place.
        """
        chosen = list(hosts)
        calls = {}
        for place in self.record.balancers if places is None else places:
            if settings is not None and place not in settings:
                continue
            own: dict[str, Any] = {"members": [self.record.members[host].names[place] for host in chosen]}
            if settings is not None:
                own["settings"] = settings[place]
            if keep_floor:
                own["floor"] = self.record.place(place).floor
            if returning and place in returning:
                own.update(returning=returning[place], wait_for_floor=0)
            calls[place] = self.call(place, operation, limit, {**params, **own})
        return calls

    def run(self, calls: Mapping[str, Call]) -> dict[str, Reply]:
        """What each call came to; those of balancers that are down are left out where that was asked for."""
        return self.living(self.ask(calls))

    def living(self, replies: Mapping[str, Reply]) -> dict[str, Reply]:
        """The replies without those of balancers that are down, where these are to be skipped.

        Such a place counts no more, until ``revive`` finds it back. Never left out are the last one of a layer, and
        those without which the lease is not had by enough.
        """
        if self.settings.dead_balancer != "skip":
            return dict(replies)
        # Another part of the run may have left one out since it was asked.
        found = {place: each for place, each in replies.items() if not (place in self.record.dead and _is_lost(each))}
        for places in self.layers:
            dead = [place for place in places if place in found and _is_lost(found[place])]
            if len(dead) == len(places) or not self._enough_without(dead):
                continue
            for place in dead:
                error = found.pop(place).error
                self.record.balancers.remove(place)
                self.record.dead.append(place)
                self.record.notes.append(f"{place} was left out, as rollout_dead_balancer says: {error}")
        return found

    def _enough_without(self, dead: Iterable[str]) -> bool:
        lease = self.record.lease
        staying = {self.record.place(place).host for place in self.record.balancers if place not in dead}
        return lease is None or len(staying) >= lease.needed

    def revive(self) -> None:
        """Bring balancers that are back in line with the others, and count them again."""
        if not self.record.dead or self.check:
            return
        replies = self.remote.run({place: self.call(place, "pool_read", 10, {}) for place in heard_from(self.record)})
        for place, reply in replies.items():
            if reply.ok and self._has_lease(place) and self._bring_in_line(place, reply.result):
                self.record.dead.remove(place)
                self.record.balancers.append(place)
                self.record.notes.append(f"{place} came back, and was brought in line before it counted")

    def switch(self, host: str) -> dict[str, Any] | None:
        """What a balancer arms its dead man's switch with."""
        layers = sorted({place.layer for place in self.record.places.values() if place.host == host})
        return switch.order(self.settings, [balancer_params(self.settings.layers[number]) for number in layers])

    def _has_lease(self, place: str) -> bool:
        """Whether a balancer that came back gives the lease that its siblings have given."""
        lease = self.record.lease
        if lease is None:
            return True
        host = self.record.place(place).host
        params = {**lease.request, "number": lease.number, "switch": self.switch(host)}
        if not self.remote.run({place: Call("lease_acquire", params, _NOTE_LIMIT, host)})[place].ok:
            return False
        lease.told.pop(place, None)
        if host not in lease.hosts.values():
            lease.hosts[place] = host
        return True

    def have_lease_anew(self, limit: float) -> None:
        """Under a higher number: what an earlier step left at work on the balancers can change nothing from now on.

        A step that was told to end is gone before the balancers know it: a drain that waits for its turn, or for a
        reload, would take members out after they were put back.
        """
        lease = self.record.lease
        if lease is None or self.check:
            return
        request = {**lease.request, "number": lease.number + 1, "instead_of": lease.number}
        calls = {
            place: Call("lease_acquire", {**request, "switch": self.switch(host)}, limit, host)
            for place, host in lease.hosts.items()
            if place in self.record.balancers
        }
        if any(reply.ok for reply in self.remote.run(calls).values()):
            lease.number += 1
            lease.told.clear()
            self.record.save()

    def _bring_in_line(self, place: str, found: Mapping[str, Any]) -> bool:
        """Whether what we left there by halves was finished: members that serve are back, the others are out."""
        layer = self.record.place(place).layer
        sibling = next(each for each in self.record.balancers if self.record.place(each).layer == layer)
        pool = Pool.from_dict(found["pools"][0])
        members = self.record.members.values()
        for member in members:
            member.names.setdefault(place, member.names[sibling])
        if {member.names[place] for member in members} - {each.name for each in pool.members}:
            return False
        out = [member for member in members if not member.serves]
        back = {
            member.names[place]: setting
            for member in members
            if member.serves and (setting := found["held_out"].get(member.names[place]))
        }
        steps = []
        if back:
            hosts = [member.host for member in members if member.names[place] in back]
            names = {"members": list(back), "timeout": self.settings.health_timeout}
            view = self.view(place, {host: self.record.members[host].release for host in hosts})
            steps = [
                self.call(place, "pool_return", self.settings.health_timeout, {**names, "view": view}),
                self.call(place, "pool_put_back", 10, {"settings": back, "members": list(back)}),
            ]
        if out:
            limit = self.settings.drain_timeout
            names = {"members": [member.names[place] for member in out], "timeout": limit}
            steps.append(self.call(place, "pool_drain", limit, names))
        for step in steps:
            reply = self.ask({place: step})[place]
            if not reply.ok:
                return False
            for host, setting in self.by_host(place, reply.result.get("return_to", {})).items():
                self.record.members[host].before.setdefault(place, setting)
        return True

    def view(self, place: str, releases: Mapping[str, str | None]) -> dict[str, Any] | None:
        """How a place is to ask members by itself, each for the release that it is to have; None where it is not."""
        if self.settings.health_from_balancer == "never":
            return None
        names = {self.record.members[host].names[place]: release for host, release in releases.items()}
        return {
            "always": self.settings.health_from_balancer == "always",
            "health": {name: health_params(self.settings, release) for name, release in names.items()},
        }

    def by_host(self, place: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Turn a place's answer, keyed by its names, into one keyed by inventory hosts."""
        hosts = {member.names[place]: host for host, member in self.record.members.items() if place in member.names}
        return {hosts[name]: value for name, value in values.items() if name in hosts}


def _is_lost(reply: Reply) -> bool:
    return isinstance(reply.error, Unreachable)


def _row(member: MemberRecord) -> dict[str, Any]:
    """A member as the ledgers know it."""
    return {
        "host": member.host,
        "phase": member.phase,
        "release_before": member.release_before,
        "release": member.release,
        "before": member.before,
    }


def _said(member: MemberRecord) -> str:
    return _said_row(_row(member))


def _said_row(row: Mapping[str, Any]) -> str:
    """What of a row makes it worth telling again."""
    return f"{row['phase']} {row['release']} {','.join(sorted(row['before']))}"
