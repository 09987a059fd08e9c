# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What a balancer's access log says of members, for a look under traffic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils import _params
from ansible_collections.zerodrop.rollout.plugins.module_utils._access_log.counts import Counts
from ansible_collections.zerodrop.rollout.plugins.module_utils._access_log.read import Reader, reader_of
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import RolloutError
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Pool


class Logged:
    """The log, from the moment on at which it is opened. What is the matter with it later is kept, not raised."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self._params = params
        self._reader: Reader | None = None
        self._counts = Counts([])
        self._base: dict[str, tuple[int, int]] = {}
        self.trouble = ""

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Logged | None:
        """None where no log is named."""
        return cls(params) if _params.given(params, "access_log") and params["access_log"] else None

    def open(self, pool: Pool) -> None:
        """Count from here on; raises where the log is not there, may not be read, or is in another format."""
        reader = reader_of(
            {
                "driver": self._params.get("driver"),
                "pool": self._params.get("pool"),
                "logs": self._params["access_log"],
                "log_format": self._params.get("access_log_format"),
                "members": {member.name: _as_logged(member.address, member.port) for member in pool.members},
            }
        )
        reader.read(self._counts)
        self._reader = reader

    def begin(self, pool: Pool) -> None:
        """Forget what was counted so far."""
        try:
            if self._reader is None:
                self.open(pool)
        except RolloutError as error:
            self.trouble = error.message
        self.read()
        self._base = {name: self._total(name) for name in self._counts.members}

    def read(self) -> None:
        if self._reader is None or self.trouble:
            return
        try:
            self._reader.read(self._counts)
        except RolloutError as error:
            self.trouble = error.message

    def of(self, name: str) -> tuple[int, int]:
        """A member's requests and errors since the beginning."""
        requests, errors = self._total(name)
        before = self._base.get(name, (0, 0))
        return requests - before[0], errors - before[1]

    def _total(self, name: str) -> tuple[int, int]:
        count = self._counts.members.get(name)
        return (count.requests, sum(count.kinds.values())) if count else (0, 0)


def _as_logged(address: str, port: int) -> str:
    """How nginx writes a member's address."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
