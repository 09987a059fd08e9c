# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The summary: its documented keys, its sentence, the versions, and what is not a summary."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

import ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.summary as module
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness import Summary, SummaryError
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.tally import Seen, mixed_pairs
from ansible_collections.zerodrop.rollout.tests.unit.plugins.plugin_utils.witness.server import Peer, polite, watch


def test_every_key_is_documented_and_every_documented_key_is_there() -> None:
    documented = set(re.findall(r"^``(\w+)`` ", module.__doc__ or "", re.MULTILINE))
    keys = {item.name for item in fields(Summary)}
    # Two are told about in the line of their sibling.
    assert keys - documented == {"not_sent_because", "log_error"}
    assert documented <= keys


def test_the_file_is_read_back(tmp_path: Path) -> None:
    path = str(tmp_path / "summary.json")
    seen = watch(polite, max_requests=5, summary=path)
    assert Summary.from_file(path) == seen.summary
    assert seen.summary.by_version == {"1.0": {"ok": 5}}
    assert seen.summary.by_host == {"a": {"ok": 5}}
    assert seen.summary.by_kind == {"keepalive": {"ok": 5}}
    assert seen.summary.versions["1.0"]["requests"] == 5
    assert seen.summary.latency_ms["by_version"]["1.0"]["count"] == 5
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", seen.summary.started)
    assert [item.name for item in tmp_path.iterdir()] == ["summary.json"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "schema is 2"),
        ({"failed": "none"}, "failed is not int"),
        ({"failed": True}, "failed is not int"),
        ({"by_class": []}, "by_class is not"),
        ({"started": None}, "started is not str"),
        ({"latency_ms": None}, "latency_ms is not"),
    ],
)
def test_what_is_not_a_summary_is_refused(change: dict[str, Any], message: str) -> None:
    data = watch(polite).summary.to_dict()
    with pytest.raises(SummaryError, match=message):
        Summary.from_dict({**data, **change})


def test_a_missing_key_and_a_file_that_is_not_json_are_refused(tmp_path: Path) -> None:
    data = watch(polite).summary.to_dict()
    del data["failed"]
    path = tmp_path / "summary.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(SummaryError, match="failed is missing"):
        Summary.from_file(str(path))
    path.write_text("{", encoding="utf-8")
    with pytest.raises(SummaryError, match="not a summary"):
        Summary.from_file(str(path))
    with pytest.raises(SummaryError, match="not a JSON object"):
        Summary.from_dict([])


def test_sentence() -> None:
    summary = watch(polite).summary
    summary = replace(
        summary,
        requests_total=18000,
        rate_asked=300,
        late=3,
        start_delay_ms={"p50": 0, "p90": 0, "p99": 0, "max": 1, "count": 1},
    )
    assert summary.sentence() == "18,000 requests at 300/s, 0 failed, 0 closed while idle, 3 late"
    bad = replace(
        summary,
        failed=12,
        by_class={**summary.by_class, "refused": 5, "http_5xx": 7},
        not_sent=4,
        not_sent_because="full",
        sessions_lost=2,
        interrupted=True,
        stopped_by="SIGTERM",
        duration_seconds=12.34,
        unfinished=1,
    )
    assert bad.sentence() == (
        "18,000 requests at 300/s, 12 failed (7 http_5xx, 5 refused), 0 closed while idle, 3 late,"
        " 4 not sent (full), 2 sessions lost, stopped by SIGTERM after 12.3 s with 1 unfinished"
    )
    assert (summary.exit_code, bad.exit_code) == (0, 1)


def test_two_versions_side_by_side() -> None:
    async def changing(peer: Peer) -> None:
        while await peer.request():
            number = len(peer.server.requests)
            new = number > 20 or (number > 10 and number % 2)
            await peer.answer(X_Version="2.0" if new else "1.0")

    seen = watch(changing, max_requests=40, rate=100, keepalive_connections=1)
    summary = seen.summary
    starts = {version: [r.started for r in seen.records if r.version == version] for version in ("1.0", "2.0")}
    wanted = max(starts["1.0"]) - min(starts["2.0"])
    assert wanted > 0
    assert summary.mixed_versions_seconds == pytest.approx(wanted, abs=0.002)
    assert summary.mixed_versions == [{"older": "1.0", "newer": "2.0", "seconds": pytest.approx(wanted, abs=0.002)}]
    assert summary.versions["2.0"]["first_seconds"] == pytest.approx(min(starts["2.0"]), abs=0.002)
    assert summary.versions["1.0"]["last_seconds"] == pytest.approx(max(starts["1.0"]), abs=0.002)


@pytest.mark.parametrize(
    ("versions", "wanted"),
    [
        ({"1": Seen(0, 10), "2": Seen(11, 20)}, []),
        ({"1": Seen(0, 10), "2": Seen(6, 20)}, [("1", "2", 4)]),
        # Rolled back: the new one was there from 6 to 8.
        ({"1": Seen(0, 20), "2": Seen(6, 8)}, [("1", "2", 2)]),
        ({"3": Seen(8, 20), "2": Seen(6, 9), "1": Seen(0, 10)}, [("1", "2", 3), ("1", "3", 2), ("2", "3", 1)]),
    ],
)
def test_pairs_of_versions(versions: dict[str, Seen], wanted: list[tuple[str, str, float]]) -> None:
    assert [(pair["older"], pair["newer"], pair["seconds"]) for pair in mixed_pairs(versions)] == wanted


def test_a_slow_answer_of_the_old_version_counts_by_its_start() -> None:
    """It was sent before the new version was there, so nobody saw two versions."""

    async def handler(peer: Peer) -> None:
        while await peer.request():
            number = len(peer.server.requests)
            if number == 2:
                await asyncio.sleep(1.0)
            await peer.answer(X_Version="1.0" if number <= 2 else "2.0")

    summary = watch(handler, max_requests=6, rate=10).summary
    assert set(summary.versions) == {"1.0", "2.0"}
    assert summary.mixed_versions_seconds == 0


def test_only_the_first_failures_are_kept_with_their_detail() -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()

    seen = watch(handler, mix={"close": 1}, max_requests=30, rate=200)
    assert seen.summary.failed == 30
    assert len(seen.summary.failures) == 20
    first = seen.summary.failures[0]
    assert (first["kind"], first["class"], first["status"]) == ("close", "cut", 0)
    assert first["detail"] == "connection closed before the answer"
    assert set(first) == {"at_seconds", "kind", "class", "status", "host", "version", "id", "detail"}


def test_names_from_the_server_are_made_harmless(tmp_path: Path) -> None:
    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.send(
            b"HTTP/1.1 500 X\r\nContent-Length: 0\r\nX-Version: a\tb\x85\r\nX-Host: " + b"h" * 500 + b"\r\n\r\n"
        )

    log = tmp_path / "log.tsv"
    seen = watch(handler, log=str(log))
    assert seen.first.version == "a?b?"
    assert len(seen.first.host) == 128
    assert log.read_text(encoding="utf-8").splitlines()[-1].count("\t") == 10
