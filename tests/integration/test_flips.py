# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a flip costs clients, on every kind of fleet: ``make flips`` runs these, and leaves what they measured."""

from __future__ import annotations

import itertools
import os
import statistics
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import lab

from .fleets import IDLE_A_RELOAD, reloads_in
from .rig import Rig, wait_for
from .slots import OTHER, Slots, agreed, description, keep, windows

FLIPS = int(os.environ.get("ZERODROP_FLIPS") or 0)
RATE = float(os.environ.get("ZERODROP_FLIPS_RATE", "500"))
TIMES = {"haproxy": 0.005, "nginx": 0.005, "nginx by reload": 0.15}
FLEETS = [(kind, balancers) for kind in TIMES for balancers in (1, 4)]
DOWNLOAD = 60  # seconds

pytestmark = [
    pytest.mark.lab,
    pytest.mark.slow,
    pytest.mark.skipif(not FLIPS, reason="make flips runs these"),
]


@pytest.fixture(scope="module")
def labs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str, int], lab.Lab]]:
    """One lab at a time: tests come in the order of the fleets."""
    found: list[tuple[tuple[str, int], Any, lab.Lab]] = []

    def end() -> None:
        while found:
            found.pop()[1].__exit__(None, None, None)

    def of(kind: str, balancers: int) -> lab.Lab:
        if not found or found[0][0] != (kind, balancers):
            end()
            running = lab.running(description(kind.partition(" ")[0], balancers), tmp_path_factory.mktemp("lab") / "b")
            found.append(((kind, balancers), running, running.__enter__()))
        return found[0][2]

    yield of
    end()


@pytest.fixture
def slots(labs: Callable[[str, int], lab.Lab], fleet: tuple[str, int], tmp_path: Path) -> Iterator[Slots]:
    rig = Rig(labs(*fleet), tmp_path)
    found = Slots(rig)
    found.reset()
    if fleet[0] == "nginx by reload":
        found.prepare("reload")
        found.reset()
    yield found
    rig.heal()


def _id(fleet: tuple[str, int]) -> str:
    return f"{fleet[0]}, {fleet[1]}"


every_fleet = pytest.mark.parametrize("fleet", FLEETS, ids=_id)


@every_fleet
def test_flips_in_a_row(slots: Slots, fleet: tuple[str, int]) -> None:
    kind, balancers = fleet
    rig = slots.rig
    times = 2 * max(FLIPS, 2)
    order = list(itertools.islice(itertools.cycle(("green", "blue")), times))
    before = sum(reloads_in(rig, host.name) for host in rig.lab.balancers) if kind != "haproxy" else 0
    with rig.load(rate=RATE) as load:
        flips = slots.flips(order, pause=0.5)
        assert slots.live() == {"blue"}
    reloads = sum(reloads_in(rig, host.name) for host in rig.lab.balancers) - before if kind != "haproxy" else 0
    seen = windows(slots.answers(load))
    spreads = [each["spread_ms"] for each in flips]
    keep(
        f"row-{_id(fleet)}",
        {
            "fleet": kind,
            "balancers": balancers,
            "flips": len(seen),
            "requests": load.total("requests_total"),
            "failed": load.total("failed"),
            "closed_idle": load.total("closed_idle"),
            "reloads": reloads,
            "window_ms": [round(each * 1000, 1) for each in seen],
            "spread_ms": spreads,
        },
    )
    print(f"\n{_id(fleet)}: {load.total('requests_total')} requests, windows {[round(w * 1000, 1) for w in seen]} ms")
    print(f"spreads {spreads} ms, closed idle {load.total('closed_idle')} in {reloads} reloads")
    assert all(each["changed"] for each in flips)
    assert len(seen) == times
    assert reloads == (times * balancers if kind == "nginx by reload" else 0)
    load.assert_nothing_lost(closed_idle=IDLE_A_RELOAD * reloads)
    # Half of them at least, since on a machine with two cores a client may be late by itself.
    limit = 0.5 if kind == "nginx by reload" else 0.1 if balancers > 1 else TIMES[kind]
    assert statistics.median(seen) < limit


def download(address: str, answer: dict[str, Any]) -> threading.Thread:
    """So many bytes over a minute; what came of it is in ``answer``."""
    size = 60 * 20_000

    def run() -> None:
        try:
            with urllib.request.urlopen(f"http://{address}/stream/{size}/{DOWNLOAD}", timeout=30) as got:
                answer["host"] = got.headers["X-Host"]
                while piece := got.read(4096):
                    answer["bytes"] = answer.get("bytes", 0) + len(piece)
        except OSError as error:
            answer["error"] = str(error)
        answer["whole"] = answer.get("bytes") == size

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("fleet", [("haproxy", 1), ("nginx", 1), ("nginx by reload", 1)], ids=_id)
def test_there_and_back_while_long_work_runs(slots: Slots, fleet: tuple[str, int]) -> None:
    """By the playbooks: a download and WebSockets that began before stay on their slot, and end there in peace."""
    rig = slots.rig
    release = rig.archive("2.0")
    got: dict[str, Any] = {}
    with rig.load(rate=150, hold=45.0, mix={"keepalive": 0.7, "close": 0.1, "post": 0.19, "websocket": 0.01}) as load:
        thread = download(rig.lab.balancers[0].address, got)
        wait_for(lambda: got.get("bytes", 0) > 0)
        run = slots.run("blue_green", release, rollout_old_work_timeout=1, rollout_bake=0)
        assert run.rc == 0, str(run)
        assert slots.live() == {"green"}
        assert run.report["slots"]["left"] > 0, "what is still in flight on the old slot was not seen"
        typed = time.time()
        back = slots.run("rollback", {**release, "rollout_version": None}, rollout_old_work_timeout=1)
        assert back.rc == 0, str(back)
        assert slots.live() == {"blue"}
        assert thread.is_alive(), "the download was over before the way back"
        thread.join(DOWNLOAD + 30)
    closed = IDLE_A_RELOAD * 2 if fleet[0] == "nginx by reload" else 0
    load.assert_nothing_lost(closed_idle=closed)
    assert got["whole"], got
    last_new = max(at for at, slot in slots.answers(load) if slot == "green")
    took = last_new - typed
    print(f"\n{_id(fleet)}: all traffic on the old slot {took:.2f} s after rollback was typed; {got}")
    keep(f"back-{_id(fleet)}", {"fleet": fleet[0], "seconds": round(took, 2), "run": round(back.seconds, 2)})
    assert took < 8  # 4 on a machine that has nothing else to do


def _unit(slots: Slots) -> str:
    return f"{slots.driver}.service"


@pytest.mark.parametrize("how", ["reload", "restart"])
@pytest.mark.parametrize("fleet", [("haproxy", 4), ("nginx", 4), ("nginx by reload", 4)], ids=_id)
def test_a_balancer_is_reloaded_right_after_the_flip(slots: Slots, fleet: tuple[str, int], how: str) -> None:
    rig, third = slots.rig, slots.rig.lab.balancers[2]
    for slot in ("green", "blue"):
        with rig.when(
            lambda slot=slot: slots.slot_on(third) == {slot},  # type: ignore[misc]
            lambda: void(rig.lab.exec(third, ["systemctl", how, _unit(slots)])),
        ) as acted:
            slots.flips([slot])
            wait_for(lambda acted=acted: bool(acted))  # type: ignore[misc]
        wait_for(lambda slot=slot: agreed(slots) == slot, 30)  # type: ignore[misc]


@pytest.mark.parametrize("fleet", [("haproxy", 4), ("nginx", 4)], ids=_id)
def test_a_balancer_dies_between_prepare_and_commit(slots: Slots, fleet: tuple[str, int]) -> None:
    """Whatever comes of the flip, all of them are where the ledgers say, at the latest after the next run."""
    rig, third = slots.rig, slots.rig.lab.balancers[2]
    ends: dict[str, int] = {}

    def strike() -> None:
        rig.lab.exec(third, ["systemctl", "kill", "-s", "KILL", "--kill-who=all", _unit(slots)])

    for number in range(max(FLIPS // 2, 4)):
        (live,) = slots.live()
        want = OTHER[live]
        book = rig.root(third) / "var/lib/zerodrop/shop"
        before = _touched(book)
        with rig.when(lambda book=book, before=before: _touched(book) > before, strike) as acted:  # type: ignore[misc]
            run = slots.play(f"flip{number}", [slots.pool_route(slot=want)])
        assert acted, run
        rig.lab.exec(third, ["systemctl", "reset-failed", _unit(slots)])
        rig.lab.exec(third, ["systemctl", "start", _unit(slots)])
        outcome = "flipped" if run.rc == 0 else "undone"
        if agreed(slots) not in ("blue", "green"):
            outcome += ", recovered"
            mended = slots.run("recover", rig.archive("1.0"), rollout_version=None)
            assert mended.rc == 0, f"{run}\n{mended}"
        ends[outcome] = ends.get(outcome, 0) + 1
        wait_for(lambda: agreed(slots) in ("blue", "green"), 20)
        if run.rc == 0:
            assert agreed(slots) == want
    print(f"\n{_id(fleet)}: {ends}")
    keep(f"killed-{_id(fleet)}", {"fleet": fleet[0], **ends})


def _touched(folder: Path) -> float:
    try:
        return max((path.stat().st_mtime_ns for path in folder.glob("ledger.db*")), default=0)
    except OSError:
        return 0


def void(_what: object) -> None:
    """What an action gives back does not matter."""
