# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a phase works with: the settings, the fleet and the record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Call, Remote, Reply
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import Record
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import Settings


def balancer_params(settings: Settings) -> dict[str, Any]:
    """What every operation on a balancer needs to know."""
    return {
        "driver": settings.driver,
        "socket": settings.socket,
        "master_socket": "" if settings.master_socket == "none" else settings.master_socket or None,
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
        "version_key": settings.health_version_key or None,
        "version_header": settings.health_version_header or None,
        "successes": settings.health_successes,
        "seconds": settings.health_seconds,
        "timeout": settings.health_timeout,
        "interval": settings.health_interval,
        "request_timeout": settings.health_request_timeout,
        "validate_certs": settings.health_validate_certs,
    }


@dataclass(frozen=True)
class Fleet:
    """All balancers of a rollout: one call of a phase reaches them all at once."""

    settings: Settings
    remote: Remote
    record: Record
    check: bool

    def calls(
        self,
        operation: str,
        hosts: Iterable[str],
        limit: float,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        **params: Any,
    ) -> dict[str, Call]:
        """The call that each balancer gets for these members, under its own names for them.

        ``settings`` differ by balancer; where they are given, only the balancers among them are called.
        """
        chosen = list(hosts)
        calls = {}
        for balancer in self.record.balancers if settings is None else settings:
            own: dict[str, Any] = {"members": [self.record.members[host].names[balancer] for host in chosen]}
            if settings is not None:
                own["settings"] = settings[balancer]
            calls[balancer] = Call(operation, {**balancer_params(self.settings), **own, **params}, limit)
        return calls

    def run(self, operation: str, hosts: Iterable[str], limit: float, **params: Any) -> dict[str, Reply]:
        return self.remote.run(self.calls(operation, hosts, limit, **params), self.check)

    def by_host(self, balancer: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Turn a balancer's answer, keyed by its names, into one keyed by inventory hosts."""
        hosts = {member.names[balancer]: host for host, member in self.record.members.items()}
        return {hosts[name]: value for name, value in values.items() if name in hosts}
