# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What members that we hold out are to return to, kept in the ledger on the balancer itself.

A balancer's runtime state does not say who took a member out, or what it was
before. Without that a run that was killed would leave a member out for good,
since the next one would take its state for an operator's. So before a member is
held out, what it is to return to is on the disk beside the balancer, and it is
removed when the member is back.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from ansible_collections.zerodrop.rollout.plugins.module_utils._fence import Fence
from ansible_collections.zerodrop.rollout.plugins.module_utils._ledger import BY_HAND, BY_ROLLOUT, Held, Ledger
from ansible_collections.zerodrop.rollout.plugins.module_utils._names import pool_name
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Admin, Pool, Setting

__all__ = ("BY_HAND", "BY_ROLLOUT", "Marks")


class Marks:
    """The marks of one service on one pool of this balancer; no ledger is no mark."""

    def __init__(
        self, service_name: object, pool: object, folder: str | None = None, held_by: str = BY_ROLLOUT
    ) -> None:
        self.ledger = Ledger(service_name, folder)
        self._pool = pool_name(pool)
        self._held_by = held_by

    def read(self) -> dict[str, Setting]:
        """By member; raises ``LedgerBroken``."""
        with self.ledger.look() as tables:
            held = tables.held(self._pool, self._held_by) if tables else []
        return {each.member: each.setting for each in held}

    def returning_to(self, pool: Pool, names: Iterable[str]) -> dict[str, Setting]:
        """What each member is to return to: what it is now, or what it was before we held it out."""
        marks = self.read()
        found = {}
        for name in names:
            member = pool.member(name)
            ours = member.admin is not Admin.READY and name in marks
            found[name] = marks[name] if ours else member.setting
        return found

    def add(self, settings: Mapping[str, Setting], fence: Fence | None = None) -> None:
        """On the disk when this returns, in one step with what a run has to say to the ledger."""
        hosts = fence.hosts if fence else {}
        now = time.time()
        with self.ledger.change() as tables:
            if fence is not None:
                fence.let_in(tables)
            tables.hold(
                Held(self._pool, name, self._held_by, one, hosts.get(name, ""), now) for name, one in settings.items()
            )

    def remove(self, names: Iterable[str]) -> None:
        gone = set(names) & set(self.read())
        if gone:
            with self.ledger.change() as tables:
                tables.let_go(self._pool, gone, self._held_by)
