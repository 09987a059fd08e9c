# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller dies at generated moments of blue/green under load: one slot is live, and the same playbook ends it."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import lab

from .controllers import kill
from .rig import Rig
from .slots import Slots, agreed, description, keep, windows

KILLS = int(os.environ.get("ZERODROP_FLIPS_KILLS") or 0) or 12 * bool(os.environ.get("ZERODROP_FLIPS"))
SEED = int(os.environ.get("ZERODROP_KILLS_SEED", "20261124"))
STATES = ("planned", "untouched", "upgraded", "finished", "under way", "under way", "flipped", "old work")

pytestmark = [
    pytest.mark.lab,
    pytest.mark.slow,
    pytest.mark.skipif(not KILLS, reason="make flips runs these"),
]


def moments(count: int) -> list[tuple[str, float]]:
    """Every state of a run in turn, and so long after it came to be."""
    chosen = random.Random(f"{SEED} slots")
    # A flip is over in a moment: what is killed in it is killed soon.
    spans = {"under way": 0.25, "flipped": 0.3}
    states = [STATES[number % len(STATES)] for number in range(count)]
    return [(state, round(chosen.uniform(0.0, spans.get(state, 0.5)), 2)) for state in states]


@pytest.fixture(scope="module")
def two_balancers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lab.Lab]:
    with lab.running(description("haproxy", 2), tmp_path_factory.mktemp("lab") / "kills") as up:
        yield up


def reached(rig: Rig, state: str) -> Callable[[], bool]:
    """A look whether the run's own record is in a state: of its first member, or of its flip."""

    def look() -> bool:
        for path in rig.records():
            try:
                record = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                return False
            slots, members = record["slots"], record["members"]
            if state == "planned":
                return bool(record["lease"])
            if state == "under way":
                return bool(slots.get("under_way"))
            if state == "flipped":
                return bool(slots["flipped"])
            if state == "old work":
                return any(event["phase"] == "old work" for event in record["events"])
            return any(member["state"] == state for member in members.values())
        return False

    return look


@pytest.mark.parametrize(("state", "after"), moments(KILLS))
def test_the_controller_dies(two_balancers: lab.Lab, tmp_path: Path, state: str, after: float) -> None:
    slots = Slots(Rig(two_balancers, tmp_path))
    rig = slots.rig
    slots.reset()
    settings = {
        **rig.archive("2.0", start_delay=0.8),
        "rollout_health_version_key": "version",
        "rollout_lease_seconds": 6,
        "rollout_keep_warm": 2,
        "rollout_retire": "stop",
    }

    def strike() -> None:
        time.sleep(after)
        kill(rig)

    with rig.load(rate=150) as load:
        with rig.when(reached(rig, state), strike) as struck:
            run = slots.run("blue_green", settings)
        assert struck, str(run)
        assert run.rc == -signal.SIGKILL, str(run)
        left = slots.live()
        died = time.monotonic()
        done = slots.run("blue_green", settings)
        assert done.rc == 0, str(done)
        assert agreed(slots) == "green"
        assert slots.current("green") == {"2.0"}
        again = slots.run("blue_green", settings)
        assert again.rc == 0, str(again)
        assert set(again.changed.values()) == {0}, str(again)
    load.assert_nothing_lost()
    # From the first request that the new slot answered on, the old one answers none, as long as a flip takes; a flip that
    # was broken off between the balancers is over when its own clocks say so, whoever lives.
    seen = windows(slots.answers(load))
    print(f"\n{state} +{after}: {sorted(left)} live when it died, windows {[round(w * 1000, 1) for w in seen]} ms")
    keep(
        f"kill-{state}-{after}",
        {
            "moment": f"{state} +{after:.2f} s",
            "left": sorted(left),
            "requests": load.total("requests_total"),
            "failed": load.total("failed"),
            "window_ms": [round(each * 1000, 1) for each in seen],
            "rerun": round(done.seconds, 1),
            "ago": round(time.monotonic() - died, 1),
        },
    )
    assert len(left) == 1, left
    assert max(seen) < 0.5
