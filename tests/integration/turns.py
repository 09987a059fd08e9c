# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A long suite in turns: no test begins when a turn is over, and what has passed is not run again by the next one.

ZERODROP_PASSED is the file that keeps what has passed; when nothing is left, the next run begins anew.
ZERODROP_TURN is how many seconds a turn has; unset, it lasts until all have run.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest


class Turns:
    """One turn of it, as a plugin of pytest's."""

    def __init__(self, passed: Path, seconds: float | None) -> None:
        self._file = passed
        self._end = None if seconds is None else time.monotonic() + seconds
        self._passed = set(passed.read_text(encoding="utf-8").splitlines()) if passed.exists() else set[str]()
        self._own: set[str] = set()  # all tests of this suite

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        self._own = {item.nodeid for item in items if not _skipped(item)}
        if self._own <= self._passed:
            self._passed.clear()
            self._file.unlink(missing_ok=True)
        done = [item for item in items if item.nodeid in self._passed]
        if done:
            items[:] = [item for item in items if item.nodeid not in self._passed]
            config.hook.pytest_deselected(items=done)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if self._end is not None and time.monotonic() > self._end:
            pytest.skip("left for the next turn")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            self._passed.add(report.nodeid)
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("a", encoding="utf-8") as file:
                file.write(f"{report.nodeid}\n")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        left = len(self._own - self._passed)
        said = f"{left} are left: run it again" if left else "all have passed"
        terminalreporter.write_line(f"Of {len(self._own)} tests {said}.")


def _skipped(item: pytest.Item) -> bool:
    """Whether its mark leaves it out whatever the turn."""
    return any(mark.args[:1] == (True,) for mark in item.iter_markers("skipif"))


def register(config: pytest.Config) -> None:
    passed, seconds = os.environ.get("ZERODROP_PASSED"), os.environ.get("ZERODROP_TURN")
    if passed:
        config.pluginmanager.register(Turns(Path(passed), float(seconds) if seconds else None), "zerodrop-turns")
