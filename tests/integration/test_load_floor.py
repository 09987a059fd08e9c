# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The floor in load: eight members that each carry 40 requests/s, as many at a time as the others can do without."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack

import pytest

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness import Outcome, read_log

from .conftest import LIMITED
from .rig import Load, Rig

pytestmark = pytest.mark.lab

CAPACITY = 40  # requests/s: four at once, a tenth of a second each
ONLY_PLAIN = {"keepalive": 0.7, "close": 0.3}
HALVES = {"rollout_batches": ["50%"], "rollout_look_requests": 0}
OF_LOAD = {"rollout_floor": "load", "rollout_member_capacity": CAPACITY}


def slowest(load: Load, share: float = 0.99) -> float:
    """The latency that this share of all good answers had at most, in seconds."""
    times = sorted(each.latency for log in load.logs for each in read_log(str(log)) if each.outcome is Outcome.OK)
    return times[int(len(times) * share)]


def sizes(batches: list[list[str]]) -> list[int]:
    return [len(batch) for batch in batches]


def test_at_sixty_percent_batches_keep_latency_flat(eight: Rig) -> None:
    """Half of them at a time was asked for; with two out the other six carry the load with a fifth to spare."""
    with eight.load(rate=192, mix=ONLY_PLAIN) as calm:
        time.sleep(5)
    with eight.watch() as watch, eight.load(rate=192, mix=ONLY_PLAIN) as load:
        run = eight.rollout(HALVES, OF_LOAD, eight.archive("2.0", **LIMITED))
    assert run.rc == 0, str(run)
    load.assert_nothing_lost()
    assert max(sizes(run.report["batches"])) <= 2, str(run)
    assert watch.least >= 6
    assert any("the load now lets 2 members out at a time" in note for note in run.report["notes"]), run.report["notes"]
    flat, during = slowest(calm), slowest(load)
    print(f"p99 without a rollout {flat * 1000:.0f} ms, in the rollout {during * 1000:.0f} ms")
    assert during < 3 * flat + 0.1


@pytest.mark.skipif(
    not os.environ.get("ZERODROP_LOAD"), reason="the other way round, to see that it is the load that counts"
)
def test_without_it_half_the_members_are_too_few(eight: Rig) -> None:
    with eight.load(rate=192, mix=ONLY_PLAIN) as load:
        run = eight.rollout(HALVES, eight.archive("2.0", **LIMITED))
    assert run.rc == 0, str(run)
    assert sizes(run.report["batches"]) == [4, 4]
    print(f"p99 in the rollout {slowest(load) * 1000:.0f} ms")
    assert slowest(load) > 0.3


def test_a_load_that_rises_in_mid_rollout_makes_the_next_batch_smaller(eight: Rig) -> None:
    """A hundred requests/s let four go; when they are 220, no more than one can be done without."""
    is_out = eight.is_out("web1")
    with ExitStack() as later, eight.load(rate=100, mix=ONLY_PLAIN) as load:
        seen: list[float] = []

        def is_back() -> bool:
            if is_out():
                seen.append(time.monotonic())
            return bool(seen) and len(eight.in_service()) == 8

        def rise() -> None:
            later.enter_context(eight.load(rate=120, mix=ONLY_PLAIN))

        with eight.when(is_back, rise) as rose:
            run = eight.rollout(
                HALVES, OF_LOAD, {"rollout_look_seconds": 5, "rollout_look_timeout": 8}, eight.archive("2.0", **LIMITED)
            )
    assert run.rc == 0, str(run)
    assert rose
    load.assert_nothing_lost()
    found = sizes(run.report["batches"])
    assert found[0] == 4
    assert max(found[1:]) <= 2, str(run)
    assert any("wait for another batch, for the load" in note for note in run.report["notes"])


def test_where_not_one_can_be_done_without_it_is_refused_with_the_figures(eight: Rig) -> None:
    before = eight.snapshot()
    with eight.load(rate=100, mix=ONLY_PLAIN):
        release = eight.archive("2.0", **LIMITED)
        run = eight.rollout(HALVES, {**OF_LOAD, "rollout_member_capacity": 15}, release)
        nobody_knows = eight.rollout(HALVES, {**OF_LOAD, "rollout_member_capacity": None}, release)
    assert run.report["outcome"] == "refused", str(run)
    assert "requests/s now, and the 7 members that would stay carry 105" in run.report["sentence"]
    assert nobody_knows.report["outcome"] == "refused"
    assert "Set rollout_member_capacity" in nobody_knows.report["sentence"]
    assert eight.snapshot() == before
