# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Open source nginx, through the files of its configuration and reloads.

What makes this more than an edit and ``nginx -s reload``:

* A reload that is accepted may not come about. So a change holds only when every worker
  that is not leaving is new; otherwise the old files are put back.
* nginx tells nothing about a member. So what is in flight is read off the open connections
  of its own workers. A new worker never connects to a server that is `down`, and a leaving
  one closes its idle connections: what is left is in flight.
* A leaving worker chooses a server only when it has read a request whole, by the configuration
  it was started with. So its clients that are on no server yet count for every member, but
  for those that were out when it was started.
* Files that were edited without a reload say what is not true. So nothing is read from files
  that are newer than the workers, and nothing is written over them.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Callable, ClassVar

from ansible_collections.zerodrop.rollout.plugins.module_utils import _names, _params
from ansible_collections.zerodrop.rollout.plugins.module_utils._drivers.base import (
    Capabilities,
    Clock,
    Driver,
    Glance,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    BadInput,
    ChangedByOther,
    InvalidConfiguration,
    PermissionDenied,
    Refused,
    RolloutError,
    RouteDiffers,
    Unreachable,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._files import changed_lines, configuration_lock
from ansible_collections.zerodrop.rollout.plugins.module_utils._nginx import files, processes, route, sockets, upstreams
from ansible_collections.zerodrop.rollout.plugins.module_utils._nginx.edits import edit, leaves_none_in_service
from ansible_collections.zerodrop.rollout.plugins.module_utils._nginx.processes import Process, Processes
from ansible_collections.zerodrop.rollout.plugins.module_utils._nginx.program import Dump, Program, errors_of
from ansible_collections.zerodrop.rollout.plugins.module_utils._nginx.tokens import encode
from ansible_collections.zerodrop.rollout.plugins.module_utils._nginx.upstreams import (
    Configuration,
    Server,
    Settings,
    Upstream,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Admin, Health, Member, Pool, Setting
from ansible_collections.zerodrop.rollout.plugins.module_utils._route import FLAGS, RELOAD, Route, Slots

CONFIG = "/etc/nginx/nginx.conf"
BINARY = "/usr/sbin/nginx"
MAX_WEIGHT = 65535
# What nginx tells nothing of, whichever way it is changed.
UNSEEN = (
    "nginx has no health checks of its own: a member's health is what the gate on the member says.",
    "nginx counts no requests for a member: a look at a member under traffic is inconclusive.",
)

_SETTLE_LIMIT = 15.0  # seconds for a reload to come about
_AFTER_AN_ERROR = 3.5  # nginx tries five times, half a second apart, to bind
_SETTLE_PAUSE = 0.01
_LOCK_LIMIT = 60.0
_STALE_LIMIT = 3.0  # seconds for another one's edit to be followed by its reload
_STALE_PAUSE = 0.02
_REPLACING_LIMIT = 0.6  # seconds from a new worker's start to an old one's leave; nginx waits 0.1
_FILE_TIME = 0.02  # a file's time and a process's start are this exact
_TERMINATE_LIMIT = 2.0
_DRAIN_SINCE = (1, 29, 6)
_KEEPALIVE_DEFAULT_SINCE = (1, 29, 7)
_KEEPALIVE_MIN_TIMEOUT_SINCE = (1, 27, 4)

_Change = Callable[[Settings], Settings]


class NginxDriver(Driver):
    kind: ClassVar[str] = "nginx"
    by_reload: ClassVar[bool] = True
    rehearses: ClassVar[bool] = True

    def __init__(
        self,
        config: str = CONFIG,
        binary: str = BINARY,
        pid_file: str | None = None,
        leaving_wait: float = 30.0,
        clock: Clock | None = None,
    ) -> None:
        self._config = config
        self._program = Program(binary, config)
        self._pid_file = pid_file
        self._leaving_wait = leaving_wait
        self._clock = clock or Clock()
        self._disk = files.OnDisk()
        self._loaded: Configuration | None = None
        self._signature: object = None
        self._dump: Dump | None = None
        self._resolved: dict[str, frozenset[str]] = {}
        # What workers had out when they were last seen serving: it is out for them when they leave.
        self._out: dict[Process, frozenset[tuple[str, str]]] = {}
        self._leaving_since: dict[Process, float] = {}
        self._looks = 0  # within one another
        self._seen: Processes | None = None  # in the look that is going on
        self._said: Configuration | None = None

    @classmethod
    def from_params(cls, params: Mapping[str, Any], clock: Clock) -> NginxDriver:
        def path(key: str, default: str) -> str:
            return _names.absolute_path(params[key], key) if _params.given(params, key) else default

        return cls(
            config=path("nginx_config", CONFIG),
            binary=path("nginx_binary", BINARY),
            pid_file=path("nginx_pid_file", "") or None,
            leaving_wait=_params.number(params, "nginx_leaving_wait", 30.0, 0.0, 86400.0),
            clock=clock,
        )

    # -- what it is --

    def capabilities(self) -> Capabilities:
        build = self._program.build()
        notes = [
            *UNSEEN,
            "Every change is a reload. Idle clients with kept connections may see theirs closed"
            + (
                "; keepalive_min_timeout spares them that."
                if build.version >= _KEEPALIVE_MIN_TIMEOUT_SINCE
                else " (2.6 to 4.2 failed requests a reload under full load); from 1.27.4 on there is a cure."
            ),
        ]
        if build.version >= _KEEPALIVE_DEFAULT_SINCE:
            notes.append("This version keeps idle connections to members: what is in flight is exact only once out.")
        return Capabilities(
            version=build.text,
            runtime_changes=False,
            exact_in_flight=False,
            checks_health=False,
            max_weight=MAX_WEIGHT,
            counts_requests=False,
            notes=tuple(notes),
        )

    def check_rights(self) -> None:
        found = self._processes()
        configuration = self._configuration(found)
        for source in sorted({server.source for one in configuration.upstreams for server in one.servers}):
            for path in (source, os.path.dirname(source)):
                if not os.access(path, os.W_OK):
                    raise PermissionDenied(f"{path} may not be written.", "Become root on the balancer.")
        try:
            os.kill(found.master.pid, 0)
        except PermissionError:
            raise PermissionDenied(
                f"nginx's master {found.master.pid} may not be signalled.", "Become root on the balancer."
            ) from None
        except ProcessLookupError:
            raise Unreachable(f"nginx's master {found.master.pid} has just ended.") from None
        for process in found.workers:
            sockets.owned(process.pid, [])
        self._test("Nothing was changed.")

    def identity(self) -> str:
        return self._processes().identity

    def pools(self) -> Sequence[str]:
        return [one.name for one in self._configuration(self._processes()).upstreams]

    def ties(self, pool: str) -> bool:
        upstream = self._configuration(self._processes()).upstream(pool)
        # Without `consistent` a hash sends most clients elsewhere as soon as one member is out.
        hashed = upstream.method == "hash" and "consistent" in upstream.method_parameters
        return upstream.sticky is not None or upstream.method == "ip_hash" or hashed

    def drains(self, pool: str) -> bool:
        upstream = self._configuration(self._processes()).upstream(pool)
        return self._program.build().version >= _DRAIN_SINCE and upstream.sticky is not None

    def member_name(self, server: Server) -> str:
        """nginx has no names for servers, but their addresses."""
        return server.address

    # -- what it does now --

    @contextmanager
    def _look(self) -> Iterator[Processes]:
        """The processes; until the end of the look they and the files are looked at once."""
        self._looks += 1
        try:
            yield self._processes()
        finally:
            self._looks -= 1
            if not self._looks:
                self._seen = self._said = None

    def read(self, pool: str) -> Pool:
        with self._look() as found:
            return self._read(found, pool)

    def _read(self, found: Processes, pool: str) -> Pool:
        upstream = self._configuration(found).upstream(pool)
        groups = self._groups(upstream)
        busy, undecided, per_process = self._busy(found, upstream, groups)
        return Pool(
            name=pool,
            identity=found.identity,
            members=tuple(
                self._member(name, servers, busy[name], undecided[name], per_process)
                for name, servers in groups.items()
            ),
            leaving=len(found.leaving),
        )

    def glance(self, pool: str, names: Sequence[str]) -> Glance:
        with self._look() as found:
            upstream = self._configuration(found).upstream(pool)
            groups = self._chosen(upstream, names)
            busy, undecided, _per_process = self._busy(found, upstream, groups)
        return Glance(found.identity, {name: busy[name] + undecided[name] for name in names})

    def work(self, pool: str, names: Sequence[str]) -> list[dict[str, str]]:
        found = self._processes()
        groups = self._chosen(self._configuration(found).upstream(pool), names)
        everything = sockets.read(found.master.pid)
        rows = []
        for process in sorted(found.workers):
            kind = "leaving" if process in found.leaving else "serving"
            for one in sockets.owned(process.pid, everything):
                for name, servers in groups.items():
                    if one.is_open and any(self._is_at(one, server) for server in servers):
                        rows.append({"member": name, "worker": f"{process.pid} ({kind})", "state": f"{one.state:02x}"})
        return rows

    def _member(
        self, name: str, servers: Sequence[Server], busy: int, undecided: int, leaving: Mapping[str, int]
    ) -> Member:
        first = servers[0]
        return Member(
            name=name,
            address="unix" if first.socket else first.host,
            port=first.port or 0,
            admin=_admin(first),
            health=Health.UNCHECKED,
            weight=first.weight,
            in_flight=busy,
            queued=0,
            undecided=undecided,
            backup=first.backup,
            detail={
                "status": " ".join(first.parameters),
                "file": f"{first.source}:{first.line}",
                "leaving_workers": dict(leaving),
            },
        )

    def _groups(self, upstream: Upstream) -> dict[str, list[Server]]:
        """The servers by their members' names; lines of one address are one member."""
        groups: dict[str, list[Server]] = {}
        for server in upstream.servers:
            groups.setdefault(self.member_name(server), []).append(server)
        for name, servers in groups.items():
            if len({(_admin(server), server.weight) for server in servers}) > 1:
                places = ", ".join(f"{server.source}:{server.line}" for server in servers)
                raise InvalidConfiguration(
                    f"The upstream {upstream.name!r} has {name} more than once, in different states: {places}.",
                    "Leave one of the lines, or make them alike.",
                )
        return groups

    def _chosen(self, upstream: Upstream, names: Iterable[str]) -> dict[str, list[Server]]:
        groups = self._groups(upstream)
        for name in names:
            if name not in groups:
                upstream.choose(name)  # says what is there
        return {name: groups[name] for name in names}

    # -- in flight --

    def _busy(
        self, found: Processes, upstream: Upstream, groups: Mapping[str, Sequence[Server]]
    ) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
        """By member: connections to it, and clients of leaving workers that may still be sent to it."""
        everything = sockets.read(found.master.pid)
        counted = [one for one in everything if one.is_open]
        at: dict[tuple[str, int], list[str]] = {}
        busy = dict.fromkeys(groups, 0)
        for name, servers in groups.items():
            for server in servers:
                if server.socket:
                    busy[name] += sockets.on_unix_socket(found.master.pid, server.socket)
                for address in self._addresses(server):
                    at.setdefault((address, server.port or 0), []).append(name)
        near = [one for one in counted if (one.remote, one.remote_port) in at]
        for process in found.workers if near else ():
            for one in sockets.owned(process.pid, near):
                for name in at[one.remote, one.remote_port]:
                    busy[name] += 1
        now = self._clock.now()
        listening = {one.local_port for one in everything if one.state == sockets.LISTEN}
        undecided = dict.fromkeys(groups, 0)
        per_process = {}
        for process in found.leaving:
            since = self._leaving_since.setdefault(process, now)
            clients = self._undecided(process, counted, listening, now - since)
            per_process[str(process.pid)] = clients
            for name in groups:
                if (upstream.name, name) not in self._out.get(process, frozenset()):
                    undecided[name] += clients
        return busy, undecided, per_process

    def _undecided(
        self, process: Process, counted: Sequence[sockets.Connection], listening: set[int], waited: float
    ) -> int:
        """Clients of a leaving worker that are on no server yet: idle ones, and those that still send their request."""
        dump = self._whole()
        if dump.countable:
            own = sockets.owned(process.pid, counted)
            clients = sum(1 for one in own if one.local_port in listening)
            return max(0, clients - (len(own) - clients))
        # One client may have several requests here: only the end of the worker tells, or time and a second try.
        if waited >= self._leaving_wait and dump.retries and not dump.lingering:
            return 0
        return 1 if processes.lives(process) else 0

    def _whole(self) -> Dump:
        if self._dump is None:
            self._dump = self._test("Nothing was changed.")
        return self._dump

    def _is_at(self, one: sockets.Connection, server: Server) -> bool:
        return one.remote_port == server.port and one.remote in self._addresses(server)

    def _addresses(self, server: Server) -> frozenset[str]:
        if server.socket:
            return frozenset()
        if server.host not in self._resolved:
            try:
                rows = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
            except (OSError, UnicodeError):
                raise Unreachable(
                    f"The name {server.host!r} of upstream {server.upstream!r} does not resolve on the balancer.",
                    "Without its address, what is in flight there cannot be seen, and `nginx -t` would fail.",
                ) from None
            self._resolved[server.host] = frozenset(str(row[4][0]) for row in rows)
        return self._resolved[server.host]

    # -- processes and files --

    def _processes(self) -> Processes:
        """The processes; while a reload replaces the workers, those that come out of it."""
        if not self._looks:
            return self._processes_now()
        if self._seen is None:
            self._seen = self._processes_now()
        return self._seen

    def _processes_now(self) -> Processes:
        deadline = self._clock.now() + _REPLACING_LIMIT
        found = processes.read(self._pid_path())
        while processes.are_replaced(found.serving) and self._clock.now() < deadline:
            self._clock.sleep(_SETTLE_PAUSE)
            found = processes.read(self._pid_path())
        if not found.serving:
            raise Unreachable("nginx has no worker that serves.", "It may be starting or stopping.")
        return found

    def _pid_path(self) -> str:
        if self._pid_file is None:
            said = [line for line in self._main_directives("pid") if line]
            build = self._program.build()
            path = said[-1] if said else build.options.get("pid-path", "/run/nginx.pid")
            self._pid_file = os.path.join(build.options.get("prefix", "/"), path)
        return self._pid_file

    def _main_directives(self, name: str) -> list[str]:
        """The first argument of each directive of this name at the top of the main file."""
        configuration = self._loaded or self._load()
        source = configuration.sources.get(os.path.realpath(self._config))
        found = source.directives if source is not None else ()
        return [one.words[1].value for one in found if one.name == name and len(one.words) > 1]

    def _load(self) -> Configuration:
        disk = files.OnDisk()
        configuration = upstreams.load(self._config, disk)
        self._disk, self._loaded, self._signature = disk, configuration, disk.signature()
        self._dump = None
        return configuration

    def _configuration(self, found: Processes) -> Configuration:
        """The files, which are what these workers run; raises ``ChangedByOther`` where they are not."""
        if not self._looks:
            return self._configuration_now(found)
        if self._said is None:
            self._said = self._configuration_now(found)
        return self._said

    def _configuration_now(self, found: Processes) -> Configuration:
        deadline = self._clock.now() + _STALE_LIMIT
        while True:
            configuration = self._loaded
            if configuration is None or self._disk.signature() != self._signature:
                configuration = self._load()
            newer = self._newer(configuration, found)
            if not newer:
                self._remember(configuration, found)
                return configuration
            if self._clock.now() >= deadline:
                raise ChangedByOther(
                    f"{newer} was changed after nginx was started or reloaded last: what it says is not what nginx "
                    "does. Nothing was changed.",
                    "See that `nginx -t` passes, reload nginx, and run this again.",
                    file=newer,
                )
            self._clock.sleep(_STALE_PAUSE)
            found = self._processes_now()

    def _newer(self, configuration: Configuration, found: Processes) -> str:
        """A file that is newer than the oldest worker that serves; empty when there is none."""
        oldest = min(processes.started_at(process) for process in found.serving)
        for path in configuration.sources:
            try:
                if os.stat(path).st_mtime > oldest + _FILE_TIME:
                    return path
            except OSError:
                return path
        return ""

    def _remember(self, configuration: Configuration, found: Processes) -> None:
        unknown = [process for process in found.serving if process not in self._out]
        if unknown:
            out = frozenset(
                (upstream.name, self.member_name(server))
                for upstream in configuration.upstreams
                for server in upstream.servers
                if server.down
            )
            self._out.update(dict.fromkeys(unknown, out))

    # -- changes --

    def drain(self, pool: str, names: Sequence[str]) -> None:
        if self.drains(pool):
            self._change(pool, dict.fromkeys(names, _drained))
        else:
            self.hold_out(pool, names)

    def hold_out(self, pool: str, names: Sequence[str]) -> None:
        self._change(pool, dict.fromkeys(names, _down))

    def prepare_return(self, pool: str, names: Sequence[str]) -> None:
        self._chosen(self._configuration(self._processes()).upstream(pool), names)

    def put_back(self, pool: str, names: Sequence[str]) -> None:
        self._change(pool, dict.fromkeys(names, _ready))

    def weigh(self, pool: str, weights: Mapping[str, int]) -> None:
        self._change(pool, {name: _weighed(name, weight) for name, weight in weights.items()})

    def apply(self, pool: str, settings: Mapping[str, Setting], now: Mapping[str, Member]) -> None:
        states = {Admin.READY: _ready, Admin.DRAIN: _drained, Admin.OUT: _down}
        if not self.drains(pool):
            states[Admin.DRAIN] = _down
        changes: dict[str, _Change] = {}
        for name, wanted in settings.items():
            steps: list[_Change] = []
            if now[name].admin is not wanted.admin:
                steps.append(states[wanted.admin])
            if now[name].weight != wanted.weight:
                steps.append(_weighed(name, wanted.weight))
            changes[name] = _in_turn(steps)
        self._change(pool, changes)

    def exchange(
        self,
        pool: str,
        returning: Mapping[str, Setting],
        names: Sequence[str],
        target: Admin,
        now: Mapping[str, Member],
    ) -> None:
        self.apply(pool, {**returning, **{name: Setting(target, now[name].weight) for name in names}}, now)

    def cut(self, pool: str, names: Sequence[str]) -> int:
        """End the leaving workers that have connections to these members, and with them all that they have.

        nginx has no word for ending a member's connections. All clients of these workers are counted.
        """
        found = self._processes()
        upstream = self._configuration(found).upstream(pool)
        groups = self._chosen(upstream, names)
        everything = [one for one in sockets.read(found.master.pid) if one.is_open]
        listening = {one.local_port for one in sockets.read(found.master.pid) if one.state == sockets.LISTEN}
        ended, count = [], 0
        for process in found.leaving:
            if all((pool, name) in self._out.get(process, frozenset()) for name in groups):
                continue
            clients = [one for one in sockets.owned(process.pid, everything) if one.local_port in listening]
            count += len(clients)
            ended.append(process)
            _signal(process.pid, signal.SIGTERM)
        deadline = self._clock.now() + _TERMINATE_LIMIT
        while any(processes.lives(process) for process in ended) and self._clock.now() < deadline:
            self._clock.sleep(_SETTLE_PAUSE)
        return count

    def end_idle(self, pool: str, names: Sequence[str]) -> int | None:
        """A leaving worker that has clients and no connection to any server is ended.

        One of its clients may be sending a request still: nginx does not tell it from an idle one.
        """
        found = self._processes()
        upstream = self._configuration(found).upstream(pool)
        groups = self._chosen(upstream, names)
        everything = sockets.read(found.master.pid)
        listening = {one.local_port for one in everything if one.state == sockets.LISTEN}
        count, held = 0, False
        for process in found.leaving:
            if all((upstream.name, name) in self._out.get(process, frozenset()) for name in groups):
                continue
            own = sockets.owned(process.pid, [one for one in everything if one.is_open])
            clients = [one for one in own if one.local_port in listening]
            if len(clients) < len(own):
                held = True
                continue
            count += len(clients)
            _signal(process.pid, signal.SIGTERM)
        return None if held and not count else count

    def _change(self, pool: str, changes: Mapping[str, _Change]) -> None:
        """Change servers in the files with one reload; none where everything is as wanted."""
        wanted = self._edits(pool, changes)
        if not wanted:
            return
        if self.rehearsing:
            found = self._processes()
            texts = self._configuration(found).sources
            self.told.extend(changed_lines({name: texts[name].text for name in wanted}, wanted))
            self.told.append(f"kill -HUP {found.master.pid}")
            return
        seen = self._loaded
        with configuration_lock(self.kind, self._config, _LOCK_LIMIT):
            configuration = self._configuration(self._processes())
            if configuration is not seen:  # another change has gone before
                wanted = self._edits(pool, changes)
                if not wanted:
                    return
            upgrade = self._pid_path() + ".oldbin"
            if os.path.exists(upgrade):
                raise Refused(
                    f"nginx's program is being upgraded ({upgrade} is there); nothing was changed.",
                    "End the upgrade (QUIT to the old master), then run this again.",
                )
            self._test("It was so before this change; nothing was touched.")
            before = {name: encode(configuration.sources[name].text) for name in wanted}
            replaced = files.Replaced()
            asked: Processes | None = None
            try:
                replaced.write(before, {name: encode(text) for name, text in wanted.items()})
                dump = self._test("The files are as they were again.")
                self.told.extend(changed_lines({name: configuration.sources[name].text for name in wanted}, wanted))
                asked = self._reload()
            except (RolloutError, OSError) as error:
                self._restore(replaced)
                if isinstance(error, OSError):
                    raise PermissionDenied(
                        f"{error.filename} cannot be written: {error.strerror}. The files are as they were again.",
                        "Become root on the balancer; see that the disk is writable and not full.",
                    ) from None
                raise
            try:
                self._settle(asked)
            except RolloutError:
                self._restore(replaced)
                self._hang_up(asked)
                raise
            self._configuration(self._processes())
            self._dump = dump

    # -- the route of a service --

    def route(self, slots: Slots) -> Route:
        mode, named = route.mode_of(slots)
        found = self._processes()
        newer = os.stat(slots.file).st_mtime > min(processes.started_at(each) for each in found.serving) + _FILE_TIME
        if mode == FLAGS:
            kept = route.flag(slots)
            return Route("" if newer else kept, kept)
        return Route("" if newer else named, named)

    def check_route(self, slots: Slots) -> None:
        mode, _named = route.mode_of(slots)
        dump = self._program.whole("Nothing was changed.", "Mend the configuration until `nginx -t` passes.")
        route.check(slots, mode, dump)
        self._configuration(self._processes())

    def set_route(self, slots: Slots, pool: str) -> None:
        mode, named = route.mode_of(slots)
        if mode == FLAGS:
            route.turn(slots, pool)
            return
        if named == pool and self.route(slots).agrees:
            return
        with configuration_lock(self.kind, self._config, _LOCK_LIMIT):
            self._test("It was so before this change; nothing was touched.")
            replaced = files.Replaced()
            asked: Processes | None = None
            try:
                replaced.write(
                    {slots.file: slots.nginx_text(mode, named).encode()},
                    {slots.file: slots.nginx_text(mode, pool).encode()},
                )
                self._test("The files are as they were again.")
                asked = self._reload()
                self._settle(asked)
            except (RolloutError, OSError) as error:
                self._restore(replaced)
                if asked is not None:
                    self._hang_up(asked)
                if isinstance(error, OSError):
                    raise PermissionDenied(
                        f"{error.filename} cannot be written: {error.strerror}.", "Become root on the balancer."
                    ) from None
                raise

    def prepare_route(self, slots: Slots, pool: str, mode: str, check: bool) -> dict[str, tuple[str, str]]:
        before = route.included(slots)
        live = pool
        if before:
            try:
                known, named = route.mode_of(slots)
                live = named if known == RELOAD else route.flag(slots)
            except (InvalidConfiguration, RouteDiffers):
                pass
        changes = {}
        if before != slots.nginx_text(mode, live):
            changes[slots.file] = (before, slots.nginx_text(mode, live))
        flag = os.path.join(slots.folder, live)
        if mode == FLAGS and not os.path.isfile(flag):
            changes[flag] = ("", "")
        if changes and not check:
            if mode == FLAGS:
                route.turn(slots, live)
            if slots.file in changes:
                route.write(slots, mode, live)
        return changes

    def _edits(self, pool: str, changes: Mapping[str, _Change]) -> dict[str, str]:
        configuration = self._configuration(self._processes())
        upstream = configuration.upstream(pool)
        wanted = {
            server: changes[name](server.settings)
            for name, servers in self._chosen(upstream, changes).items()
            for server in servers
        }
        texts = edit(configuration, wanted)
        if texts and leaves_none_in_service(upstream, wanted) and not leaves_none_in_service(upstream, {}):
            raise Refused(
                f"This would leave the upstream {pool!r} without any server in service; nothing was changed.",
                "nginx would answer every request with 502. Keep at least one in service.",
            )
        return texts

    def _test(self, what_it_means: str) -> Dump:
        return self._program.test(what_it_means, "Mend the configuration until `nginx -t` passes, then run this again.")

    def _restore(self, replaced: files.Replaced) -> None:
        try:
            replaced.restore()
        except OSError as error:
            raise InvalidConfiguration(
                f"{error.filename} could not be put back as it was: {error.strerror}.",
                "Look at the file before anything reloads nginx.",
                undone=False,
            ) from None

    def _reload(self) -> Processes:
        """Ask for it; the processes as they were before."""
        self._log_start = self._log_size()
        found = self._processes()
        self._hang_up(found)
        return found

    def _hang_up(self, found: Processes) -> None:
        _signal(found.master.pid, signal.SIGHUP)
        self.reloads += 1
        self.told.append(f"kill -HUP {found.master.pid}")

    def _settle(self, before: Processes) -> None:
        """Until every worker that is not leaving is new: the only proof that a reload came about."""
        deadline = self._clock.now() + _SETTLE_LIMIT
        complained = False
        while True:
            now = processes.read(self._pid_path())
            if now.serving and not now.serving & before.workers:
                return
            if not complained and self._complaints(before.master.pid):
                complained = True
                deadline = min(deadline, self._clock.now() + _AFTER_AN_ERROR)
            if self._clock.now() >= deadline or now.master != before.master:
                words = " | ".join(self._complaints(before.master.pid)[-3:]) or "its error log says nothing about it"
                raise Refused(
                    f"nginx took the reload, but went on with its old workers: {words}. "
                    "The files are as they were again.",
                    "Mend what it says; `nginx -t` does not see everything that a reload needs.",
                )
            self._clock.sleep(_SETTLE_PAUSE)

    _log_start = 0

    def _log(self) -> str:
        build = self._program.build()
        said = [path for path in self._main_directives("error_log") if not path.startswith(("syslog:", "memory:"))]
        path = said[-1] if said else build.options.get("error-log-path", "")
        return os.path.join(build.options.get("prefix", "/"), path) if path not in ("", "stderr") else ""

    def _log_size(self) -> int:
        try:
            return os.stat(self._log()).st_size
        except OSError:
            return 0

    def _complaints(self, master: int) -> list[str]:
        try:
            with open(self._log(), "rb") as file:
                file.seek(self._log_start)
                text = file.read(262144).decode("utf-8", "replace")
        except OSError:
            return []
        return [words for pid, words in errors_of(text) if pid == master]


def _admin(server: Server) -> Admin:
    if server.down:
        return Admin.OUT
    return Admin.DRAIN if server.drain else Admin.READY


def _down(settings: Settings) -> Settings:
    return settings._replace(down=True, drain=False)


def _drained(settings: Settings) -> Settings:
    return settings._replace(down=False, drain=True)


def _ready(settings: Settings) -> Settings:
    return settings._replace(down=False, drain=False)


def _weighed(name: str, weight: int) -> _Change:
    if not 1 <= weight <= MAX_WEIGHT:
        raise BadInput(
            f"The weight of {name!r} is {weight}; nginx takes 1 to {MAX_WEIGHT}.", "To take it out, use the state out."
        )
    return lambda settings: settings._replace(weight=weight)


def _in_turn(steps: Sequence[_Change]) -> _Change:
    def change(settings: Settings) -> Settings:
        for step in steps:
            settings = step(settings)
        return settings

    return change


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except PermissionError:
        raise PermissionDenied(f"nginx's process {pid} may not be signalled.", "Become root on the balancer.") from None
    except ProcessLookupError:
        pass
