# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The charts over a rollout's time: requests by version, latency, members in service.

A chart's lines are an SVG that is stretched to the page's width; its words are not in it, so that they stay readable on a
phone. Every chart of a report has the same time axis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._report.scale import amount, marks, percent, top
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._report.timeline import in_service

WIDTH, HEIGHT = 1000, 200
MOST_POINTS = 1200  # a picture has no more columns than that
NOBODY = "-"
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Shape:
    """One area or line of a chart: its class, and its path."""

    kind: str
    path: str


@dataclass(frozen=True)
class Mark:
    """A word at a place of an axis, in percent of it."""

    at: str
    words: str


@dataclass(frozen=True)
class Chart:
    """A chart, and what it says in a sentence for who cannot see it."""

    title: str
    words: str
    shapes: tuple[Shape, ...]
    rows: tuple[Mark, ...]  # the marks of the vertical axis, from the bottom
    legend: tuple[tuple[str, str], ...]  # class and words
    failures: tuple[Mark, ...] = ()  # moments with failed requests
    unit: str = ""


def charts(report: Mapping[str, Any]) -> list[Chart]:
    """Those that this report has data for."""
    found = []
    series = report.get("series")
    if series and series["failed"]:
        found += [_requests(report, series), _latency(report, series)]
    if report["events"] and not report["check"]:
        found.append(_members(report, series))
    return found


def _requests(report: Mapping[str, Any], series: Mapping[str, Any]) -> Chart:
    """Stacked, the oldest version at the bottom; what no version answered is on top."""
    step, span = series["step"], float(report["duration_seconds"])
    names = _in_order(series["versions"])
    columns = {name: _thinned([each / step for each in series["versions"][name]]) for name in names}
    times = _times(series, len(next(iter(columns.values()))))
    base = [0.0] * len(times)
    layers = []
    for name in names:
        above = [low + each for low, each in zip(base, columns[name], strict=True)]
        layers.append((name, base, above))
        base = above
    high = top(max(base))
    shapes = [
        Shape(_kind(number, name), _area(_steps(times, low, span, high), _steps(times, above, span, high)))
        for number, (name, low, above) in enumerate(layers)
    ]
    failed = sum(series["failed"])
    labels = [_version(name) for name in names]
    words = f"Requests per second, at most {amount(round(max(base)))}, by {', '.join(labels)}; {failed:,} failed."
    return Chart(
        "Requests per second, by version",
        words,
        tuple(shapes),
        _rows(high),
        (
            *((_kind(number, name), label) for number, (name, label) in enumerate(zip(names, labels, strict=True))),
            *([("fail", "failed requests")] if failed else []),
        ),
        _failures(series, span),
        "requests per second",
    )


def _latency(report: Mapping[str, Any], series: Mapping[str, Any]) -> Chart:
    span = float(report["duration_seconds"])
    p50 = _thinned_times(series["p50"], lambda each: sum(each) / len(each))
    p99 = _thinned_times(series["p99"], max)
    times = _times(series, len(p50))
    high = top(max([each for each in p99 if each is not None], default=1.0))
    known = [each for each in series["p50"] if each is not None]
    usual = sorted(known)[len(known) // 2] if known else 0.0
    worst = max([each for each in series["p99"] if each is not None], default=0.0)
    return Chart(
        "Latency",
        f"Latency in milliseconds: the median is usually {usual:g}, the highest p99 of a second is {worst:g}.",
        (Shape("p99", _line(times, p99, span, high)), Shape("p50", _line(times, p50, span, high))),
        _rows(high, " ms"),
        (("p50", "median"), ("p99", "slowest of a hundred (p99)")),
        unit="milliseconds",
    )


def _members(report: Mapping[str, Any], series: Mapping[str, Any] | None) -> Chart:
    """By the rollout's count; where the witness sent enough to tell, also how many hosts answered it."""
    span, floor = float(report["duration_seconds"]), int(report["floor"])
    steps = in_service(report)
    most = max(count for _at, count in steps)
    high = max(most * 1.05, 1.0)
    path = "M" + "L".join(
        f"{_x(at, span)} {_y(count, high)}"
        for (at, count), (until, _next) in zip(steps, [*steps[1:], (span, 0)], strict=True)
        for at in (at, until)
    )
    shapes = [Shape("floor", f"M0 {_y(floor, high)}H{WIDTH}"), Shape("members", path)]
    legend = [("members", "members in service"), ("floor", f"floor ({floor})")]
    if series and _tells(report, series, most):
        hosts = _thinned_times([each or None for each in series["hosts"]], min)
        shapes.insert(0, Shape("hosts", _line(_times(series, len(hosts)), hosts, span, high)))
        legend.append(("hosts", "members that answered the witness in the second"))
    least = min(count for _at, count in steps)
    return Chart(
        "Members in service",
        f"Members in service: at least {least} of {most}; the floor is {floor}.",
        tuple(shapes),
        _rows(high),
        tuple(legend),
        unit="members",
    )


def _tells(report: Mapping[str, Any], series: Mapping[str, Any], members: int) -> bool:
    """Whether in every second each member would have got requests of the witness."""
    requests = sum(sum(each) for each in series["versions"].values())
    return bool(requests / (len(series["failed"]) * series["step"]) >= 10 * members) and bool(report["members"])


# --- words and places ---


def _in_order(versions: Mapping[str, Sequence[int]]) -> list[str]:
    """By when each answered first; those without a name last."""

    def first(name: str) -> int:
        return next((number for number, count in enumerate(versions[name]) if count), len(versions[name]))

    return sorted(versions, key=lambda name: (name == NOBODY, first(name)))


def _version(name: str) -> str:
    return "no version named" if name == NOBODY else f"version {name}"


def _kind(number: int, name: str) -> str:
    return "nobody" if name == NOBODY else f"v{number % 4}"


def _rows(high: float, unit: str = "") -> tuple[Mark, ...]:
    return tuple(Mark(percent(each, high), amount(each) + unit) for each in marks(high) if each <= high)


def _failures(series: Mapping[str, Any], span: float) -> tuple[Mark, ...]:
    """A mark for each stretch of steps with failed requests."""
    found: list[tuple[float, int]] = []
    last = None
    for number, failed in enumerate(series["failed"]):
        if not failed:
            continue
        if last is not None and number - last <= max(1, len(series["failed"]) // 100):
            found[-1] = found[-1][0], found[-1][1] + failed
        else:
            found.append((series["at"] + number * series["step"], failed))
        last = number
    return tuple(Mark(percent(max(0.0, at), span), f"{failed:,} failed at {at:.0f} s") for at, failed in found)


def _fold(count: int) -> int:
    return -(-count // MOST_POINTS)


def _thinned(values: Sequence[float]) -> list[float]:
    """At most ``MOST_POINTS``: means of neighbours."""
    size = _fold(len(values))
    parts = [values[at : at + size] for at in range(0, len(values), size)]
    return [sum(part) / len(part) for part in parts]


def _thinned_times(values: Sequence[float | None], choose: Any) -> list[float | None]:
    size = _fold(len(values))
    parts = [[each for each in values[at : at + size] if each is not None] for at in range(0, len(values), size)]
    return [choose(part) if part else None for part in parts]


def _times(series: Mapping[str, Any], count: int) -> list[float]:
    """When each column begins, and when the last one ends."""
    width = series["step"] * _fold(len(series["failed"]))
    return [series["at"] + number * width for number in range(count)]


def _x(at: float, span: float) -> str:
    return _number(max(0.0, min(1.0, at / span if span else 0.0)) * WIDTH)


def _y(value: float, high: float) -> str:
    return _number(HEIGHT * (1 - min(1.0, value / high)))


def _number(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")


def _steps(times: Sequence[float], values: Sequence[float], span: float, high: float) -> list[str]:
    """The upper edge of columns."""
    ends = [*times[1:], times[-1] + (times[1] - times[0] if len(times) > 1 else 1)]
    return [
        f"{_x(x, span)} {_y(value, high)}"
        for at, end, value in zip(times, ends, values, strict=True)
        for x in (at, end)
    ]


def _area(low: list[str], above: list[str]) -> str:
    return "M" + "L".join([*above, *reversed(low)]) + "Z"


def _line(times: Sequence[float], values: Sequence[float | None], span: float, high: float) -> str:
    """Through the middle of each column; where there is no value the line is broken off."""
    half = (times[1] - times[0]) / 2 if len(times) > 1 else 0.5
    parts: list[list[str]] = [[]]
    for at, value in zip(times, values, strict=True):
        if value is None:
            parts.append([])
        else:
            parts[-1].append(f"{_x(at + half, span)} {_y(value, high)}")
    return "".join("M" + "L".join(part if len(part) > 1 else part * 2) for part in parts if part)
