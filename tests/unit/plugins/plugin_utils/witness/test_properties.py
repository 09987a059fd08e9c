# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Laws of the pure parts, over inputs that nobody would write down."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness import (
    Kind,
    Outcome,
    Record,
    Summary,
    reconcile,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.classify import FAILED, UNCOUNTED
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.latency import Latencies
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.schedule import Mixer, arrivals, due
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.sessions import User
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.summary import RunFacts, summarise
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.tally import Seen, Tally, mixed_seconds

rates = st.floats(0.01, 10000, allow_nan=False)
durations = st.floats(0.01, 86400, allow_nan=False)


@given(rates, durations)
def test_the_schedule_fills_its_time_and_no_more(rate: float, duration: float) -> None:
    count = arrivals(rate, duration)
    assert count == 1 or abs(count - rate * duration) <= 1
    assert count == 1 or due(count - 1, rate) < duration
    assert due(0, rate) == 0
    assert arrivals(rate, duration, 1) == 1
    assert arrivals(rate, duration, 7) == min(7, count)


@given(st.integers(1, 10000), st.integers(1, 86400))
def test_whole_rates_and_durations_give_their_product(rate: int, duration: int) -> None:
    assert arrivals(rate, duration) == rate * duration


@given(st.integers(1, 10000), st.integers(1, 86400))
@example(29, 100)
def test_rates_in_hundredths_too(hundredths: int, duration: int) -> None:
    """0.29 * 100 is a little less than 29 to a computer."""
    assert arrivals(hundredths / 100, duration) == max(1, hundredths * duration // 100)


@given(rates, st.integers(1, 10**8))
def test_the_schedule_is_even_however_late_it_is(rate: float, number: int) -> None:
    assert math.isclose(due(number + 1, rate) - due(number, rate), 1 / rate, rel_tol=1e-3)


mixes = st.dictionaries(st.sampled_from(Kind), st.floats(0.001, 1000), min_size=1)


@given(mixes, st.integers(1, 500))
def test_every_kind_stays_near_its_share(mix: dict[Kind, float], count: int) -> None:
    mixer = Mixer(mix)
    dealt: Counter[Kind] = Counter()
    for number in range(1, count + 1):
        dealt[mixer.next()] += 1
        for kind, share in mix.items():
            assert abs(dealt[kind] - number * share / sum(mix.values())) < len(mix)
    assert dealt.total() == count


@given(mixes)
def test_a_mix_deals_the_same_every_time(mix: dict[Kind, float]) -> None:
    first, second = Mixer(mix), Mixer(mix)
    assert [first.next() for _unused in range(50)] == [second.next() for _unused in range(50)]


@given(st.lists(st.floats(1e-6, 3600), min_size=1, max_size=200), st.floats(0.1, 100))
def test_percentiles_are_within_a_percent(values: list[float], percent: float) -> None:
    latencies = Latencies()
    for value in values:
        latencies.add(value)
    exact = sorted(values)[max(0, math.ceil(len(values) * percent / 100 - 1e-9) - 1)]
    assert exact * 0.999999 <= latencies.percentile(percent) <= exact * 1.010001
    assert latencies.percentile(100) == max(values)
    shown = latencies.to_dict()
    assert shown["p50"] <= shown["p90"] <= shown["p99"] <= shown["max"]
    assert shown["count"] == len(values)


def test_no_latencies_are_zero() -> None:
    assert Latencies().to_dict() == {"p50": 0, "p90": 0, "p99": 0, "max": 0, "count": 0}


ids = st.sampled_from([f"i{number}" for number in range(8)])


@given(st.dictionaries(ids, st.sampled_from(Outcome)), st.lists(ids))
def test_reconciliation_tells_each_story_once(sent: dict[str, Outcome], executed: list[str]) -> None:
    found = reconcile(sent, executed)
    good = {Outcome.OK, Outcome.LATE}
    for ident, outcome in sent.items():
        times = executed.count(ident)
        assert (ident in found.lost) == (outcome in good and times == 0)
        unanswered = outcome not in good | UNCOUNTED
        assert (ident in found.failed_but_executed) == (unanswered and times > 0)
        assert (ident in found.executed_twice) == (times > 1)
    assert {*found.lost, *found.failed_but_executed, *found.executed_twice} <= set(sent)
    assert found.unknown == sum(ident not in sent for ident in executed)
    assert found.executed == len(set(sent) & set(executed))
    shown = found.to_dict()
    assert shown["lost_count"] == len(found.lost)
    assert reconcile(sent, (ident for ident in executed)) == found


names = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=5)
times = st.floats(0, 1e5).map(lambda value: round(value, 3))
records = st.builds(
    Record,
    kind=st.sampled_from(Kind),
    outcome=st.sampled_from(Outcome),
    scheduled=times,
    started=times,
    ended=times,
    status=st.sampled_from([0, 200, 404, 503]),
    version=names,
    host=names,
    size=st.integers(0, 10**9),
    id=names,
    detail=st.text(max_size=300),
)


def summary_of(many: list[Record]) -> Summary:
    tally = Tally()
    for record in many:
        tally.add(record)
    facts = RunFacts(
        url="http://a/",
        started="2026-01-01T00:00:00+00:00",
        duration=1.0,
        sending=1.0,
        rate=1.0,
        stopped_by="",
        sessions_lost=0,
        websockets={},
        idle_closed_seen=0,
        connect_fallbacks=0,
        log=None,
        log_error=None,
    )
    return summarise(tally, facts)


@given(st.lists(records, max_size=60))
def test_the_totals_of_a_summary_agree(many: list[Record]) -> None:
    summary = summary_of(many)
    counted = [record for record in many if record.outcome not in UNCOUNTED]
    assert summary.requests_total == len(counted) == sum(summary.by_class.values())
    assert summary.scheduled == len(many) == summary.requests_total + summary.not_sent + summary.unfinished
    for table in (summary.by_kind, summary.by_version, summary.by_host):
        assert sum(sum(counts.values()) for counts in table.values()) == len(counted)
        for name in Outcome:
            if name not in UNCOUNTED:
                assert sum(counts.get(name, 0) for counts in table.values()) == summary.by_class[name]
    assert summary.failed == sum(record.outcome in FAILED for record in many)
    good = summary.by_class["ok"] + summary.late
    assert summary.failed + summary.closed_idle + good == summary.requests_total
    assert len(summary.failures) == min(20, summary.failed)
    assert len(summary.idle_closes) == min(20, summary.closed_idle)
    assert Summary.from_dict(summary.to_dict()) == summary
    assert "\n" not in summary.sentence()


@given(records)
@example(Record(Kind.CLOSE, Outcome.CUT, 0, 0, 0, detail="a\tb\nc\x85\u2028"))
def test_a_log_line_is_read_back(record: Record) -> None:
    line = record.line()
    assert line.count("\n") == 1
    assert line.count("\t") == 10
    back = Record.from_line(line)
    assert (back.kind, back.outcome, back.status, back.size) == (
        record.kind,
        record.outcome,
        record.status,
        record.size,
    )
    for value, wanted in ((back.version, record.version), (back.host, record.host), (back.id, record.id)):
        assert value == ("" if wanted == "-" else wanted)
    assert math.isclose(back.ended - back.started, record.ended - record.started, abs_tol=1e-4)


spans = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20)).map(lambda s: (s[0], s[0] + s[1])), max_size=6)


@given(spans)
def test_mixed_time_is_where_two_versions_overlap(many: list[tuple[int, int]]) -> None:
    wanted = sum(sum(first <= at < last for first, last in many) >= 2 for at in range(80))
    assert mixed_seconds(many) == wanted


@given(st.lists(times, min_size=1))
def test_a_version_is_seen_from_its_first_to_its_last_request(starts: list[float]) -> None:
    tally = Tally()
    for start in starts:
        tally.add(Record(Kind.CLOSE, Outcome.OK, start, start, start + 1, 200, "1.0"))
    assert tally.versions == {"1.0": Seen(min(starts), max(starts), len(starts))}


@given(st.lists(st.tuples(names.filter(lambda n: ";" not in n and "=" not in n), names), max_size=20))
def test_a_jar_holds_no_empty_cookies(cookies: list[tuple[str, str]]) -> None:
    user = User("S")
    user.answered("", [f"{name}={value}; Path=/" for name, value in cookies])
    assert all(user.jar.values())


@given(st.integers(0, 200))
def test_a_jar_is_bounded(count: int) -> None:
    user = User("S")
    user.answered("", [f"c{number}=v; Path=/" for number in range(count)])
    assert len(user.jar) == min(count, 50)


@given(st.integers(2, 400))
def test_totals_are_bounded_in_names(count: int) -> None:
    tally = Tally()
    for number in range(count):
        tally.add(Record(Kind.CLOSE, Outcome.OK, 0, 0, 1, 200, f"v{number}", f"h{number % 7}"))
    assert len(tally.by_version) <= 51
    assert len(tally.versions) <= 50
    assert sum(counts.total() for counts in tally.by_version.values()) == count


def test_pairs_of_times_are_ordered() -> None:
    assert all(due(a, 3) < due(b, 3) for a, b in pairwise(range(1000)))
