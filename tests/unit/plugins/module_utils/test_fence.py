# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run without its lease changes nothing, neither with its next operation nor with one that is under way."""

from __future__ import annotations

import inspect
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils import _fence
from ansible_collections.zerodrop.rollout.plugins.module_utils._drivers.base import Driver
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import LeaseHeld, LeaseLost
from ansible_collections.zerodrop.rollout.plugins.module_utils._ledger import BY_ROLLOUT, Ledger, RolloutEntry
from ansible_collections.zerodrop.rollout.plugins.module_utils._ledger_operations import lease_acquire, lease_stop
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Pool
from tests.unit.plugins.module_utils.test_pool_operations import FakeClock, FakeDriver, run

LOOKS = {
    "one_step",
    "route",
    "check_route",
    "from_params",
    "capabilities",
    "check_rights",
    "identity",
    "pools",
    "read",
    "counted",
    "glance",
    "work",
    "drains",
    "ties",
    "pooled",
    "lasting",
}
BACK = {"s1": {"admin": "ready", "weight": 1}}
CHANGES: dict[str, dict[str, Any]] = {
    "pool_drain": {"members": ["s1"]},
    "pool_return": {"members": ["s1"]},
    "pool_put_back": {"settings": BACK},
    "pool_weigh": {"weights": {"s1": 9}},
}


@pytest.fixture
def driver() -> FakeDriver:
    return FakeDriver(FakeClock())


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tmp_path)


def have(folder: str, holder: str = "a", over: str = "") -> dict[str, Any]:
    params = {"service": "shop", "marks": folder, "holder": holder, "owner": holder, "reason": "rolling", "over": over}
    lease: dict[str, Any] = lease_acquire(params, False)["lease"]
    return lease


def take_over(folder: str) -> None:
    have(folder, "b", over="a")


def fenced(folder: str, number: int = 1, holder: str = "a", phase: str = "draining") -> dict[str, Any]:
    row = {"host": "web1", "phase": phase, "release_before": "1.0", "release": "2.0"}
    lease = {"number": number, "holder": holder, "hosts": {"s1": "web1"}, "members": [row]}
    return {"service": "shop", "marks": folder, "lease": lease}


def test_every_method_of_a_driver_is_known_to_look_or_to_change() -> None:
    methods = {name for name, _method in inspect.getmembers(Driver, callable) if not name.startswith("_")}
    assert methods == LOOKS | set(_fence._CHANGES)


def test_a_look_and_a_change_are_one_step_under_one_lock(driver: FakeDriver, folder: str) -> None:
    """Beside other drains: from the last look on nobody else can change anything, and the lock is taken once."""
    have(folder)
    locked: list[bool] = []
    plain = driver.read

    def read(pool: str) -> Pool:
        database = sqlite3.connect(Ledger("shop", folder).path, timeout=0, isolation_level=None)
        try:
            database.execute("BEGIN IMMEDIATE")
            locked.append(False)
        except sqlite3.OperationalError:
            locked.append(True)
        finally:
            database.close()
        return plain(pool)

    driver.read = read  # type: ignore[method-assign]
    run("pool_drain", driver, members=["s1"], beside=True, floor=1, **fenced(folder))
    assert locked.count(True) == 1
    assert driver.calls.count(("hold_out", ("s1",))) == 1


def test_what_is_done_is_in_the_ledger_before_it_is_done(driver: FakeDriver, folder: str) -> None:
    have(folder)
    seen: list[Any] = []

    def hold_out(pool: str, names: list[str]) -> None:
        tables_path = Ledger("shop", folder).path
        database = sqlite3.connect(f"file:{tables_path}?mode=ro", uri=True)
        seen.append(database.execute("SELECT phase, safe FROM members").fetchall())
        seen.append(database.execute("SELECT member, admin, weight, host FROM held").fetchall())
        database.close()
        FakeDriver.hold_out(driver, pool, names)

    driver.hold_out = hold_out  # type: ignore[method-assign, assignment]
    result = run("pool_drain", driver, members=["s1"], **fenced(folder))
    assert seen == [[("draining", 1)], [("s1", "ready", 1, "web1")]]
    assert result["stop_asked"] is None


@pytest.mark.parametrize("operation", list(CHANGES))
def test_without_its_lease_nothing_changes(driver: FakeDriver, folder: str, operation: str) -> None:
    with pytest.raises(LeaseLost, match="no record"):
        run(operation, driver, **CHANGES[operation], **fenced(folder))
    have(folder)
    have(folder, "b", over="a")
    before = Path(Ledger("shop", folder).path).read_bytes()
    with pytest.raises(LeaseLost, match="b \\(rolling"):
        run(operation, driver, **CHANGES[operation], **fenced(folder))
    assert driver.calls == []
    assert Path(Ledger("shop", folder).path).read_bytes() == before
    run(operation, driver, **CHANGES[operation], **fenced(folder, 2, "b"))


@pytest.mark.case(17)
def test_an_operation_under_way_changes_nothing_more_when_the_lease_is_taken_over(
    driver: FakeDriver, folder: str
) -> None:
    """It would drain again after a reload; the one who has the lease now decides."""
    have(folder)
    driver.set("s1", in_flight=1)
    driver.clock.after(1.0, lambda: take_over(folder))
    driver.clock.after(2.0, driver.reload)
    with pytest.raises(LeaseLost):
        run("pool_drain", driver, members=["s1"], timeout=30, **fenced(folder))
    assert driver.calls == [("hold_out", ("s1",))]
    held = Ledger("shop", folder)
    with held.look() as tables:
        assert tables is not None
        assert [each.member for each in tables.held(held_by=BY_ROLLOUT)] == ["s1"]  # the next run takes it up


def test_an_operation_hears_that_its_run_is_to_stop(driver: FakeDriver, folder: str) -> None:
    have(folder)
    lease_stop({"service": "shop", "marks": folder, "by": "me"}, False)
    assert run("pool_drain", driver, members=["s1"], **fenced(folder))["stop_asked"] == "me"


def test_check_mode_needs_no_lease(driver: FakeDriver, folder: str) -> None:
    assert run("pool_drain", driver, True, members=["s1"], **fenced(folder))["changed"]
    assert not Ledger("shop", folder).exists()


def test_by_hand_nothing_is_taken_out_beside_a_run(driver: FakeDriver, folder: str) -> None:
    own: dict[str, Any] = {"service": "shop", "marks": folder, "members": ["s1"]}
    run("pool_member", driver, state="drained", **own)
    have(folder)
    calls = list(driver.calls)
    with pytest.raises(LeaseHeld, match="Nothing was changed"):
        run("pool_member", driver, state="drained", **{**own, "members": ["s2"]})
    assert driver.calls == calls
    assert run("pool_member", driver, state="ready", **own)["changed"]  # giving capacity back harms nobody


def test_reading_a_pool_tells_what_a_run_must_know(driver: FakeDriver, folder: str) -> None:
    assert run("pool_read", driver, service="shop", marks=folder)["ledger"] is None
    have(folder)
    with Ledger("shop", folder).change() as tables:
        tables.add_rollout(RolloutEntry("a", 1, "rolling", "a", "1.0", "2.0", {}, 0.0))
    found = run("pool_read", driver, service="shop", marks=folder)["ledger"]
    assert found["lease"]["holder"] == "a"
    assert found["interrupted"]["to_version"] == "2.0"


def test_a_lease_in_the_place_of_its_own_shuts_out_what_was_at_work_under_it(driver: FakeDriver, folder: str) -> None:
    """As a run that is cancelled does, before it puts back what its own drain may yet take out."""
    have(folder)
    again = {"holder": "a", "owner": "a", "reason": "rolling", "number": 2, "instead_of": 1}
    assert lease_acquire({"service": "shop", "marks": folder, **again}, False)["lease"]["number"] == 2
    with pytest.raises(LeaseLost):
        run("pool_drain", driver, members=["s1"], **fenced(folder))
    assert driver.calls == []
    run("pool_drain", driver, members=["s1"], **fenced(folder, 2))


def test_who_has_lost_it_has_nothing_to_give_for_another_one(folder: str) -> None:
    have(folder)
    again = {"service": "shop", "marks": folder, "holder": "a", "owner": "a", "reason": "rolling", "number": 2}
    with pytest.raises(LeaseLost):
        lease_acquire({**again, "instead_of": 7}, False)
    take_over(folder)
    with pytest.raises(LeaseLost):
        lease_acquire({**again, "number": 9, "instead_of": 1}, False)
    with Ledger("shop", folder).look() as tables:
        lease = tables.lease() if tables else None
    assert lease is not None
    assert lease.holder == "b"
