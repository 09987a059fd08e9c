# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The past of a log, cut by time: every line in its stretch and none twice, whatever way the time is written in."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.module_utils._access_log import past
from ansible_collections.zerodrop.rollout.plugins.module_utils._access_log.counts import Counts
from ansible_collections.zerodrop.rollout.plugins.module_utils._access_log.haproxy import HAProxyLog
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput
from ansible_collections.zerodrop.rollout.plugins.module_utils._observation.past import observe_past

NOW = 1795553400.0


def line(at: float, status: int = 200, member: str = "s1") -> str:
    written = time.strftime("%d/%b/%Y:%H:%M:%S", time.localtime(at))
    return (
        f"10.0.0.9:1 [{written}.193] web shop/{member} 0/0/0/9/9 {status} 51 - - ---- 1/1/0/0/0 0/0 "
        f'"GET /{"x" * 40} HTTP/1.1"\n'
    )


@pytest.mark.parametrize(
    "text",
    [
        "a [24/Nov/2026:20:50:00 +0000] b",
        "a [24/Nov/2026:22:50:00 +0200] b",
        "a [24/Nov/2026:16:20:00 -0430] b",
        "2026-11-24T20:50:00Z x",
        "10.0.0.1 [2026-11-24T21:50:00+01:00] GET",
        "a|1795553400.123|b",
        time.strftime("x [%d/%b/%Y:%H:%M:%S.193] y", time.localtime(NOW)),
    ],
)
def test_a_moment_in_every_way_of_writing_it(text: str) -> None:
    assert past.moment_of(text) == NOW


@pytest.mark.parametrize("text", ["", "no time", "[24/Foo/2026:20:50:00 +0000]", "17955534001", "id 1.1795553400"])
def test_what_is_no_moment(text: str) -> None:
    assert past.moment_of(text) is None


def counted(path: Path, moments: list[float], **more: Any) -> list[int]:
    found = past.count_past(HAProxyLog("shop"), [str(path)], moments, lambda: Counts(["s1"]), **more)
    assert found is not None
    return [each.members["s1"].requests for each in found]


@given(st.lists(st.integers(0, 3600), max_size=400), st.integers(1, 12), st.integers(0, 400))
def test_every_line_counts_in_its_stretch(tmp_path_factory: Any, ages: list[int], pieces: int, rotated: int) -> None:
    folder = tmp_path_factory.mktemp("log")
    times = sorted(NOW - age for age in ages)
    (folder / "l.log.1").write_text("".join(map(line, times[:rotated])))
    (folder / "l.log").write_text("".join(map(line, [*times[rotated:], NOW + 5])))
    moments = [NOW - 1800 + 1800 * number / pieces for number in range(pieces + 1)]
    expected = Counter(
        next((number for number in range(pieces) if moments[number] <= at < moments[number + 1]), None) for at in times
    )
    assert counted(folder / "l.log", moments) == [expected[number] for number in range(pieces)]


def test_a_long_log_is_not_read_line_by_line_and_counts_its_newest_part(tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "l.log"
    path.write_text("".join(line(NOW - 3600 + second) * 10 for second in range(3600)))
    asked = Counter[str]()
    real = past.moment_of

    def moment_of(text: str) -> float | None:
        asked["line"] += 1
        return real(text)

    monkeypatch.setattr(past, "moment_of", moment_of)
    moments = [NOW - 600 + 100 * number for number in range(7)]
    assert counted(path, moments) == [1000] * 6
    assert asked["line"] < 10000
    size = len(line(NOW))
    assert counted(path, moments, most=2500 * size) == [0, 0, 0, 0, 1000, 1000]


def test_the_operation(tmp_path: Path) -> None:
    path = tmp_path / "l.log"
    now = time.time()
    path.write_text("".join(line(now - 100 + second, 503 if second % 10 else 200) for second in range(100)))
    params: dict[str, Any] = {"driver": "haproxy", "pool": "shop", "members": {"s1": ""}, "access_log": [str(path)]}
    found = observe_past({**params, "seconds": 50, "pieces": 2}, False)
    assert [piece["s1"]["requests"] for piece in found["pieces"]] == pytest.approx([25, 25], abs=1)
    assert [piece["s1"]["errors"] for piece in found["pieces"]] == pytest.approx([22, 22], abs=2)
    since = observe_past({**params, "seconds": 50, "pieces": 2, "since": now - 20}, False)
    assert sum(piece["s1"]["requests"] for piece in since["pieces"]) == pytest.approx(20, abs=1)
    assert observe_past({**params, "since": now + 50}, False)["pieces"] == []
    path.write_text(
        '{"pool":"shop","member":"s1","status":200,"state":"--","queue":0,"connect":0,"response":1,"retries":"0"}\n'
    )
    untimed = observe_past(params, False)
    assert untimed["pieces"] == []
    assert "do not say when" in untimed["notes"][0]
    assert "rollout_access_log" in observe_past({**params, "access_log": []}, False)["notes"][0]
    with pytest.raises(BadInput, match="members must name"):
        observe_past({**params, "members": {}}, False)
