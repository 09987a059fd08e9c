# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The picture of a verdict: well formed, whole in itself, and with every number inside of it."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.module_utils._access_log.counts import BUCKETS
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._report.evidence_svg import HEIGHT, WIDTH, evidence_svg
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict import verdict
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.trace import trace
from tests.unit.plugins.plugin_utils.verdict.made import polls, with_latency


def histogram(milliseconds: int, count: int) -> list[int]:
    found = [0] * (len(BUCKETS) + 1)
    found[BUCKETS.index(milliseconds)] = count
    return found


BAD: dict[str, Any] = {"polls": with_latency(polls(40, (100, 9)), histogram(63, 100), histogram(40, 900)), "warmup": 20}


def test_the_picture_says_what_the_verdict_says() -> None:
    found = trace(BAD)
    judged = verdict(BAD)
    assert judged["decision"] == "roll_back"
    assert found.roll_back == judged["log_evidence"]["roll_back"]["combined"]
    assert found.needed == (judged["needed"]["roll_back"], judged["needed"]["promote"])
    assert found.shares[0] == pytest.approx(100 * 100 / 2800)
    assert 0.050 < (found.latency["canary", 0.5][0] or 0) <= 0.063
    assert 0.032 < (found.latency["baseline", 0.5][0] or 0) <= 0.040
    last = found.bands[-1]
    assert (last.least or 0) < last.ratio
    assert found.not_counted == [(0.0, 10.0), (10.0, 20.0)]


def test_it_is_whole_in_itself() -> None:
    picture = evidence_svg(BAD)
    root = ElementTree.fromstring(picture)
    assert root.tag.endswith("svg")
    words = " ".join(root.itertext())
    for each in ("it is worse", "it is fine", "roll back from 126", "promote from 26", "canary p50", "baseline p99"):
        assert each in words
    assert not re.search(r"(href|src|url\(|<script|<style|@import)", picture)
    assert len(re.findall("https?://", picture)) == 1  # the name of SVG itself
    # Nothing but greys, and no two lines of a chart look alike.
    colours = set(re.findall(r"#[0-9a-f]+", picture))
    assert all(len(set(re.findall("..", each[1:]) if len(each) == 7 else each[1:])) == 1 for each in colours)
    for chart in root.findall("{http://www.w3.org/2000/svg}g"):
        dashes = [each.get("stroke-dasharray") for each in chart.iter() if each.get("stroke-width") == "1.6"]
        assert len(dashes) == len(set(dashes))


def test_what_a_user_typed_is_text() -> None:
    hostile = polls(3, (100, 1))
    hostile[1]["skip"] = "<script>alert(1)</script>"
    assert "<script" not in evidence_svg({"polls": hostile})


def test_no_polls_no_picture() -> None:
    assert evidence_svg({"polls": []}) == ""


counts = st.tuples(st.integers(0, 2000), st.floats(0, 1)).map(lambda each: (each[0], int(each[0] * each[1])))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(counts, counts, st.booleans()), min_size=1, max_size=30))
def test_every_number_stands_inside(rows: list[tuple[tuple[int, int], tuple[int, int], bool]]) -> None:
    made = polls(len(rows), lambda number: rows[number][0], lambda number: rows[number][1])
    for poll, (_canary, _baseline, skipped) in zip(made, rows, strict=True):
        if skipped:
            poll["skip"] = "reload"
    root = ElementTree.fromstring(evidence_svg({"polls": made, "warmup": 10}))
    for each in root.iter():
        numbers = [float(n) for n in re.findall(r"-?\d+\.?\d*", each.get("d") or each.get("points") or "")]
        assert all(-1 <= number <= max(WIDTH, HEIGHT) + 8 for number in numbers), each.attrib
        assert "nan" not in str(each.attrib)
