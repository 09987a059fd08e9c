# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Somebody else reloads and restarts the balancers in mid-rollout.

ZERODROP_ROLLOUTS says how many rollouts, and with more than one also behind balancers that read a state file.
"""

from __future__ import annotations

import itertools
import os
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

import lab
from ansible_collections.zerodrop.rollout.plugins.module_utils._haproxy.config import OURS

from .conftest import PATIENT
from .rig import Rig, Watch

pytestmark = pytest.mark.lab

ROLLOUTS = int(os.environ.get("ZERODROP_ROLLOUTS", "1"))


# A state file is also in the conformance cases; whole rollouts with one take as long again.
STATE_FILE = [False] if ROLLOUTS == 1 else [False, True]


@pytest.fixture(scope="module", params=STATE_FILE, ids=lambda kept: "state file" if kept else "no state file")
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[lab.Lab]:
    description = lab.Description(
        prefix=f"i{os.getpid()}-r{int(request.param)}",
        members=4,
        balancers=2,
        sticky="cookie",
        state_file=request.param,
        pool_lines=PATIENT,
    )
    with lab.running(description, tmp_path_factory.mktemp("lab") / f"reloads{int(request.param)}") as up:
        yield up


@pytest.fixture
def reloaded(pair: lab.Lab, tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(pair, tmp_path)
    rig.reset()
    yield rig
    rig.heal()


@contextmanager
def reloads(rig: Rig, chance: random.Random) -> Iterator[list[float]]:
    """Reload every balancer once in each batch of one, some time after its member went out."""
    end = threading.Event()
    moments: list[float] = []

    def reload(balancer: lab.Host) -> None:
        rig.lab.exec(balancer, ["systemctl", "reload", "haproxy.service"])

    def run() -> None:
        for host in rig.hosts:
            out = rig.is_out(host)
            while not out():
                if end.wait(0.02):
                    return
            delay = chance.uniform(0, 2)
            if end.wait(delay):
                return
            with ThreadPoolExecutor(len(rig.lab.balancers)) as pool:
                list(pool.map(reload, rig.lab.balancers))
            moments.append(delay)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield moments
    finally:
        end.set()
        thread.join()


def comebacks(watch: Watch, balancer: str, member: str) -> int:
    """How often a balancer was seen to let a member in again after it was out."""
    seen = [member in serving for _at, name, serving in watch.samples if name == balancer]
    return sum(now and not before for before, now in itertools.pairwise(seen))


def configuration(rig: Rig) -> dict[str, str]:
    return {
        host.name: (rig.root(host) / "etc/haproxy/haproxy.cfg").read_text(encoding="utf-8")
        for host in rig.lab.balancers
    }


@pytest.mark.case(5)
@pytest.mark.parametrize("number", range(1, ROLLOUTS + 1))
def test_reloads_at_random_moments_of_every_batch(reloaded: Rig, number: int) -> None:
    seed = int(os.environ.get("ZERODROP_SEED") or time.time_ns() % 10**6)
    before = configuration(reloaded)
    with (
        reloaded.watch() as watch,
        reloaded.load(rate=160) as load,
        reloads(reloaded, random.Random(seed)) as moments,
    ):
        run = reloaded.rollout(
            reloaded.archive("2.0", start_delay=0.5),
            rollout_batches=[1],
            rollout_look_requests=5,
            rollout_look_seconds=0.5,
        )
        time.sleep(1.5)  # what a reload in the last moment would bring back
    print(f"seed {seed}, reloads {moments} s after members went out, {load.total('requests_total')} requests")
    load.assert_nothing_lost()
    assert run.rc == 0, f"seed {seed}: {run}"
    assert len(moments) >= len(reloaded.hosts) - 1, f"seed {seed}: {moments}"
    assert reloaded.current() == reloaded.all_on("2.0")
    for balancer in reloaded.lab.balancers:
        counts = {host: comebacks(watch, balancer.name, host) for host in reloaded.hosts}
        assert set(counts.values()) == {1}, f"seed {seed}, {balancer}: {counts}"
        named = [note for note in run.report["notes"] if f"{balancer.name} was reloaded or restarted" in note]
        assert named, f"seed {seed}: {run.report['notes']}"
    assert watch.least >= len(reloaded.hosts) - 1
    assert configuration(reloaded) == before


@pytest.mark.case(6)
def test_a_restart_with_a_member_out(reloaded: Rig) -> None:
    before = configuration(reloaded)
    held: list[str] = []

    def restart() -> None:
        held.extend(text for text in configuration(reloaded).values() if OURS in text)
        for balancer in reloaded.lab.balancers:
            reloaded.lab.exec(balancer, ["systemctl", "restart", "haproxy.service"])

    with (
        reloaded.watch() as watch,
        reloaded.when(lambda: reloaded.current()["web2"] == "2.0", restart) as restarted,
    ):
        run = reloaded.rollout(
            reloaded.archive("2.0", start_delay=2.0),
            rollout_batches=[1],
            rollout_look_requests=0,
            rollout_look_timeout=1,
        )
    assert restarted
    assert run.rc == 0, str(run)
    assert len(held) == (0 if reloaded.lab.description.state_file else len(reloaded.lab.balancers))
    for balancer in reloaded.lab.balancers:
        assert comebacks(watch, balancer.name, "web2") == 1
        assert [note for note in run.report["notes"] if f"{balancer.name} was reloaded or restarted" in note]
    assert configuration(reloaded) == before
