# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller ends at generated moments of a rolling upgrade under load, behind every kind of balancer.

It is killed with all its processes, its power fails and its packets vanish, or it is told to end. Nothing is lost, the
floor holds, what can be back is back in time, and the same playbook finishes. ZERODROP_KILLS says at how many moments
(make kills, which writes docs/kills.md from what was measured); make test has one.
"""

from __future__ import annotations

import os
import random
import re
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import lab

from . import kills
from .conftest import PATIENT
from .controllers import kill, ledger, rest
from .fleets import IDLE_A_RELOAD, nginx_description, prepare_links, reloads_in
from .rig import FIRST, Rig, Run, wait_for
from .test_lease import SLOW, left, stopped_in_a_drain

pytestmark = [pytest.mark.lab, pytest.mark.slow]

KILLS = int(os.environ.get("ZERODROP_KILLS") or 0)
ALL = pytest.mark.skipif(not KILLS, reason="make kills runs it")
SEED = int(os.environ.get("ZERODROP_KILLS_SEED", "20261124"))
STATE = Path(__file__).parents[2] / "docs" / "state.md"
SILENCE = 6.0  # the lease; the switch fires when it ends
BACK = SILENCE + 20.0  # the balancer's own checks, a reload, and a busy machine
TOLD = 10.0  # who cancels waits no longer
TERM, KILL, POWER = "SIGTERM", "SIGKILL", "power"


@dataclass(frozen=True)
class Kind:
    """A fleet, what it needs beside the seven lines, and how often its controller ends in each way."""

    description: lab.Description
    settings: Mapping[str, Any] = field(default_factory=dict)
    by_links: bool = False
    idle_a_reload: int = 0  # closed kept connections that each reload may cost
    cut: str = ""  # a balancer that the controller does not reach; it has no clients, as that setting demands
    times: Mapping[str, int] = field(default_factory=dict)


def _haproxy(name: str, balancers: int) -> lab.Description:
    return lab.Description(
        prefix=f"k{os.getpid()}-{name}", members=6, balancers=balancers, sticky="cookie", pool_lines=PATIENT
    )


_FEW = -(-KILLS // 4)
_NGINX = {"rollout_look_timeout": 1.0}  # which counts no requests by member
KINDS = {
    "haproxy": Kind(_haproxy("h1", 1), times={KILL: KILLS, TERM: KILLS, POWER: _FEW}),
    "nginx": Kind(
        nginx_description("1.22", prefix=f"k{os.getpid()}-n"),
        {**_NGINX, "rollout_nginx_mode": "reload"},
        idle_a_reload=IDLE_A_RELOAD,
        times={KILL: KILLS or 1, TERM: KILLS, POWER: _FEW},
    ),
    "nginx by links": Kind(
        nginx_description("1.22", prefix=f"k{os.getpid()}-l", nginx_links=True, upstream_keepalive=8),
        {**_NGINX, "rollout_nginx_mode": "links"},
        by_links=True,
        times={KILL: KILLS, TERM: KILLS},
    ),
    "3 haproxy": Kind(_haproxy("h3", 3), times={KILL: 2 * _FEW, TERM: _FEW, POWER: _FEW}),
    "3 haproxy, one cut off": Kind(
        _haproxy("h3", 3), {"rollout_dead_balancer": "skip"}, cut="lb3", times={KILL: _FEW, TERM: _FEW}
    ),
}


@dataclass(frozen=True)
class Moment:
    """So long after a member came into a state, by the run's own record."""

    member: str
    state: str
    after: float

    @property
    def out(self) -> bool:
        """Whether the member is out of service then."""
        return self.state != "finished" and not self.begins

    @property
    def begins(self) -> bool:
        """Whether no member was touched yet: the lease is being taken, and the release brought to the members."""
        return self.state == "planned"

    def __str__(self) -> str:
        return f"{self.member} {self.state} +{self.after:.2f} s"


# In whose phase: planned, being drained, being upgraded, in its gate or being put back, between batches.
STATES = ("untouched", "upgraded", "healthy", "finished", "upgraded", "planned")


def moments(count: int, seed: str) -> list[Moment]:
    """Every phase in turn, of any batch in which the run does not end before its moment comes."""
    chosen = random.Random(f"{SEED} {seed}")
    found = []
    for number in range(count):
        state = STATES[number % len(STATES)]
        last = 6 if state in ("untouched", "upgraded") else 4
        found.append(Moment(f"web{chosen.randint(1, last)}", state, round(chosen.uniform(0.0, 0.6), 2)))
    return found


CASES = [
    pytest.param(name, how, moment, id=f"{name}-{how}-{number}")
    for name, kind in KINDS.items()
    for how, count in kind.times.items()
    for number, moment in enumerate(moments(count, f"{name} {how}"), 1)
]


@pytest.fixture(scope="module")
def labs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Kind], lab.Lab]]:
    """One lab at a time: tests come in the order of the kinds."""
    found: list[tuple[lab.Description, Any, lab.Lab]] = []

    def end() -> None:
        while found:
            found.pop()[1].__exit__(None, None, None)

    def of(kind: Kind) -> lab.Lab:
        if not found or found[0][0] != kind.description:
            end()
            running = lab.running(kind.description, tmp_path_factory.mktemp("lab") / "kills")
            found.append((kind.description, running, running.__enter__()))
            if kind.by_links:
                prepare_links(found[0][2])
        return found[0][2]

    yield of
    end()


def settings_of(rig: Rig, kind: Kind) -> dict[str, Any]:
    return {
        **rig.archive("2.0", start_delay=0.8),
        "rollout_health_version_key": "version",
        "rollout_batches": [2],
        "rollout_look_requests": 5,
        "rollout_lease_seconds": SILENCE,
        **kind.settings,
    }


def end_of_power(rig: Rig) -> None:
    """Nobody hears that its connections are gone."""
    for host in [*rig.lab.balancers, *rig.lab.members]:
        rig.cut(host.name, port=22)
    kill(rig)


def run_until(
    rig: Rig, moment: Moment, end: Callable[[Rig], None], rc: int, settings: Mapping[str, Any]
) -> tuple[Run, float]:
    """A run that comes to its end at this moment, and when that was."""
    ended: list[float] = []

    def strike() -> None:
        time.sleep(moment.after)
        ended.append(time.monotonic())
        end(rig)

    look = rig.begun if moment.begins else rig.member_is(moment.member, moment.state, out=moment.out)
    with rig.when(look, strike) as struck:
        run = rig.rollout(settings)
    assert struck, str(run)
    assert run.rc == rc, str(run)
    return run, ended[0]


def answers(rig: Rig, host: str) -> bool:
    """Whether a member's service is healthy, asked without any balancer."""
    try:
        with urllib.request.urlopen(f"http://{rig.lab.host(host).address}:8080/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def finish(rig: Rig, settings: dict[str, Any]) -> Run:
    """By the same playbook; after that there is nothing to do."""
    run = rig.rollout(settings)
    assert run.rc == 0, str(run)
    assert rig.current() == rig.all_on("2.0")
    assert rig.in_service() == set(rig.hosts)
    again = rig.rollout(settings)
    assert again.rc == 0, str(again)
    assert set(again.changed.values()) == {0}, str(again)
    return run


@pytest.mark.parametrize(("name", "how", "moment"), CASES)
def test_the_controller_ends(
    labs: Callable[[Kind], lab.Lab], tmp_path: Path, name: str, how: str, moment: Moment, request: Any
) -> None:
    kind = KINDS[name]
    rig = Rig(labs(kind), tmp_path)
    rig.reset()
    settings = settings_of(rig, kind)
    nginx = [host.name for host in rig.lab.balancers if rig.lab.generation(host).name.startswith("nginx")]
    before = sum(reloads_in(rig, each) for each in nginx)
    everyone, out = set(rig.hosts), set[str]()
    try:
        if kind.cut:
            rig.cut(kind.cut, port=22)
        # Slow requests hold a drain up, so that there is time to end in it.
        slow = 3.0 if moment.state == "untouched" else 0.5
        with rig.watch() as watch, rig.load(slow=slow, without=[kind.cut]) as load:
            if how == TERM:
                group = moment.after < 0.3  # as a terminal and AWX do
                run, ended = run_until(
                    rig, moment, lambda _rig: rig.signal(signal.SIGTERM, group), -signal.SIGTERM, settings
                )
                wait_for(lambda: rig.in_service() == everyone, 30)
                took = time.monotonic() - ended
                assert took < TOLD, f"{took:.1f} s\n{run}"
            else:
                end = kill if how == KILL else end_of_power
                _run, ended = run_until(rig, moment, end, -signal.SIGKILL, settings)
                # What is in mid-upgrade stays out; all the others are back, some by the drain that saw its connection end.
                since, out = rest(rig, BACK)
                took = since - ended
                assert len(out) <= 2
            if how == POWER:
                rig.heal()
            if out:
                looked = rig.rollout(settings, playbook="recover", options=["--check"])
                assert everyone - rig.in_service() == out, str(looked)
            done = finish(rig, settings)
        reloads = sum(reloads_in(rig, each) for each in nginx) - before
    finally:
        rig.heal()
    kills.write(
        request.node.callspec.id,
        kills.Row(
            balancers=name,
            ended_by=how,
            moment=str(moment),
            requests=load.total("requests_total"),
            failed=load.total("failed"),
            closed_idle=load.total("closed_idle"),
            reloads=reloads if nginx else None,
            least=watch.least,
            back=round(took, 1),
            stayed_out=sorted(out),
            rerun=sum(len(batch) for batch in done.report["batches"]),
            seconds=round(done.seconds, 1),
        ),
    )
    load.assert_nothing_lost(closed_idle=kind.idle_a_reload * reloads)
    assert watch.least >= 3


# --- what happens beside it ---


@ALL
def test_the_commands_for_a_shell_on_an_nginx(labs: Callable[[Kind], lab.Lab], tmp_path: Path) -> None:
    """The last ones of docs/state.md, as they stand."""
    kind = KINDS["nginx"]
    rig = Rig(labs(kind), tmp_path)
    rig.reset()
    settings = {**settings_of(rig, kind), "rollout_switch_after": 0}
    run_until(rig, Moment("web1", "upgraded", 0.0), kill, -signal.SIGKILL, settings)
    assert set(rig.hosts) - rig.in_service() == {"web1", "web2"}
    wait_for(lambda: answers(rig, "web1"))
    commands = re.findall(r"^```sh\n(.*?)^```$", STATE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)[-1]
    address = rig.lab.host("web1").address.replace(".", r"\.")
    rig.lab.exec("lb1", ["bash", "-e", "-c", commands.replace(r"10\.0\.0\.1", address)])
    assert set(rig.hosts) - rig.in_service() == {"web2"}
    finish(rig, settings)


@ALL
@pytest.mark.parametrize("name", ["nginx", "nginx by links"])
def test_behind_nginx_who_stood_still_for_too_long_changes_nothing_more(
    labs: Callable[[Kind], lab.Lab], tmp_path: Path, name: str
) -> None:
    """As behind HAProxy: what it does next is refused by the balancer, and the next run takes it up."""
    kind = KINDS[name]
    rig = Rig(labs(kind), tmp_path)
    rig.reset()
    with rig.load(rate=60, mix=SLOW) as load:
        with stopped_in_a_drain(rig, "a", **kind.settings) as (_hanging, late):
            wait_for(lambda: left(rig) <= 0, 30)
            before, known = rig.snapshot(), ledger(rig)["held"]
        assert late[0].rc != 0, str(late[0])
        assert late[0].report["stop"]["code"] == "lease_lost", late[0].report["sentence"]
        assert (rig.snapshot(), ledger(rig)["held"]) == (before, known)
        finish(rig, settings_of(rig, kind))
    assert not load.total("failed"), load.problems()


def playbook_alone(rig: Rig) -> None:
    """As ansible-runner ends a job: SIGKILL to the playbook's group, in which its tasks are not."""
    rig.signal(signal.SIGKILL, group=True)


@ALL
def test_the_playbook_alone_is_killed(rig: Rig) -> None:
    """What is left of it puts members back by itself, long before the switch would."""
    settings = {**settings_of(rig, KINDS["haproxy"]), "rollout_lease_seconds": 120}
    with rig.watch() as watch, rig.load(slow=0.5) as load:
        _run, died = run_until(rig, Moment("web1", "upgraded", 0.1), playbook_alone, -signal.SIGKILL, settings)
        wait_for(lambda: rig.in_service() == set(rig.hosts), 20)
        assert time.monotonic() - died < 20
        run = rig.rollout(settings)  # the lease was given back
    load.assert_nothing_lost()
    assert run.rc == 0, str(run)
    assert watch.least >= 4
    assert rig.current() == rig.all_on("2.0")


@ALL
def test_what_a_dead_run_left_is_shown_and_put_right(rig: Rig) -> None:
    """With no switch everything is left to recover, which shows first and touches nothing else."""
    settings = {**settings_of(rig, KINDS["haproxy"]), "rollout_switch_after": 0}
    with rig.load(slow=0.5) as load:
        run_until(rig, Moment("web1", "upgraded", 0.0), kill, -signal.SIGKILL, settings)
        out = set(rig.hosts) - rig.in_service()
        assert out == {"web1", "web2"}
        wait_for(lambda: all(rig.current()[host] == "2.0" and answers(rig, host) for host in out))
        looked = rig.rollout(settings, playbook="recover", options=["--check"])
        assert looked.rc == 0, str(looked)
        assert "web1 is healthy on 2.0: it is put back" in looked.text
        assert set(rig.hosts) - rig.in_service() == out
        run = rig.rollout(settings, playbook="recover")
    load.assert_nothing_lost()
    assert run.rc == 0, str(run)
    assert rig.in_service() == set(rig.hosts)
    assert run.report["strategy"] == "recover"
    assert {host: rig.current()[host] for host in rig.hosts} == {
        host: "2.0" if host in out else FIRST for host in rig.hosts
    }
    again = rig.rollout(settings, playbook="recover")
    assert again.rc == 0, str(again)
    assert set(again.changed.values()) == {0}, str(again)
