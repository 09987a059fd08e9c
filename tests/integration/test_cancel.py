# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A run that is told to end: what is safe to put back serves again before it is over, and nothing is lost."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from .rig import FIRST, Rig, Run

pytestmark = pytest.mark.lab

ALL = pytest.mark.skipif(not os.environ.get("ZERODROP_KILLS"), reason="make kills runs every moment")
SLOW_TASKS = """\
- name: Take a while
  ansible.builtin.command: sleep 30
  changed_when: true
"""


def by_archive(rig: Rig) -> dict[str, Any]:
    return {**rig.archive("2.0", start_delay=1.0), "rollout_batches": [2], "rollout_health_version_key": "version"}


def cancel(
    rig: Rig, when: Callable[[], bool], number: int, group: bool, *settings: dict[str, Any]
) -> tuple[Run, float]:
    """A run that gets a signal at a moment; how long it took to end after that."""
    sent: list[float] = []

    def send() -> None:
        sent.append(time.monotonic())
        rig.signal(number, group)

    with rig.when(when, send) as struck:
        run = rig.rollout(*settings, rollout_look_requests=5)
    assert struck, str(run)
    return run, time.monotonic() - sent[0]


def assert_cancelled(run: Run, number: int) -> None:
    assert run.rc == (99 if number == signal.SIGINT else -number), str(run)
    assert run.report["stop"]["code"] == "cancelled"
    assert "The run was cancelled" in run.report["sentence"]
    assert run.report["sentence"] in run.text, str(run)


MOMENTS = [
    pytest.param(("untouched",), signal.SIGINT, True, "rolled_back", id="drain"),
    pytest.param(("upgraded",), signal.SIGTERM, False, "frozen", id="upgrade", marks=ALL),
    pytest.param(("untouched",), signal.SIGTERM, True, "rolled_back", id="drain, SIGTERM", marks=ALL),
    pytest.param(("upgraded",), signal.SIGINT, True, "frozen", id="upgrade, SIGINT", marks=ALL),
    pytest.param(("healthy",), signal.SIGINT, False, "frozen", id="put back", marks=ALL),
    pytest.param(("healthy",), signal.SIGTERM, True, "frozen", id="put back, SIGTERM", marks=ALL),
]


@pytest.mark.parametrize(("states", "number", "group", "outcome"), MOMENTS)
def test_with_a_ready_method(
    rig: Rig,
    states: tuple[str, ...],
    number: int,
    group: bool,
    outcome: str,
    record_property: Callable[[str, object], None],
) -> None:
    settings = by_archive(rig)
    # Slow requests hold the drain up, so that there is time to be told in it.
    slow = 3.0 if states == ("untouched",) else 0.5
    with rig.watch() as watch, rig.load(slow=slow) as load:
        run, took = cancel(rig, rig.member_is("web1", *states), number, group, settings)
        assert rig.in_service() == set(rig.hosts), str(run)
    record_property("seconds", round(took, 2))
    assert_cancelled(run, number)
    assert run.report["outcome"] == outcome
    load.assert_nothing_lost()
    assert watch.least >= 4
    assert took < 20
    expected = FIRST if outcome == "rolled_back" else "2.0"
    assert {host: rig.current()[host] for host in ("web1", "web2")} == {"web1": expected, "web2": expected}
    assert not watch.ever_out - {"web1", "web2"}


def test_with_tasks_of_the_users(rig: Rig) -> None:
    """Nobody can tell how far they got: those members are named, and the next run begins with them."""
    path = rig.folder / "deploy.yml"
    path.write_text(SLOW_TASKS, encoding="utf-8")
    settings = {"rollout_version": "2.0", "rollout_upgrade_tasks": str(path), "rollout_batches": [2]}
    with rig.watch() as watch, rig.load(slow=0.5) as load:
        run, took = cancel(rig, rig.member_is("web1", "drained"), signal.SIGTERM, False, settings)
    assert_cancelled(run, signal.SIGTERM)
    load.assert_nothing_lost()
    assert took < 20
    assert watch.ever_out == {"web1", "web2"}
    assert run.states()["web1"] == "left_out"
    assert "Out of service: web1" in run.report["sentence"]
    assert rig.in_service() == set(rig.hosts) - {"web1", "web2"}
