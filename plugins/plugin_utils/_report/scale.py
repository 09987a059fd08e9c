# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Axes: round numbers to mark, and where a value stands between the ends."""

from __future__ import annotations

import math
from collections.abc import Sequence

_STEPS = (1.0, 2.0, 5.0, 10.0)
_ENDS = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
_TIME_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400)


def top(value: float, steps: Sequence[float] = _ENDS) -> float:
    """The round number at or above a value that an axis ends at; at least 1."""
    if not math.isfinite(value) or value <= 1:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return float(next(step * power for step in steps if step * power >= value * 0.999999))


def marks(end: float, about: int = 4) -> list[float]:
    """Round values from 0 to at most ``end``."""
    step = top(end / about, _STEPS) if end >= about else end / about or 1.0
    return [step * number for number in range(int(end / step + 1e-9) + 1)]


def time_marks(seconds: float, about: int = 6) -> list[float]:
    """Moments worth a mark, from 0 to at most ``seconds``."""
    step = next((each for each in _TIME_STEPS if seconds / each <= about), None)
    if step is None:
        step = math.ceil(seconds / about / 86400) * 86400
    return [float(step * number) for number in range(int(seconds / step) + 1)]


def clock(seconds: float) -> str:
    """A moment of a rollout, as people read it: ``7 s``, ``2:05``, ``1:02:05``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def lasted(seconds: float) -> str:
    """How long something took."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def amount(value: float) -> str:
    """A number on an axis."""
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"


def percent(value: float, whole: float) -> str:
    """Where it stands, for a style: never outside."""
    return f"{max(0.0, min(100.0, 100.0 * value / whole if whole else 0.0)):.2f}".rstrip("0").rstrip(".")
