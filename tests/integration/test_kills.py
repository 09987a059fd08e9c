# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller dies at generated moments of a rolling upgrade under load: all of it, or the playbook's process alone.

Nothing is lost, the floor holds, what can be back is back within the switch's time, and the same playbook finishes.
ZERODROP_KILLS says at how many moments (make kills); make test leaves them out.
"""

from __future__ import annotations

import os
import random
import signal
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .rig import FIRST, Rig, Run, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.slow]

KILLS = int(os.environ.get("ZERODROP_KILLS", "0"))
ALL = pytest.mark.skipif(not os.environ.get("ZERODROP_KILLS"), reason="make kills runs it")
SEED = int(os.environ.get("ZERODROP_KILLS_SEED", "20261124"))
SILENCE = 6.0
STATES = ("untouched", "upgraded", "healthy")  # while a member is out of service


def moments(count: int) -> list[tuple[str, str, float]]:
    """Where the controller dies: in whose phase, and how long after that began; every phase in turn."""
    chosen = random.Random(SEED)
    return [
        (f"web{chosen.randint(1, 6)}", STATES[number % len(STATES)], round(chosen.uniform(0.0, 0.6), 3))
        for number in range(count)
    ]


def by_archive(rig: Rig) -> dict[str, Any]:
    return {
        **rig.archive("2.0", start_delay=0.8),
        "rollout_health_version_key": "version",
        "rollout_batches": [2],
        "rollout_look_requests": 5,
        "rollout_lease_seconds": SILENCE,
    }


def everything(rig: Rig) -> None:
    """The power of the controller fails: no process of the run is left, whatever session it is in."""
    token = f"ZERODROP_TEST_RUN={rig.folder}".encode()
    for attempt in range(3):  # what was forked meanwhile
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if token in (folder / "environ").read_bytes().split(b"\0"):
                    os.kill(int(folder.name), signal.SIGKILL)
            except (OSError, ProcessLookupError):
                continue
        time.sleep(0.02 * attempt)


def playbook_alone(rig: Rig) -> None:
    """As ansible-runner ends a job: SIGKILL to the playbook's group, in which its tasks are not."""
    rig.signal(signal.SIGKILL, group=True)


def run_until(rig: Rig, when: Callable[[], bool], after: float, kill: Callable[[Rig], None], settings: Any) -> Run:
    def strike() -> None:
        time.sleep(after)
        kill(rig)

    with rig.when(when, strike) as struck:
        run = rig.rollout(settings, environment={"ZERODROP_TEST_RUN": str(rig.folder)})
    assert struck, str(run)
    assert run.rc == -signal.SIGKILL, str(run)
    return run


def assert_finished_by_the_same_playbook(rig: Rig, settings: dict[str, Any]) -> None:
    run = rig.rollout(settings)
    assert run.rc == 0, str(run)
    assert rig.current() == rig.all_on("2.0")
    assert rig.in_service() == set(rig.hosts)
    again = rig.rollout(settings)
    assert again.rc == 0, str(again)
    assert set(again.changed.values()) == {0}, str(again)


def halves(rig: Rig) -> set[str]:
    """Members that the ledger does not let a balancer put back: they were in mid-upgrade."""
    query = "import sqlite3; print(*(h for (h,) in sqlite3.connect('/var/lib/zerodrop/shop/ledger.db').execute("
    query += "'SELECT host FROM members WHERE safe = 0')))"
    return set(rig.lab.exec(rig.lab.balancers[0], ["python3", "-c", query]).stdout.split())


def answers(rig: Rig, host: str) -> bool:
    """Whether a member's service is healthy, asked without any balancer."""
    try:
        with urllib.request.urlopen(f"http://{rig.lab.host(host).address}:8080/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.mark.parametrize(("member", "state", "after"), moments(KILLS))
def test_the_controller_dies(
    rig: Rig, member: str, state: str, after: float, record_property: Callable[[str, object], None]
) -> None:
    settings = by_archive(rig)
    # Slow requests hold a drain up, so that there is time to die in it.
    with rig.watch() as watch, rig.load(slow=3.0 if state == "untouched" else 0.5) as load:
        run_until(rig, rig.member_is(member, state), after, everything, settings)
        died = time.monotonic()
        # What is in mid-upgrade stays out; all the others are back, some by the drain that saw its connection end.
        wait_for(lambda: rig.in_service() >= set(rig.hosts) - halves(rig), SILENCE + 60)
        record_property("seconds until back", round(time.monotonic() - died, 2))
        assert len(halves(rig)) <= 2
        out = set(rig.hosts) - rig.in_service()
        if out:
            looked = rig.rollout(settings, playbook="recover", options=["--check"])
            assert set(rig.hosts) - rig.in_service() == out, str(looked)
        assert_finished_by_the_same_playbook(rig, settings)
    load.assert_nothing_lost()
    assert watch.least >= 3


@ALL
def test_the_playbook_alone_is_killed(rig: Rig) -> None:
    """What is left of it puts members back by itself, long before the switch would."""
    settings = {**by_archive(rig), "rollout_lease_seconds": 120}
    with rig.watch() as watch, rig.load(slow=0.5) as load:
        run_until(rig, rig.member_is("web1", "upgraded"), 0.1, playbook_alone, settings)
        died = time.monotonic()
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
    settings = {**by_archive(rig), "rollout_switch_after": 0}
    with rig.load(slow=0.5) as load:
        run_until(rig, rig.member_is("web1", "upgraded"), 0.0, everything, settings)
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
