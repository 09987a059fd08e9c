# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rollouts in a row, all strategies mixed: nothing fails, and nothing grows. ``make soak`` runs it."""

from __future__ import annotations

import itertools
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import lab

from . import soak
from .conftest import PATIENT
from .controllers import processes
from .rig import Rig, Run, wait_for
from .slots import Slots
from .test_canary import ARCHIVE, SHORT

ROLLOUTS = int(os.environ.get("ZERODROP_SOAK") or 0)
RATE = float(os.environ.get("ZERODROP_SOAK_RATE") or 500)

pytestmark = [
    pytest.mark.lab,
    pytest.mark.slow,
    pytest.mark.timeout(300 + 60 * ROLLOUTS),
    pytest.mark.skipif(not ROLLOUTS, reason="make soak runs it"),
]

_PAGE = os.sysconf("SC_PAGE_SIZE")
_FAST = {"rollout_health_version_key": "version", "rollout_look_requests": 1, "rollout_lease_seconds": 10}


@pytest.fixture(scope="module")
def six_in_slots(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lab.Lab]:
    description = lab.Description(prefix=f"i{os.getpid()}-s", members=6, slots=True, pool_lines=PATIENT)
    with lab.running(description, tmp_path_factory.mktemp("lab") / "soak") as up:
        yield up


class Soak:
    """The fleet in two slots, and the strategies that take turns on it."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.slots = Slots(rig)
        self.numbers = itertools.count(2)
        self.release = rig.archive("1.1")

    def next_release(self) -> None:
        shutil.rmtree(self.rig.lab.artifacts, ignore_errors=True)
        self.release = self.rig.archive(f"{next(self.numbers)}.0")

    def in_live_slot(self, playbook: str, **more: object) -> Run:
        (live,) = self.slots.live()
        where = {"rollout_hosts": live, "rollout_pool": f"shop_{live}", "rollout_floor": 1}
        return self.rig.rollout(where, _FAST, self.release, more, playbook=playbook)

    def flip(self) -> Run:
        return self.slots.run("blue_green", self.release, _FAST, rollout_bake=0)

    def batches(self) -> Run:
        return self.in_live_slot("rolling", rollout_batches=[1, 2])

    def window(self) -> Run:
        return self.in_live_slot("rolling", rollout_window=2)

    def canary(self) -> Run:
        return self.in_live_slot("canary", **SHORT)

    def rollback(self) -> Run:
        return self.in_live_slot("rollback", **dict.fromkeys(ARCHIVE))

    @property
    def turn(self) -> list[tuple[str, Callable[[], Run]]]:
        names = ("flip", "batches", "window", "canary", "rollback")
        return [(name, getattr(self, name)) for name in names]


def test_nothing_fails_and_nothing_grows(six_in_slots: lab.Lab, tmp_path: Path) -> None:
    rig = Rig(six_in_slots, tmp_path)
    rig.reset()
    fleet = Soak(rig)
    name = time.strftime("%Y%m%dT%H%M%S")
    rows: list[soak.After] = []
    with rig.load(rate=RATE) as load:
        for strategy, roll in itertools.islice(itertools.cycle(fleet.turn), ROLLOUTS):
            if strategy != "rollback":
                fleet.next_release()
            run = roll()
            assert run.rc == 0, f"{strategy}: {run}"
            wait_for(lambda: not processes(rig), 30)
            rows.append(after(rig, name, strategy, run))
            shutil.rmtree(run.folder)
    soak.write(name, soak.Turn(load.total("requests_total"), load.total("failed"), load.total("closed_idle"), rows))
    load.assert_nothing_lost()
    assert not soak.growth(rows), soak.growth(rows)


def after(rig: Rig, turn: str, strategy: str, run: Run) -> soak.After:
    """What there is on all hosts, as soon as nothing of the run is there any more."""
    hosts = rig.lab.hosts
    roots = [rig.root(host) for host in hosts]
    found = [each for root in roots for each in _processes(root)]
    (balancer,) = rig.lab.balancers
    return soak.After(
        turn=turn,
        strategy=strategy,
        seconds=round(run.seconds, 2),
        outcome=run.report["outcome"],
        memory_mb=round(sum(memory for memory, _files, _command in found) / 2**20, 1),
        open_files=sum(files for _memory, files, _command in found),
        processes=len(found),
        workers=sum(b"haproxy" in command for _memory, _files, command in _processes(rig.root(balancer))),
        connections=sum(_established(root) for root in roots),
        left_files=sum(len(rig.leftovers(host)) for host in hosts),
        timers=len(list((rig.root(balancer) / "run/systemd/transient").glob("zerodrop-*"))),
        ledger_kb=round(
            sum(path.stat().st_size for path in (rig.root(balancer) / "var/lib/zerodrop").rglob("*")) / 1024, 1
        ),
    )


def _processes(root: Path) -> list[tuple[int, int, bytes]]:
    """Memory in bytes, open files and command of each process of a host."""
    found = []
    for folder in (root / "proc").glob("[0-9]*"):
        with suppress(OSError):
            memory = int((folder / "statm").read_text().split()[1]) * _PAGE
            found.append((memory, len(list((folder / "fd").iterdir())), (folder / "cmdline").read_bytes()))
    return found


def _established(root: Path) -> int:
    lines = (root / "proc/1/net/tcp").read_text().splitlines()[1:]
    return sum(line.split()[3] == "01" for line in lines)
