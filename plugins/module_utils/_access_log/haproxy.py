# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""HAProxy's log: ``option httplog`` as it comes through syslog, or the JSON format below.

A request is an error by its termination state, or else by its status. HAProxy
writes no line at all for a request that fails before the first byte of its
answer on a connection on which the client was served before: it closes the
connection and leaves it to the client to repeat. The server's counters show
those, as sessions without a response.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ansible_collections.zerodrop.rollout.plugins.module_utils._access_log import counts as kinds
from ansible_collections.zerodrop.rollout.plugins.module_utils._access_log.counts import Counts

# For `log-format`; whatever stands behind these keys is not read.
JSON_FORMAT = (
    '{"pool":"%b","member":"%s","status":%ST,"state":"%tsc","queue":%Tw,"connect":%Tc,"response":%Tr,"retries":"%rc"}'
)
EXPECTED = (
    "lines of HAProxy's 'option httplog', such as: 10.0.0.9:40112 [24/Nov/2026:14:00:32.193] web shop/s1 0/0/0/6/6 200 51 "
    '- - ---- 1/1/0/0/0 0/0 "GET / HTTP/1.1"; or the JSON format ' + JSON_FORMAT
)

# Groups: pool, member, queue, connect, response, status, state, retries. What follows on the line is taken as well: there
# stand headers as clients sent them, and one may look like another request.
_HTTPLOG = re.compile(
    r"\] \S+ ([^/\s]+)/(\S+) -?\d+/(-?\d+)/(-?\d+)/(-?\d+)/\+?-?\d+ (-?\d+) \+?\d+ \S+ \S+ (\S\S)\S* "
    r"\d+/\d+/\d+/\d+/(\+?\d+) \d+/\d+[^\n]*"
)
_JSON = re.compile(
    r'^[^{\n\]]*(?:\]:[^{\n\]]*)?\{"pool":"([^"]*)","member":"([^"]*)","status":(-?\d+),"state":"(\S\S)[^"]*",'
    r'"queue":(-?\d+),"connect":(-?\d+),"response":(-?\d+),"retries":"?(\+?\d+)[^\n]*',
    re.MULTILINE,
)
# A line that looks like a request, in whatever format: others, such as "Server shop/s1 is DOWN", are none.
_REQUEST = re.compile(r'\[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d\.\d{3}\] (?!\S+: )|^\s*\{|"[A-Z]+ /|: \{"')
_NO_REQUEST = re.compile(r"\] \S+/\d+: ")  # a handshake that failed

_STATES = {
    "C": kinds.CLIENT, "c": kinds.CLIENT,
    "P": kinds.BALANCER, "R": kinds.BALANCER, "I": kinds.BALANCER, "L": kinds.OK, "U": kinds.BALANCER,
    "D": kinds.CUT, "K": kinds.BALANCER,
}  # fmt: skip
_FAILED = {"C": kinds.CONNECT, "Q": kinds.CONNECT, "H": kinds.RESPONSE, "D": kinds.CUT, "L": kinds.CUT}


def kind_of(state: str, status: int) -> str:
    """What a request is, by the first two characters of its termination state and its status: counted once."""
    cause, phase = state[0], state[1]
    if cause == "-":
        return kinds.STATUS_5XX if status >= 500 else kinds.OK
    if cause == "S":
        return _FAILED.get(phase, kinds.RESPONSE)
    if cause == "s":
        return kinds.CONNECT if phase == "C" else kinds.TIMEOUT
    if cause == "P" and phase == "H":
        return kinds.RESPONSE  # what the member sent was no answer, or it was blocked
    return _STATES.get(cause, kinds.OK)


class HAProxyLog:
    """Counts the lines of one pool."""

    expected = EXPECTED

    def __init__(self, pool: str) -> None:
        self._pool = pool
        self._known: dict[tuple[str, str], str] = {}

    def count(self, text: str, found: Counts) -> None:
        """Count a block of whole lines."""
        read = 0
        for pool, member, queue, connect, response, status, state, retries in _rows(text):
            read += 1
            if pool != self._pool or member[0] == "<":
                continue
            count = found.of(member)
            if count is None:
                continue
            count.requests += 1
            kind = self._known.get((state, status))
            if kind is None:
                kind = self._known[state, status] = kind_of(state, int(status))
            if kind:
                if kind == kinds.CLIENT:
                    count.client_aborts += 1
                elif kind == kinds.BALANCER:
                    count.balancer += 1
                else:
                    count.kinds[kind] += 1
                    if response[0] == "-":
                        count.unanswered += 1
            if retries != "0":
                count.retries += int(retries)
            if response[0] != "-" and status != "101":
                count.latency[found.bucket(int(response) + max(0, int(connect)) + max(0, int(queue)))] += 1
        found.lines += read
        if read < text.count("\n"):
            for line in text.split("\n"):
                if _REQUEST.search(line) and not _NO_REQUEST.search(line) and not _matches(line):
                    found.unreadable(line)


def _rows(text: str) -> Iterator[tuple[str, ...]]:
    yield from _HTTPLOG.findall(text)
    if '{"pool":' in text:
        for pool, member, status, state, queue, connect, response, retries in _JSON.findall(text):
            yield pool, member, queue, connect, response, status, state, retries


def _matches(line: str) -> bool:
    return bool(_HTTPLOG.search(line) or _JSON.search(line))
