# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sliding window, on a fleet that is made of answers: who goes when, and what the ledgers are told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    BadInput,
    Refused,
    Unreachable,
    UpgradeFailed,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._plan import Plan
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Call, Reply
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout import roll
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import (
    LeaseRecord,
    MemberRecord,
    Place,
    Record,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.window import may_begin, plan_window
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import Settings
from tests.unit.plugins.plugin_utils.lines import LINES
from tests.unit.plugins.plugin_utils.test_batch import BALANCERS, FakeRemote

HOSTS = tuple(f"web{number}" for number in range(1, 9))
PLAN = Plan((("web1",), HOSTS[1:5], HOSTS[5:]), (), 4, 8, "1.0", False)


class Slow(FakeRemote):
    """Each member takes its time for an upgrade; it is seen who is out at once."""

    def __init__(self, seconds: Mapping[str, float]) -> None:
        super().__init__()
        self.seconds = seconds
        self.admin = {(balancer, name): "ready" for balancer in BALANCERS for name in HOSTS}
        self.aside: Callable[[], AbstractContextManager[None]] = self.alone
        self.most_out = 0
        self.told: list[dict[str, str]] = []  # hosts and phases of each call, as they arrive
        self.order: list[tuple[str, str]] = []  # who went, and who came back
        self._lock = threading.Lock()

    @staticmethod
    def alone() -> AbstractContextManager[None]:
        return nullcontext()

    def run(self, calls: Mapping[str, Call], check: bool = False) -> dict[str, Reply]:
        sent = {
            row["host"]: row["phase"]
            for call in calls.values()
            for row in call.params.get("lease", {}).get("members", ())
        }
        with self.aside():
            switched = [host for host, call in calls.items() if call.operation == "release_switch"]
            returns = any(call.operation == "pool_put_back" for call in calls.values())
            time.sleep(max([0.02 if returns else 0.001, *(self.seconds.get(host, 0.01) for host in switched)]))
            with self._lock:
                self.told.append(sent)
                found = super().run(calls, check)
                out = {name for (_balancer, name), state in self.admin.items() if state == "out"}
                self.most_out = max(self.most_out, len(out))
                for call in calls.values():
                    if call.operation in ("pool_drain", "pool_put_back"):
                        what = "goes" if call.operation == "pool_drain" else "returns"
                        self.order += [
                            (what, name) for name in call.params["members"] if (what, name) not in self.order
                        ]
        return found


def record_of(tmp_path: Path, width: int, zones: Mapping[str, str] | None = None) -> Record:
    members = {
        name: MemberRecord(name, dict.fromkeys(BALANCERS, name), True, "1.0", "1.0", zone=(zones or {}).get(name, ""))
        for name in HOSTS
    }
    return Record(
        rollout_id="r1",
        service="shop",
        strategy="rolling",
        pool="shop",
        from_version="1.0",
        to_version="2.0",
        started_at=time.time(),
        check=False,
        method="archive",
        upgrade="",
        floor=8 - width,
        balancers=list(BALANCERS),
        batches=[[name] for name in HOSTS],
        members=members,
        window=width,
        path=str(tmp_path / "record.json"),
    )


def go(record: Record, remote: Slow, **more: object) -> float:
    settings = Settings.from_vars({**LINES, "rollout_window": record.window, **more})
    began = time.monotonic()
    roll._run(settings, remote, record, False, lambda _words: None, roll.FORWARD)  # type: ignore[arg-type]
    return time.monotonic() - began


def test_everybody_goes_the_first_alone_and_never_too_many(tmp_path: Path) -> None:
    record, remote = record_of(tmp_path, 3), Slow({})
    go(record, remote)
    assert {member.state for member in record.members.values()} == {"finished"}
    assert remote.most_out == 3
    assert remote.order[:2] == [("goes", "web1"), ("returns", "web1")]
    assert all(member.out_at is None for member in record.members.values())
    said = [event["message"] for event in record.events]
    assert not any("by the same reload" in each for each in said), "one that is on its way back was taken for another's"


def test_a_slow_member_holds_up_nobody_else(tmp_path: Path) -> None:
    """With batches of three the others of its batch would wait for it."""
    record, remote = record_of(tmp_path, 3), Slow({"web2": 1.0})
    go(record, remote)
    assert remote.order[-1] == ("returns", "web2")
    assert remote.order.index(("returns", "web8")) < remote.order.index(("returns", "web2"))


def test_no_two_zones_are_out_at_once(tmp_path: Path) -> None:
    zones = {name: "north" if number < 4 else "south" for number, name in enumerate(HOSTS)}
    record, remote = record_of(tmp_path, 4, zones), Slow({"web3": 0.3})
    go(record, remote)
    assert remote.order.index(("goes", "web5")) > remote.order.index(("returns", "web3"))
    assert {member.state for member in record.members.values()} == {"finished"}


def test_after_a_failure_nobody_else_begins_and_who_is_out_comes_back(tmp_path: Path) -> None:
    record, remote = record_of(tmp_path, 3), Slow({"web3": 0.3, "web4": 0.3})
    remote.errors["web2", "release_switch"] = UpgradeFailed("no disk")
    go(record, remote)
    states = {host: member.state for host, member in record.members.items()}
    assert states == {
        **dict.fromkeys(HOSTS, "untouched"),
        "web1": "finished",
        "web2": "failed",
        **dict.fromkeys(("web3", "web4"), "finished"),
    }
    assert record.stop is not None
    assert record.stop.members == ["web2"]


def test_a_budget_of_failed_members_holds_in_a_window(tmp_path: Path) -> None:
    record, remote = record_of(tmp_path, 3), Slow({})
    remote.errors["web2", "release_switch"] = UpgradeFailed("no disk")
    go(record, remote, rollout_max_failed_members=1)
    assert record.stop is None
    assert [host for host, member in record.members.items() if member.state != "finished"] == ["web2"]


def test_what_nobody_foresaw_stops_it_and_is_said(tmp_path: Path) -> None:
    record, remote = record_of(tmp_path, 2), Slow({})
    remote._pool_return = lambda *_: 1 / 0  # type: ignore[assignment,method-assign]
    go(record, remote)
    assert record.stop is not None
    assert "ZeroDivisionError" in record.stop.message
    assert record.members["web2"].state == "untouched"


def test_no_part_tells_a_ledger_of_a_member_that_another_one_works_on(tmp_path: Path) -> None:
    """What it has seen of it may be older than what the other has told meanwhile."""
    record, remote = record_of(tmp_path, 4), Slow({host: 0.02 * number for number, host in enumerate(HOSTS)})
    record.lease = LeaseRecord(1, "r1", {"seconds": 60}, 1, {name: name for name in BALANCERS}, time.monotonic())
    go(record, remote)
    assert record.stop is None
    order = ["planned", "draining", "upgrading", "healthy", "finished"]
    known: dict[str, int] = {}
    for told in remote.told:
        for host, phase in told.items():
            assert order.index(phase) >= known.get(host, 0), f"{host} went back to {phase}"
            known[host] = order.index(phase)
    assert set(known) == set(HOSTS)


def test_a_balancer_that_is_left_out_is_left_out_for_all(tmp_path: Path) -> None:
    record, remote = record_of(tmp_path, 4), Slow({})
    for operation in ("pool_drain", "pool_return", "pool_put_back"):
        remote.errors["lb2", operation] = Unreachable("lb2 is gone", lost=True)
    go(record, remote, rollout_dead_balancer="skip")
    assert record.stop is None
    assert record.dead == ["lb2"]
    assert {member.state for member in record.members.values()} == {"finished"}


zones = st.lists(st.sampled_from(("north", "south")), max_size=6)


@given(st.sampled_from(("north", "south")), zones, st.integers(1, 6), st.booleans())
def test_who_may_begin(zone: str, at_work: list[str], width: int, is_second: bool) -> None:
    if may_begin(zone, at_work, width, is_second):
        assert len(at_work) < width
        assert {*at_work, zone} == {zone}
        assert not (is_second and at_work)
    elif not at_work:
        raise AssertionError("nobody is at work, and the next one may not begin")


def settings(**more: object) -> Settings:
    return Settings.from_vars({**LINES, "rollout_window": 4, **more})


def test_the_plan_has_a_batch_for_each_member() -> None:
    plan, width, notes = plan_window(settings(), PLAN, {"lb1": Place("lb1")})
    assert plan.batches == tuple((host,) for host in HOSTS)
    assert (width, notes) == (4, ["the first member goes alone, then up to 4 are out at a time"])


def test_the_floor_makes_it_narrower() -> None:
    _plan, width, notes = plan_window(settings(), replace(PLAN, floor=6), {"lb1": Place("lb1")})
    assert width == 2
    assert notes == ["the first member goes alone, then up to 2 are out at a time and not 4, to keep 6 in service"]


def test_without_it_nothing_changes() -> None:
    assert plan_window(settings(rollout_window=0), PLAN, {}) == (PLAN, 0, [])


def test_a_balancer_that_reloads_is_refused() -> None:
    with pytest.raises(Refused, match="lb2 is reloaded for every change"):
        plan_window(settings(), PLAN, {"lb1": Place("lb1"), "lb2": Place("lb2", by_reload=True)})


def test_tasks_of_the_user_s_own_are_refused() -> None:
    tasks = {**dict.fromkeys(("rollout_upgrade_method", "rollout_archive_src", "rollout_archive_checksum"), "")}
    with pytest.raises(Refused, match="batch by batch"):
        plan_window(settings(**tasks, rollout_upgrade_tasks="deploy.yml"), PLAN, {"lb1": Place("lb1")})


@pytest.mark.parametrize("wrong", [-1, "four", 2.5, True])
def test_a_wrong_window_is_refused(wrong: Any) -> None:
    with pytest.raises(BadInput, match="rollout_window"):
        settings(rollout_window=wrong)


def test_it_does_not_go_with_joined_batches() -> None:
    with pytest.raises(BadInput, match="rollout_join_batches"):
        settings(rollout_join_batches=True)
