# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A report's page: what it says, that nothing in a report becomes markup, and that it stays small."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._report import index, page, scale, timeline, told
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._report.evidence_svg import evidence_svg
from ansible_collections.zerodrop.rollout.tests.unit.plugins.plugin_utils.report.made import hostile, report, stopped
from tests.unit.plugins.plugin_utils.verdict.made import polls

REAL = sorted((Path(__file__).parents[3] / "reports").glob("*.json"))
_VOID = {"meta", "link", "br", "path"}


class Reader(HTMLParser):
    """Reads a page strictly: every element is closed in its turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.links: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _value in attrs}
        self.links += [str(value) for name, value in attrs if name in ("href", "src")]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def said(text: str) -> str:
    return " ".join(" ".join(Reader(text).words).split())


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_reports_of_real_runs_have_a_page(path: Path) -> None:
    """Also those of before, which lack the newest fields."""
    made = json.loads(path.read_text(encoding="utf-8"))
    text = page.html(made)
    assert " ".join(made["sentence"].split()) in said(text)


def test_a_rollout_that_went_well() -> None:
    words = said(page.html(report()))
    for each in ("succeeded", "rollout from 1.0 to 2.0", "Timeline", "Latency", "set server shop/… state maint"):
        assert each in words
    assert "What went wrong" not in words


def test_the_picture_of_a_canary_stands_in_its_page() -> None:
    text = page.html(report(), evidence_svg({"polls": polls(30, (100, 9))}))
    assert "<h2>The canary's evidence</h2><svg " in text
    assert "roll back from 126" in said(text)
    assert "evidence</h2>" not in page.html(report())


def test_one_that_stopped_says_why_and_what_was_done() -> None:
    words = said(page.html(stopped()))
    for each in (
        "Stopped in phase gate (web3): web3 did not become healthy within 8 s.",
        "Look at the service's log.",
        "web4: it did not start",
        "Taken back: web3, web4",
        "lb2 was reloaded by someone else.",
    ):
        assert each in words


def test_a_dry_run_draws_nothing() -> None:
    words = said(page.html(report(check=True, series=None)))
    assert "dry run" in words
    assert "Timeline" not in words


def test_nothing_is_fetched_and_nothing_runs() -> None:
    text = page.html(report())
    reader = Reader(text)
    assert "script" not in reader.tags
    assert reader.links == ["data:,", "report.json"]
    assert "default-src 'none'" in text
    assert not re.search(r"url\(|@import|https?:", text)


ATTACKS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</style></title><script>",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:alert(1)",
    "\u202e\x1b[31m<b>",
)


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_hostile_word_does_not_become_markup(attack: str) -> None:
    plain, reader = Reader(page.html(hostile("harmless"))), Reader(page.html(hostile(attack)))
    assert reader.tags == plain.tags
    assert reader.attributes == plain.attributes
    assert reader.links == plain.links
    entries = Reader(index.html([{**index.entry(hostile(attack)), "rollout_id": attack}]))
    assert "script" not in entries.tags
    assert "img" not in entries.tags
    assert entries.links == ["data:,"]


HARMLESS = Reader(page.html(hostile("harmless"))).tags


@settings(max_examples=20)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_no_word_becomes_markup(word: str) -> None:
    assert Reader(page.html(hostile(word))).tags == HARMLESS


def test_a_thousand_members_and_an_hour_are_small() -> None:
    made = report(1000, 10, 3600, "web{:04}.dc1.example.com")
    text = page.html(made)
    assert len(text.encode()) <= 3_000_000
    assert len(Reader(text).tags) > 1000 * 6


def test_members_in_service_are_counted_from_when_they_were_out() -> None:
    made = report(4, 2, 60)
    counts = timeline.in_service(made)
    assert [count for _at, count in counts] == [4, 2, 4, 2, 4]
    made["members"]["web1"]["in_service_before"] = False
    made["in_service"] = 3
    assert [count for _at, count in timeline.in_service(made)] == [3, 2, 4, 2, 4]


def test_a_member_that_is_still_out_is_drawn_to_the_end() -> None:
    made = stopped()
    lane = next(lane for group in timeline.groups(made) for lane in group.lanes if lane.name == "web3")
    out = next(each for each in lane.bars if each.kind == "out")
    assert float(out.left) + float(out.width) == pytest.approx(100, abs=0.1)
    assert not lane.well


@given(st.floats(0, 1e9), st.floats(0, 1e9))
def test_a_place_is_never_outside(value: float, whole: float) -> None:
    assert 0 <= float(scale.percent(value, whole)) <= 100


@given(st.floats(0, 1e12))
def test_an_axis_ends_above_its_values(value: float) -> None:
    end = scale.top(value)
    assert end >= value * 0.999
    assert end <= max(1.0, value * 2)
    assert len(scale.marks(end)) <= 9


@given(st.floats(1, 1e7))
def test_an_axis_of_time_has_few_marks(seconds: float) -> None:
    assert 1 <= len(scale.time_marks(seconds)) <= 8


@given(st.lists(st.sampled_from(["web1", "web2", "web3"]), min_size=1, max_size=6))
def test_what_was_told_is_folded_and_nothing_is_lost(names: list[str]) -> None:
    words = [f"set server shop/{name} state maint" for name in names]
    back: list[Any] = []
    for line, members in told.folded([*words, "kill -HUP 12"]):
        back += [line.replace(told.HOLE, member, 1) for member in members] or [line]
    assert sorted(back) == sorted([*words, "kill -HUP 12"])


def test_the_index_shows_every_service_and_its_trend() -> None:
    entries = [
        index.entry(
            report(
                rollout_id=f"202611{day:02}T120000Z-abcdef",
                outcome=outcome,
                duration_seconds=30.0 + day,
                service="shop" if day % 2 else "till",
            )
        )
        for day, outcome in enumerate(["succeeded", "rolled_back", "failed", "refused", "succeeded", "frozen"], 1)
    ]
    text = index.html(entries)
    words = said(text)
    assert re.search(
        r"shop rollouts 3 took, half of them at most 31.0 s succeeded 2 rolled back or frozen 0 failed 1", words
    )
    assert re.search(r"till rollouts 2 succeeded 0 rolled back or frozen 2", words)
    assert "20261106T120000Z-abcdef/report.html" in Reader(text).links
