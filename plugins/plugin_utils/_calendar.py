# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When a rollout may begin: a freeze, and allowed hours in a time zone. Pure: the moment is given."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WINDOW = re.compile(
    r"(?:(?P<days>[a-z]{3}(?:-[a-z]{3})?)(?:\s+|$))?(?:(?P<from>\d\d:\d\d)-(?P<to>\d\d:\d\d))?", re.ASCII
)
_WHOLE_DAY = 24 * 60


@dataclass(frozen=True)
class Window:
    """Hours of some days of the week; one that ends before it begins ends on the day after."""

    days: frozenset[int]  # 0 is Monday
    start: int  # minutes from midnight
    end: int  # may lie behind midnight

    @classmethod
    def parse(cls, value: str, name: str) -> Window:
        """From ``Mon-Thu 09:00-16:00``, ``Sat`` or ``22:00-04:00``; raises ``BadInput``."""
        found = _WINDOW.fullmatch(value.strip().lower())
        if found is None or not value.strip():
            raise BadInput(
                f"{name} must be hours such as 'Mon-Thu 09:00-16:00', 'Sat' or '22:00-04:00', got {value!r}."
            )
        days = _days(found["days"], value, name) if found["days"] else frozenset(range(7))
        if found["from"] is None:
            return cls(days, 0, _WHOLE_DAY)
        start, end = _minutes(found["from"], value, name), _minutes(found["to"], value, name)
        if start == end:
            raise BadInput(f"{name} has a window without any length: {value!r}.")
        return cls(days, start, end if end > start else end + _WHOLE_DAY)

    def holds(self, at: datetime) -> bool:
        """Whether this moment, in its own zone's wall time, lies in it."""
        minute, day = at.hour * 60 + at.minute, at.weekday()
        today = day in self.days and self.start <= minute < self.end
        return today or ((day - 1) % 7 in self.days and minute + _WHOLE_DAY < self.end)


def _days(text: str, value: str, name: str) -> frozenset[int]:
    first, _dash, last = text.partition("-")
    if first not in _DAYS or (last and last not in _DAYS):
        raise BadInput(
            f"{name} names a day that there is not in {value!r}: days are Mon, Tue, Wed, Thu, Fri, Sat, Sun."
        )
    start, end = _DAYS.index(first), _DAYS.index(last or first)
    return frozenset((start + step) % 7 for step in range((end - start) % 7 + 1))


def _minutes(text: str, value: str, name: str) -> int:
    hours, minutes = (int(part) for part in text.split(":"))
    if minutes > 59 or hours * 60 + minutes > _WHOLE_DAY:
        raise BadInput(f"{name} has a time that there is not in {value!r}.")
    return hours * 60 + minutes


def time_zone(value: Any, name: str) -> ZoneInfo:
    """A zone of the time zone database, such as ``Europe/Berlin``; raises ``BadInput``."""
    try:
        return ZoneInfo(str(value))
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise BadInput(f"{name} must be a time zone such as Europe/Berlin or UTC, got {value!r}.") from error


def moment(value: Any, name: str) -> datetime:
    """A day, or a day and a time, with or without an offset; raises ``BadInput``."""
    try:
        return datetime.fromisoformat(str(value).strip())
    except ValueError as error:
        raise BadInput(
            f"{name} must be a day or a moment such as 2026-12-27 or 2026-12-27T08:00, got {value!r}."
        ) from error


def forbids(freeze_until: datetime | None, hours: tuple[Window, ...], zone: ZoneInfo, now: datetime) -> str:
    """Why no rollout may begin at this moment; empty when one may. A moment without an offset is in the zone."""
    local = now.astimezone(zone)
    if freeze_until is not None:
        until = freeze_until if freeze_until.tzinfo else freeze_until.replace(tzinfo=zone)
        if now < until:
            return f"There is a freeze until {until:%Y-%m-%d %H:%M} ({until.tzinfo})."
    if not hours or any(window.holds(local) for window in hours):
        return ""
    opens = next_open(hours, local)
    return f"It is {local:%A %H:%M} ({zone.key}), which is not in rollout_allowed_hours; the next are on {opens:%A at %H:%M}."


def next_open(hours: tuple[Window, ...], local: datetime) -> datetime:
    """The first minute from here that lies in a window."""
    at = local.replace(second=0, microsecond=0)
    for _minute in range(8 * _WHOLE_DAY):
        if any(window.holds(at) for window in hours):
            return at
        at += timedelta(minutes=1)
    raise BadInput("rollout_allowed_hours never come.")
