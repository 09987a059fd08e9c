# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Polls over a fleet: from where the last one ended, whoever takes them, and honest about who did not answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput, Unreachable
from ansible_collections.zerodrop.rollout.plugins.module_utils._observation.restarts import unit_restarts
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.fleet import Fleet
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.observe import Observer
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import Record
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import Settings
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict import verdict
from tests.unit.plugins.plugin_utils.test_batch import BALANCERS, MEMBERS, FakeRemote, record, settings

__all__ = ("record", "settings")  # fixtures

ARMS = {name: "canary" if name == "web1" else "baseline" for name in MEMBERS}


class Seeing(FakeRemote):
    """Each balancer counts 100 requests of each member between two looks; the canary fails as it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.canary_fails = 0
        self.reset = ""
        self.crashes = 0
        self.served = 100

    def _observe(self, balancer: str, params: Mapping[str, Any]) -> dict[str, Any]:
        turn = 0 if params["cursor"] is None else params["cursor"]["turn"] + 1
        members = {
            name: {
                "requests": self.served,
                "errors": self.canary_fails if name == "web1" else 0,
                "kinds": {"cut": self.canary_fails} if name == "web1" else {},
                "latency": [self.served, 0],
            }
            for name in params["members"]
        }
        cursor = {"turn": turn, "source": "log"}
        return {"members": members if turn else {}, "cursor": cursor, "reset": self.reset, "notes": [], "buckets": [5]}

    def _unit_restarts(self, host: str, params: Mapping[str, Any]) -> dict[str, Any]:
        crashes = self.crashes if host == "web1's unit" else 0
        return {"restarts": crashes, "seconds": 10.0, "cursor": {"restarts": 0, "at": 1.0}}


@pytest.fixture
def seeing() -> Seeing:
    return Seeing()


@pytest.fixture
def observer(settings: Settings, seeing: Seeing, record: Record) -> Observer:
    return Observer(Fleet(settings, seeing, record, False), settings, ARMS)  # type: ignore[arg-type]


def test_polls_add_up_and_go_on_from_a_cursor_of_plain_json(observer: Observer, seeing: Seeing) -> None:
    cursor = observer.begin()
    seeing.canary_fails = 3
    seen = observer.poll(10.0, json.loads(json.dumps(cursor)))
    web1 = seen.poll["members"][0]
    assert web1["requests"] == 100 * len(BALANCERS)
    assert web1["errors"] == 3 * len(BALANCERS)
    assert web1["host_seconds"] == 10.0
    assert seen.dropped is None
    assert seen.kinds == {"canary": {"cut": 3 * len(BALANCERS)}, "baseline": {}}
    again = observer.poll(20.0, json.loads(json.dumps(seen.cursor)))
    assert {place["turn"] for place in again.cursor["places"].values()} == {2}


def judged(polls: list[dict[str, Any]]) -> dict[str, Any]:
    return verdict({"polls": polls, "warmup": 0, "min_duration": 10, "max_duration": 5000})


def test_a_silent_balancer_is_said_keeps_its_cursor_and_promotes_nothing(observer: Observer, seeing: Seeing) -> None:
    cursor = observer.begin()
    polls: list[dict[str, Any]] = []
    seeing.served = 5000

    def poll() -> Any:
        nonlocal cursor
        seen = observer.poll(10.0 * (len(polls) + 1), cursor)
        for member in seen.poll["members"]:
            member["errors"] = 10  # as good as each other
        cursor = seen.cursor
        polls.append(seen.poll)
        return seen

    for _unused in range(60):
        poll()
    assert judged(polls)["decision"] == "promote"
    place = BALANCERS[0]
    before = cursor["places"][place]
    seeing.errors[place, "observe"] = Unreachable("no answer within 20 s")
    seen = poll()
    assert seen.cursor["places"][place] == before
    assert any(f"{place} does not tell" in note for note in seen.notes)
    found = judged(polls)
    assert (found["decision"], found["rule"]) == ("wait", "data")
    assert f"{place} does not tell" in found["sentence"]
    for _unused in range(6):
        poll()
    assert judged(polls)["decision"] == "no_data"
    seeing.errors.clear()
    poll()
    assert judged(polls)["decision"] == "promote"


def test_a_balancer_that_is_left_out_is_not_waited_for_and_said(
    observer: Observer, seeing: Seeing, record: Record
) -> None:
    cursor = observer.begin()
    gone, stays = BALANCERS
    seeing.errors[gone, "observe"] = Unreachable("no route")
    assert "partial" in observer.poll(10.0, cursor).poll
    record.balancers.remove(gone)
    record.dead.append(gone)
    seen = observer.poll(20.0, cursor)
    assert "partial" not in seen.poll
    assert seen.dropped is None
    assert seen.poll["members"][0]["requests"] == 100
    assert f"{gone} is left out: what it still serves is not seen, and not judged" in seen.notes
    assert list(seen.cursor["places"]) == [stays]


def test_a_balancer_that_began_anew_drops_the_poll(observer: Observer, seeing: Seeing) -> None:
    cursor = observer.begin()
    seeing.reset = "its counters began anew"
    seen = observer.poll(10.0, cursor)
    assert seen.poll["skip"] == seen.dropped
    assert "its counters began anew" in (seen.dropped or "")


def test_a_unit_that_cannot_be_asked_takes_restarts_out_of_the_poll(observer: Observer, seeing: Seeing) -> None:
    cursor = observer.begin()
    seeing.errors["web2's unit", "unit_restarts"] = Unreachable("no answer")
    seen = observer.poll(10.0, cursor)
    assert all("restarts" not in member for member in seen.poll["members"])
    assert seen.notes == ("restarts are not seen: web2 (no answer)",)


def test_what_keeps_a_balancer_from_being_observed_is_an_error_at_once(observer: Observer, seeing: Seeing) -> None:
    seeing.errors[BALANCERS[1], "observe"] = BadInput("This balancer counts no requests by member")
    with pytest.raises(BadInput, match=f"{BALANCERS[1]}: This balancer counts no requests"):
        observer.begin()


def test_a_cursor_or_a_host_that_is_none_is_refused(observer: Observer, settings: Settings, record: Record) -> None:
    with pytest.raises(BadInput, match="A cursor must be"):
        observer.poll(1.0, {})
    fleet = Fleet(settings, Seeing(), record, False)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="web9 is no member"):
        Observer(fleet, settings, {"web9": "canary"})
    with pytest.raises(BadInput, match="No host is no member"):
        Observer(fleet, settings, {})


def test_totals_of_a_command(settings: Settings, seeing: Seeing, record: Record) -> None:
    rows = {name: {"requests": 100, "errors": 1} for name in MEMBERS}
    command = ("/bin/echo", json.dumps({"members": rows}))
    own = replace(settings, canary_source="command", canary_command=command)
    fleet = Fleet(own, seeing, record, False)  # type: ignore[arg-type]
    observer = Observer(fleet, own, ARMS)
    cursor = observer.begin()
    assert not [call for _host, call in seeing.calls if call.operation == "observe"]
    cursor["totals"]["web1"] = {"requests": 40, "errors": 0}
    seen = observer.poll(10.0, cursor)
    assert (seen.poll["members"][0]["requests"], seen.poll["members"][0]["errors"]) == (60, 1)
    assert seen.dropped is None
    gone = replace(own, canary_command=("/nothing/there",))
    blind = Observer(fleet, gone, ARMS).poll(20.0, seen.cursor)
    assert "cannot be run" in (blind.dropped or "")
    assert blind.cursor["totals"] == seen.cursor["totals"]


def systemd(restarts: int, load: str = "loaded") -> Any:
    said = f"LoadState={load}\nActiveState=active\nSubState=running\nResult=success\nNRestarts={restarts}\n"
    return lambda _argv, _limit: (0, said)


def test_restarts_are_those_since_the_last_look() -> None:
    params: dict[str, Any] = {"unit": "shop.service"}
    first = unit_restarts(params, False, run=systemd(4))
    assert first["restarts"] == 0
    second = unit_restarts({**params, "cursor": first["cursor"]}, False, run=systemd(6))
    assert second["restarts"] == 2
    assert second["seconds"] >= 0
    # Started by hand, which is no crash, and systemd counts from zero: one crash since.
    third = unit_restarts({**params, "cursor": second["cursor"]}, False, run=systemd(1))
    assert third["restarts"] == 1
    booted = {"restarts": 6, "at": second["cursor"]["at"] + 10**6}
    assert unit_restarts({**params, "cursor": booted}, False, run=systemd(0))["seconds"] > 0
    with pytest.raises(BadInput, match="what an earlier look returned"):
        unit_restarts({**params, "cursor": {"restarts": 1}}, False, run=systemd(1))
