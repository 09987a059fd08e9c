# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The operation ``access_log_read``: counts by member of what was logged since the last read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Union

from ansible_collections.zerodrop.rollout.plugins.module_utils import _params
from ansible_collections.zerodrop.rollout.plugins.module_utils._access_log import nginx
from ansible_collections.zerodrop.rollout.plugins.module_utils._access_log.counts import BUCKETS, Counts
from ansible_collections.zerodrop.rollout.plugins.module_utils._access_log.haproxy import HAProxyLog
from ansible_collections.zerodrop.rollout.plugins.module_utils._access_log.nginx import NginxLog
from ansible_collections.zerodrop.rollout.plugins.module_utils._access_log.tail import Log, places_of
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput, InvalidConfiguration
from ansible_collections.zerodrop.rollout.plugins.module_utils._names import member_name, pool_name

Format = Union[HAProxyLog, NginxLog]


class Reader:
    """Some logs of one balancer, read again and again."""

    def __init__(self, paths: list[str], log_format: Format, positions: Mapping[str, Any]) -> None:
        self._format = log_format
        self._logs = {path: Log(path, places_of(positions, path)) for path in paths}
        self._new = {path for path in paths if path not in positions}

    def read(self, found: Counts) -> list[str]:
        """Count what is new; which logs have lost lines. A log that was never read counts from now on."""
        for path, log in self._logs.items():
            if path in self._new:
                self._new.discard(path)
                probe = Counts(["-"], found.buckets)  # only to see whether it can be read
                self._format.count(log.first_look(), probe)
                self._refuse(path, probe)
                continue
            for block in log.blocks():
                self._format.count(block, found)
            self._refuse(path, found)
        return [path for path, log in self._logs.items() if log.lost]

    def positions(self) -> dict[str, Any]:
        return {path: log.to_dict() for path, log in self._logs.items()}

    def _refuse(self, path: str, found: Counts) -> None:
        if found.unread and not found.lines:
            raise InvalidConfiguration(
                f"{path} is not in a log format that can be read. Found: {_short(found.sample)}. "
                f"Expected: {self._format.expected}.",
                "See docs/access-log.md.",
            )


def reader_of(params: Mapping[str, Any]) -> Reader:
    """From an operation's parameters; raises ``BadInput``."""
    paths = [_path(each) for each in _params.items(params, "logs")]
    if not paths:
        raise BadInput("logs must name at least one access log by its absolute path, got none.")
    if len(set(paths)) < len(paths):
        raise BadInput(f"logs names a log twice: {', '.join(paths)}.")
    positions = params.get("positions") or {}
    if not isinstance(positions, Mapping):
        raise BadInput(f"positions must be what an earlier read returned, got {positions!r}.")
    return Reader(paths, format_of(params), positions)


def format_of(params: Mapping[str, Any]) -> Format:
    kind = str(params.get("driver") or "haproxy").partition("-")[0]
    if kind == "haproxy":
        return HAProxyLog(pool_name(params.get("pool"), "pool"))
    if kind != "nginx":
        raise BadInput(f"There is no reader of access logs for the driver {kind!r}.", "There is haproxy, nginx.")
    return NginxLog(_params.text(params, "log_format") or nginx.FORMAT, _addresses(params))


def _addresses(params: Mapping[str, Any]) -> dict[str, str]:
    """Members' names by address."""
    members = params.get("members")
    if not isinstance(members, Mapping) or not members:
        raise BadInput(
            f"members must name each member and the address that nginx writes, such as {{web1: '10.0.0.1:80'}}, "
            f"got {members!r}."
        )
    return {str(address): member_name(name) for name, address in members.items()}


def buckets_of(params: Mapping[str, Any]) -> list[int]:
    """The histogram's upper bounds in milliseconds, rising; raises ``BadInput``."""
    given = _params.items(params, "buckets")
    bounds = [_params.whole({"buckets": each}, "buckets", 1, 1, 10**9) for each in given] or list(BUCKETS)
    if bounds != sorted(set(bounds)):
        raise BadInput(f"buckets must rise from bound to bound, got {given}.")
    return bounds


def access_log_read(params: Mapping[str, Any], check: bool) -> dict[str, Any]:
    """Requests, errors by kind and a histogram for each member of a pool, since ``positions``.

    ``logs`` are paths; without ``positions`` nothing is counted, and the logs' formats are
    checked. It reads only, with check mode or without.
    """
    members = params.get("members")
    names = [member_name(name) for name in members] if isinstance(members, (Mapping, list, tuple)) else []
    found = Counts(names, buckets_of(params))
    reader = reader_of(params)
    lost = reader.read(found)
    return {"changed": False, **found.to_dict(), "lost": lost, "positions": reader.positions()}


def _path(value: Any) -> str:
    if not isinstance(value, str) or not value.startswith("/") or any(ord(char) < 32 for char in value):
        raise BadInput(f"logs must be absolute paths, got {value!r}.")
    return value


def _short(line: str) -> str:
    return repr(line if len(line) <= 200 else line[:197] + "...")
