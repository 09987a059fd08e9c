# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What a log has of the past, cut into stretches of time.

Lines stand in the order in which requests ended, so where a stretch begins is found by halving, and only lines
of it are read. The time may be written in any of the usual ways.
"""

from __future__ import annotations

import calendar
import os
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._access_log.counts import Counts
from ansible_collections.zerodrop.rollout.plugins.module_utils._access_log.read import Format
from ansible_collections.zerodrop.rollout.plugins.module_utils._access_log.tail import BLOCK, Log, opened

MOST = 256 << 20  # bytes of a log that are read at most: seconds of one core
NEAR = 64 * 1024  # within so many bytes lines are looked at one by one

_MONTHS = {
    name: number
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), 1
    )
}
_WRITTEN = re.compile(
    r"\[(?P<day>\d\d)/(?P<month>[A-Z][a-z]{2})/(?P<year>\d{4}):(?P<time>\d\d:\d\d:\d\d)(?:\.\d+)?(?: (?P<zone>[+-]\d{4}))?\]"
    r"|(?P<date>\d{4}-\d\d-\d\d)T(?P<iso>\d\d:\d\d:\d\d)(?:[.,]\d+)?(?P<offset>Z|[+-]\d\d:?\d\d)"
    r"|(?<![\d.])(?P<epoch>1\d{9})(?:\.\d{3})?(?![\d.])"
)


def moment_of(line: str) -> float | None:
    """When a line was written, in seconds since the epoch; None where it does not say."""
    found = _WRITTEN.search(line)
    if found is None:
        return None
    if found["epoch"]:
        return float(found["epoch"])
    if found["date"]:
        year, month, day = (int(part) for part in found["date"].split("-"))
        clock, zone = found["iso"], found["offset"].replace(":", "").replace("Z", "+0000")
    else:
        year, month, day = int(found["year"]), _MONTHS.get(found["month"], 0), int(found["day"])
        clock, zone = found["time"], found["zone"]
    if not 1 <= month <= 12:
        return None
    hour, minute, second = (int(part) for part in clock.split(":"))
    parts = (year, month, day, hour, minute, second, 0, 0, -1)
    if zone is None:  # HAProxy writes the host's own time
        return time.mktime(parts)
    ahead = 3600 * int(zone[1:3]) + 60 * int(zone[3:5])
    return float(calendar.timegm(parts) - (-ahead if zone[0] == "-" else ahead))


def _offsets(path: str, moments: Sequence[float]) -> list[tuple[str, list[int]]] | None:
    """Where each of these rising moments is in a log, and in what was rotated away from it and is not packed.

    None where lines do not say when they were written.
    """
    found = []
    timed = False
    for each in [*reversed(Log(path, []).rotated()), path]:  # the oldest first
        with opened(each) as file:
            size = os.fstat(file.fileno()).st_size
            timed = timed or _first(file, max(0, size - NEAR)) is not None
            found.append((each, [_offset(file, size, moment) for moment in moments]))
    return found if timed else None


def count_past(
    log_format: Format, paths: Sequence[str], moments: Sequence[float], made: Callable[[], Counts], most: int = MOST
) -> list[Counts] | None:
    """What is counted between each two of the moments; None where the lines have no time.

    ``made`` makes empty counts. Of a log with more than ``most`` bytes between them the newest stretches are counted.
    """
    found = [made() for _each in moments[1:]]
    for path in paths:
        files = _offsets(path, moments)
        if files is None:
            return None
        left = most
        for piece in range(len(found) - 1, -1, -1):
            parts = [(name, offsets[piece], offsets[piece + 1]) for name, offsets in files]
            left -= sum(end - begin for _name, begin, end in parts)
            if left < 0:
                break
            for name, begin, end in parts:
                _count(log_format, name, begin, end, found[piece])
    return found


def _count(log_format: Format, path: str, begin: int, end: int, found: Counts) -> None:
    with opened(path) as file:
        file.seek(begin)
        left, rest = end - begin, b""
        while left > 0:
            data = file.read(min(BLOCK, left))
            if not data:
                break
            left -= len(data)
            data = rest + data
            whole = data.rfind(b"\n") + 1
            rest = data[whole:]
            log_format.count(data[:whole].decode("utf-8", "replace"), found)


def _offset(file: Any, size: int, moment: float) -> int:
    """Where the first line of this moment or later begins; the file's end where there is none."""
    low, high = 0, size
    while high - low > NEAR:
        middle = (low + high) // 2
        at = _first(file, middle)
        if at is None or at < moment:
            low = middle
        else:
            high = middle
    file.seek(low)
    begin = low
    for line in file.read(high - low + NEAR).splitlines(keepends=True):
        whole = begin > low or low == 0
        at = moment_of(line.decode("utf-8", "replace")) if whole else None
        if at is not None and at >= moment:
            return begin
        begin += len(line)
    return begin


def _first(file: Any, offset: int) -> float | None:
    """The time of the first whole line from here on that has one."""
    file.seek(offset)
    lines = file.read(NEAR).split(b"\n")
    for line in lines[1 if offset else 0 : -1]:
        at = moment_of(line.decode("utf-8", "replace"))
        if at is not None:
            return at
    return None
