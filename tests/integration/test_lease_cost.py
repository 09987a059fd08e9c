# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What lease and ledger cost a batch behind four balancers, by the same calls with and without them."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lab
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Call

from .conftest import PATIENT
from .rig import Rig
from .test_lease import OverSsh

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(not os.environ.get("ZERODROP_KILLS"), reason="make kills runs it"),
]

ROUNDS = 15
LIMIT = 0.3
POOL = {"driver": "haproxy", "pool": "shop", "service": "shop"}
HOLDER = {"service": "shop", "holder": "r1"}


class Batches:
    """Batches of one member, over connections that are open; each call reaches all balancers at once."""

    def __init__(self, rig: Rig) -> None:
        self.hosts = [host.name for host in rig.lab.balancers]
        self._over = OverSsh(rig)
        self._number = 0

    def ask(self, operation: str, params: dict[str, Any]) -> dict[str, Any]:
        replies = self._over.run({host: Call(operation, params, 20, host) for host in self.hosts})
        failed = {host: str(reply.error) for host, reply in replies.items() if not reply.ok}
        assert not failed, failed
        return replies[self.hosts[0]].result

    def have_lease(self) -> None:
        wanted = {**HOLDER, "owner": "a test", "reason": "rolling", "seconds": 60.0}
        self._number = self.ask("lease_acquire", wanted)["lease"]["number"]

    def _lease(self, phase: str) -> dict[str, Any]:
        if not self._number:
            return {}
        row = {"host": "web1", "phase": phase, "release_before": "1.0", "release": "2.0"}
        return {"lease": {"number": self._number, "holder": "r1", "hosts": {"web1": "web1"}, "members": [row]}}

    def one(self) -> float:
        """How long it takes, but for what is done on the member."""
        since = time.monotonic()
        members = {**POOL, "members": ["web1"]}
        before = self.ask("pool_drain", {**members, "timeout": 10, **self._lease("draining")})["before"]
        if self._number:
            self.ask("ledger_note", {"service": "shop", **self._lease("upgrading")})
        self.ask("pool_return", {**members, "timeout": 10, **self._lease("upgrading")})
        look = {"requests": 0, "seconds": 0.0, "timeout": 10.0, "max_errors": 1000}
        self.ask("pool_put_back", {**members, "settings": before, "look": look, **self._lease("healthy")})
        return time.monotonic() - since

    def close(self) -> None:
        self._over.close()


def test_of_a_batch_behind_four_balancers(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    description = lab.Description(prefix=f"i{os.getpid()}-l4", members=2, balancers=4, pool_lines=PATIENT)
    with lab.running(description, tmp_path_factory.mktemp("lab") / "four") as up:
        rig = Rig(up, tmp_path)
        rig.reset()
        batches = Batches(rig)
        batches.one()
        without = [batches.one() for _number in range(ROUNDS)]
        batches.have_lease()
        within = [batches.one() for _number in range(ROUNDS)]
        batches.close()
    cost = statistics.median(within) - statistics.median(without)
    for name, value in (("without", statistics.median(without)), ("with", statistics.median(within)), ("cost", cost)):
        record_property(name, round(value, 3))
        print(f"{name}: {value:.3f} s")
    assert cost <= LIMIT, f"{cost:.3f} s: {sorted(without)} and {sorted(within)}"
