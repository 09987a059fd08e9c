# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One thing goes wrong at a step of a rollout under load: nothing is lost, the floor holds, the rerun finishes.

`make faults` takes the steps from a run of its own and writes docs/faults.md; ZERODROP_FAULTS says how many cases of
the whole list it runs, spread over it. make test has two.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

import lab
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness import Outcome, read_log

from . import fault_table
from .conftest import PATIENT
from .faults import FAULTS, Fault, Recorder, Step, steps
from .fleets import IDLE_A_RELOAD, nginx_description, reloads_in
from .rig import FIRST, Load, Rig, Run, Watch, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.slow]

COUNT = os.environ.get("ZERODROP_FAULTS", "")  # a number, or "all"
SEED = 20261124
ENDS = 150.0  # seconds after which a run that something went wrong with has ended
MENDED = 60.0
HOSTS = 4
BYSTANDER = {"web1": "web4", "web3": "web1"}  # in another batch than this one


@dataclass(frozen=True)
class Kind:
    description: lab.Description
    settings: dict[str, Any]


KINDS = {
    "haproxy": Kind(
        lab.Description(prefix=f"f{os.getpid()}-h", members=HOSTS, balancers=2, sticky="cookie", pool_lines=PATIENT),
        {"rollout_look_requests": 3},
    ),
    "nginx": Kind(
        nginx_description("1.22", prefix=f"f{os.getpid()}-n", members=HOSTS),
        {"rollout_look_timeout": 1.0, "rollout_nginx_mode": "reload"},
    ),
}
SHARE = [
    ("haproxy", "balancer reloaded", Step("web1", "upgraded", True, 0.1)),
    ("haproxy", "SSH of the member gone", Step("web3", "untouched", True, 0.1)),
]


def recorded(kind: str) -> list[Step]:
    """The steps of a run of this kind, as the first test of make faults has seen them."""
    try:
        data = json.loads((fault_table.RESULTS / f"steps-{kind}.json").read_text(encoding="utf-8"))
    except OSError:
        return []
    return [Step(**each) for each in data]


def every_case() -> list[tuple[str, str, Step | None]]:
    found: list[tuple[str, str, Step | None]] = []
    for kind in KINDS:
        at = recorded(kind)
        for fault in FAULTS:
            if kind in fault.kinds:
                found += [(kind, fault.name, step) for step in ([None] if fault.release and at else at)]
    return found


def chosen() -> list[Any]:
    """The fixed share, or so many of all cases: each fault once before any comes a second time."""
    cases: list[tuple[str, str, Step | None]] = list(SHARE)
    if COUNT:
        cases = every_case()
        random.Random(SEED).shuffle(cases)
        rounds: dict[str, int] = {}
        order = []
        for case in cases:
            rounds[case[1]] = rounds.get(case[1], 0) + 1
            order.append((rounds[case[1]], case))
        order.sort(key=lambda each: each[0])
        cases = [case for _round, case in order][: None if COUNT == "all" else int(COUNT)]
        cases.sort(key=lambda case: list(KINDS).index(case[0]))  # one lab after the other
    return [pytest.param(*case, id=f"{case[0]}, {case[1]}, {case[2] or 'from the start'}") for case in cases]


@pytest.fixture(scope="module")
def labs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], lab.Lab]]:
    """One lab at a time."""
    found: list[tuple[str, Any, lab.Lab]] = []

    def end() -> None:
        while found:
            found.pop()[1].__exit__(None, None, None)

    def of(kind: str) -> lab.Lab:
        if not found or found[0][0] != kind:
            end()
            running = lab.running(KINDS[kind].description, tmp_path_factory.mktemp("lab") / "faults")
            found.append((kind, running, running.__enter__()))
        return found[0][2]

    yield of
    end()


def settings_of(rig: Rig, kind: str, **switches: Any) -> dict[str, Any]:
    return {
        **rig.archive("2.0", **{"start_delay": 0.5, **switches}),
        "rollout_health_version_key": "version",
        "rollout_batches": [2],
        "rollout_health_timeout": 6,
        "rollout_lease_seconds": 8,
        "rollout_floor_wait": 5,
        "rollout_floor": "50%",
        **KINDS[kind].settings,
    }


@pytest.mark.skipif(not COUNT, reason="make faults runs it")
@pytest.mark.parametrize("kind", list(KINDS))
def test_steps(labs: Callable[[str], lab.Lab], tmp_path: Path, kind: str) -> None:
    """A run without any fault, whose steps the others take; only where none are known."""
    if recorded(kind):
        return
    rig = Rig(labs(kind), tmp_path)
    rig.reset()
    with rig.load(rate=100, slow=1.0) as load, Recorder(rig.folder) as recorder:
        run = rig.rollout(settings_of(rig, kind))
    assert run.rc == 0, str(run)
    assert not load.total("failed"), load.problems()
    found = steps(recorder.seen, list(BYSTANDER), recorder.ended)
    assert len(found) >= 12
    fault_table.RESULTS.mkdir(parents=True, exist_ok=True)
    path = fault_table.RESULTS / f"steps-{kind}.json"
    path.write_text(json.dumps([asdict(each) for each in found]), encoding="utf-8")


def failures(load: Load, began: float, struck: float | None, until: float) -> tuple[int, int]:
    """How many requests failed, and how many more at the time of the fault, which may have cut them."""
    failed = cut = 0
    for log in load.logs:
        for record in read_log(str(log)):
            if record.outcome in (Outcome.OK, Outcome.LATE, Outcome.CLOSED_IDLE):
                continue
            at = began + record.ended
            if struck is not None and struck - 1.0 <= at <= until:
                cut += 1
            else:
                failed += 1
    return failed, cut


def whole(rig: Rig) -> bool:
    try:
        return rig.in_service() == set(rig.hosts)
    except OSError:
        return False  # what cannot be asked does not serve


def least_but_for(watch: Watch, gone: set[str]) -> int:
    """The smallest number of members in service on a balancer, where the fault's own are not missed."""
    return min(len(serving | gone) for _at, _name, serving in watch.samples)


def rerun(rig: Rig, settings: dict[str, Any]) -> Run:
    """The same playbook finishes; after that there is nothing to do."""
    done = rig.rollout(settings, timeout=ENDS)
    assert done.rc == 0, str(done)
    assert rig.current() == rig.all_on("2.0")
    wait_for(lambda: whole(rig), 10)
    again = rig.rollout(settings, timeout=ENDS)
    assert again.rc == 0, str(again)
    assert set(again.changed.values()) == {0}, str(again)
    return done


@pytest.mark.parametrize(("kind", "name", "step"), chosen())
def test_one_thing_goes_wrong(
    labs: Callable[[str], lab.Lab], tmp_path: Path, kind: str, name: str, step: Step | None, request: Any
) -> None:
    fault = next(each for each in FAULTS if each.name == name)
    rig = Rig(labs(kind), tmp_path)
    rig.reset()
    member = step.member if step else "web1"
    other = BYSTANDER[member]
    nginx = [host.name for host in rig.lab.balancers if kind == "nginx"]
    before = sum(reloads_in(rig, each) for each in nginx)
    good, bad = settings_of(rig, kind), settings_of(rig, kind, **(fault.release or {}))
    began = time.monotonic()
    back: float | None = None
    mended = False
    fault.prepare(rig, member, other)
    try:
        with rig.watch() as watch, rig.load(rate=100, slow=1.0) as load:
            if step is None:
                struck = [time.monotonic()]
                run = rig.rollout(bad, timeout=ENDS)
            else:
                run, struck = run_with(rig, fault, step, good, other)
            assert run.report["sentence"]
            assert_named(run, fault, rig, member)
            assert fault.theirs(rig, member, other), f"what others did was undone\n{run}"
            if whole(rig):
                back = time.monotonic() - struck[0]
            until = time.monotonic() + 1.0
            if step is not None:
                fault.mend(rig, member, other)
            mended = True
            wait_for(lambda: whole(rig) or bool(run.report["stop"]), MENDED)
            if step is None:
                assert run.rc != 0, str(run)
                assert rig.current() == rig.all_on(FIRST)
                assert whole(rig)
            # A bad release is put right under the same version: an archive of its own.
            done = rerun(rig, good) if step is not None else None
        reloads = sum(reloads_in(rig, each) for each in nginx) - before
    finally:
        if step is not None and not mended:
            fault.mend(rig, member, other)
        rig.heal()
        fault.clear(rig, member, other)
    failed, cut = failures(load, began, struck[0] if fault.cuts else None, until)
    least = least_but_for(watch, {{"member": member, "other": other}[fault.takes]} if fault.takes else set())
    fault_table.write(
        "".join(each if each.isalnum() else "-" for each in request.node.callspec.id),
        fault_table.Row(
            balancers="2 haproxy" if kind == "haproxy" else kind,
            fault=fault.name,
            step=str(step or "from the start"),
            requests=load.total("requests_total"),
            failed=failed,
            cut=cut,
            least=least,
            whole=None if back is None else round(back, 1),
            came_to="succeeded" if run.rc == 0 else f"{run.report['outcome']}: {run.report['stop']['code']}",
            rerun=sum(len(batch) for batch in done.report["batches"]) if done else 0,
        ),
    )
    assert not failed, f"{failed} failed: {load.problems()}\n{run}"
    assert fault.cuts or load.total("closed_idle") <= IDLE_A_RELOAD * reloads
    assert load.posts is not None
    assert not load.posts.executed_twice
    assert least >= HOSTS // 2


def run_with(rig: Rig, fault: Fault, step: Step, settings: dict[str, Any], other: str) -> tuple[Run, list[float]]:
    """A run in which it goes wrong at this step."""
    at: list[float] = []

    def strike() -> None:
        time.sleep(step.after)
        at.append(time.monotonic())
        fault.strike(rig, step.member, other)

    with rig.when(rig.member_is(step.member, step.state, out=step.out), strike):
        run = rig.rollout(settings, timeout=ENDS)
    assert at, f"its moment did not come\n{run}"
    return run, at


def assert_named(run: Run, fault: Fault, rig: Rig, member: str) -> None:
    """A run that stops says on which host."""
    hosts = {"balancer": [host.name for host in rig.lab.balancers], "member": [member]}.get(fault.names, [])
    if run.rc != 0 and hosts:
        assert any(host in run.report["sentence"] for host in hosts), run.report["sentence"]
