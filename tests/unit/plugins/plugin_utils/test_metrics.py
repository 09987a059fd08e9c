# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The metrics of a rollout are what Prometheus reads, whatever stands in a report."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout import metrics
from ansible_collections.zerodrop.rollout.tests.unit.plugins.plugin_utils.report.made import report, stopped

_LABEL = r'[a-z_]+="(?:[^"\\\n]|\\["\\n])*"'
_SAMPLE = re.compile(rf"zerodrop_rollout_[a-z_]+\{{{_LABEL}(?:,{_LABEL})*\}} [0-9.e+-]+")


def test_what_is_told() -> None:
    text = metrics.text(report())
    for line in (
        'zerodrop_rollout_last_outcome{service="shop",outcome="succeeded"} 1',
        'zerodrop_rollout_last_outcome{service="shop",outcome="failed"} 0',
        'zerodrop_rollout_last_start_timestamp_seconds{service="shop"} 1795521600',
        'zerodrop_rollout_last_end_timestamp_seconds{service="shop"} 1795521662',
        'zerodrop_rollout_last_requests_failed{service="shop",source="witness"} 3',
        'zerodrop_rollout_last_members{service="shop",state="finished"} 6',
    ):
        assert f"{line}\n" in text


@given(st.text(max_size=30))
def test_every_line_can_be_read(word: str) -> None:
    for line in metrics.text(stopped(service=word, to_version=word)).removesuffix("\n").split("\n"):
        assert line.startswith(("# HELP ", "# TYPE ")) or _SAMPLE.fullmatch(line)


@pytest.mark.parametrize("changes", [{"check": True}, {"outcome": "refused"}])
def test_what_was_no_rollout_leaves_the_file_as_it_is(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = tmp_path / "shop.prom"
    metrics.write(report(**changes), str(path))
    assert not path.exists()
    metrics.write(report(), str(path))
    assert path.read_text(encoding="utf-8") == metrics.text(report())


def test_a_folder_that_is_not_there_is_no_failure(tmp_path: Path) -> None:
    metrics.write(report(), str(tmp_path / "none" / "shop.prom"))
