# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The waiting and the undoing, with a balancer and a clock that are not real."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.module_utils import _pool_operations as operations
from ansible_collections.zerodrop.rollout.plugins.module_utils._drivers.base import Capabilities, Clock, Driver
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    BadInput,
    ChangedByOther,
    FloorBroken,
    Refused,
    RolloutError,
    TimedOut,
    Unhealthy,
    UnknownMember,
    Unreachable,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._marks import BY_HAND, Marks
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import (
    Admin,
    Counters,
    Health,
    Member,
    Pool,
    Setting,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work import own_view


class FakeClock(Clock):
    def __init__(self) -> None:
        self.time = 1000.0
        self.events: list[tuple[float, Callable[[], None]]] = []

    def now(self) -> float:
        return self.time

    def cpu(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.time += seconds
        due = [event for event in self.events if event[0] <= self.time]
        self.events = [event for event in self.events if event[0] > self.time]
        for _at, event in due:
            event()

    def after(self, seconds: float, event: Callable[[], None]) -> None:
        self.events.append((self.time + seconds, event))


class FakeDriver(Driver):
    kind = "fake"

    def __init__(self, clock: FakeClock, names: Sequence[str] = ("s1", "s2", "s3", "s4")) -> None:
        self.clock = clock
        self.generation = 1
        self.calls: list[tuple[str, tuple[str, ...]]] = []
        self.fail: dict[str, RolloutError] = {}
        self.ill: set[str] = set()
        self.away = False
        self.members = {
            name: Member(name, "127.0.0.1", 80, Admin.READY, Health.UP, 1, in_flight=0, queued=0) for name in names
        }

    @classmethod
    def from_params(cls, params: Mapping[str, Any], clock: Clock) -> FakeDriver:
        raise NotImplementedError

    def set(self, name: str, **values: Any) -> None:
        self.members[name] = replace(self.members[name], **values)

    def reload(self) -> None:
        self.generation += 1
        for name in self.members:
            self.set(name, admin=Admin.READY, weight=1, health=Health.UP, counters=Counters())

    def capabilities(self) -> Capabilities:
        return Capabilities("1", True, True, True, 256, notes=("a note",))

    def check_rights(self) -> None:
        self._call("check_rights", ())

    def identity(self) -> str:
        return str(self.generation)

    def pools(self) -> Sequence[str]:
        return ["shop"]

    def read(self, pool: str) -> Pool:
        if self.away:
            raise Unreachable("away")
        return Pool(pool, self.identity(), tuple(self.members.values()))

    def _call(self, what: str, names: Sequence[str]) -> None:
        if names or what == "check_rights":
            self.calls.append((what, tuple(names)))
        if what in self.fail:
            raise self.fail.pop(what)

    def drain(self, pool: str, names: Sequence[str]) -> None:
        self._call("drain", names)
        for name in names:
            self.set(name, admin=Admin.DRAIN)

    def hold_out(self, pool: str, names: Sequence[str]) -> None:
        self._call("hold_out", names)
        for name in names:
            self.set(name, admin=Admin.OUT, health=Health.DOWN)

    def prepare_return(self, pool: str, names: Sequence[str]) -> None:
        self._call("prepare_return", names)
        for name in names:
            self.set(name, admin=Admin.DRAIN, health=Health.DOWN)
            if name not in self.ill:
                self.clock.after(0.5, lambda name=name: self.set(name, health=Health.UP))  # type: ignore[misc]

    def put_back(self, pool: str, names: Sequence[str]) -> None:
        self._call("put_back", names)
        for name in names:
            self.set(name, admin=Admin.READY)

    def weigh(self, pool: str, weights: Mapping[str, int]) -> None:
        self._call("weigh", list(weights))
        for name, weight in weights.items():
            self.set(name, weight=weight)

    def cut(self, pool: str, names: Sequence[str]) -> int:
        self._call("cut", names)
        count = sum(self.members[name].in_flight for name in names)
        for name in names:
            self.set(name, in_flight=0)
        return count


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def driver(clock: FakeClock) -> FakeDriver:
    return FakeDriver(clock)


def run(name: str, driver: FakeDriver, check: bool = False, **params: Any) -> dict[str, Any]:
    result: dict[str, Any] = getattr(operations, name)(
        {"pool": "shop", **params}, check, driver=driver, clock=driver.clock
    )
    return result


def test_reading(driver: FakeDriver) -> None:
    result = run("pool_read", driver, rights=True)
    assert driver.calls == [("check_rights", ())]
    assert result["changed"] is False
    assert result["capabilities"]["notes"] == ["a note"]
    assert result["pool_names"] == ["shop"]
    assert [member["in_service"] for member in result["pools"][0]["members"]] == [True] * 4
    assert Pool.from_dict(result["pools"][0]) == driver.read("shop")


def test_a_drain_waits_for_the_last_request(driver: FakeDriver, clock: FakeClock) -> None:
    driver.set("s1", in_flight=2)
    clock.after(1.5, lambda: driver.set("s1", in_flight=0))
    result = run("pool_drain", driver, members=["s1", "s2"])
    assert driver.calls == [("hold_out", ("s1", "s2"))]
    assert result["members"]["s1"] == {
        "waited": pytest.approx(1.5, abs=0.03),
        "in_flight_at_start": 2,
        "cut": 0,
        "cut_kinds": {},
        "undecided": 0,
    }
    assert result["members"]["s2"]["waited"] == 0
    assert result["changed"] is True
    assert result["before"] == {name: {"admin": "ready", "weight": 1} for name in ("s1", "s2")}
    assert result["after"] == {name: {"admin": "out", "weight": 1} for name in ("s1", "s2")}
    assert result["capacity"] == {"before": 4, "after": 2}


@pytest.mark.case(10)
def test_empty_once_is_not_drained(driver: FakeDriver, clock: FakeClock) -> None:
    driver.set("s1", in_flight=1)
    clock.after(0.5, lambda: driver.set("s1", in_flight=0))
    clock.after(0.53, lambda: driver.set("s1", queued=1))  # a queued request is handed over
    clock.after(2.0, lambda: driver.set("s1", queued=0))
    result = run("pool_drain", driver, members=["s1"], samples=5)
    assert result["members"]["s1"]["waited"] == pytest.approx(2.0, abs=0.03)
    assert clock.time - 1000 >= 2.0 + 4 * 0.01  # all five after the queue had gone


def test_a_reload_in_the_middle_is_mended(driver: FakeDriver, clock: FakeClock) -> None:
    driver.set("s1", in_flight=1)
    driver.set("s2", admin=Admin.OUT)
    clock.after(0.5, driver.reload)
    clock.after(1.0, lambda: driver.set("s1", in_flight=0))
    result = run("pool_drain", driver, members=["s1", "s2"])
    assert driver.calls == [("hold_out", ("s1",)), ("hold_out", ("s1", "s2"))]
    assert result["reloads_seen"] == 1
    assert result["identity"] == "2"
    assert driver.members["s1"].admin is driver.members["s2"].admin is Admin.OUT


def test_a_reload_between_two_empty_samples_starts_the_count_again(driver: FakeDriver, clock: FakeClock) -> None:
    clock.after(0.015, driver.reload)
    result = run("pool_drain", driver, members=["s1"], samples=3)
    assert result["reloads_seen"] == 1
    assert clock.time - 1000 > 0.03


def test_a_timeout_undoes_everything(driver: FakeDriver) -> None:
    driver.set("s1", in_flight=3, weight=7)
    driver.set("s2", admin=Admin.OUT)
    with pytest.raises(TimedOut, match=r"s1 \(3\)") as error:
        run("pool_drain", driver, members=["s1", "s2", "s3"], timeout=2)
    assert error.value.facts["busy"] == {"s1": 3}
    assert error.value.facts["undone"] is True
    assert driver.calls[-2:] == [("prepare_return", ("s1", "s3")), ("put_back", ("s1", "s3"))]
    assert [member.admin.value for member in driver.members.values()] == ["ready", "out", "ready", "ready"]


def test_what_is_left_is_cut_when_asked(driver: FakeDriver) -> None:
    driver.set("s1", in_flight=3)
    result = run("pool_drain", driver, members=["s1", "s2"], timeout=2, on_timeout="cut")
    assert result["members"]["s1"]["cut"] == 3
    assert result["members"]["s2"]["cut"] == 0
    assert ("cut", ("s1",)) in driver.calls
    assert ("cut", ("s2",)) not in driver.calls


def test_idle_clients_of_a_leaving_process_are_waited_for(driver: FakeDriver, clock: FakeClock) -> None:
    driver.set("s1", undecided=4)
    clock.after(3, lambda: driver.set("s1", undecided=0))
    assert run("pool_drain", driver, members=["s1"])["members"]["s1"]["waited"] == pytest.approx(3, abs=0.03)


def test_idle_clients_of_a_leaving_process_are_named(driver: FakeDriver) -> None:
    driver.set("s1", undecided=4)
    with pytest.raises(TimedOut, match="4 idle clients of an older process"):
        run("pool_drain", driver, members=["s1"], timeout=1)


class EndingDriver(FakeDriver):
    """Can end the idle clients of a leaving process, once it serves nothing else."""

    busy_until = 0.0

    def end_idle(self, pool: str, names: Sequence[str]) -> int | None:
        if self.clock.now() < self.busy_until:
            return None
        count = max(member.undecided for member in self.members.values())
        for name in self.members:
            self.set(name, undecided=0)
        return count


@pytest.fixture
def ending(clock: FakeClock) -> EndingDriver:
    found = EndingDriver(clock)
    for name in ("s1", "s2", "s3"):
        found.set(name, undecided=4)
    return found


def test_idle_clients_are_cut_at_their_limit_and_counted_once(ending: EndingDriver, clock: FakeClock) -> None:
    ending.set("s1", in_flight=1)
    clock.after(3, lambda: ending.set("s1", in_flight=0))
    result = run("pool_drain", ending, members=["s1", "s2"], idle_timeout=1, on_idle_timeout="cut")
    assert result["members"]["s1"]["cut_kinds"] == {"idle": 4}
    assert result["members"]["s2"]["cut_kinds"] == {}
    assert result["members"]["s2"]["waited"] == pytest.approx(1, abs=0.1)
    assert result["members"]["s1"]["waited"] == pytest.approx(3, abs=0.1)  # the request was left to end


def test_a_process_that_serves_something_else_is_ended_when_it_does_no_more(
    ending: EndingDriver, clock: FakeClock
) -> None:
    ending.busy_until = clock.now() + 5
    result = run("pool_drain", ending, members=["s1"], idle_timeout=1, on_idle_timeout="cut")
    assert result["members"]["s1"]["cut_kinds"] == {"idle": 4}
    assert result["members"]["s1"]["waited"] == pytest.approx(5, abs=0.2)


@pytest.mark.parametrize(("on_timeout", "error"), [("fail", True), ("cut", False)])
def test_what_cannot_be_cut_goes_by_the_drains_limit(
    ending: EndingDriver, clock: FakeClock, on_timeout: str, error: bool
) -> None:
    ending.busy_until = clock.now() + 1000
    params: dict[str, Any] = {
        "idle_timeout": 1, "on_idle_timeout": "cut", "timeout": 3, "on_timeout": on_timeout,
    }  # fmt: skip
    if error:
        with pytest.raises(TimedOut, match="4 idle clients"):
            run("pool_drain", ending, members=["s1"], **params)
    else:
        assert run("pool_drain", ending, members=["s1"], **params)["members"]["s1"]["undecided"] == 4
    assert 3 <= clock.now() - 1000 < 4


def test_idle_clients_may_stop_it_before_the_drains_limit(ending: EndingDriver, clock: FakeClock) -> None:
    with pytest.raises(TimedOut, match=r"after 1 s.*4 idle clients") as error:
        run("pool_drain", ending, members=["s1"], idle_timeout=1)
    assert error.value.facts["idle"] == 4
    assert error.value.facts["undone"] is True
    assert clock.now() - 1000 < 2


def test_idle_clients_may_be_waited_for_beyond_the_drains_limit(ending: EndingDriver, clock: FakeClock) -> None:
    clock.after(400, lambda: ending.set("s1", undecided=0))
    result = run("pool_drain", ending, members=["s1"], timeout=5, idle_timeout=1, on_idle_timeout="wait")
    assert result["members"]["s1"]["waited"] == pytest.approx(400, abs=2)
    assert result["members"]["s1"]["cut"] == 0


def test_requests_of_tied_clients_are_counted_over_a_reload(driver: FakeDriver, clock: FakeClock) -> None:
    driver.set("s1", counters=Counters(requests=1000))
    traffic(driver, clock, "s1", 2, every=0.25)
    clock.after(2.05, driver.reload)
    tied = run("pool_drain", driver, members=["s1", "s2"], session_grace=4)["members"]["s1"]["tied"]
    # What came between the last look and the reload is not known: a lower bound.
    assert 28 <= tied["requests"] <= 32
    assert 6 <= tied["at_end"] <= 10


def test_idle_clients_cannot_be_cut_and_are_counted(driver: FakeDriver) -> None:
    driver.set("s1", undecided=4)
    result = run("pool_drain", driver, members=["s1", "s2"], timeout=1, on_timeout="cut")
    assert [result["members"][name]["undecided"] for name in ("s1", "s2")] == [4, 0]
    assert ("cut", ("s1",)) not in driver.calls


class KnowingDriver(FakeDriver):
    """Knows each piece of work, with the second at which it began."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.pieces: dict[str, tuple[str, str, float]] = {}  # handle: member, kind, begin
        self.immortal = False

    def begin(self, handle: str, member: str, kind: str, age: float = 0.0, lasts: float | None = None) -> None:
        self.pieces[handle] = (member, kind, self.clock.time - age)
        self._count()
        if lasts is not None:

            def end() -> None:
                self._gone(handle)

            self.clock.after(lasts, end)

    def _gone(self, handle: str) -> bool:
        found = self.pieces.pop(handle, None) is not None
        self._count()
        return found

    def _count(self) -> None:
        for name in self.members:
            self.set(name, in_flight=sum(1 for member, _kind, _begin in self.pieces.values() if member == name))

    def work(self, pool: str, names: Sequence[str]) -> list[dict[str, str]]:
        return [
            {
                "member": member,
                "client": f"192.0.2.1:{handle}",
                "age": "old",
                "seconds": str(int(self.clock.time - begin)),
                "kind": kind,
                "process": "current",
                "handle": handle,
            }
            for handle, (member, kind, begin) in self.pieces.items()
            if member in names
        ]

    def end(self, pool: str, piece: Mapping[str, str]) -> bool:
        self.calls.append(("end", (piece["handle"],)))
        return True if self.immortal else self._gone(piece["handle"])


@pytest.fixture
def knowing(clock: FakeClock) -> KnowingDriver:
    return KnowingDriver(clock)


def test_each_kind_has_its_own_limit(knowing: KnowingDriver, clock: FakeClock) -> None:
    """Long-lived work is cut at its limit; a short request may go on until its own, and ends in good time."""
    for handle in ("1", "2", "3"):
        knowing.begin(handle, "s1", "websocket")
    knowing.begin("4", "s2", "request", age=60)
    knowing.begin("5", "s2", "tcp")
    knowing.begin("6", "s1", "request", lasts=4)
    result = run(
        "pool_drain", knowing, members=["s1", "s2"], timeout=30, long_timeout=2, on_long_timeout="cut", long_after=10
    )
    assert result["members"]["s1"]["cut_kinds"] == {"websocket": 3}
    assert result["members"]["s2"]["cut_kinds"] == {"long_request": 1, "tcp": 1}
    assert [result["members"][name]["cut"] for name in ("s1", "s2")] == [3, 2]
    assert {(piece["kind"], piece["client"]) for piece in result["cut_work"]} >= {("tcp", "192.0.2.1:5")}
    assert ("end", ("6",)) not in knowing.calls
    assert not [call for call in knowing.calls if call[0] == "cut"]
    assert clock.time - 1000 == pytest.approx(4.1, abs=0.15)


def test_long_lived_work_may_have_the_longer_limit(knowing: KnowingDriver, clock: FakeClock) -> None:
    knowing.begin("1", "s1", "websocket", lasts=8)
    result = run("pool_drain", knowing, members=["s1"], timeout=2, long_timeout=20)
    assert result["members"]["s1"]["cut"] == 0
    assert result["members"]["s1"]["waited"] == pytest.approx(8, abs=0.1)


def test_a_short_request_is_held_to_its_limit_beside_long_lived_work(knowing: KnowingDriver) -> None:
    knowing.begin("1", "s1", "websocket")
    knowing.begin("2", "s1", "request")
    with pytest.raises(TimedOut, match=r"after 2 s .*1 short requests, 1 WebSockets") as error:
        run("pool_drain", knowing, members=["s1"], timeout=2, long_timeout=20, on_long_timeout="cut")
    assert error.value.facts["kinds"] == {"websocket": 1, "request": 1}
    assert error.value.facts["undone"] is True
    assert knowing.members["s1"].admin is Admin.READY


def test_long_lived_work_that_outlasts_its_limit_fails_the_drain(knowing: KnowingDriver, clock: FakeClock) -> None:
    knowing.begin("1", "s1", "tcp")
    with pytest.raises(TimedOut, match="after 3 s"):
        run("pool_drain", knowing, members=["s1"], timeout=100, on_timeout="cut", long_timeout=3)
    assert clock.time - 1000 < 4
    assert knowing.members["s1"].admin is Admin.READY


def test_long_lived_work_may_be_waited_for(knowing: KnowingDriver) -> None:
    knowing.begin("1", "s1", "websocket", lasts=500)
    result = run("pool_drain", knowing, members=["s1"], timeout=2, long_timeout=1, on_long_timeout="wait")
    assert result["members"]["s1"]["waited"] == pytest.approx(500, abs=1)
    assert result["members"]["s1"]["cut"] == 0


def test_what_is_cut_is_counted_once_however_long_it_takes_to_go(knowing: KnowingDriver) -> None:
    knowing.immortal = True
    knowing.begin("1", "s1", "websocket", lasts=3)
    result = run("pool_drain", knowing, members=["s1"], timeout=1, on_timeout="cut")
    assert result["members"]["s1"]["cut_kinds"] == {"websocket": 1}
    assert knowing.calls.count(("end", ("1",))) == 1


def test_a_piece_that_does_not_end_fails_the_drain(knowing: KnowingDriver, clock: FakeClock) -> None:
    knowing.immortal = True
    knowing.begin("1", "s1", "websocket")
    with pytest.raises(TimedOut):
        run("pool_drain", knowing, members=["s1"], timeout=1, on_timeout="cut")
    assert clock.time - 1000 < 8


@pytest.mark.parametrize(
    "wrong",
    [{"on_long_timeout": "kill"}, {"long_timeout": -1}, {"long_timeout": "soon"}, {"long_after": "x"}],
)
def test_wrong_limits_are_refused_before_anything(knowing: KnowingDriver, wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        run("pool_drain", knowing, members=["s1"], **wrong)
    assert not knowing.calls


def test_what_cannot_be_cut_ends_in_an_error(driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "cut", lambda pool, names: 1)
    driver.set("s1", in_flight=1)
    with pytest.raises(TimedOut):
        run("pool_drain", driver, members=["s1"], timeout=1, on_timeout="cut")
    assert driver.members["s1"].admin is Admin.READY


def test_an_error_after_the_first_write_undoes_it(driver: FakeDriver) -> None:
    driver.fail["hold_out"] = Refused("no")
    with pytest.raises(Refused) as error:
        run("pool_drain", driver, members=["s1"], session_grace=2)
    assert error.value.facts["undone"] is True
    # It was never out: no need to put its health down, which could end what is in flight.
    assert driver.calls == [("drain", ("s1",)), ("hold_out", ("s1",)), ("put_back", ("s1",))]


def test_an_undo_that_fails_is_said(driver: FakeDriver) -> None:
    driver.set("s1", in_flight=1)
    driver.fail["prepare_return"] = Unreachable("gone")
    with pytest.raises(TimedOut) as error:
        run("pool_drain", driver, members=["s1"], timeout=1)
    assert error.value.facts["undone"] is False
    assert "gone" in error.value.facts["undo_error"]


def test_a_member_that_somebody_puts_back_meanwhile(driver: FakeDriver, clock: FakeClock) -> None:
    driver.set("s1", in_flight=1)

    def interfere() -> None:
        driver.set("s1", in_flight=0, admin=Admin.READY)

    clock.after(0.5, interfere)
    with pytest.raises(ChangedByOther, match="made it ready again"):
        run("pool_drain", driver, members=["s1", "s2"])
    assert all(member.admin is Admin.READY for member in driver.members.values())


def test_a_busy_member_that_somebody_puts_back_is_not_waited_for(driver: FakeDriver, clock: FakeClock) -> None:
    began = clock.now()
    driver.set("s1", in_flight=1)
    clock.after(0.5, lambda: driver.set("s1", admin=Admin.READY))
    with pytest.raises(ChangedByOther, match="made it ready again"):
        run("pool_drain", driver, members=["s1"], timeout=60)
    assert clock.now() < began + 5


def test_a_short_absence_is_waited_out(driver: FakeDriver, clock: FakeClock) -> None:
    driver.set("s1", in_flight=1)
    clock.after(0.3, lambda: setattr(driver, "away", True))
    clock.after(3.0, lambda: setattr(driver, "away", False))
    clock.after(3.5, lambda: driver.set("s1", in_flight=0))
    assert run("pool_drain", driver, members=["s1"])["members"]["s1"]["waited"] > 3


def test_a_long_absence_is_not(driver: FakeDriver, clock: FakeClock) -> None:
    driver.set("s1", in_flight=1)
    clock.after(0.3, lambda: setattr(driver, "away", True))
    with pytest.raises(Unreachable) as error:
        run("pool_drain", driver, members=["s1"], timeout=100)
    assert error.value.facts["undone"] is False
    assert clock.time - 1000 < 15


def test_only_new_clients_can_be_kept_away(driver: FakeDriver, clock: FakeClock) -> None:
    result = run("pool_drain", driver, members=["s1"], only_new=True)
    assert result["changed"]
    assert result["before"]["s1"]["admin"] == "ready"
    assert driver.members["s1"].admin is Admin.DRAIN


def test_the_session_grace_comes_first(driver: FakeDriver, clock: FakeClock) -> None:
    clock.after(1.0, driver.reload)
    result = run("pool_drain", driver, members=["s1"], session_grace=3)
    assert [call[0] for call in driver.calls] == ["drain", "drain", "hold_out"]
    assert result["reloads_seen"] == 1
    assert clock.time - 1000 >= 3


def test_the_floor(driver: FakeDriver) -> None:
    driver.set("s3", health=Health.DOWN)
    driver.set("s4", weight=0)
    with pytest.raises(FloorBroken, match=r"leave 1 of 4.*s3 \(down\), s4 \(weight 0\)") as error:
        run("pool_drain", driver, members=["s1"], floor=2)
    assert error.value.facts["would_stay"] == ["s2"]
    assert not driver.calls
    run("pool_drain", driver, members=["s3"], floor=4)


def test_the_floor_is_waited_for(driver: FakeDriver, clock: FakeClock) -> None:
    driver.set("s3", health=Health.DOWN)
    clock.after(2.0, lambda: driver.set("s3", health=Health.UP))
    run("pool_drain", driver, members=["s1"], floor=3, wait_for_floor=5)
    assert clock.time - 1000 >= 2


def test_the_floor_holds_when_all_are_drained_already(driver: FakeDriver) -> None:
    driver.set("s1", admin=Admin.OUT)
    assert run("pool_drain", driver, members=["s1"], floor=4)["changed"] is False


def test_another_state_than_expected(driver: FakeDriver) -> None:
    with pytest.raises(ChangedByOther):
        run("pool_drain", driver, members=["s1"], expect={"s1": {"admin": "out", "weight": 1}})
    assert not driver.calls
    run("pool_drain", driver, members=["s1"], expect={"s1": {"admin": "ready", "weight": 1}})


def test_a_return_waits_for_health(driver: FakeDriver, clock: FakeClock) -> None:
    driver.set("s1", admin=Admin.OUT, health=Health.DOWN)
    result = run("pool_return", driver, members=["s1", "s2"], timeout=5)
    assert driver.calls == [("prepare_return", ("s1",))]
    assert result["members"]["s1"] == {"waited": pytest.approx(0.5, abs=0.03), "health": "up", "checked": True}
    assert result["after"]["s1"]["admin"] == "drain"
    assert result["after"]["s2"]["admin"] == "ready"


def test_only_the_ill_are_held_out_again(driver: FakeDriver) -> None:
    driver.ill = {"s1"}
    for name in ("s1", "s2"):
        driver.set(name, admin=Admin.OUT, health=Health.DOWN, detail={"check_status": "L4CON", "check_desc": "no"})
    with pytest.raises(Unhealthy, match="L4CON: no") as error:
        run("pool_return", driver, members=["s1", "s2"], timeout=2)
    assert error.value.facts["members"] == {"s1": "L4CON: no"}
    assert driver.members["s1"].admin is Admin.OUT
    assert driver.members["s2"].admin is Admin.DRAIN


def test_a_ready_member_that_is_ill_is_not_touched(driver: FakeDriver) -> None:
    driver.set("s1", health=Health.DOWN)
    with pytest.raises(Unhealthy):
        run("pool_return", driver, members=["s1"], timeout=1)
    assert not driver.calls


def test_a_reload_during_a_return_prepares_it_again(driver: FakeDriver, clock: FakeClock) -> None:
    driver.ill = {"s1"}
    driver.set("s1", admin=Admin.OUT)
    clock.after(0.3, driver.reload)
    clock.after(1.0, lambda: driver.set("s1", health=Health.UP))
    result = run("pool_return", driver, members=["s1"], timeout=5)
    assert result["reloads_seen"] == 1
    assert driver.calls == [("prepare_return", ("s1",))] * 2
    assert driver.members["s1"].admin is Admin.DRAIN


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch, driver: FakeDriver) -> dict[str, str]:
    """What asking the members from the balancer's host gives; each is seen in the state it was asked in."""
    reasons: dict[str, str] = {}

    def ask(members: Sequence[Member], _order: object, _limit: float) -> dict[str, str]:
        driver.calls.append(("ask", tuple(f"{one.name} {driver.members[one.name].admin.value}" for one in members)))
        return {one.name: reasons[one.name] for one in members if one.name in reasons}

    monkeypatch.setattr(own_view, "ask", ask)
    return reasons


def view(always: bool = False) -> dict[str, Any]:
    return {"always": always, "health": {name: {"url": "http://127.0.0.1/health"} for name in ("s1", "s2", "s3")}}


def test_members_without_a_check_are_asked_while_they_are_out(driver: FakeDriver, answers: dict[str, str]) -> None:
    driver.set("s1", admin=Admin.OUT, health=Health.UNCHECKED)
    driver.set("s2", admin=Admin.OUT, health=Health.DOWN)
    result = run("pool_return", driver, members=["s1", "s2"], view=view())
    assert driver.calls == [("prepare_return", ("s2",)), ("ask", ("s1 out",)), ("prepare_return", ("s1",))]
    assert result["members"]["s1"]["asked"] is True
    assert "asked" not in result["members"]["s2"]


def test_a_member_that_the_balancer_cannot_reach_stays_out(driver: FakeDriver, answers: dict[str, str]) -> None:
    for name in ("s1", "s2"):
        driver.set(name, admin=Admin.OUT, health=Health.UNCHECKED)
    answers["s1"] = "connection refused"
    with pytest.raises(Unhealthy, match=r"s1 \(connection refused\)") as error:
        run("pool_return", driver, members=["s1", "s2"], view=view())
    assert error.value.facts["members"] == {"s1": "connection refused"}
    assert [driver.members[name].admin for name in ("s1", "s2")] == [Admin.OUT, Admin.DRAIN]
    assert ("prepare_return", ("s1",)) not in driver.calls


def test_a_member_that_its_check_and_the_request_judge_differently_stays_out(
    driver: FakeDriver, answers: dict[str, str]
) -> None:
    for name in ("s1", "s2"):
        driver.set(name, admin=Admin.OUT, health=Health.DOWN)
    answers["s1"] = "status 503, not 200"
    driver.ill.add("s2")
    with pytest.raises(Unhealthy) as error:
        run("pool_return", driver, members=["s1", "s2", "s3"], view=view(always=True), timeout=1)
    assert set(error.value.facts["members"]) == {"s1", "s2"}
    assert [driver.members[name].admin for name in ("s1", "s2")] == [Admin.OUT, Admin.OUT]


def test_without_a_view_and_in_check_mode_nobody_is_asked(driver: FakeDriver, answers: dict[str, str]) -> None:
    driver.set("s1", admin=Admin.OUT, health=Health.UNCHECKED)
    run("pool_return", driver, True, members=["s1"], view=view())
    assert driver.calls == []


@pytest.mark.parametrize("when", ["auto", "always", "never"])
def test_by_hand_the_balancer_asks_too(driver: FakeDriver, answers: dict[str, str], when: str) -> None:
    driver.set("s1", admin=Admin.OUT, health=Health.UNCHECKED)
    answers["s1"] = "connection refused"
    params: dict[str, Any] = {
        "members": ["s1"],
        "state": "ready",
        "health": {"url": "http://x/"},
        "health_from_balancer": when,
    }
    if when == "never":
        run("pool_member", driver, **params)
        assert driver.members["s1"].admin is Admin.READY
        return
    with pytest.raises(Unhealthy, match="connection refused"):
        run("pool_member", driver, **params)
    assert driver.members["s1"].admin is Admin.OUT


@pytest.mark.parametrize("more", [{"health": {}}, {"health": "http://x/"}, {"health_from_balancer": "sometimes"}])
def test_what_the_balancer_is_to_ask_is_checked(driver: FakeDriver, more: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="health"):
        run("pool_member", driver, members=["s1"], state="ready", **more)
    assert not driver.calls


def settings(**values: tuple[str, int]) -> dict[str, dict[str, Any]]:
    return {name: {"admin": admin, "weight": weight} for name, (admin, weight) in values.items()}


def test_a_put_back_goes_to_what_was(driver: FakeDriver) -> None:
    for name in ("s1", "s2", "s3"):
        driver.set(name, admin=Admin.DRAIN)
    wanted = settings(s1=("ready", 5), s2=("out", 1), s3=("drain", 1))
    result = run("pool_put_back", driver, settings=wanted)
    assert driver.calls == [("weigh", ("s1",)), ("hold_out", ("s2",)), ("put_back", ("s1",))]
    assert result["after"] == wanted
    assert run("pool_put_back", driver, settings=wanted)["changed"] is False


def test_a_put_back_of_what_was_out_is_checked_first(driver: FakeDriver) -> None:
    driver.set("s1", admin=Admin.OUT)
    run("pool_put_back", driver, settings=settings(s1=("ready", 1)))
    assert driver.calls == [("prepare_return", ("s1",)), ("put_back", ("s1",))]


def traffic(
    driver: FakeDriver, clock: FakeClock, name: str, requests: int, errors: int = 0, every: float = 0.1
) -> None:
    def tick() -> None:
        old = driver.members[name].counters
        driver.set(name, counters=Counters(old.requests + requests, old.errors + errors, old.responses_5xx + errors))
        clock.after(every, tick)

    clock.after(every, tick)


LOOK = {"requests": 50, "seconds": 2, "timeout": 10, "max_errors": 0}


def look(driver: FakeDriver, **more: Any) -> dict[str, Any]:
    result = run("pool_put_back", driver, settings=settings(s1=("ready", 1)), look={**LOOK, **more})
    found: dict[str, Any] = result["members"]["s1"]
    return found


def test_the_look_passes_after_enough_requests_and_time(driver: FakeDriver, clock: FakeClock) -> None:
    driver.set("s1", counters=Counters(1000, 100, 100))  # of before
    traffic(driver, clock, "s1", 10)
    found = look(driver)
    assert found["look"] == "pass"
    assert found["requests"] >= 50
    assert found["errors"] == 0
    assert 2 <= clock.time - 1000 < 3


def test_the_look_fails_on_errors_at_once(driver: FakeDriver, clock: FakeClock) -> None:
    traffic(driver, clock, "s1", 10, errors=1)
    found = look(driver, max_errors=2)
    assert (found["look"], found["errors"]) == ("fail", 3)
    assert clock.time - 1000 < 1


def test_the_look_fails_when_the_balancer_sees_it_down(driver: FakeDriver, clock: FakeClock) -> None:
    clock.after(1.0, lambda: driver.set("s1", health=Health.DOWN))
    found = look(driver)
    assert found["look"] == "fail"
    assert "down" in found["reason"]
    assert clock.time - 1000 < 1.5  # at once, not at the limit


def test_the_look_cannot_tell_without_traffic(driver: FakeDriver, clock: FakeClock) -> None:
    found = look(driver)
    assert found["look"] == "inconclusive"
    assert "0 of 50 requests" in found["reason"]
    assert clock.time - 1000 >= 10


def test_the_look_cannot_tell_when_somebody_takes_it_out(driver: FakeDriver, clock: FakeClock) -> None:
    clock.after(1.0, lambda: driver.set("s1", admin=Admin.DRAIN))
    found = look(driver)
    assert found["look"] == "inconclusive"
    assert "drain" in found["reason"]


def test_the_look_goes_on_over_a_reload(driver: FakeDriver, clock: FakeClock) -> None:
    traffic(driver, clock, "s1", 5)
    clock.after(0.55, driver.reload)
    found = look(driver, requests=90)
    assert found["look"] == "pass"
    assert found["requests"] >= 90
    assert clock.time - 1000 < 2.3  # what was served before the reload counts


def test_the_look_is_only_at_members_that_serve(driver: FakeDriver) -> None:
    result = run("pool_put_back", driver, settings=settings(s1=("out", 1)), look=LOOK)
    assert result["members"] == {"s1": {}}


def test_weights_go_back_when_one_is_refused(driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    weigh = driver.weigh

    def refuse(pool: str, weights: Mapping[str, int]) -> None:
        weigh(pool, {"s1": weights["s1"]})
        if weights["s1"] == 9:
            raise Refused("static")

    monkeypatch.setattr(driver, "weigh", refuse)
    with pytest.raises(Refused):
        run("pool_weigh", driver, weights={"s1": 9, "s2": 9})
    assert driver.members["s1"].weight == 1


def test_draining_does_not_let_in_what_is_out(driver: FakeDriver) -> None:
    driver.set("s1", admin=Admin.OUT)
    result = run("pool_member", driver, members=["s1", "s2"], state="draining")
    assert driver.calls == [("drain", ("s2",))]
    assert result["after"] == settings(s1=("out", 1), s2=("drain", 1))


def test_ready_with_a_weight_weighs_before_it_serves(driver: FakeDriver) -> None:
    driver.set("s1", admin=Admin.OUT, health=Health.DOWN)
    result = run("pool_member", driver, members=["s1"], state="ready", weight=9)
    assert [call[0] for call in driver.calls] == ["prepare_return", "weigh", "put_back"]
    assert result["after"] == settings(s1=("ready", 9))
    assert result["members"]["s1"]["health"] == "up"


@pytest.mark.parametrize(
    "change",
    [{"state": "drained"}, {"state": "draining"}, {"state": "out"}, {"state": "ready"}, {"weight": 3}]
    + [{"state": state, "weight": 3} for state in ("drained", "draining", "out", "ready")],
)
@pytest.mark.parametrize("admin", list(Admin))
def test_check_mode_foretells_and_touches_nothing(driver: FakeDriver, admin: Admin, change: dict[str, Any]) -> None:
    driver.set("s1", admin=admin)
    foretold = run("pool_member", driver, check=True, members=["s1", "s2"], **change)
    assert not driver.calls
    done = run("pool_member", driver, members=["s1", "s2"], **change)
    assert foretold["changed"] == done["changed"] == (done["before"] != done["after"])
    assert foretold["diff"] == done["diff"]
    live = {name: driver.members[name].setting for name in ("s1", "s2")}
    assert done["after"] == {name: {"admin": one.admin.value, "weight": one.weight} for name, one in live.items()}
    assert run("pool_member", driver, members=["s1", "s2"], **change)["changed"] is False


@pytest.mark.parametrize(
    ("name", "params", "words"),
    [
        ("pool_drain", {"members": []}, "No member"),
        ("pool_drain", {}, "No member"),
        ("pool_drain", {"members": ["s1", "s1"]}, "named twice"),
        ("pool_drain", {"members": ["s1;quit"]}, "characters"),
        ("pool_drain", {"members": ["s1"], "pool": "a b"}, "characters"),
        ("pool_drain", {"members": ["s1"], "pool": None}, "non-empty"),
        ("pool_drain", {"members": ["s1"], "floor": -1}, "floor"),
        ("pool_drain", {"members": ["s1"], "floor": "50%"}, "floor"),
        ("pool_drain", {"members": ["s1"], "timeout": -1}, "timeout"),
        ("pool_drain", {"members": ["s1"], "timeout": float("nan")}, "timeout"),
        ("pool_drain", {"members": ["s1"], "samples": 0}, "samples"),
        ("pool_drain", {"members": ["s1"], "interval": 0}, "interval"),
        ("pool_drain", {"members": ["s1"], "on_timeout": "wait"}, "fail, cut"),
        ("pool_drain", {"members": ["s1"], "expect": {"s1": {"admin": "x", "weight": 1}}}, "ready, drain, out"),
        ("pool_return", {"members": "s1"}, "list"),
        ("pool_put_back", {}, "settings"),
        ("pool_put_back", {"settings": {"s1": {"admin": "ready"}}}, "weight"),
        ("pool_put_back", {"settings": {"s1": {"admin": "ready", "weight": 300}}}, "0 to 256"),
        ("pool_put_back", {"settings": {"s1": {"admin": "ready", "weight": 1}}, "look": 5}, "look"),
        ("pool_weigh", {"weights": {"s1": 257}}, "0 to 256"),
        ("pool_weigh", {"weights": {"s1": "many"}}, "s1"),
        ("pool_weigh", {}, "weights"),
        ("pool_member", {"members": ["s1"]}, "Neither"),
        ("pool_member", {"members": ["s1"], "state": "gone"}, "drained"),
        ("pool_member", {"members": ["s1"], "state": "drained", "weight": 999}, "0 to 256"),
        ("pool_member", {"members": ["s1"], "state": "ready", "health_timeout": -1}, "health_timeout"),
    ],
)
def test_bad_input_touches_nothing(driver: FakeDriver, name: str, params: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        run(name, driver, **params)
    assert not driver.calls


def test_an_unknown_driver() -> None:
    with pytest.raises(BadInput, match="no driver 'f5'"):
        operations.pool_drain({"driver": "f5", "pool": "shop", "members": ["s1"]}, False)


def test_an_unknown_member_is_found_before_the_first_change(driver: FakeDriver) -> None:
    for name, params in (
        ("pool_drain", {"members": ["s1", "s9"]}),
        ("pool_return", {"members": ["s1", "s9"]}),
        ("pool_put_back", {"settings": settings(s1=("out", 1), s9=("out", 1))}),
        ("pool_weigh", {"weights": {"s1": 5, "s9": 5}}),
        ("pool_member", {"members": ["s1", "s9"], "state": "out"}),
    ):
        with pytest.raises(UnknownMember, match="s9"):
            run(name, driver, **params)
    assert not driver.calls


@given(
    traffic=st.lists(
        st.tuples(st.floats(0, 20), st.sampled_from(["s1", "s2"]), st.integers(0, 3), st.integers(0, 2)), max_size=12
    ),
    reloads=st.lists(st.floats(0, 20), max_size=3),
    samples=st.integers(1, 5),
)
def test_drained_is_never_said_of_a_busy_or_serving_member(
    traffic: list[tuple[float, str, int, int]], reloads: list[float], samples: int
) -> None:
    """Whatever traffic and reloads do: either it is drained, or all is as it was."""
    clock = FakeClock()
    driver = FakeDriver(clock)
    for at, name, in_flight, queued in traffic:
        clock.after(at, lambda n=name, f=in_flight, q=queued: driver.set(n, in_flight=f, queued=q))  # type: ignore[misc]
    for at in reloads:
        clock.after(at, driver.reload)
    try:
        result = run("pool_drain", driver, members=["s1", "s2"], samples=samples, timeout=10)
    except TimedOut:
        assert all(member.admin is Admin.READY for member in driver.members.values())
        return
    for name in ("s1", "s2"):
        assert driver.members[name].busy == 0
        assert driver.members[name].admin is Admin.OUT
        assert result["members"][name]["waited"] <= clock.time - 1000
    assert result["identity"] == driver.identity()


# --- held out by hand ---


def by_hand(driver: FakeDriver, folder: Path, state: str, check: bool = False, **params: Any) -> dict[str, Any]:
    more = {"service": "shop", "marks": str(folder), "members": ["s1", "s2"], "state": state, **params}
    return run("pool_member", driver, check, **more)


@pytest.mark.case(18)
def test_members_return_to_what_they_were_before_they_were_taken_out(driver: FakeDriver, tmp_path: Path) -> None:
    driver.set("s1", weight=7)
    driver.set("s2", admin=Admin.OUT)
    before = {name: driver.members[name].setting for name in ("s1", "s2")}
    assert by_hand(driver, tmp_path, "drained")["changed"]
    assert not by_hand(driver, tmp_path, "drained")["changed"]
    assert by_hand(driver, tmp_path, "ready", check=True)["changed"]
    assert driver.members["s1"].admin is Admin.OUT
    assert by_hand(driver, tmp_path, "ready")["changed"]
    assert {name: driver.members[name].setting for name in ("s1", "s2")} == before
    assert not by_hand(driver, tmp_path, "ready")["changed"]
    assert Marks("shop", "shop", str(tmp_path), BY_HAND).read() == {}


def test_a_rollout_does_not_take_up_what_is_held_out_by_hand(driver: FakeDriver, tmp_path: Path) -> None:
    by_hand(driver, tmp_path, "drained")
    found = run("pool_drain", driver, members=["s1"], service="shop", marks=str(tmp_path))
    assert found["return_to"]["s1"]["admin"] == "out"


def test_what_returned_on_one_balancer_alone_can_be_undone_and_returns_again(
    driver: FakeDriver, tmp_path: Path
) -> None:
    by_hand(driver, tmp_path, "drained")
    back = by_hand(driver, tmp_path, "ready")
    own: dict[str, Any] = {"service": "shop", "marks": str(tmp_path), "by_hand": True}
    run("pool_put_back", driver, settings=back["before"], return_to=back["return_to"], **own)
    assert not driver.members["s1"].in_service
    assert by_hand(driver, tmp_path, "ready")["changed"]
    assert driver.members["s1"].in_service


@pytest.mark.parametrize(("floor", "allowed"), [("50%", True), ("51%", False), ("2", True), (3, False)])
def test_a_floor_may_be_a_share_of_the_pool(driver: FakeDriver, floor: Any, allowed: bool) -> None:
    if allowed:
        assert run("pool_member", driver, members=["s1", "s2"], state="out", floor=floor)["changed"]
        return
    with pytest.raises(FloorBroken):
        run("pool_member", driver, members=["s1", "s2"], state="out", floor=floor)


@pytest.mark.parametrize("wrong", ["half", "101%", "-1%", "%"])
def test_a_wrong_floor_is_refused(driver: FakeDriver, wrong: str) -> None:
    with pytest.raises(BadInput, match="floor"):
        run("pool_member", driver, members=["s1"], state="out", floor=wrong)
    assert not driver.calls


# --- one batch back and the next one out, as one change ---

READY = {"admin": "ready", "weight": 1}


def test_members_return_and_others_leave_in_one_operation(driver: FakeDriver) -> None:
    driver.set("s1", admin=Admin.OUT)
    result = run("pool_drain", driver, members=["s2"], returning={"s1": READY}, floor=3)
    assert [name for name, member in driver.members.items() if member.admin is not Admin.READY] == ["s2"]
    # Whoever comes back does so first, and counts for the floor.
    assert [call[0] for call in driver.calls] == ["prepare_return", "put_back", "hold_out"]
    assert set(result["before"]) == {"s2"}
    assert result["exchanged_after"] >= 0


def test_the_floor_holds_in_an_exchange(driver: FakeDriver) -> None:
    driver.set("s1", admin=Admin.OUT)
    driver.set("s3", health=Health.DOWN)
    with pytest.raises(FloorBroken, match="would leave 2 of 4"):
        run("pool_drain", driver, members=["s2"], returning={"s1": READY}, floor=3)
    assert driver.calls == []


@given(
    st.lists(st.sampled_from(["serves", "down", "operator's", "returns", "leaves"]), min_size=2, max_size=8),
    st.integers(0, 8),
    st.booleans(),
)
def test_an_exchange_never_goes_below_the_floor(kinds: list[str], floor: int, by_reload: bool) -> None:
    """Nor below what served before, where that was less; at no moment, whether it is one change or several."""
    driver = FakeDriver(FakeClock(), [f"s{number}" for number in range(len(kinds))])
    chosen: dict[str, list[str]] = {"returns": [], "leaves": []}
    for name, kind in zip(list(driver.members), kinds, strict=True):
        chosen.setdefault(kind, []).append(name)
        if kind == "down":
            driver.set(name, health=Health.DOWN)
        elif kind != "serves" and kind != "leaves":
            driver.set(name, admin=Admin.DRAIN)
    if not chosen["leaves"]:
        return
    if by_reload:
        exchange_at_once(driver)
    before = {name for name, member in driver.members.items() if member.in_service}
    least = len(before)
    keep = driver.set

    def watched(name: str, **values: Any) -> None:
        nonlocal least
        keep(name, **values)
        least = min(least, sum(member.in_service for member in driver.members.values()))

    driver.set = watched  # type: ignore[method-assign]
    returning = dict.fromkeys(chosen["returns"], READY) or None
    try:
        run("pool_drain", driver, members=chosen["leaves"], returning=returning, floor=floor)
    except FloorBroken:
        assert {name for name, member in driver.members.items() if member.in_service} == before
        return
    assert least >= min(floor, len(before))
    assert all(driver.members[name].in_service for name in chosen["returns"])


def exchange_at_once(driver: FakeDriver) -> None:
    """As a balancer that reloads: all members change in the same moment."""

    def exchange(
        pool: str, returning: Mapping[str, Setting], names: Sequence[str], target: Admin, now: Mapping[str, Member]
    ) -> None:
        for name in names:
            driver.members[name] = replace(driver.members[name], admin=target)
        for name in returning:
            driver.members[name] = replace(driver.members[name], admin=Admin.READY)
        for name in now:
            driver.set(name)

    driver.exchange = exchange  # type: ignore[method-assign]


def test_who_returned_stays_when_the_others_do_not_get_empty(driver: FakeDriver, tmp_path: Path) -> None:
    kept: dict[str, Any] = {"service": "shop", "marks": str(tmp_path)}
    run("pool_drain", driver, members=["s1"], **kept)
    driver.set("s2", in_flight=1)
    with pytest.raises(TimedOut) as error:
        run("pool_drain", driver, members=["s2"], returning={"s1": READY}, timeout=1, **kept)
    assert error.value.facts["returned"] is True
    assert {member.admin for member in driver.members.values()} == {Admin.READY}
    assert Marks("shop", "shop", str(tmp_path)).read() == {}


def test_a_change_that_fails_returns_nobody(driver: FakeDriver) -> None:
    driver.set("s1", admin=Admin.OUT)
    driver.fail["put_back"] = Refused("no")
    with pytest.raises(Refused) as error:
        run("pool_drain", driver, members=["s2"], returning={"s1": READY})
    assert error.value.facts["returned"] is False
    assert driver.members["s2"].admin is Admin.READY


def test_nobody_returns_and_leaves_at_once(driver: FakeDriver) -> None:
    with pytest.raises(BadInput, match="'s2' cannot be drained and returned"):
        run("pool_drain", driver, members=["s2"], returning={"s2": READY})
    assert driver.calls == []
