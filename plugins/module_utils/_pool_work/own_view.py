# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The balancer's own view of members: a request from its host straight to each, at the address that it has for it.

What is healthy on its own host may still be out of the balancers' reach: behind a firewall, or bound to loopback
only. A balancer with checks finds out by itself; for one without, this is what finds out before any traffic does.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput, RolloutError
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Health, Member

WHEN = ("auto", "always", "never")


@dataclass(frozen=True)
class ViewOrder:
    """Which members are asked, and what each must answer: the health gate's parameters, by member."""

    always: bool  # else only those that the balancer does not check
    health: Mapping[str, Mapping[str, Any]]

    @classmethod
    def from_params(cls, value: object) -> ViewOrder | None:
        if value is None:
            return None
        if not isinstance(value, Mapping) or not isinstance(value.get("health"), Mapping):
            raise BadInput(f"view must have always and health, got {value!r}.")
        return cls(bool(value.get("always")), value["health"])

    def chooses(self, member: Member) -> bool:
        """Whether this member is asked. One at a UNIX socket is not: it is on the balancer's own host."""
        unchecked = member.health is Health.UNCHECKED
        return (self.always or unchecked) and member.name in self.health and bool(member.port)


def of_all(params: Mapping[str, Any], names: Sequence[str]) -> ViewOrder | None:
    """One order for all these members; None where nothing is asked. Raises ``BadInput``."""
    when = params.get("health_from_balancer") or "auto"
    if when not in WHEN:
        raise BadInput(f"health_from_balancer must be one of {', '.join(WHEN)}, got {when!r}.")
    health = params.get("health")
    if health is None or when == "never":
        return None
    if not isinstance(health, Mapping) or not health.get("url"):
        raise BadInput(f"health must have at least the url, got {health!r}.", "It takes the options of health_gate.")
    return ViewOrder(when == "always", dict.fromkeys(names, health))


def ask(members: Sequence[Member], order: ViewOrder, limit: float) -> dict[str, str]:
    """Ask all at once, each until it was healthy often enough in a row; those that were not, with the reason."""
    # Only where it is needed: what it brings along takes longer to load than the rest of the work.
    from ansible_collections.zerodrop.rollout.plugins.module_utils._health import health_gate

    reasons: dict[str, str] = {}

    def gate(member: Member) -> None:
        params = {**order.health[member.name], "at": [member.address, member.port]}
        params["timeout"] = max(limit, 0.01)
        try:
            health_gate(params, False)
        except RolloutError as error:
            reasons[member.name] = error.message
        except Exception as error:  # a thread must never lose its member
            reasons[member.name] = f"unexpected: {type(error).__name__}: {error}"

    threads = [threading.Thread(target=gate, args=(member,), daemon=True) for member in members]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return reasons
