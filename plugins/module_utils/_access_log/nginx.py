# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""nginx's access log, in any format that has what is needed; the one below has all.

Every member that nginx tried for a request counts once, by the last try. An
answer that is shorter than it said it would be, while nginx saw the request
through, was cut by the member; where the client went away, nginx did not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ansible_collections.zerodrop.rollout.plugins.module_utils._access_log import counts as kinds
from ansible_collections.zerodrop.rollout.plugins.module_utils._access_log.counts import Counts
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput

FORMAT = (
    "$upstream_addr|$upstream_status|$upstream_response_time|$request_time|$status|$upstream_connect_time|"
    "$upstream_header_time|$upstream_response_length|$upstream_http_content_length|$request_completion|$request_method"
)
NEEDED = ("upstream_addr", "upstream_status", "upstream_response_time", "request_time", "status")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_MANY = "{one}(?:(?:, | : ){one})*"  # one value for each member that was tried
_NUMBERS = _MANY.format(one=r"(?:\d+(?:\.\d+)?|-)")
_SHAPES = {
    "upstream_addr": _MANY.format(one=r'[^\s,"|]+'),
    "upstream_status": _MANY.format(one=r"(?:\d{3}|-)"),
    "upstream_response_time": _NUMBERS,
    "upstream_connect_time": _NUMBERS,
    "upstream_header_time": _NUMBERS,
    "upstream_response_length": _NUMBERS,
    "request_time": r"\d+\.\d+",
    "status": r"\d{3}",
    "upstream_http_content_length": r"(?:\d+|-)",
    "request_completion": "(?:OK)?",
    "request_method": r"[^\s|]*",
}


def compiled(log_format: str, what: str = "log_format") -> tuple[re.Pattern[str], dict[str, int]]:
    """The pattern of a ``log_format`` and the group of each variable that is read; raises ``BadInput``."""
    names = [a or b for a, b in _VARIABLE.findall(log_format)]
    missing = [name for name in NEEDED if name not in names]
    if missing:
        raise BadInput(
            f"{what} has no {', '.join('$' + name for name in missing)}, found {log_format!r}.",
            f"Without them no request can be told from another. Use: log_format rollout '{FORMAT}';",
        )
    parts, end = ["^"], 0
    groups: dict[str, int] = {}
    for match in _VARIABLE.finditer(log_format):
        parts.append(re.escape(log_format[end : match.start()]))
        end = match.end()
        name, follows = match[1] or match[2], log_format[end : end + 1]
        if name in _SHAPES and name not in groups:
            groups[name] = len(groups) + 1
            parts.append(f"({_SHAPES[name]})")
        elif follows and follows != "$":
            parts.append(f"[^{re.escape(follows)}\\n]*")  # nginx escapes quotes, and no value has a line's end
        else:
            parts.append("[^\\n]*?")
    parts.append(re.escape(log_format[end:]) + "$")
    return re.compile("".join(parts), re.MULTILINE), groups


class NginxLog:
    """Counts the lines that name one of these members' addresses."""

    def __init__(self, log_format: str, addresses: Mapping[str, str]) -> None:
        """``addresses``: members' names by the address that nginx writes, such as ``10.0.0.1:80``."""
        self._pattern, groups = compiled(log_format)
        self._addresses = addresses
        self._first = [groups[name] - 1 for name in NEEDED]
        self._more = [groups.get(name) for name in (
            "upstream_connect_time", "upstream_header_time", "upstream_response_length",
            "upstream_http_content_length", "request_completion", "request_method",
        )]  # fmt: skip
        self.expected = f"lines of the log format {log_format!r}"

    def count(self, text: str, found: Counts) -> None:
        """Count a block of whole lines."""
        rows = self._pattern.findall(text)
        addr, stat, time, _total, final = self._first
        for row in rows:
            address = row[addr]
            name = self._addresses.get(address)
            if name is not None:
                self._one(name, 0, 1, row, row[stat], row[time], row[final], found)
            elif "," in address or " : " in address:
                self._tries(address, row, found)
        found.lines += len(rows)
        lines = text.count("\n")
        if len(rows) < lines:
            for line in text.split("\n"):
                if line.strip() and not self._pattern.search(line):
                    found.unreadable(line)

    def _tries(self, address: str, row: tuple[str, ...], found: Counts) -> None:
        """A request for which nginx tried several members, or one several times."""
        _addr, stat, time, _total, final = self._first
        addresses, statuses, times = (_list(row[index]) for index in (_addr, stat, time))
        last: dict[str, int] = {}
        for index, each in enumerate(addresses):
            name = self._addresses.get(each)
            if name is not None:
                last[name] = index
        for name, index in last.items():
            count = found.of(name)
            if count is not None and index + 1 < len(addresses):
                count.retries += 1
            status = statuses[index] if index < len(statuses) else "-"
            self._one(
                name, index, len(addresses), row, status, times[index] if index < len(times) else "-", row[final], found
            )

    def _one(
        self, name: str, index: int, of: int, row: tuple[str, ...], status: str, time: str, final: str, found: Counts
    ) -> None:
        count = found.of(name)
        if count is None:
            return
        count.requests += 1
        last = index == of - 1
        connect, header, length, promised, completion, method = (
            row[group - 1] if group else None for group in self._more
        )
        if of > 1:
            connect, header, length = (_at(each, index) for each in (connect, header, length))
        if status == "-" or (final == "499" and last):
            count.client_aborts += 1
            return
        if status[0] == "5":
            kind = kinds.STATUS_5XX
            if header == "-" and status in ("502", "504"):
                # No head of an answer arrived: the status is nginx's own.
                kind = kinds.CONNECT if connect == "-" else kinds.TIMEOUT if status == "504" else kinds.RESPONSE
            count.kinds[kind] += 1
        elif last and completion is not None and method != "HEAD" and status != "304" and _shorter(length, promised):
            if not completion:
                count.client_aborts += 1
            else:
                count.kinds[kinds.CUT] += 1
        elapsed = header if header not in (None, "-", "") else time
        if elapsed and elapsed != "-" and status != "101" and (header is None or header != "-"):
            count.latency[found.bucket(int(float(elapsed) * 1000.0 + 0.5))] += 1


def _list(text: str) -> list[str]:
    return text.replace(" : ", ", ").split(", ")


def _at(text: str | None, index: int) -> str | None:
    if text is None:
        return None
    parts = _list(text)
    return parts[index] if index < len(parts) else "-"


def _shorter(length: str | None, promised: str | None) -> bool:
    return bool(length and promised and length.isdigit() and promised.isdigit() and int(length) < int(promised))
