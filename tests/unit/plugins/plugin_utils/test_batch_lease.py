# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the phases bring to the balancers beside their work, and what they do when the lease is lost."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import LeaseLost, Unreachable
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.ending import decide_back, outcome, tell_ledgers
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.fleet import Fleet
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.lease import Renewal
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import LeaseRecord, Record
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import Settings
from tests.unit.plugins.plugin_utils.test_batch import (
    BALANCERS,
    FakeRemote,
    phases,
    record,
    remote,
    run_batch,
    settings,
)

__all__ = ("record", "remote", "settings")  # fixtures


@pytest.fixture
def leased(record: Record) -> Record:
    request = {"service": "shop", "holder": "r1", "owner": "kim", "reason": "rolling", "seconds": 60.0, "process": ""}
    hosts = {balancer: balancer for balancer in BALANCERS}
    record.lease = LeaseRecord(4, "r1", request, len(hosts) // 2 + 1, hosts, time.clock_gettime(time.CLOCK_BOOTTIME))
    return record


def brought(remote: FakeRemote, place: str) -> list[tuple[str, dict[str, str]]]:
    """Each fenced call at a balancer, with the phases that it brought."""
    found = []
    for host, call in remote.calls:
        if host == place and "lease" in call.params:
            assert (call.params["lease"]["number"], call.params["lease"]["holder"]) == (4, "r1")
            rows = {row["host"]: row["phase"] for row in call.params["lease"]["members"]}
            found.append((call.operation, {name: rows[name] for name in rows if rows[name] != "planned"}))
    return found


def test_each_ledger_hears_of_each_step_before_it(settings: Settings, remote: FakeRemote, leased: Record) -> None:
    run_batch(phases(settings, remote, leased, "web1", "web2"))
    for balancer in BALANCERS:
        assert brought(remote, balancer) == [
            ("pool_drain", {"web1": "draining", "web2": "draining"}),
            ("ledger_note", {"web1": "upgrading", "web2": "upgrading"}),
            ("pool_return", {"web1": "upgrading", "web2": "upgrading"}),  # their release is another now
            ("pool_put_back", {"web1": "healthy", "web2": "healthy"}),
        ]
    tell_ledgers(Fleet(settings, remote, leased, False), END)  # type: ignore[arg-type]
    operation, rows = brought(remote, BALANCERS[0])[-1]
    assert (operation, rows) == ("ledger_note", {"web1": "finished", "web2": "finished"})
    assert remote.calls[-1][1].params["release"] is True
    assert remote.calls[-1][1].params["end"]["seconds"] == {"total": 2.0, "drain": 1.5}


END: dict[str, Any] = {
    "duration_seconds": 2.0,
    "outcome": "succeeded",
    "sentence": "done",
    "events": [{"phase": "drain", "seconds": 1.0}, {"phase": "drain", "seconds": 0.5}],
}


def test_without_a_lease_nothing_is_brought(settings: Settings, remote: FakeRemote, record: Record) -> None:
    run_batch(phases(settings, remote, record, "web1"))
    assert brought(remote, BALANCERS[0]) == []
    assert remote.ran("ledger_note") == []


def test_a_lease_that_is_lost_before_the_upgrade_touches_no_member(
    settings: Settings, remote: FakeRemote, leased: Record
) -> None:
    batch = phases(settings, remote, leased, "web1")
    batch.drain()
    assert leased.lease is not None
    leased.lease.renewed -= 40  # it stood still for so long
    for balancer in BALANCERS:
        remote.errors[balancer, "ledger_note"] = LeaseLost("another has it")
        remote.errors[balancer, "pool_put_back"] = LeaseLost("another has it")
    result = batch.upgrade()
    assert isinstance(result.error, LeaseLost)
    assert remote.ran("release_switch") == []
    assert leased.stop is not None
    assert leased.stop.code == "lease_lost"
    assert "nothing goes back" in decide_back(settings, leased)
    assert leased.back_batches == []
    assert outcome(leased) == "failed"


def test_members_go_back_when_a_balancer_cannot_be_told_that_work_begins(
    settings: Settings, remote: FakeRemote, leased: Record
) -> None:
    remote.errors[BALANCERS[1], "ledger_note"] = Unreachable("gone", lost=True)
    result = phases(settings, remote, leased, "web1").drain()
    assert result.error is not None
    assert remote.in_service("web1")
    assert leased.members["web1"].phase == "planned"


def test_no_batch_begins_after_somebody_asked_to_stop(settings: Settings, remote: FakeRemote, leased: Record) -> None:
    run_batch(phases(settings, remote, leased, "web1", "web2"))
    leased.stop_asked = "pat"
    assert "has stopped" in phases(settings, remote, leased, "web3").drain().message
    assert leased.stop is not None
    assert (leased.stop.code, leased.stop.message) == ("stopped", "pat asked the run to stop.")
    decide_back(settings, leased)
    assert leased.back_batches == []
    assert outcome(leased) == "frozen"


def test_the_answer_to_a_change_may_say_that_the_run_is_to_stop(
    settings: Settings, remote: FakeRemote, leased: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeRemote, "_ledger_note", lambda *_args: {"stop": "pat"}, raising=False)
    phases(settings, remote, leased, "web1").drain()
    assert leased.stop_asked == "pat"


def test_a_record_with_a_lease_comes_back_from_its_file(leased: Record) -> None:
    leased.save()
    assert Record.load(leased.path).lease == leased.lease


def test_the_keeper_renews_four_times_in_the_time_of_a_lease(
    leased: Record, remote: FakeRemote, tmp_path: Path
) -> None:
    now = [100.0]
    renewal = Renewal(leased.path, lambda _grace: remote, lambda: now[0])  # type: ignore[arg-type, return-value]
    leased.save()
    for second in range(61):
        now[0] = 100.0 + second
        renewal()
        if second == 14:
            assert not remote.ran("ledger_note"), "the lease is fresh"
    assert remote.ran("ledger_note") == list(BALANCERS) * 4
