# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Open source nginx, in either of its modes: reloads, or links on the disk where a pool is prepared for them.

What makes the links more than turning them:

* A worker that has read a link and is not let run for a while connects later. So every worker must have been seen past
  the change before a member may count as empty.
* A link tells nothing about requests that go past it. So before a change the whole configuration must pass all
  requests of the pool by the links, and must be the one that the workers run.
* Workers from before the links were set up leave by the rules of reloads.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Callable

from ansible_collections.zerodrop.rollout.plugins.module_utils import _names, _params
from ansible_collections.zerodrop.rollout.plugins.module_utils._drivers.base import Capabilities, Clock, Glance
from ansible_collections.zerodrop.rollout.plugins.module_utils._drivers.nginx import MAX_WEIGHT, UNSEEN, NginxDriver
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    BadInput,
    ChangedByOther,
    InvalidConfiguration,
    Refused,
    UnknownPool,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._nginx import links, processes, sockets, usage
from ansible_collections.zerodrop.rollout.plugins.module_utils._nginx.processes import Process, Processes, Progress
from ansible_collections.zerodrop.rollout.plugins.module_utils._nginx.table import ROOT, Table, Weights
from ansible_collections.zerodrop.rollout.plugins.module_utils._nginx.upstreams import (
    HTTP,
    Configuration,
    Server,
    Upstream,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Admin, Member, Pool, Setting

AUTO, RELOAD, LINKS = "auto", "reload", "links"
MODES = (AUTO, RELOAD, LINKS)

_FILE_TIME = 0.02  # a file's time and a process's start are this exact
_SOME_TICKS = 2  # of processor time: far more than a worker needs from a link to the connection
_AGAIN = "Run the role nginx_links again, which brings the table in line."


class NginxLinksDriver(NginxDriver):
    """nginx; each pool in the mode that it is prepared for."""

    def __init__(self, mode: str = AUTO, pool: str = "", root: str = ROOT, **more: Any) -> None:
        super().__init__(**more)
        self._mode = mode
        self._pool = pool
        self._root = root
        self._sources: dict[tuple[str, str], Server] = {}  # by generated upstream and address
        self._tables: dict[Upstream, Table] = {}
        self._passed: set[Process] = set()  # workers that were seen past the last change
        self._behind: dict[Process, Progress] = {}
        self._pairs: tuple[Configuration | None, dict[str, tuple[Upstream, Upstream]]] = None, {}
        self._ready_since: float | None = None  # when the last file of the configuration was written

    @classmethod
    def from_params(cls, params: Mapping[str, Any], clock: Clock) -> NginxLinksDriver:
        mode = params.get("nginx_mode") or AUTO
        if mode not in MODES:
            raise BadInput(f"nginx_mode must be one of {', '.join(MODES)}, got {mode!r}.")

        def path(key: str) -> str | None:
            return _names.absolute_path(params[key], key) if _params.given(params, key) else None

        given = {"config": path("nginx_config"), "binary": path("nginx_binary"), "root": path("nginx_links_root")}
        return cls(
            mode=mode,
            pool=params.get("pool") or "",
            pid_file=path("nginx_pid_file"),
            leaving_wait=_params.number(params, "nginx_leaving_wait", 30.0, 0.0, 86400.0),
            clock=clock,
            **{key: value for key, value in given.items() if value is not None},
        )

    # -- what it is --

    def capabilities(self) -> Capabilities:
        found = super().capabilities()
        if not self._pool or not self._by_links(self._pool):
            return found
        generated = self._pair(self._pool)[1]
        slots = links.slots_for(len(generated.servers))
        notes = [
            *UNSEEN,
            (
                "Members are switched by links, without a reload. While one is out or at another weight than in the "
                f"configuration, requests are dealt at random to {slots} slots: a share is as fine as {100 / slots:g} %."
            ),
            (
                "A request in flight on a member that fails may be tried again at one that was held out meanwhile, "
                "unless proxy_next_upstream is off. What is in flight on a member cannot be cut."
            ),
        ]
        if generated.keepalive:
            kept = (generated.directive("keepalive_timeout") or ("60s",))[0]
            notes.append(f"Idle connections to a member count as in flight until they end, after {kept}.")
        if _selinux_enforces():
            notes.append(f"SELinux is enforcing: nginx must be allowed to read links below {self._root}.")
        return replace(found, runtime_changes=True, notes=tuple(notes))

    def check_rights(self) -> None:
        if not self._pool or not self._by_links(self._pool):
            super().check_rights()
            if self._pool:
                self._refuse_reloads(self._pool)
            return
        found = self._processes()
        self._table(self._pool).read()
        self._check_usage(self._pool, found)
        users = [user for process in found.workers if (user := processes.user_of(process)) is not None]
        self._table(self._pool).check_rights(users)
        for process in found.workers:
            sockets.owned(process.pid, [])

    def pools(self) -> Sequence[str]:
        found = self._configuration(self._processes()).upstreams
        return [one.name for one in found if not links.is_generated(one)]

    def drains(self, pool: str) -> bool:
        return False if self._by_links(pool) else super().drains(pool)

    def member_name(self, server: Server) -> str:
        return super().member_name(self._sources.get((server.upstream, server.address), server))

    # -- what it does now --

    def _read(self, found: Processes, pool: str) -> Pool:
        if not self._by_links(pool):
            return super()._read(found, pool)
        generated = self._pair(pool)[1]
        read = super()._read(found, generated.name)
        rows = self._table(pool).read()
        members = []
        for member, server in zip(read.members, generated.servers):
            row = rows[server.address]
            admin = Admin.READY if row.serves else Admin.OUT
            detail = {**member.detail, "status": f"by links, {'in' if row.serves else 'out of'} service"}
            members.append(replace(member, admin=admin, weight=row.now, detail=detail))
        return replace(read, name=pool, members=tuple(members))

    def glance(self, pool: str, names: Sequence[str]) -> Glance:
        with self._look():
            return super().glance(self._pair(pool)[1].name if self._by_links(pool) else pool, names)

    def work(self, pool: str, names: Sequence[str]) -> list[dict[str, str]]:
        with self._look():
            return super().work(self._pair(pool)[1].name if self._by_links(pool) else pool, names)

    def _busy(
        self, found: Processes, upstream: Upstream, groups: Mapping[str, Sequence[Server]]
    ) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
        busy, undecided, per_process = super()._busy(found, upstream, groups)
        if links.is_generated(upstream):
            # Looked at after the connections: whoever has passed now, and has no connection, will not have one.
            behind = sum(not self._has_passed(process) for process in found.workers)
            if behind:
                undecided = {name: count + behind for name, count in undecided.items()}
        return busy, undecided, per_process

    def _undecided(
        self, process: Process, counted: Sequence[sockets.Connection], listening: set[int], waited: float
    ) -> int:
        if self._reads_links(process):
            return 0
        return super()._undecided(process, counted, listening, waited)

    def _reads_links(self, process: Process) -> bool:
        """Whether this leaving worker has a configuration with the links: then it reads them like all others."""
        if not self._pool or not self._by_links(self._pool):
            return False
        if self._ready_since is None:
            self._ready_since = max(
                (os.stat(path).st_mtime for path in usage.files_of(self._dump_text()) if os.path.exists(path)),
                default=0.0,
            )
        return processes.started_at(process) > self._ready_since + _FILE_TIME

    def _has_passed(self, process: Process) -> bool:
        """Whether this worker has been through its loop since the last change, and so reads what the links are now."""
        if process in self._passed:
            return True
        now = processes.progress(process)
        before = self._behind.setdefault(process, now) if now is not None else None
        passed = (
            now is None
            or before is None
            or now.sleeps
            or now.slept > before.slept
            or now.ticks >= before.ticks + _SOME_TICKS
        )
        if passed:
            self._passed.add(process)
        return passed

    # -- the two upstreams of a pool --

    def _by_links(self, pool: str) -> bool:
        if self._mode == RELOAD:
            return False
        if self._generated(pool) is not None:
            return True
        if self._mode == LINKS:
            self._configuration(self._processes()).upstream(pool)
            raise Refused(
                f"The upstream {pool!r} is not prepared for links.",
                "Run the role nginx_links on the balancers, or leave rollout_nginx_mode to auto.",
            )
        return False

    def _generated(self, pool: str) -> Upstream | None:
        configuration = self._configuration(self._processes())
        try:
            found = configuration.upstream(links.names_of(pool).upstream, HTTP)
        except (BadInput, UnknownPool):
            return None
        return found if links.is_generated(found) else None

    def _pair(self, pool: str) -> tuple[Upstream, Upstream]:
        """The pool's own upstream and the generated one; raises ``InvalidConfiguration`` where they do not agree."""
        configuration = self._configuration(self._processes())
        if self._pairs[0] is not configuration:
            self._pairs = configuration, {}
        if pool not in self._pairs[1]:
            self._pairs[1][pool] = self._paired(configuration.upstream(pool, HTTP), self._generated(pool))
        return self._pairs[1][pool]

    def _paired(self, source: Upstream, generated: Upstream | None) -> tuple[Upstream, Upstream]:
        pool = source.name
        if generated is None:
            raise InvalidConfiguration(f"The upstream {pool!r} is not prepared for links.", _AGAIN)
        meant = [self.literal(server) for server in source.servers]
        if meant != [server.address for server in generated.servers]:
            raise InvalidConfiguration(
                f"The upstream {pool!r} has other servers than what was generated from it at "
                f"{generated.source}:{generated.line}.",
                _AGAIN,
            )
        for address, server in zip(meant, source.servers):
            self._sources[generated.name, address] = server
        return source, generated

    def literal(self, server: Server) -> str:
        """The server's address without a name; raises ``Refused`` unless it is exactly one."""
        if server.resolve or (server.port is None and not server.socket):
            raise Refused(f"The server {server.address} of {server.upstream!r} changes by DNS; links cannot follow.")
        return links.literal_of(server, sorted(self._addresses(server)))

    def _table(self, pool: str) -> Table:
        generated = self._pair(pool)[1]
        if generated not in self._tables:
            self._tables[generated] = table_of(self._root, pool, generated)
        return self._tables[generated]

    def _dump_text(self) -> str:
        return self._program.whole(
            "Nothing was changed.", "Mend the configuration until `nginx -t` passes, then run this again."
        )

    def _check_usage(self, pool: str, found: Processes) -> None:
        """Raise unless every request of the pool goes by the links, in the configuration that the workers run."""
        dump = self._dump_text()
        oldest = min(processes.started_at(process) for process in found.serving)
        for path in usage.files_of(dump):
            if os.path.exists(path) and os.stat(path).st_mtime > oldest + _FILE_TIME:
                raise ChangedByOther(
                    f"{path} was changed after nginx was started or reloaded last. Nothing was changed.",
                    "Reload nginx, and run this again.",
                    file=path,
                )
        uses = usage.usage_of(dump, pool, self._table(pool).folder)
        wrong = uses.besides + uses.astray
        if wrong or not uses.by_links:
            what = f"passes by them at {', '.join(wrong)}" if wrong else "is passed by them nowhere"
            raise Refused(
                f"The upstream {pool!r} is prepared for links, but {what}: these requests would not be switched.",
                "Let each location include the file that the role nginx_links has written instead of its proxy_pass, "
                "and reload nginx.",
            )

    def _refuse_reloads(self, pool: str) -> None:
        """The upstream itself is not what requests go to where links are used."""
        if self._generated(pool) is None:
            return
        uses = usage.usage_of(self._dump_text(), pool, self._table(pool).folder)
        if uses.by_links or uses.astray:
            raise Refused(
                f"Requests to {pool!r} go by links ({', '.join(uses.by_links + uses.astray)}); reloads would not "
                "switch them. Nothing was changed.",
                "Set rollout_nginx_mode to auto or links.",
            )

    # -- changes --

    def drain(self, pool: str, names: Sequence[str]) -> None:
        self.hold_out(pool, names)

    def hold_out(self, pool: str, names: Sequence[str]) -> None:
        if not self._by_links(pool):
            super().hold_out(pool, names)
            return
        self._switch(pool, {name: lambda row: row._replace(serves=False) for name in names})

    def prepare_return(self, pool: str, names: Sequence[str]) -> None:
        if self._by_links(pool):
            self._wanted(pool, self._table(pool), {name: lambda row: row for name in names})
        else:
            super().prepare_return(pool, names)

    def put_back(self, pool: str, names: Sequence[str]) -> None:
        if not self._by_links(pool):
            super().put_back(pool, names)
            return
        self._switch(pool, {name: lambda row: row._replace(serves=True) for name in names})

    def weigh(self, pool: str, weights: Mapping[str, int]) -> None:
        if not self._by_links(pool):
            super().weigh(pool, weights)
            return
        self._switch(pool, {name: _weighed(name, weight) for name, weight in weights.items()})

    def apply(self, pool: str, settings: Mapping[str, Setting], now: Mapping[str, Member]) -> None:
        if not self._by_links(pool):
            super().apply(pool, settings, now)
            return
        self._switch(pool, {name: _set(name, setting) for name, setting in settings.items()})

    def cut(self, pool: str, names: Sequence[str]) -> int:
        if not self._by_links(pool):
            return super().cut(pool, names)
        raise Refused(
            f"What is in flight on {', '.join(names)} cannot be cut: by links no worker of nginx ends.",
            "Give it more time (rollout_drain_timeout), or end it on the member itself.",
        )

    def end_idle(self, pool: str, names: Sequence[str]) -> int | None:
        if not self._by_links(pool):
            return super().end_idle(pool, names)
        if all(self._reads_links(process) for process in self._processes().leaving):
            return None
        return super().end_idle(self._pair(pool)[1].name, names)

    def _change(self, pool: str, changes: Any) -> None:
        self._refuse_reloads(pool)
        super()._change(pool, changes)

    def _switch(self, pool: str, changes: Mapping[str, Callable[[Weights], Weights]]) -> None:
        """Turn links; none where all are as wanted."""
        table = self._table(pool)
        if table.holds(self._wanted(pool, table, changes)):
            return
        if self.rehearsing:
            self._tell(table, self._wanted(pool, table, changes))
            return
        with table.lock():
            wanted = self._wanted(pool, table, changes)  # again: another change may have gone before
            if not any(row.serves for row in wanted.values()):
                raise Refused(
                    f"This would leave the upstream {pool!r} without any server in service; nothing was changed.",
                    "There would be nothing to send a request to. Keep at least one in service.",
                )
            self._check_usage(pool, self._processes())
            self._tell(table, wanted)
            table.write(wanted)
        self._passed.clear()
        self._behind.clear()

    def _tell(self, table: Table, wanted: Mapping[str, Weights]) -> None:
        now = table.read()
        self.told.extend(
            f"{table.folder}: {address} {'serves' if row.serves else 'out'} at weight {row.now}"
            for address, row in wanted.items()
            if now[address] != row
        )

    def _wanted(
        self, pool: str, table: Table, changes: Mapping[str, Callable[[Weights], Weights]]
    ) -> dict[str, Weights]:
        names = {self.member_name(server): server.address for server in self._pair(pool)[1].servers}
        rows = table.read()
        for name, change in changes.items():
            if name not in names:
                self.read(pool).member(name)  # says what is there
            rows[names[name]] = change(rows[names[name]])
        return rows


def table_of(root: str, pool: str, generated: Upstream) -> Table:
    """The table of a pool whose generated upstream is this."""
    return Table(root, pool, {server.address: server.weight for server in generated.servers})


def _set(name: str, setting: Setting) -> Callable[[Weights], Weights]:
    weighed = _weighed(name, setting.weight)
    return lambda row: weighed(row)._replace(serves=setting.admin is Admin.READY)


def _weighed(name: str, weight: int) -> Callable[[Weights], Weights]:
    if not 1 <= weight <= MAX_WEIGHT:
        raise BadInput(
            f"The weight of {name!r} is {weight}; links take 1 to {MAX_WEIGHT}.", "To take it out, use the state out."
        )
    return lambda row: row._replace(now=weight)


def _selinux_enforces() -> bool:
    try:
        with open("/sys/fs/selinux/enforce", encoding="ascii") as file:
            return file.read().strip() == "1"
    except OSError:
        return False
