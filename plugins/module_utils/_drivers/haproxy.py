# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""HAProxy, through its runtime socket and its master socket.

What makes this more than a few commands:

* A command sent just after a reload may reach the worker that is leaving, which
  says success. So every answer tells which process gave it, the master tells
  which process serves, and a change counts only when it is read back from that one.
* A leaving worker still serves what it has. So in flight is summed over all of them.
* With `option idle-close-on-response` it also serves each idle client once more, and
  takes no command about a server any longer. So these clients count until they are gone.
* The status text hides administrative states. So the bits are read, never the text.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable, ClassVar

from ansible_collections.zerodrop.rollout.plugins.module_utils._drivers.base import (
    Capabilities,
    Clock,
    Driver,
    Glance,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    BadInput,
    BadReply,
    ChangedByOther,
    InvalidConfiguration,
    PermissionDenied,
    Refused,
    UnknownMember,
    UnknownPool,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._haproxy import lasting, persist, replies, route
from ansible_collections.zerodrop.rollout.plugins.module_utils._haproxy.runtime import (
    ANSWER_LIMIT,
    RELOAD_LIMIT,
    RuntimeSocket,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._names import member_name, pool_name
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import (
    Admin,
    Counters,
    Health,
    Member,
    Pool,
    Setting,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._route import IDLE, LIVE, Route, Slots

SOCKET = "/run/haproxy/admin.sock"
MASTER_SOCKET = "/run/haproxy-master.sock"
MAX_WEIGHT = 256

_ATTEMPTS = 8  # of a change that reloads get in the way of
_PAUSE = 0.02
_FEW = 8  # up to so many members are asked for one by one; the whole pool is cheaper beyond

_QUEUE_LIMIT = 10.0  # seconds for a queue to pass; clients that are tied to a member may fill it again for ever
_FLUSHES_SINCE = (3, 0, 6)

_AT_ONCE = 16  # changes that are made with one line; what is asked of a server is the same when it is asked twice
_HANDLES = 32  # sessions that are asked for in one line

_SERVERS_AND_BACKEND = 6  # the kinds of rows that `show stat` is asked for
_SERVERS = 4

_HEALTH = {
    replies.STOPPED: Health.DOWN,
    replies.STARTING: Health.STARTING,
    replies.RUNNING: Health.UP,
    replies.STOPPING: Health.STOPPING,
}


@dataclass(frozen=True)
class _Snapshot:
    """What one process said of one pool in one answer."""

    process: replies.Process
    servers: Mapping[str, replies.ServerState]
    statistics: replies.Statistics | None  # None for a pool without servers

    def server(self, pool: str, name: str) -> replies.ServerState:
        if name not in self.servers:
            known = ", ".join(self.servers) or "no server at all"
            raise UnknownMember(
                f"The backend {pool!r} has no server {name!r}.", f"It has {known}.", pool=pool, member=name
            )
        return self.servers[name]

    def tracked_by(self, name: str) -> str:
        """The server whose state this one inherits, as ``backend/server``; empty for none."""
        if self.statistics is None or name not in self.statistics.rows:
            return ""
        return self.statistics.text(self.statistics.rows[name], "tracked")


@dataclass(frozen=True)
class _Older:
    """What a leaving worker has of one pool."""

    pid: int
    statistics: replies.Statistics
    out: frozenset[str]  # members that were out when it was told to leave; it sends nothing there


class HAProxyDriver(Driver):
    """The HAProxy on this host."""

    kind: ClassVar[str] = "haproxy"
    rehearses: ClassVar[bool] = True

    def __init__(
        self,
        socket: str = SOCKET,
        master_socket: str | None = MASTER_SOCKET,
        clock: Clock | None = None,
        notes: tuple[str, ...] = (),
        answer_limit: float = ANSWER_LIMIT,
        keep: str = lasting.ACCEPT,
    ) -> None:
        self._keep = keep
        self._clock = clock or Clock()
        self._socket = RuntimeSocket(socket, "The runtime socket", self._clock, answer_limit)
        self._master: RuntimeSocket | None = None
        if master_socket:
            self._master = RuntimeSocket(master_socket, "The master socket", self._clock, answer_limit)
        self._notes = notes
        # Numbers of pools and servers, by process and pool: they may differ after a reload.
        self._ids: dict[tuple[str, str], tuple[int, dict[str, int]]] = {}
        self._older: dict[tuple[int, str], tuple[int, frozenset[str]]] = {}
        self._followers: tuple[str, Mapping[str, list[replies.Follower]]] = "", {}
        self._alone = ""  # the process that was seen to serve without another one on its leave

    @classmethod
    def from_params(cls, params: Mapping[str, Any], clock: Clock) -> HAProxyDriver:
        """``socket`` and ``master_socket``; the default master socket is used when it is there."""
        socket = SOCKET if params.get("socket") is None else params["socket"]
        master_socket = params.get("master_socket")
        notes: tuple[str, ...] = ()
        if master_socket is None:
            if os.access(MASTER_SOCKET, os.R_OK | os.W_OK):
                master_socket = MASTER_SOCKET
            else:
                notes = (f"There is no master socket {MASTER_SOCKET} that this user may open.",)
        elif master_socket == "":
            notes = ("The master socket is switched off.",)
        keep = params.get("lasting") or lasting.ACCEPT
        if keep not in lasting.CHOICES:
            raise BadInput(f"lasting must be one of {', '.join(lasting.CHOICES)}, got {keep!r}.")
        return cls(socket, master_socket, clock, notes, keep=keep)

    # --- what there is ---

    def capabilities(self) -> Capabilities:
        notes = list(self._notes)
        if self._master is None:
            notes.append(
                "Without a master socket, requests that older workers still serve after a reload are not counted, "
                "and a change made during a reload may be missed."
            )
        version = self._process().version
        if _flushes_queues(version):
            notes.append(
                "With 'option redispatch' and a server's maxconn, this version gives a server that goes out all requests "
                f"that wait for it at once. So its queue is waited for, for {_QUEUE_LIMIT:g} s at most."
            )
        return Capabilities(
            version=version,
            runtime_changes=True,
            exact_in_flight=self._master is not None,
            checks_health=True,
            max_weight=MAX_WEIGHT,
            notes=tuple(notes),
        )

    def check_rights(self) -> None:
        level = replies.level(self._socket.ask("show cli level"))
        if level != "admin":
            raise PermissionDenied(
                f"The runtime socket {self._socket.path} has the level {level!r}, which may look but not change.",
                f"Give it 'level admin' in HAProxy's configuration: stats socket {self._socket.path} level admin.",
                socket=self._socket.path,
                level=level,
            )
        if self._master is not None:
            self._processes()

    def identity(self) -> str:
        return self._process().identity

    def pools(self) -> Sequence[str]:
        return replies.pools(self._socket.ask("show backend"))

    def read(self, pool: str) -> Pool:
        pool_name(pool)
        snapshot, leaving = self._settled(lambda: self._snapshot(pool))
        older = self._leaving(leaving, pool)
        undecided = {one.pid: self._undecided(one.pid) for one in older}
        following = self._following(snapshot.process, pool, list(snapshot.servers), leaving)
        statistics = snapshot.statistics
        queued, counters, rate = 0, Counters(), -1
        if statistics is not None and "BACKEND" in statistics.rows:
            row = statistics.rows["BACKEND"]
            queued, rate = statistics.number(row, "qcur"), statistics.number(row, "rate")
            counters = _counters(statistics, row)
        return Pool(
            name=pool,
            identity=snapshot.process.identity,
            members=tuple(
                self._member(snapshot, server, older, undecided, following.get(server.name, (0, 0, ())))
                for server in snapshot.servers.values()
            ),
            queued=queued,
            leaving=len(leaving),
            counters=counters,
            rate=rate,
        )

    def counted(self, pool: str) -> dict[str, dict[str, tuple[Counters, int]]]:
        pool_name(pool)
        snapshot, leaving = self._settled(lambda: self._snapshot(pool))
        found = {snapshot.process.identity: snapshot.statistics}
        found.update((f"leaving {one.pid}", one.statistics) for one in self._leaving(leaving, pool))
        return {
            process: {
                name: (_counters(statistics, row), statistics.busy_in(row)[0])
                for name, row in statistics.rows.items()
                if name in snapshot.servers
            }
            for process, statistics in found.items()
            if statistics is not None
        }

    def glance(self, pool: str, names: Sequence[str]) -> Glance:
        pool_name(pool)
        answer = self._glance(pool, names)
        process, statistics = answer
        busy = {name: sum(statistics.busy(name)) for name in names}
        if any(busy.values()) and process.identity == self._alone and not self._followed(process, pool, names):
            return Glance(process.identity, busy)  # a process that leaves comes with a new one, which has another name
        (process, statistics), leaving = self._settled(lambda: self._glance(pool, names), answer)
        self._alone = "" if leaving else process.identity
        busy = {name: sum(statistics.busy(name)) for name in names}
        for name, (in_flight, queued, _who) in self._following(process, pool, names, leaving).items():
            busy[name] += in_flight + queued
        for older in self._leaving(leaving, pool):
            for name in names:
                busy[name] += sum(older.statistics.busy(name))
            # Asked only of a member that is empty otherwise: it is dearer than the rest.
            open_to = [name for name in names if not busy[name] and name not in older.out]
            undecided = self._undecided(older.pid) if open_to else 0
            for name in open_to:
                busy[name] += undecided
        return Glance(process.identity, busy)

    def pooled(self, pool: str, names: Sequence[str]) -> dict[str, int]:
        snapshot, leaving = self._settled(lambda: self._snapshot(pool))
        answers = [self._socket.ask("show servers conn")]
        answers += [self._ask_leaving(pid, "show servers conn") for pid in leaving]
        idle: dict[tuple[str, int], int] = {}
        for answer in filter(None, answers):
            for where, count in replies.idle_connections(answer):
                idle[where] = idle.get(where, 0) + count
        servers = {name: snapshot.server(pool, name) for name in names}
        return {name: idle.get((server.address, server.port), 0) for name, server in servers.items()}

    def work(self, pool: str, names: Sequence[str]) -> list[dict[str, str]]:
        chosen = [each for each in self._sessions() if each[1].pool == pool and each[1].member in names]
        kinds = self._kinds(chosen)
        return [
            {
                "member": session.member,
                "client": session.client,
                "frontend": session.frontend,
                "age": session.age,
                "seconds": str(replies.seconds(session.age)),
                "kind": kinds[pid, session.handle],
                "process": str(pid or "current"),
                "handle": session.handle,
            }
            for pid, session in chosen
            if (pid, session.handle) in kinds  # else it has ended in between
        ]

    # --- changes ---

    def drain(self, pool: str, names: Sequence[str]) -> None:
        self._change(
            pool,
            names,
            lambda server, name, target: [*_agent_off(server, target), f"set server {target} state drain"],
            lambda server: bool(server.admin_bits & replies.FORCED_DRAIN),
            "draining",
            out=True,
        )

    def hold_out(self, pool: str, names: Sequence[str]) -> None:
        self._change(
            pool,
            names,
            lambda server, name, target: [*_agent_off(server, target), f"set server {target} state maint"],
            lambda server: bool(server.admin_bits & replies.FORCED_MAINT),
            "in maintenance",
            out=True,
        )

    def _without_queues(self, pool: str, names: Sequence[str]) -> _Snapshot:
        """Where a change of state would throw a server's whole queue upon it at once, wait a while until it has none."""
        deadline = self._clock.now() + _QUEUE_LIMIT
        while True:
            snapshot: _Snapshot = self._settled(lambda: self._snapshot(pool))[0]
            statistics = snapshot.statistics
            if not _flushes_queues(snapshot.process.version) or statistics is None:
                return snapshot
            if not any(statistics.busy(name)[1] for name in names) or self._clock.now() >= deadline:
                return snapshot
            self._clock.sleep(_PAUSE)

    def prepare_return(self, pool: str, names: Sequence[str]) -> None:
        def commands(server: replies.ServerState, tracked_by: str, target: str) -> list[str]:
            lines = [*_agent_off(server, target), f"set server {target} state drain"]
            # Without a check nothing would ever lift it up again; with `track` the health is another server's.
            if server.checked and not tracked_by:
                lines.append(f"set server {target} health down")
            return lines

        # Not `maint` with `health down`: that is accepted and ignored. Not `ready` first: that serves before the check.
        self._change(
            pool,
            names,
            commands,
            lambda server: bool(server.admin_bits & replies.FORCED_DRAIN),
            "draining",
            out=True,
            on_the_way_back=True,
        )

    def lift(self, pool: str, names: Sequence[str]) -> None:
        def commands(server: replies.ServerState, tracked_by: str, target: str) -> list[str]:
            # A state file can say `stopped` of a server without a check, and then `state ready` changes nothing.
            stuck = server.operation == replies.STOPPED and not server.admin_bits & replies.ANY_MAINT
            return [f"set server {target} health up"] if stuck and not server.checked and not tracked_by else []

        self._change(pool, names, commands, lambda server: True, "up")

    def put_back(self, pool: str, names: Sequence[str]) -> None:
        def commands(server: replies.ServerState, tracked_by: str, target: str) -> list[str]:
            # The agent last: until the server is ready, its word could cancel or repeat a drain.
            return [f"set server {target} state ready", *([f"enable agent {target}"] if server.has_agent else [])]

        not_in_rotation = replies.ANY_MAINT | replies.ANY_DRAIN
        self._change(pool, names, commands, lambda server: not server.admin_bits & not_in_rotation, "ready", out=False)

    def weigh(self, pool: str, weights: Mapping[str, int]) -> None:
        for name, weight in weights.items():
            if not 0 <= weight <= MAX_WEIGHT:
                raise BadInput(f"The weight of {name!r} is {weight!r}; HAProxy takes 0 to {MAX_WEIGHT}.")
        # One change each: what must be read back differs.
        for weight in sorted(set(weights.values())):
            self._change(
                pool,
                [name for name, wanted in weights.items() if wanted == weight],
                lambda server, name, target, w=weight: [f"set server {target} weight {w}"],  # type: ignore[misc]
                lambda server, w=weight: server.weight == w,  # type: ignore[misc]
                f"at weight {weight}",
            )

    def apply(self, pool: str, settings: Mapping[str, Setting], now: Mapping[str, Member]) -> None:
        super().apply(pool, settings, now)
        # One that returns to an operator's drain is held out by him again and no longer by us: his word is at run time.
        self._keep_lines(pool, [name for name, one in settings.items() if one.admin is not Admin.READY], False)

    def cut(self, pool: str, names: Sequence[str]) -> int:
        before = self.read(pool)
        count = sum(member.in_flight for member in before.chosen(names))
        for name in names:
            self._write(f"shutdown sessions server {pool}/{name}")
        if self._master is not None and before.leaving:
            # A leaving worker takes no command about a server, only about a session.
            for pid, session in self._sessions():
                if pid and session.pool == pool and session.member in names:
                    command = f"@!{pid} shutdown session {session.handle}"
                    self._master.ask(command)
                    self.told.append(command)
        return count

    def end_idle(self, pool: str, names: Sequence[str]) -> int | None:
        """A leaving worker that serves nothing but idle clients is ended, since it has no word for one of these."""
        _snapshot, leaving = self._settled(lambda: self._snapshot(pool))
        count, held = 0, False
        for older in self._leaving(leaving, pool):
            if all(name in older.out for name in names):
                continue
            # An idle client has no session: one on no server is a request that is still being sent, or waits.
            if replies.sessions(self._ask_leaving(older.pid, "show sess")):
                held = True
                continue
            idle = self._undecided(older.pid)
            try:
                os.kill(older.pid, signal.SIGTERM)
            except ProcessLookupError:
                continue
            except PermissionError:
                raise PermissionDenied(
                    f"HAProxy's leaving process {older.pid} may not be ended.", "Become root on the balancer."
                ) from None
            count += idle
        return None if held and not count else count

    def end(self, pool: str, piece: Mapping[str, str]) -> bool:
        command = f"shutdown session {piece['handle']}"
        if piece["process"] == "current":
            answer = self._socket.ask(command)
        else:
            answer = self._ask_leaving(int(piece["process"]), command) or "gone"
        if answer.startswith(("No such session", "gone")):
            return False  # it has ended by itself
        error = replies.refusal(command, answer)
        if error is not None:
            raise error
        self.told.append(command)
        return True

    # --- what outlives a reload ---

    def save(self, pool: str, names: Sequence[str]) -> None:
        snapshot, _leaving = self._settled(lambda: self._snapshot(pool))
        out = replies.ANY_MAINT | replies.ANY_DRAIN
        held = [name for name in names if snapshot.server(pool, name).admin_bits & out]
        self._keep_lines(pool, held, True)
        self._keep_state(pool)

    def ties(self, pool: str) -> bool:
        """By the cookies of the servers; a stick table cannot be told from one that only counts."""
        return all(member.detail["cookie"] for member in self.read(pool).members)

    def lasting(self, pool: str) -> str:
        snapshot, _leaving = self._settled(lambda: self._snapshot(pool))
        return lasting.why_not(snapshot.process.pid, pool, list(snapshot.servers.values()), self._keep)

    def _keep_lines(self, pool: str, names: Sequence[str], out: bool, required: bool = True) -> None:
        """Where no state file is read, these servers' lines in the configuration say what they are."""
        if names and self._keep != lasting.NEVER:
            required = required and self._keep == lasting.REQUIRE
            self.told.extend(lasting.keep_lines(self._process().pid, pool, dict.fromkeys(names, out), required))

    def _keep_state(self, pool: str) -> None:
        """Where HAProxy reads a state file, it has the present state."""
        if self._keep == lasting.NEVER:
            return
        try:
            texts = persist.launch_of(self._process().pid).texts()
        except persist.NotKept:
            return
        file = lasting.state_file(texts, pool)
        if file is None or not os.access(os.path.dirname(file.path), os.W_OK):
            return  # said by `lasting`
        try:
            state, _leaving = self._settled(lambda: self._state(pool, file.whole))
            file.write(state[1])
        except OSError as error:
            raise Refused(
                f"The change was made, but HAProxy's state file {file.path} cannot be written: {error.strerror}.",
                "A reload now would undo the change. Make room for it, or let this user write there.",
                pool=pool,
            ) from None

    def _state(self, pool: str, whole: bool) -> tuple[replies.Process, str]:
        parts = replies.split(
            self._socket.ask("show info", "show servers state" if whole else f"show servers state {pool}")
        )
        if len(parts) < 2:
            raise BadReply(f"The answer of {self._socket.path} has no servers' state in it.")
        return replies.process(parts[0]), parts[1].strip("\n") + "\n"

    # --- the route of a service ---

    def route(self, slots: Slots) -> Route:
        _process, answer, leaving = self._map(slots)
        older = [self._ask_leaving(pid, f"show map {slots.file}") for pid in leaving]
        return route.read(slots, [answer, *(each for each in older if each.startswith("0x"))])

    def check_route(self, slots: Slots) -> None:
        self._map(slots)
        route.check(slots, self._process().pid)

    def set_route(self, slots: Slots, pool: str) -> None:
        """The disk first: a crash in between is finished by the next start, and the ledger knows what was meant."""
        before = route.on_disk(slots)
        for attempt in range(_ATTEMPTS):
            if attempt:
                self._clock.sleep(_PAUSE * attempt)
            process, answer, leaving = self._map(slots)
            if before != {LIVE: pool, IDLE: slots.other(pool)}:
                route.write(slots, pool)
            try:
                route.tell(slots, pool, self._socket.ask)
                # They take one more request of each idle client.
                for pid in leaving:
                    if self._ask_leaving(pid, f"show map {slots.file}").startswith("0x"):
                        route.tell(slots, pool, lambda command, pid=pid: self._ask_leaving(pid, command))  # type: ignore[misc]
            except InvalidConfiguration:
                if route.at_run_time(slots, self._map(slots)[1]):
                    continue  # the process that was asked has gone meanwhile
                raise
            after, answer, _leaving = self._map(slots)
            if after.identity == process.identity and route.at_run_time(slots, answer).get(LIVE) == pool:
                return
        raise route.again_and_again(slots)

    def prepare_route(self, slots: Slots, pool: str, mode: str, check: bool) -> dict[str, tuple[str, str]]:
        found = route.on_disk(slots)
        if slots.slot_of(found.get(LIVE, "")):
            return {}
        if not check:
            route.write(slots, pool)
        return {slots.file: ("", slots.map_text(pool))}

    def _map(self, slots: Slots) -> tuple[replies.Process, str, tuple[int, ...]]:
        """The map as the process that serves has it, and the processes that are leaving."""

        def ask() -> tuple[replies.Process, str]:
            parts = self._socket.ask("show info", f"show map {slots.file}")
            info, mark, answer = parts.partition("\n\n")
            return replies.process(info + mark), answer

        (process, answer), leaving = self._settled(ask)
        route.at_run_time(slots, answer)
        return process, answer, leaving

    # --- one change: write, read back, and again if a reload came between ---

    def _change(
        self,
        pool: str,
        names: Sequence[str],
        commands: Callable[[replies.ServerState, str, str], list[str]],
        holds: Callable[[replies.ServerState], bool],
        wanted: str,
        out: bool | None = None,
        on_the_way_back: bool = False,
    ) -> None:
        """``out`` says whether a reload is to find these servers out of service; None leaves that as it is.

        On the way back nothing is refused because it cannot be made to last: it could not before.
        """
        pool_name(pool)
        for name in names:
            member_name(name)
        if self.rehearsing:
            now = self._settled(lambda: self._snapshot(pool))[0]
            for name in names:
                self.told.extend(commands(now.server(pool, name), now.tracked_by(name), f"{pool}/{name}"))
            if out and not on_the_way_back and self._keep != lasting.NEVER:
                self.told.extend(lasting.would_keep_lines(now.process.pid, pool, names))
            return
        for attempt in range(_ATTEMPTS):
            if attempt:
                self._clock.sleep(_PAUSE * attempt)
            if out and not on_the_way_back:
                before = self._without_queues(pool, names)
            else:
                before = self._settled(lambda: self._snapshot(pool))[0]
            plan = [
                line
                for name in names
                for line in commands(before.server(pool, name), before.tracked_by(name), f"{pool}/{name}")
            ]
            if out is False:
                # First: from here on no reload takes out a server that serves.
                self._keep_lines(pool, names, False)
            if not self._write_all(plan):
                continue
            after, _leaving = self._settled(lambda: self._snapshot(pool))
            if after.process.identity != before.process.identity:
                continue
            for name in names:
                if not holds(after.server(pool, name)):
                    raise _not_taken(pool, name, after, wanted)
            # At once: a reload may come before whatever the change is for is done.
            if out:
                self._keep_lines(pool, names, True, required=not on_the_way_back)
            self._keep_state(pool)
            if out and self._process().identity != after.process.identity:
                continue  # it was reloaded before it was kept
            return
        raise ChangedByOther(
            f"HAProxy was reloaded again and again while servers of {pool!r} were to be {wanted}.",
            "See who reloads it, then run this again.",
            pool=pool,
        )

    def _write_all(self, commands: Sequence[str]) -> bool:
        """Whether all of them were done; some at a time, and one by one where an answer says more than yes."""
        for start in range(0, len(commands), _AT_ONCE):
            some = commands[start : start + _AT_ONCE]
            if len(some) > 1 and not self._socket.ask(*some).strip("\n"):
                self.told.extend(some)
            elif not all(self._write(command) for command in some):
                return False
        return True

    def _write(self, command: str) -> bool:
        """Whether it was done; False when a leaving worker said that it does not take it."""
        answer = self._socket.ask(command)
        if answer.startswith("Proxy is disabled"):
            return False
        error = replies.refusal(command, answer)
        if error is not None:
            raise error
        self.told.append(command)
        return True

    # --- reading ---

    def _process(self) -> replies.Process:
        return replies.process(self._socket.ask("show info"))

    def _settled(self, question: Callable[[], Any], first: Any = None) -> tuple[Any, tuple[int, ...]]:
        """An answer of the process that serves now, the first one where that will do; and the processes that leave."""
        deadline = self._clock.now() + RELOAD_LIMIT
        while True:
            answer, first = first or question(), None
            process: replies.Process = answer[0] if isinstance(answer, tuple) else answer.process
            processes = self._processes()
            if processes is None:
                if not process.stopping:
                    return answer, ()
            elif processes.current == (process.pid,):
                return answer, processes.leaving
            if self._clock.now() >= deadline:
                raise self._unsettled(process, processes)
            self._clock.sleep(_PAUSE)

    def _unsettled(self, process: replies.Process, processes: replies.Processes | None) -> Exception:
        if processes is not None and process.pid not in processes.current + processes.leaving:
            return InvalidConfiguration(
                f"The process {process.pid} behind {self._socket.path} is not one of those that the master socket "
                "names.",
                "The two sockets belong to different HAProxy instances.",
                pid=process.pid,
                workers=list(processes.current),
            )
        return ChangedByOther(
            f"HAProxy is between two workers for longer than {RELOAD_LIMIT:g} s.",
            "It is being reloaded again and again, or a reload hangs.",
        )

    def _snapshot(self, pool: str) -> _Snapshot:
        # One line, so one process answers all of it. The pool's number is needed for the statistics, and is known
        # only from the first answer on; a backend's name will not do, as a frontend may have the same.
        for pool_id in self._known_pool_ids(pool):
            questions = ["show info", f"show servers state {pool}"]
            if pool_id:
                questions.append(f"show stat {pool_id} {_SERVERS_AND_BACKEND} -1")
            parts = replies.split(self._socket.ask(*questions))
            if len(parts) < 2:
                raise BadReply(
                    f"The answer of {self._socket.path} ends too early: {replies.excerpt(' '.join(parts))}.",
                    "Is this really HAProxy's runtime socket?",
                )
            process = replies.process(parts[0])
            servers = replies.servers_state(parts[1], pool)
            by_name = {server.name: server for server in servers}
            if not servers:
                return _Snapshot(process, by_name, None)
            if servers[0].pool_id == pool_id and len(parts) == 3:
                self._ids[process.identity, pool] = pool_id, {server.name: server.server_id for server in servers}
                return _Snapshot(process, by_name, replies.Statistics(parts[2]))
            self._ids[process.identity, pool] = servers[0].pool_id, {}
        raise ChangedByOther(f"The backend {pool!r} changes its number with every question.", pool=pool)

    def _known_pool_ids(self, pool: str) -> Any:
        """The pool's number as far as it is known, again after each answer."""
        for _attempt in range(_ATTEMPTS):
            known = [ids[0] for (_identity, name), ids in self._ids.items() if name == pool]
            yield known[-1] if known else 0

    def _glance(self, pool: str, names: Sequence[str]) -> tuple[replies.Process, replies.Statistics]:
        known = [(identity, ids) for (identity, name), ids in self._ids.items() if name == pool]
        identity, (pool_id, server_ids) = known[-1] if known else ("", (0, {}))
        if known and all(name in server_ids for name in names):
            few = [f"show stat {pool_id} {_SERVERS} {server_ids[name]}" for name in names]
            questions = few if len(few) <= _FEW else [f"show stat {pool_id} {_SERVERS} -1"]
            parts = replies.split(self._socket.ask("show info", *questions))
            process = replies.process(parts[0]) if parts else None
            if process is not None and process.identity == identity and len(parts) == len(questions) + 1:
                statistics = replies.Statistics("\n".join([parts[1], *(_rows(part) for part in parts[2:])]))
                if all(name in statistics.rows for name in names):
                    return process, statistics
        snapshot = self._snapshot(pool)
        for name in names:
            snapshot.server(pool, name)
        if snapshot.statistics is None:
            raise UnknownMember(f"The backend {pool!r} has no servers.", pool=pool)
        return snapshot.process, snapshot.statistics

    def _processes(self) -> replies.Processes | None:
        if self._master is None:
            return None
        return replies.processes(self._master.ask("show proc"))

    def _leaving(self, pids: Sequence[int], pool: str) -> list[_Older]:
        """What the leaving workers have of this pool; nothing of one that has gone, or never knew the pool."""
        found = []
        for pid in pids:
            if (pid, pool) not in self._older:
                answer = self._ask_leaving(pid, f"show servers state {pool}")
                try:
                    servers = replies.servers_state(answer, pool) if answer else []
                except UnknownPool:
                    servers = []
                if not answer:
                    continue
                out = frozenset(server.name for server in servers if server.admin_bits & replies.ANY_MAINT)
                self._older[pid, pool] = (servers[0].pool_id if servers else 0), out
            pool_id, out = self._older[pid, pool]
            answer = self._ask_leaving(pid, f"show stat {pool_id} {_SERVERS} -1") if pool_id else ""
            if answer:
                found.append(_Older(pid, replies.Statistics(answer), out))
        return found

    def _following(
        self, process: replies.Process, pool: str, names: Sequence[str], leaving: Sequence[int]
    ) -> dict[str, tuple[int, int, tuple[str, ...]]]:
        """What servers of other pools that track these have in flight and in their queues, and which these are.

        They go out and come back with the one they track, so what they serve would be lost with it.
        """
        if self._followers[0] != process.identity:
            parts = replies.split(self._socket.ask("show info", f"show stat -1 {_SERVERS} -1"))
            if len(parts) < 2 or replies.process(parts[0]).identity != process.identity:
                return {}  # there is another process now, which the caller is about to see
            self._followers = process.identity, replies.followers(parts[1])
        chosen = {name: self._followers[1].get(f"{pool}/{name}", []) for name in names}
        asked = {(one.pool, one.name): one for each in chosen.values() for one in each}
        if not asked:
            return {}
        answers = [self._socket.ask(f"show stat {one.pool_id} {_SERVERS} {one.server_id}") for one in asked.values()]
        answers += [self._ask_leaving(pid, f"show stat -1 {_SERVERS} -1") for pid in leaving]
        busy = dict.fromkeys(asked, (0, 0))
        for one in (one for answer in answers if answer for each in replies.followers(answer).values() for one in each):
            if (one.pool, one.name) in busy:
                in_flight, queued = busy[one.pool, one.name]
                busy[one.pool, one.name] = in_flight + one.busy[0], queued + one.busy[1]
        return {
            name: (
                sum(busy[one.pool, one.name][0] for one in each),
                sum(busy[one.pool, one.name][1] for one in each),
                tuple(f"{one.pool}/{one.name}" for one in each),
            )
            for name, each in chosen.items()
            if each
        }

    def _followed(self, process: replies.Process, pool: str, names: Sequence[str]) -> bool:
        """Whether servers of other pools track one of these, as far as it is known."""
        identity, followers = self._followers
        return identity != process.identity or any(f"{pool}/{name}" in followers for name in names)

    def _undecided(self, pid: int) -> int:
        """Clients of a leaving worker that are on no server now, and may send one more request to any."""
        answer = self._ask_leaving(pid, "show info")
        connections = replies.current_connections(answer) if answer else 0
        if not connections:
            return 0
        on_a_server = [one for one in replies.sessions(self._ask_leaving(pid, "show sess")) if one.member != "<none>"]
        return max(0, connections - len(on_a_server))

    def _ask_leaving(self, pid: int, command: str) -> str:
        """The answer of a leaving worker; empty when it has gone."""
        if self._master is None:
            return ""
        answer = self._master.ask(f"@!{pid} {command}")
        # The first when the master knows of its end, the second (3.2) in the moment before.
        return "" if answer.startswith(("Can't find the target", "Can't connect to the target")) else answer

    def _sessions(self) -> list[tuple[int, replies.Session]]:
        """All clients' sessions, with the leaving worker that has them (0 for the current one)."""
        found = [(0, session) for session in replies.sessions(self._socket.ask("show sess"))]
        processes = self._processes()
        if processes is not None:
            for pid in processes.leaving:
                answer = self._ask_leaving(pid, "show sess")
                found += [(pid, session) for session in replies.sessions(answer)]
        return found

    def _kinds(self, chosen: Sequence[tuple[int, replies.Session]]) -> dict[tuple[int, str], str]:
        """What each of these sessions is, by its process and handle; nothing of those that have ended."""
        found: dict[tuple[int, str], str] = {}
        current = [session.handle for pid, session in chosen if not pid]
        for start in range(0, len(current), _HANDLES):
            asked = current[start : start + _HANDLES]
            answer = self._socket.ask(*(f"show sess {handle}" for handle in asked))
            found.update({(0, handle): kind for handle, kind in replies.session_kinds(answer).items()})
        for pid, session in chosen:
            if pid:
                answer = self._ask_leaving(pid, f"show sess {session.handle}")
                found.update({(pid, handle): kind for handle, kind in replies.session_kinds(answer).items()})
        return found

    def _member(
        self,
        snapshot: _Snapshot,
        server: replies.ServerState,
        older: Sequence[_Older],
        undecided: Mapping[int, int],
        following: tuple[int, int, tuple[str, ...]],
    ) -> Member:
        statistics = snapshot.statistics
        row = statistics.rows.get(server.name) if statistics is not None else None
        if statistics is None or row is None:
            raise BadReply(f"HAProxy names the server {server.name!r} in one answer and not in the other.")
        in_flight, queued = statistics.busy(server.name)
        leaving = [one.statistics.busy(server.name) for one in older]
        tracked_by = statistics.text(row, "tracked")
        return Member(
            name=server.name,
            address=server.address,
            port=server.port,
            admin=_admin(server.admin_bits),
            health=_health(server, tracked_by),
            weight=server.weight,
            in_flight=in_flight + sum(one[0] for one in leaving) + following[0],
            queued=queued + sum(one[1] for one in leaving) + following[1],
            undecided=sum(undecided[one.pid] for one in older if server.name not in one.out),
            backup=statistics.text(row, "bck") == "1",
            limit=statistics.number(row, "slim"),
            counters=_counters(statistics, row),
            detail={
                "status": statistics.text(row, "status"),
                "check_status": statistics.text(row, "check_status"),
                "check_desc": statistics.text(row, "check_desc") or statistics.text(row, "last_chk"),
                "admin_bits": server.admin_bits,
                "cookie": statistics.text(row, "cookie"),
                "tracked_by": tracked_by,
                "followers": list(following[2]),
                "agent": _agent(server),
                "throttle": statistics.text(row, "throttle"),
                "domain": server.domain,
                "in_flight_leaving": sum(one[0] for one in leaving),
            },
        )


def _counters(statistics: replies.Statistics, row: list[str]) -> Counters:
    return Counters(
        requests=statistics.number(row, "stot"),
        errors=statistics.number(row, "econ") + statistics.number(row, "eresp"),
        responses_5xx=statistics.number(row, "hrsp_5xx"),
        retries=statistics.number(row, "wretr"),
        redispatches=statistics.number(row, "wredis"),
        unanswered=_unanswered(statistics, row),
        response_ms=statistics.number(row, "rtime") if statistics.text(row, "rtime") else -1,
    )


def _flushes_queues(version: str) -> bool:
    """Whether a server that goes out is given all that waits for it, whatever its maxconn, with `option redispatch`."""
    numbers = re.match(r"(\d{1,4})\.(\d{1,4})\.(\d{1,4})", version)
    return numbers is not None and tuple(map(int, numbers.groups())) >= _FLUSHES_SINCE


def _unanswered(statistics: replies.Statistics, row: list[str]) -> int:
    """Requests that were given to it, less the answers it gave and the clients that went away.

    A failure before the first byte of an answer, on a connection on which the client was served before, is
    counted nowhere else in HAProxy 2.6, and logged by no version.
    """
    if statistics.text(row, "mode") != "http":
        return 0
    answers = sum(statistics.number(row, f"hrsp_{kind}") for kind in ("1xx", "2xx", "3xx", "4xx", "5xx", "other"))
    return max(0, statistics.number(row, "stot") - answers - statistics.number(row, "cli_abrt"))


def _rows(answer: str) -> str:
    return answer.partition("\n")[2]


def _agent_off(server: replies.ServerState, target: str) -> list[str]:
    """An agent that says `ready` or a percentage would undo what is asked of its server."""
    return [f"disable agent {target}"] if server.agent_enabled else []


def _agent(server: replies.ServerState) -> str:
    if not server.has_agent:
        return "none"
    return "enabled" if server.agent_enabled else "disabled"


def _admin(bits: int) -> Admin:
    if bits & replies.ANY_MAINT:
        return Admin.OUT
    return Admin.DRAIN if bits & replies.ANY_DRAIN else Admin.READY


def _health(server: replies.ServerState, tracked_by: str) -> Health:
    health = _HEALTH.get(server.operation)
    if health is None:
        raise BadReply(f"HAProxy gives {server.name!r} the unknown operational state {server.operation}.")
    if server.checked or tracked_by:
        return health
    # Maintenance stops a server; without a check that says nothing about its health.
    if health is Health.UP or server.admin_bits & replies.ANY_MAINT:
        return Health.UNCHECKED
    return health


def _not_taken(pool: str, name: str, snapshot: _Snapshot, wanted: str) -> Refused:
    server = snapshot.servers[name]
    tracked_by = snapshot.tracked_by(name)
    if tracked_by and server.admin_bits & (replies.INHERITED_MAINT | replies.INHERITED_DRAIN):
        hint = f"It tracks {tracked_by} and inherits its state: change {tracked_by}."
    elif server.admin_bits & replies.RESOLUTION_MAINT:
        hint = f"HAProxy holds it out because its name {server.domain!r} does not resolve."
    elif server.has_agent:
        hint = "It has an agent check, whose word may have changed it back."
    else:
        hint = "Somebody else may have changed it in the same moment."
    return Refused(
        f"HAProxy said yes, but {pool}/{name} is not {wanted} (administrative bits {server.admin_bits}, "
        f"weight {server.weight}).",
        hint,
        pool=pool,
        member=name,
    )
