# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""HAProxy's answers, understood or refused. No input or output."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    BadReply,
    PermissionDenied,
    Refused,
    RolloutError,
    UnknownMember,
    UnknownPool,
)

# srv_admin_state, from HAProxy's types/server.h. The status text hides some of these, so it is never read for them.
FORCED_MAINT = 0x01
INHERITED_MAINT = 0x02
FORCED_DRAIN = 0x08
INHERITED_DRAIN = 0x10
RESOLUTION_MAINT = 0x20
ANY_MAINT = FORCED_MAINT | INHERITED_MAINT | RESOLUTION_MAINT  # 0x04 only remembers the configuration's `disabled`
ANY_DRAIN = FORCED_DRAIN | INHERITED_DRAIN

# srv_op_state
STOPPED, STARTING, RUNNING, STOPPING = range(4)

# srv_check_state and srv_agent_state
_CHECK_CONFIGURED = 0x02
_CHECK_ENABLED = 0x04

_STATE_COLUMNS = (
    "be_id", "srv_id", "srv_name", "srv_addr", "srv_op_state", "srv_admin_state", "srv_uweight",
    "srv_check_state", "srv_agent_state", "srv_port", "srv_fqdn",
)  # fmt: skip


class Process(NamedTuple):
    """The process that gave an answer."""

    pid: int
    start: str
    version: str
    stopping: bool

    @property
    def identity(self) -> str:
        return f"{self.pid}@{self.start}"


@dataclass(frozen=True)
class ServerState:
    """A line of ``show servers state``."""

    pool_id: int
    server_id: int
    name: str
    address: str
    port: int
    operation: int
    admin_bits: int
    weight: int
    check_state: int
    agent_state: int
    domain: str

    @property
    def checked(self) -> bool:
        return self.check_state & _CHECK_CONFIGURED != 0 and self.check_state & _CHECK_ENABLED != 0

    @property
    def has_agent(self) -> bool:
        return self.agent_state & _CHECK_CONFIGURED != 0

    @property
    def agent_enabled(self) -> bool:
        return self.has_agent and self.agent_state & _CHECK_ENABLED != 0


class Processes(NamedTuple):
    """The workers that a master knows."""

    current: tuple[int, ...]
    leaving: tuple[int, ...]


class Session(NamedTuple):
    """A line of ``show sess`` that belongs to a server."""

    handle: str
    pool: str
    member: str
    client: str
    frontend: str
    age: str


def excerpt(text: str) -> str:
    """The beginning of an answer, for an error message."""
    short = " ".join(text.split())[:120]
    return repr(short)


def _bad(what: str, text: str) -> BadReply:
    return BadReply(
        f"The answer to {what!r} cannot be understood: {excerpt(text)}.", "Is this really HAProxy's runtime socket?"
    )


def refusal(command: str, answer: str) -> RolloutError | None:
    """What is wrong with the answer to a command that changes something; None when it succeeded.

    Success is an empty line. Everything else is an error, also what is not known.
    """
    text = answer.strip()
    if not text:
        return None
    if text.startswith("Permission denied"):
        return PermissionDenied(
            f"HAProxy denies {command!r} on this socket.", "The socket needs 'level admin' in HAProxy's configuration."
        )
    if text.startswith("No such backend"):
        return UnknownPool(f"HAProxy knows no such backend: {command!r}.")
    if text.startswith("No such server"):
        return UnknownMember(f"HAProxy knows no such server: {command!r}.")
    if (not text.isprintable() and "\n" not in text) or "\ufffd" in text or len(text) > 4096:
        return _bad(command, text)
    return Refused(f"HAProxy refused {command!r}: {excerpt(text)}.", answer=text[:400])


def process(answer: str) -> Process:
    """Who gave this answer to ``show info``."""
    pid = re.search(r"^Pid: ([0-9]{1,10})$", answer, re.MULTILINE)
    version = re.search(r"^Version: (\S+)$", answer, re.MULTILINE)
    start = re.search(r"^Start_time_sec: (\d+)$", answer, re.MULTILINE)
    stopping = re.search(r"^Stopping: (\d+)$", answer, re.MULTILINE)
    if not pid or not version:
        raise _bad("show info", answer)
    return Process(
        pid=int(pid.group(1)),
        start=start.group(1) if start else "",
        version=version.group(1),
        stopping=bool(stopping and stopping.group(1) != "0"),
    )


def current_connections(answer: str) -> int:
    """The client connections that ``show info`` counts."""
    found = re.search(r"^CurrConns: ([0-9]{1,18})$", answer, re.MULTILINE)
    if not found:
        raise _bad("show info", answer)
    return int(found.group(1))


def idle_connections(answer: str) -> list[tuple[tuple[str, int], int]]:
    """The idle connections that each line of ``show servers conn`` has, by address and port.

    What is in use is not read off it: in TCP mode it says 0 with a session open.
    """
    lines = answer.split("\n")
    if not lines[0].startswith("# bkname/svname "):
        raise _bad("show servers conn", answer)
    header = lines[0][2:].split()
    try:
        columns = [header.index(name) for name in ("addr", "port", "idle_cur")]
        rows = [[line.split()[i] for i in columns] for line in lines[1:] if line.strip()]
        return [((address, int(port)), int(count)) for address, port, count in rows]
    except (ValueError, IndexError):
        raise _bad("show servers conn", answer) from None


def level(answer: str) -> str:
    """The level that ``show cli level`` names."""
    text = answer.strip()
    if text not in ("user", "operator", "admin"):
        raise _bad("show cli level", answer)
    return text


def pools(answer: str) -> list[str]:
    """The names in ``show backend``."""
    lines = answer.split("\n")
    if lines[0].strip() != "# name":
        raise _bad("show backend", answer)
    return [line for line in lines[1:] if re.match(r"[A-Za-z0-9_.:-]+\Z", line)]


def split(answer: str) -> list[str]:
    """The answers to several reading commands of one line.

    Each ends with an empty line and has none within. An empty text at the end is no answer.
    """
    parts = answer.split("\n\n")
    return [part.lstrip("\n") for part in parts if part.strip()]


def servers_state(answer: str, pool: str) -> list[ServerState]:
    """The lines of ``show servers state``; raises ``UnknownPool``."""
    if answer.startswith("Can't find backend"):
        raise UnknownPool(f"HAProxy has no backend {pool!r}.", pool=pool)
    lines = answer.split("\n")
    if len(lines) < 2 or lines[0] != "1" or not lines[1].startswith("# be_id "):
        raise _bad("show servers state", answer)
    header = lines[1][2:].split(" ")
    try:
        columns = [header.index(name) for name in _STATE_COLUMNS]
        return [_server_state(line.split(" "), columns) for line in lines[2:] if line]
    except (ValueError, IndexError):
        raise _bad("show servers state", answer) from None


def _server_state(fields: list[str], columns: list[int]) -> ServerState:
    pool_id, server_id, name, address, op, bits, weight, check, agent, port, domain = [fields[i] for i in columns]
    return ServerState(
        pool_id=int(pool_id),
        server_id=int(server_id),
        name=name,
        address="unix" if address == "-" else address,
        port=int(port),
        operation=int(op),
        admin_bits=int(bits),
        weight=int(weight),
        check_state=int(check),
        agent_state=int(agent),
        domain="" if domain == "-" else domain,
    )


class Statistics:
    """``show stat``: the rows of one backend, and its members by name."""

    def __init__(self, answer: str) -> None:
        header, _separator, body = answer.partition("\n")
        if not header.startswith("# pxname,svname,"):
            raise _bad("show stat", answer)
        self._columns = {name: i for i, name in enumerate(header[2:].split(","))}
        lines: Iterable[str] = [line for line in body.split("\n") if line]
        try:
            # A quote is rare (a check's last words), and splitting is several times faster.
            rows = list(csv.reader(lines)) if '"' in body else [line.split(",") for line in lines]
            name = self._columns["svname"]
            self.rows: dict[str, list[str]] = {row[name]: row for row in rows}
            self.all = rows  # also those of one name in several backends
        except (csv.Error, IndexError):
            raise _bad("show stat", answer) from None

    def text(self, row: list[str], column: str) -> str:
        index = self._columns.get(column, -1)
        return row[index] if 0 <= index < len(row) else ""

    def number(self, row: list[str], column: str) -> int:
        text = self.text(row, column)
        if not text:
            return 0
        try:
            return int(text)
        except ValueError:
            raise _bad("show stat", ",".join(row)) from None

    def busy(self, name: str) -> tuple[int, int]:
        """In flight on a server and waiting for it; nothing when there is no such server."""
        row = self.rows.get(name)
        if row is None:
            return 0, 0
        return self.busy_in(row)

    def busy_in(self, row: list[str]) -> tuple[int, int]:
        # scur counts in HTTP and TCP mode alike; used_conn_cur is 0 in TCP mode with a session open.
        return self._must(row, "scur"), self._must(row, "qcur")

    def _must(self, row: list[str], column: str) -> int:
        if not self.text(row, column).isdigit():
            raise _bad("show stat", ",".join(row))
        return self.number(row, column)


class Follower(NamedTuple):
    """A server that tracks another one, and inherits its state."""

    pool: str
    name: str
    pool_id: int
    server_id: int
    busy: tuple[int, int]  # in flight, and waiting for it


def followers(answer: str) -> dict[str, list[Follower]]:
    """In ``show stat`` of all servers, those that track another, by the root of what they track as ``backend/server``."""
    rows = Statistics(answer)
    tracked: dict[str, str] = {}
    found: dict[str, Follower] = {}
    for row in rows.all:
        name = f"{rows.text(row, 'pxname')}/{rows.text(row, 'svname')}"
        if rows.text(row, "tracked"):
            tracked[name] = rows.text(row, "tracked")
            found[name] = Follower(
                rows.text(row, "pxname"),
                rows.text(row, "svname"),
                rows.number(row, "iid"),
                rows.number(row, "sid"),
                rows.busy_in(row),
            )
    by_root: dict[str, list[Follower]] = {}
    for name, one in found.items():
        root = tracked[name]
        for _step in tracked:  # one may track another that tracks a third
            root = tracked.get(root, root)
        by_root.setdefault(root, []).append(one)
    return by_root


def processes(answer: str) -> Processes:
    """The workers in a master's ``show proc``."""
    if not answer.startswith("#<PID>"):
        raise _bad("show proc", answer)
    found: dict[str, list[int]] = {"workers": [], "old workers": []}
    section = ""
    for line in answer.split("\n")[1:]:
        fields = line.split()
        if line.startswith("#"):
            section = line[1:].strip()
        elif fields and re.match(r"[0-9]{1,10}\Z", fields[0]):
            found.setdefault(section, []).append(int(fields[0]))
    return Processes(current=tuple(found["workers"]), leaving=tuple(found["old workers"]))


_SESSION = re.compile(
    r"^(0x[0-9a-f]+): proto=(?P<proto>\S+) src=(?P<src>\S*) fe=(?P<fe>\S+) be=(?P<be>\S+) srv=(?P<srv>\S+) "
    r".*?\bage=(?P<age>\S+)"
)


_DETAIL = re.compile(r"^(0x[0-9a-f]+): \[", re.MULTILINE)
_AGE = re.compile(r"([0-9]{1,9})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_OLDEST = 366 * 86400  # 2.8 was seen to call a session of two seconds 57 years old


def seconds(age: str) -> int:
    """An age such as ``1m20s`` in seconds; 0 for one that cannot be."""
    total = sum(int(count) * _SECONDS[unit] for count, unit in _AGE.findall(age))
    return total if total < _OLDEST else 0


def session_kinds(answer: str) -> dict[str, str]:
    """By handle, what ``show sess HANDLE`` tells a session to be: ``tcp``, ``websocket`` or ``request``."""
    starts = [(match.group(1), match.start()) for match in _DETAIL.finditer(answer)]
    ends = [start for _handle, start in starts[1:]] + [len(answer)]
    found = {}
    for (handle, start), end in zip(starts, ends):
        text = answer[start:end]
        if re.search(r"^  backend=\S+ \(id=-?\d+ mode=tcp\)", text, re.MULTILINE):
            found[handle] = "tcp"
        else:
            # What follows a 101 (or a CONNECT) is no request any more.
            found[handle] = "websocket" if " rsp.st=MSG_TUNNEL" in text else "request"
    return found


def sessions(answer: str) -> list[Session]:
    """The lines of ``show sess`` that are about clients (not about this interface itself)."""
    found = []
    for line in answer.split("\n"):
        match = _SESSION.match(line)
        if match and match.group("fe") not in ("GLOBAL", "MASTER"):
            found.append(
                Session(
                    handle=match.group(1),
                    pool=match.group("be"),
                    member=match.group("srv"),
                    client=match.group("src"),
                    frontend=match.group("fe"),
                    age=match.group("age"),
                )
            )
    return found
