# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The dead man's switch: when it acts, on what, and that it does nothing in every other case."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.module_utils import _switch
from ansible_collections.zerodrop.rollout.plugins.module_utils._drivers.base import Clock
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput, LeaseLost, Unreachable
from ansible_collections.zerodrop.rollout.plugins.module_utils._lease import Lease, Moment, release
from ansible_collections.zerodrop.rollout.plugins.module_utils._ledger import (
    BY_HAND,
    BY_ROLLOUT,
    PHASES,
    Held,
    Ledger,
    MemberEntry,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._ledger_operations import lease_acquire, ledger_note
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Admin, Setting
from ansible_collections.zerodrop.rollout.plugins.module_utils._switch_fire import due, switch_fire, why_not
from tests.unit.plugins.module_utils.test_pool_operations import FakeClock, FakeDriver

READY = Setting(Admin.READY, 7)
LEASE = Lease(3, "r1", "me", "rolling", 60.0, 0.0, 0.0, "boot", 1060.0)


def at(up: float, boot: str = "boot") -> Moment:
    return Moment(boot, up, up)


def entry(phase: str, host: str = "web1", rollout: str = "r1") -> MemberEntry:
    return MemberEntry(host, rollout, phase, PHASES[phase], "1.0", "2.0", {}, 0.0)


# --- when ---


def test_it_waits_as_long_as_the_run_gives_signs_of_life() -> None:
    assert due(LEASE, 3, "r1", 60.0, at(1000.0)).wait == 60.0
    assert due(LEASE, 3, "r1", 60.0, at(1059.0)).wait == 1.0
    found = due(LEASE, 3, "r1", 60.0, at(1061.0))
    assert (found.wait, found.over) == (0.0, "")


def test_it_may_wait_for_longer_than_the_lease() -> None:
    assert due(LEASE, 3, "r1", 90.0, at(1050.0)).wait == 40.0
    assert due(LEASE, 3, "r1", 90.0, at(1080.0)).wait == 10.0
    assert due(LEASE, 3, "r1", 90.0, at(1090.0)).wait == 0.0


@pytest.mark.parametrize(
    ("lease", "word"),
    [
        (None, "no lease"),
        (replace(LEASE, number=4), "another run"),
        (replace(LEASE, holder="r2"), "another run"),
        (release(LEASE, at(1000.0)), "ended"),
    ],
)
def test_it_is_over_when_the_run_has_ended_or_another_one_has_begun(lease: Lease | None, word: str) -> None:
    assert word in due(lease, 3, "r1", 60.0, at(5000.0)).over


@given(st.floats(0, 3000), st.floats(1, 500), st.sampled_from(["boot", "other"]))
def test_it_never_acts_while_the_lease_lasts(up: float, after: float, boot: str) -> None:
    now = at(up, boot)
    found = due(LEASE, 3, "r1", after, now)
    assert found.over == ""
    if LEASE.left(now) > 0:
        assert found.wait >= LEASE.left(now)


# --- on what ---


def test_only_what_the_ledger_says_is_safe_is_put_back() -> None:
    held = Held("shop", "s1", BY_ROLLOUT, READY, "web1", 0.0)
    assert {phase: why_not(held, entry(phase)) == "" for phase in PHASES} == dict(PHASES)
    assert "does not say" in why_not(held, None)
    assert "by halves" in why_not(held, entry("upgrading"))
    assert "before the run" in why_not(replace(held, setting=Setting(Admin.OUT, 7)), entry("draining"))


class Fleet:
    """One balancer whose time has come: s1 (web1) to s4 (web4), with a ledger that says what was done to them."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.clock = FakeClock()
        self.driver = FakeDriver(self.clock)
        self.ledger = Ledger("shop", folder)
        self.printed: list[str] = []
        self.up = 2000.0
        with self.ledger.change() as tables:
            tables.set_lease(LEASE)

    def hold(self, name: str, phase: str, held_by: str = BY_ROLLOUT) -> None:
        host = name.replace("s", "web")
        self.driver.set(name, admin=Admin.OUT)
        with self.ledger.change() as tables:
            tables.hold([Held("shop", name, held_by, READY, host, 0.0)])
            tables.set_member(entry(phase, host))

    def fire(self, **params: Any) -> list[str]:
        params = {"after": 60, "number": 3, "holder": "r1", "health_url": "http://127.0.0.1/health", **params}
        params = {**params, "service": "shop", "marks": self.folder, "places": [{"pool": "shop"}]}
        said: list[str] = switch_fire(params, False, self._open, lambda: at(self.up), self._sleep, self.clock)["said"]
        return said

    def _open(self, _params: Mapping[str, Any], _clock: Clock) -> FakeDriver:
        return self.driver

    def _sleep(self, seconds: float) -> None:
        self.up += seconds
        self.driver.away = False

    @property
    def serving(self) -> set[str]:
        return {name for name, member in self.driver.members.items() if member.admin is Admin.READY}


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(str(tmp_path))


@pytest.mark.case(18)
def test_a_member_in_its_drain_is_put_back_as_it_was(fleet: Fleet) -> None:
    fleet.hold("s1", "draining")
    said = fleet.fire()
    assert fleet.serving == {"s1", "s2", "s3", "s4"}
    assert fleet.driver.members["s1"].weight == 7
    assert "web1 was put back into shop at weight 7" in said[0]
    with fleet.ledger.look() as tables:
        assert tables is not None
        assert tables.held() == []
        assert tables.members()["web1"].phase == "planned"
        assert tables.flag(_switch.FLAG) == said[0]
        assert [each["message"] for each in tables.events()] == said


@pytest.mark.case(18)
def test_a_member_in_mid_upgrade_and_one_of_an_operator_stay_out(fleet: Fleet) -> None:
    fleet.hold("s1", "upgrading")
    fleet.hold("s2", "healthy")
    fleet.hold("s3", "draining", BY_HAND)
    said = fleet.fire()
    assert fleet.serving == {"s2", "s4"}
    assert "web1 stays out of shop, since its release may be touched by halves" in said[0]
    assert "web2 was put back" in said[1]
    assert len(said) == 2
    with fleet.ledger.look() as tables:
        assert tables is not None
        assert {each.member for each in tables.held()} == {"s1", "s3"}
        assert {host: each.phase for host, each in tables.members().items()}["web2"] == "finished"


def test_an_ill_member_stays_out(fleet: Fleet) -> None:
    fleet.hold("s1", "draining")
    fleet.hold("s2", "draining")
    fleet.driver.ill = {"s1"}
    said = fleet.fire()
    assert fleet.serving == {"s2", "s3", "s4"}
    assert "web1 stays out of shop, since the balancer does not see it healthy" in said[0]


def test_it_waits_for_silence_first(fleet: Fleet) -> None:
    fleet.hold("s1", "draining")
    fleet.up = 1010.0
    fleet.fire()
    assert fleet.up >= 1060.0
    assert "s1" in fleet.serving


def test_it_does_nothing_after_the_run_or_for_another_run(fleet: Fleet) -> None:
    fleet.hold("s1", "draining")
    assert "another run" in fleet.fire(number=2)[0]
    with fleet.ledger.change() as tables:
        tables.set_lease(release(LEASE, at(0.0)))
    assert "the run ended" in fleet.fire()[0]
    assert fleet.driver.calls == []
    assert "s1" not in fleet.serving


def test_a_balancer_that_is_away_for_a_moment_is_waited_for(fleet: Fleet) -> None:
    fleet.hold("s1", "draining")
    fleet.driver.away = True
    fleet.fire()
    assert "s1" in fleet.serving


def test_one_that_stays_away_is_said(fleet: Fleet) -> None:
    fleet.hold("s1", "draining")
    fleet.driver.fail = {}

    def read(pool: str) -> Any:
        raise Unreachable("away")

    fleet.driver.read = read  # type: ignore[method-assign]
    assert "could not do its work" in fleet.fire()[0]
    with fleet.ledger.look() as tables:
        assert tables is not None
        assert "could not" in (tables.flag(_switch.FLAG) or "")


def test_the_run_that_died_can_change_nothing_any_more(fleet: Fleet) -> None:
    fleet.hold("s1", "draining")
    fleet.fire()
    with pytest.raises(LeaseLost):
        ledger_note({"service": "shop", "marks": fleet.folder, "lease": {"number": 3, "holder": "r1"}}, False)


# --- the timer ---


class Systemd:
    def __init__(self, status: int = 0, said: str = "") -> None:
        self.answer = status, said
        self.commands: list[list[str]] = []

    def __call__(self, command: Sequence[str], limit: float) -> tuple[int, str]:
        self.commands.append(list(command))
        return self.answer


WANTED = {"program": base64.b64encode(b"3\nabc").decode(), "params": {"service": "shop", "after": 30}}


@pytest.fixture
def _systemd_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_switch, "lacking", lambda: "")


@pytest.mark.usefixtures("_systemd_is_here")
def test_it_is_armed_with_a_program_that_lies_here_whole_and_leaves_nothing(tmp_path: Path) -> None:
    ledger, systemd = Ledger("shop", str(tmp_path)), Systemd()
    with ledger.change():
        pass
    (tmp_path / "shop/switch-2").write_bytes(b"of an earlier lease")
    assert _switch.arm(ledger, 3, "r1", WANTED, systemd) == ""
    program = tmp_path / "shop/switch-3"
    assert program.stat().st_mode & 0o7777 == 0o600
    assert not (tmp_path / "shop/switch-2").exists()
    head, request = program.read_bytes()[:5], json.loads(program.read_bytes()[5:])
    assert head == b"3\nabc"
    assert request["operation"] == "switch_fire"
    assert (request["params"]["number"], request["params"]["holder"], request["params"]["after"]) == (3, "r1", 30)
    stopped, command = systemd.commands
    assert stopped[-1] == "zerodrop-switch-shop-2.timer"
    assert command[0] == "systemd-run"
    assert {"--unit=zerodrop-switch-shop-3", "--on-active=30.000s"} <= set(command)
    assert command[-1] == str(program)
    _switch.disarm(ledger, 3, systemd)
    assert systemd.commands[-1][-2:] == ["zerodrop-switch-shop-3.timer", "zerodrop-switch-shop-3.service"]
    assert not program.exists()


@pytest.mark.usefixtures("_systemd_is_here")
def test_what_systemd_says_against_it_is_told(tmp_path: Path) -> None:
    ledger = Ledger("shop", str(tmp_path))
    with ledger.change():
        pass
    assert _switch.arm(ledger, 3, "r1", WANTED, Systemd(1, "Access denied\n")) == "Access denied"


@pytest.mark.parametrize("wanted", [{}, {"params": {}}, {"params": {"after": 0}}, {**WANTED, "program": "%"}])
def test_nonsense_is_refused(tmp_path: Path, wanted: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        _switch.arm(Ledger("shop", str(tmp_path)), 3, "r1", wanted, Systemd())


def test_without_systemd_the_lease_is_given_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_switch, "lacking", lambda: "it does not run systemd")
    params = {"service": "shop", "marks": str(tmp_path), "holder": "r1", "owner": "me", "reason": "rolling"}
    result = lease_acquire({**params, "switch": WANTED}, False)
    assert result["no_switch"] == "it does not run systemd"
    assert result["lease"]["number"] == 1
