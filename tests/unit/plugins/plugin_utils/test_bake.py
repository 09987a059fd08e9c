# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bake on a fleet that is made of answers: what ends a step, what is kept for the next run, and who is listened to."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import Unreachable
from ansible_collections.zerodrop.rollout.plugins.module_utils._ledger import Ledger
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._canary.plan import Unended, begin_state, plan_canary
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._plan import Candidate
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Call, Reply
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout import bake, canary, ending
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.batch import Phases
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.observe import Observation
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import LeaseRecord, MemberRecord, Record
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.step import Batch
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import Canary
from tests.unit.plugins.plugin_utils.lines import LINES

MEMBERS = tuple(f"web{number}" for number in range(1, 5))
RATE = 100.0  # requests per second and member
CANARY_LINES = {
    **LINES,
    "rollout_canary_warmup": 20,
    "rollout_canary_min_duration": 60,
    "rollout_canary_max_duration": 600,
}


class Tagged(int):
    """A number that is not plain."""


class World:
    """Time, traffic, and balancers whose ledgers keep what they are told."""

    def __init__(self) -> None:
        self.at = 1000.0
        self.errors = {"canary": 0.002, "baseline": 0.002}
        self.traffic = {"canary": 1.0, "baseline": 1.0}
        self.silent = ""
        self.kept: dict[str, Any] = {}
        self.order: dict[str, Any] | None = None
        self.stop: str | None = None
        self.then: list[tuple[float, Callable[[], None]]] = []
        self.calls: list[tuple[str, Call]] = []

    def now(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += seconds
        for when, act in [each for each in self.then if each[0] <= self.at]:
            self.then.remove((when, act))
            act()

    def run(self, calls: Mapping[str, Call], check: bool = False) -> dict[str, Reply]:
        return {host: self._answer(host, call) for host, call in calls.items()}

    def _answer(self, host: str, call: Call) -> Reply:
        self.calls.append((host, call))
        if call.operation == "ledger_note":
            for name, value in call.params.get("keep", {}).items():
                if value is None:
                    self.order = None
                else:
                    self.kept[name] = json.loads(json.dumps(value))
            return Reply(host, result={"changed": True, "stop": self.stop, "order": self.order})
        if call.operation == "pool_put_back":
            self.traffic["canary"] = call.params["settings"]["web1"]["weight"] / 100
        return Reply(host, result={"changed": True, "members": {}})


class FakeObserver:
    """Counts what a world's traffic comes to, exactly; the cursor is the moment up to which was counted."""

    world: World

    def __init__(self, _fleet: Any, _settings: Any, arms: Mapping[str, str]) -> None:
        self._arms = arms

    def begin(self) -> dict[str, Any]:
        return {"until": self.world.at}

    def poll(self, at: float, cursor: Mapping[str, Any]) -> Observation:
        world = self.world
        if world.silent:
            raise Unreachable(world.silent)
        seconds = world.at - cursor["until"]
        members = []
        for host, arm in self._arms.items():
            requests = round(RATE * seconds * world.traffic[arm])
            # As a fraction would come to errors, so that a run is the same every time.
            total = RATE * world.traffic[arm] * world.errors[arm]
            errors = int(total * (world.at - 1000.0)) - int(total * (cursor["until"] - 1000.0))
            # As Ansible hands on what hosts answer: a number of its own kind.
            members.append({"name": host, "arm": arm, "requests": Tagged(requests), "errors": min(errors, requests)})
        return Observation({"at": at, "members": members}, {"until": world.at})


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    found = World()
    monkeypatch.setattr(FakeObserver, "world", found, raising=False)
    monkeypatch.setattr(bake, "Observer", FakeObserver)
    return found


def settings(**more: Any) -> Canary:
    return Canary.from_vars({**CANARY_LINES, **more})


def begun(world: World, folder: Path, wanted: Canary, new: int = 1, before: Any = None) -> Phases:
    """A run whose first members are on the new version and in service."""
    candidates = [Candidate(host, "2.0" if n < new else "1.0", in_service=True) for n, host in enumerate(MEMBERS)]
    plan = plan_canary(candidates, "2.0", wanted.canary_steps, wanted.batches, wanted.floor)
    folder.mkdir(exist_ok=True)
    members = {
        host: MemberRecord(
            host,
            {"lb1": host},
            in_service_before=True,
            release_before="1.0",
            release="2.0" if n < new else "1.0",
            state="finished" if n < new else "untouched",
            before={"lb1": {"admin": "ready", "weight": 100}},
        )
        for n, host in enumerate(MEMBERS)
    }
    record = Record(
        rollout_id="r1", service="shop", strategy="canary", pool="shop", from_version="1.0", to_version="2.0",
        started_at=0.0, check=False, method="archive", upgrade="", floor=2, balancers=["lb1"],
        batches=[list(batch) for batch in plan.plan.batches], members=members, path=str(folder / "record.json"),
    )  # fmt: skip
    request = {"service": "shop", "holder": "r1", "owner": "kim", "reason": "canary", "seconds": 60.0, "process": ""}
    record.lease = LeaseRecord(4, "r1", request, 1, {"lb1": "lb1"}, 0.0)
    state = begin_state(plan, "r1", "1.0", before)
    state["shares"] = [None] * len(plan.targets)
    canary.adopt(record, state, before, {})
    canary.take_up(record)
    return Phases(wanted, world, record, Batch(tuple(record.batches[0]), back=False), False)  # type: ignore[arg-type]


def judged(world: World, phases: Phases, say: Callable[[str], None] = lambda _text: None) -> Record:
    bake.Bake(phases, say, world.sleep, world.now).judge(0)
    return phases.record


def looks(record: Record) -> list[dict[str, Any]]:
    return canary.Book(record).looks


def test_a_good_version_passes_its_step(world: World, tmp_path: Path) -> None:
    said: list[str] = []
    record = judged(world, begun(world, tmp_path, settings()), said.append)
    assert record.stop is None
    assert (record.canary["step"], record.canary["end"]) == (1, "")
    assert looks(record)[-1]["decision"] == "promote"
    assert looks(record)[-1]["action"] == "pass"
    assert world.at - 1000.0 >= 60
    assert "PROMOTE" in said[-1]
    assert len(said) == len(looks(record)) + 1  # one line a look, and one before them
    assert json.loads(Path(record.path).read_text(encoding="utf-8"))["canary"]["step"] == 1


def test_a_version_that_is_worse_goes_back_and_what_goes_back_is_the_canary(world: World, tmp_path: Path) -> None:
    world.errors["canary"] = 0.05
    wanted = settings(rollout_on_failure="freeze")
    record = judged(world, begun(world, tmp_path, wanted))
    assert record.stop is not None
    assert record.stop.code == "verdict"
    assert "ROLL BACK" in record.stop.message
    assert world.at - 1000.0 < 170
    ending.decide_back(wanted, record)
    assert record.back_batches == [["web1"]]


def test_one_that_fails_outright_is_seen_between_two_polls(world: World, tmp_path: Path) -> None:
    world.errors["canary"] = 1.0
    record = judged(world, begun(world, tmp_path, settings()))
    assert record.stop is not None
    assert "circuit breaker" in record.stop.message
    assert world.at - 1000.0 <= 2.5


def test_the_same_verdict_from_the_stored_polls_whenever_the_run_dies(world: World, tmp_path: Path) -> None:
    world.errors["canary"] = 0.012
    whole = judged(world, begun(world, tmp_path / "whole", settings()))
    assert whole.stop is not None
    ended = world.at

    class Killed(Exception):
        pass

    def die() -> None:
        raise Killed

    for share in (0.03, 0.21, 0.5, 0.77, 0.97):
        world.at, world.kept = 1000.0, {}
        world.then = [(1000.0 + share * (ended - 1000.0), die)]
        first = begun(world, tmp_path / f"killed{share}", settings())
        with pytest.raises(Killed):
            judged(world, first)
        before = Unended("r1", "2.0", "1.0", **_kept(world.kept))
        again = begun(world, tmp_path / f"again{share}", settings(), before=before)
        record = judged(world, again)
        assert record.stop is not None
        assert record.stop.message == whole.stop.message
        assert world.at == pytest.approx(ended, abs=10.1)
        assert record.members["web1"].release_before == "1.0"


def _kept(kept: Mapping[str, Any]) -> dict[str, Any]:
    names = sorted(kept)
    return {
        "state": kept["state"],
        "cursor": kept["cursor"],
        "polls": [kept[name] for name in names if name.startswith("poll ")],
        "looks": [kept[name] for name in names if name.startswith("look ")],
    }


@pytest.mark.parametrize(
    ("silence", "missing"),
    [
        (lambda world: world.traffic.update(canary=0.0), "the canary has had 0 requests"),
        (lambda world: world.traffic.update(baseline=0.0), "the baseline has had 0 requests"),
        (lambda world: setattr(world, "silent", "lb2 cannot be reached"), "lb2 cannot be reached"),
    ],
    ids=["no traffic", "no baseline", "a balancer is silent"],
)
@pytest.mark.parametrize("policy", ["promote", "roll_back"])
def test_what_was_not_seen_is_never_promoted(
    world: World, tmp_path: Path, silence: Callable[[World], None], missing: str, policy: str
) -> None:
    silence(world)
    wanted = settings(rollout_canary_on_inconclusive=policy, rollout_canary_max_duration=120)
    record = judged(world, begun(world, tmp_path, wanted))
    assert record.stop is not None
    assert missing in record.stop.message
    assert record.canary["step"] == 0


def test_nor_when_it_falls_silent_after_it_did_well(world: World, tmp_path: Path) -> None:
    world.then = [(1050.0, lambda: setattr(world, "silent", "lb2 cannot be reached"))]
    wanted = settings(rollout_canary_on_inconclusive="promote", rollout_canary_max_duration=200)
    record = judged(world, begun(world, tmp_path, wanted))
    assert record.stop is not None
    assert record.canary["step"] == 0


def test_somebody_who_is_asked_has_a_deadline(world: World, tmp_path: Path) -> None:
    wanted = settings(rollout_canary_steps=[{"members": 1, "ask": True}], rollout_canary_ask_timeout=300)
    said: list[str] = []
    record = judged(world, begun(world, tmp_path, wanted), said.append)
    assert record.stop is not None
    assert "nobody answered in 300 s" in record.stop.message
    assert any("waits for the playbook promote or rollback until" in line for line in said)


@pytest.mark.parametrize(("order", "step"), [("promote", 1), ("rollback", 0)])
def test_an_operator_s_word_from_outside_is_heard_at_once(world: World, tmp_path: Path, order: str, step: int) -> None:
    def ask() -> None:
        world.order = {"order": order, "by": "pat", "at": world.at}

    world.then = [(1033.0, ask)]
    record = judged(world, begun(world, tmp_path, settings(rollout_canary_min_duration=300)))
    assert record.canary["step"] == step
    assert (record.stop is None) is (order == "promote")
    assert "pat" in (record.stop.message if record.stop else record.notes[-1])
    assert world.at - 1033.0 <= 4.0
    assert world.order is None or order == "rollback"


def test_stop_ends_it_and_leaves_the_canary_as_it_is(world: World, tmp_path: Path) -> None:
    world.then = [(1033.0, lambda: setattr(world, "stop", "pat"))]
    wanted = settings()
    record = judged(world, begun(world, tmp_path, wanted))
    assert record.stop is not None
    assert record.stop.code == "stopped"
    ending.decide_back(wanted, record)
    assert record.back_batches == []
    assert ending.outcome(record) == "frozen"


def test_the_members_own_past_sets_the_margin_and_is_kept_once_for_whoever_goes_on(
    world: World, tmp_path: Path
) -> None:
    """The canary's host was twice as bad before as the others: twice as many errors are no news."""
    past = [
        {
            "at": -3600.0 + 600.0 * number,
            "members": [
                {"name": host, "arm": "canary" if host == "web1" else "baseline", "requests": 60000, "errors": errors}
                for host, errors in zip(MEMBERS, (1200, 600, 600, 600), strict=True)
            ],
        }
        for number in range(6)
    ]
    world.errors.update(canary=0.02, baseline=0.01)
    without = judged(world, begun(world, tmp_path / "without", settings()))
    assert without.stop is not None
    world.at = 1000.0
    wanted = settings(rollout_canary_on_inconclusive="promote", rollout_canary_max_duration=300)
    phases = begun(world, tmp_path / "with", wanted)
    stored = {"polls": [], "looks": [], "cursor": None, "history": past}
    phases.record.canary["stored"] = stored
    canary.take_up(phases.record)
    record = judged(world, phases)
    assert record.stop is None
    assert world.at - 1000.0 >= 300  # it was not promoted early either
    kept = [call for _host, call in world.calls if "history" in call.params.get("keep", {})]
    assert len(kept) == 1
    assert kept[0].params["keep"]["history"] == past
    again = begun(world, tmp_path / "again", settings(), before=Unended("r1", "2.0", "1.0", history=past))
    assert canary.Book(again.record).history == past


def test_a_job_may_end_with_the_canary_in_service(world: World, tmp_path: Path) -> None:
    record = judged(world, begun(world, tmp_path, settings(rollout_canary_end="hold")))
    assert record.stop is None
    assert ending.outcome(record) == "held"
    phases = Phases(settings(), world, record, Batch(("web2",), back=False), False)  # type: ignore[arg-type]
    assert "the canary holds" in phases.drain().message
    assert record.members["web2"].state == "untouched"


def test_a_share_is_set_before_its_step_and_taken_back_after_it(world: World, tmp_path: Path) -> None:
    wanted = settings(rollout_canary_steps=[{"share": 5}, {"share": 20}])
    phases = begun(world, tmp_path, wanted)
    phases.record.canary["shares"] = [{"lb1": 16}, {"lb1": 75}, None]
    world.errors.update(canary=0.02, baseline=0.02)
    judged(world, phases)
    weights = [
        call.params["settings"]["web1"]["weight"] for _host, call in world.calls if call.operation == "pool_put_back"
    ]
    assert weights[:2] == [16, 75]
    assert weights[-1] == 100
    assert phases.record.canary["step"] == 2


def test_each_step_has_its_time(world: World, tmp_path: Path) -> None:
    """What took its whole time in one step, and was let through, is not over at the first look of the next."""
    world.errors.update(canary=0.0, baseline=0.0)
    wanted = settings(
        rollout_canary_steps=[{"members": 1}, {"members": 2}],
        rollout_canary_on_inconclusive="promote",
        rollout_canary_max_duration=100,
    )
    phases = begun(world, tmp_path, wanted, new=2)
    phases.record.canary["judged_before"] = [0, 0]
    phases.record.canary["shares"] = [None] * 3
    record = judged(world, phases)
    assert record.canary["step"] == 2
    assert world.at - 1000.0 >= 200


def test_check_mode_says_what_would_be_judged(world: World, tmp_path: Path) -> None:
    phases = begun(world, tmp_path, settings(rollout_canary_steps=[{"members": 1}, {"members": 2}]))
    phases.check = True
    said: list[str] = []
    judged(world, phases, said.append)
    assert said == ["would judge 1 of 4 members here"]
    assert world.calls == []


def test_ledgers_keep_what_a_canary_goes_on_from(tmp_path: Path) -> None:
    ledger = Ledger("shop", str(tmp_path))
    with ledger.change() as tables:
        assert tables.kept("r1") == {}
        tables.keep("r1", {"poll 000001": {"at": 1.0}, "order": {"order": "promote"}}, 1.0)
        tables.keep("r1", {"poll 000002": {"at": 2.0}, "order": None}, 2.0)
        for number in range(2, 6):
            tables.keep(f"r{number}", {"state": {}}, float(number))
    with ledger.look() as found:
        assert found is not None
        assert found.kept("r1") == {}  # a few of the latest canaries are enough
        assert found.kept("r5") == {"state": {}}
