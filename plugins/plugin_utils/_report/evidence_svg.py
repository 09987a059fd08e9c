# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The picture of a verdict: evidence, ratio, share and latency against time, as one SVG that needs nothing else.

Lines are told apart by their dashes and by words beside their ends, so that it reads in black and white.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, isfinite, log, log10
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._access_log.counts import BUCKETS
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.trace import Band, Trace, trace

WIDTH, HEIGHT = 760, 150  # of a chart, its margins included
LEFT, RIGHT, TOP, BOTTOM = 62, 118, 24, 22
SOLID, DASHED, DOTTED, CHAINED = "", "7 4", "2 3", "9 3 2 3"
_LEAST = -3.0  # evidence below a thousandth says no more
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)

Series = Sequence[float | None]


@dataclass(frozen=True)
class Line:
    """One series, and how it is drawn."""

    name: str
    values: Series
    dash: str = SOLID
    grey: str = "#000"


@dataclass(frozen=True)
class Chart:
    """One chart of the picture; values are where they stand on its axis."""

    title: str
    lines: Sequence[Line]
    low: float
    high: float
    marks: Sequence[tuple[float, str]]
    levels: Sequence[tuple[float, str]] = ()  # lines across, with words
    band: Sequence[tuple[float, float, float]] = ()  # time, from, to


def evidence_svg(params: Mapping[str, Any], bounds: Sequence[int] = BUCKETS) -> str:
    """The picture of the polls, history and settings that ``verdict`` takes; empty where there are no polls.

    ``bounds`` are the upper bounds of the histograms' buckets in milliseconds.
    """
    if not params.get("polls"):
        return ""
    return drawn(trace(params, bounds))


def drawn(found: Trace) -> str:
    """The picture of a trace."""
    charts = [_evidence(found), _ratio(found), _share(found)]
    if any(value is not None for series in found.latency.values() for value in series):
        charts.append(_latency(found))
    times, height = _Times(found.at), HEIGHT * len(charts) + 16
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
            'role="img" font-family="sans-serif" font-size="11" fill="#000">'
        ),
        "<title>Evidence for and against the canary</title>",
        f"<desc>{escape(_words(found))}</desc>",
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
    ]
    for number, chart in enumerate(charts):
        parts.append(f'<g transform="translate(0 {number * HEIGHT})">{_chart(chart, found, times)}</g>')
    parts.append(
        f'<text x="{LEFT}" y="{height - 4}" fill="#444">Minutes and seconds since the first poll. '
        "Grey: polls that do not count.</text></svg>"
    )
    return "".join(parts)


def _words(found: Trace) -> str:
    return (
        f"{len(found.at)} polls in {_clock(found.at[-1] - found.at[0])}. Evidence that the canary is worse: "
        f"{_odds(found.roll_back[-1])} of {found.needed[0]:.0f} to 1 needed; that it is fine: "
        f"{_odds(found.promote[-1])} of {found.needed[1]:.0f} to 1."
    )


# --- the four charts ---


def _evidence(found: Trace) -> Chart:
    needed = [log10(each) for each in found.needed]
    series = [[max(_LEAST, value / log(10)) for value in values] for values in (found.roll_back, found.promote)]
    high = ceil(max(*needed, *series[0], *series[1]) + 0.2)
    high = min(high, max(ceil(max(needed)) + 6, 1))  # beyond that it is clear, and the rest would be flat
    step = max(1, ceil((high - _LEAST) / 6))
    marks = [(float(power), _power(power)) for power in range(0, high + 1, step)]
    marks += [(-float(power), _power(-power)) for power in range(step, int(-_LEAST) + 1, step)]
    return Chart(
        "Evidence, to 1",
        [Line("it is worse", series[0]), Line("it is fine", series[1], DASHED)],
        _LEAST,
        float(high),
        marks,
        [(needed[0], f"roll back from {found.needed[0]:.0f}"), (needed[1], f"promote from {found.needed[1]:.0f}")],
    )


def _ratio(found: Trace) -> Chart:
    """On a scale on which twice and half are as far from one."""
    rows = {band.at: band for band in found.bands}
    series: list[float | None] = []
    for at in found.at:
        band = rows.get(at)
        series.append(log10(band.ratio) if band and band.ratio else None)
    edges = [(band.at, *_edges(band)) for band in found.bands]
    values = [value for value in series if value is not None] + [edge for _at, *both in edges for edge in both]
    low = min([-0.4, *(floor(10 * value) / 10 for value in values)])
    high = max([0.7, *(ceil(10 * value) / 10 for value in values)])
    low, high = max(low, -1.5), min(high, 2.0)
    shown = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 10, 20, 50, 100)
    marks = [(log10(each), f"{each:g}x") for each in shown if low <= log10(each) <= high]
    return Chart(
        "Errors: canary's rate over the baseline's, with its bounds",
        [Line("ratio", series)],
        low,
        high,
        marks,
        [(0.0, "as good")],
        edges,
    )


def _edges(band: Band) -> tuple[float, float]:
    least = log10(band.least) if band.least else -1.5
    most = log10(band.most) if band.most else 2.0
    return min(least, most), max(least, most)


def _share(found: Trace) -> Chart:
    others = [None if share is None else 100.0 - share for share in found.shares]
    return Chart(
        "Share of the traffic, %",
        [Line("canary", found.shares), Line("baseline", others, DASHED)],
        0.0,
        100.0,
        [(float(mark), str(mark)) for mark in (0, 25, 50, 75, 100)],
    )


def _latency(found: Trace) -> Chart:
    """In powers of ten: both the usual answer and the slowest ones are seen."""
    look = {("canary", 0.5): SOLID, ("baseline", 0.5): DASHED, ("canary", 0.99): CHAINED, ("baseline", 0.99): DOTTED}
    lines = []
    values: list[float] = []
    for (arm, quantile), dash in look.items():
        series = [None if not each else log10(each) for each in found.latency.get((arm, quantile), ())]
        values += [each for each in series if each is not None]
        lines.append(Line(f"{arm} p{100 * quantile:.0f}", series, dash))
    low, high = floor(min(values)), ceil(max(values) + 1e-9)
    high = max(high, low + 1)
    marks = [
        (power + log10(part), f"{1000 * 10**power * part:g} ms")
        for power in range(low, high + 1)
        for part in (1, 3)
        if power + log10(part) <= high
    ]
    return Chart("Latency: half of the answers, and 99 of 100, are faster", lines, float(low), float(high), marks)


# --- how a chart is drawn ---


class _Times:
    """Where a moment stands."""

    def __init__(self, at: Sequence[float]) -> None:
        self.first = at[0]
        self.span = max(at[-1] - at[0], 1.0)

    def x(self, at: float) -> float:
        part = min(1.0, max(0.0, (at - self.first) / self.span))
        return LEFT + part * (WIDTH - LEFT - RIGHT)

    def marks(self) -> list[tuple[float, str]]:
        step = next((each for each in _STEPS if self.span / each <= 8), _STEPS[-1])
        return [(self.first + n * step, _clock(n * step)) for n in range(int(self.span / step) + 1)]


def _chart(chart: Chart, found: Trace, times: _Times) -> str:
    bottom = HEIGHT - BOTTOM

    def y(value: float) -> float:
        part = (min(max(value, chart.low), chart.high) - chart.low) / (chart.high - chart.low)
        return bottom - part * (bottom - TOP)

    parts = [f'<text x="{LEFT}" y="14" font-weight="bold">{escape(chart.title)}</text>']
    for begin, end in found.not_counted:
        left, right = times.x(begin), times.x(end)
        if right > left:
            parts.append(
                f'<rect x="{left:.1f}" y="{TOP}" width="{right - left:.1f}" height="{bottom - TOP}" fill="#e8e8e8"/>'
            )
    for value, words in chart.marks:
        parts.append(
            f'<path d="M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>'
            f'<text x="{LEFT - 5}" y="{y(value) + 4:.1f}" text-anchor="end">{escape(words)}</text>'
        )
    for at, words in times.marks():
        parts.append(
            f'<path d="M{times.x(at):.1f} {bottom}v4" stroke="#000"/>'
            f'<text x="{times.x(at):.1f}" y="{bottom + 15}" text-anchor="middle">{escape(words)}</text>'
        )
    if chart.band:
        edge = [f"{times.x(at):.1f},{y(most):.1f}" for at, _least, most in chart.band]
        edge += [f"{times.x(at):.1f},{y(least):.1f}" for at, least, _most in reversed(chart.band)]
        parts.append(f'<polygon points="{" ".join(edge)}" fill="#bbb" fill-opacity="0.6" stroke="#888"/>')
    beside: list[tuple[float, str]] = []
    for value, words in chart.levels:
        parts.append(f'<path d="M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}" stroke="#000" stroke-dasharray="1 2"/>')
        beside.append((y(value), words))
    for line in chart.lines:
        parts.append(
            f'<path d="{_path(line.values, found.at, times, y)}" fill="none" stroke="{line.grey}" stroke-width="1.6" '
            f'stroke-dasharray="{line.dash or "none"}"/>'
        )
        last = next((value for value in reversed(line.values) if value is not None), None)
        if last is not None:
            beside.append((y(last), line.name))
    parts += [
        f'<text x="{WIDTH - RIGHT + 6}" y="{at + 4:.1f}">{escape(words)}</text>' for at, words in _apart(beside, bottom)
    ]
    parts.append(f'<path d="M{LEFT} {TOP}V{bottom}H{WIDTH - RIGHT}" fill="none" stroke="#000"/>')
    return "".join(parts)


def _path(values: Series, at: Sequence[float], times: _Times, y: Any) -> str:
    """Lines between values that are known. What is missing in between is bridged where the series is a sparse one."""
    known = [(times.x(moment), y(value)) for moment, value in zip(at, values, strict=False) if value is not None]
    if len(known) == 1:
        known.append((known[0][0] + 2.0, known[0][1]))
    return "".join(f"{'L' if number else 'M'}{x:.1f} {height:.1f}" for number, (x, height) in enumerate(known))


def _apart(beside: Sequence[tuple[float, str]], bottom: float) -> list[tuple[float, str]]:
    """Words beside the chart, moved so that none stands upon another."""
    found: list[tuple[float, str]] = []
    for at, words in sorted(beside):
        found.append((max(at, found[-1][0] + 12.0) if found else at, words))
    over = max(0.0, found[-1][0] - bottom - 8.0) if found else 0.0
    return [(at - over, words) for at, words in found]


def _power(power: float) -> str:
    return f"{10**power:,.0f}" if 0 <= power <= 5 else f"10^{power:.0f}" if power > 0 else f"1/{10**-power:,.0f}"


def _odds(evidence: float) -> str:
    power = evidence / log(10)
    return f"{10**power:.3g}" if isfinite(power) and power < 21 else "more than 1e21"


def _clock(seconds: float) -> str:
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"
