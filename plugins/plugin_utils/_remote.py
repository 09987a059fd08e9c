# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run one operation on many hosts at once, over Ansible's own connections.

Connections are made as Ansible would make them for a task on each host (its
plugin, address, user, key, jump hosts, ``become``), so whatever reaches a host
with ``ansible -m ping`` does so here. Nothing in here raises for a host that
fails: each host has a ``Reply``, and a host that is lost is data like any other.
"""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from ansible import constants as C
from ansible import context
from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.loader import become_loader, connection_loader

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    BadReply,
    RolloutError,
    Unreachable,
    from_dict,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils import _program
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._session import Session

# A host that has not answered this long after its operation's own limit counts as lost.
GRACE_SECONDS = 30.0

_KEEPALIVE = "-o ServerAliveInterval=5 -o ServerAliveCountMax=3"

_ANY_PYTHON = (
    "for p in /usr/bin/python3 /usr/libexec/platform-python /usr/local/bin/python3 python3; "
    'do command -v "$p" >/dev/null 2>&1 && exec "$p" -I -S -c {boot}; done; '
    "echo 'zerodrop: no python3 on this host' >&2; exit 127"
)


@dataclass(frozen=True)
class Call:
    """An operation for one host."""

    operation: str
    params: Mapping[str, Any]
    limit: float = 0.0  # seconds that the operation may take by its own settings
    host: str = ""  # the host it is for, where that is not what the call is named by


@dataclass(frozen=True)
class Reply:
    """What came of a call."""

    host: str
    result: dict[str, Any] = field(default_factory=dict)
    error: RolloutError | None = None
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return self.error is None

    @property
    def changed(self) -> bool:
        return bool(self.result.get("changed"))


class Remote:
    """Hosts of the inventory, reached from the controller.

    ``task_vars``, ``task``, ``play_context`` and ``templar`` are those of the
    action plugin that uses it. With ``lasting``, a host's program is kept from
    one call to the next where its connection allows it; ``close`` ends it.
    """

    def __init__(
        self,
        task_vars: Mapping[str, Any],
        task: Any,
        play_context: Any,
        templar: Any,
        lasting: bool = False,
        grace: float = GRACE_SECONDS,
    ) -> None:
        self._hostvars = task_vars["hostvars"]
        self._task = task
        self._play_context = play_context
        self._templar = templar
        self._lasting = lasting
        self._grace = grace
        self._idle: dict[str, list[Session]] = {}  # programs that wait for another call of their name
        self.aside = self.alone  # what is entered while hosts are waited for
        self._prepared: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, *_exception: object) -> None:
        sessions = [session for idle in self._idle.values() for session in idle]
        for session in sessions:
            session.end()
        for session in sessions:
            session.leave()
        self._idle.clear()

    @staticmethod
    def alone() -> AbstractContextManager[None]:
        """Nobody else has to be let in meanwhile."""
        return nullcontext()

    def is_open(self, name: str) -> bool:
        """Whether a program is there already that would answer the next call by this name."""
        return any(session.alive for session in self._idle.get(name, ()))

    def run(self, calls: Mapping[str, Call], check: bool = False) -> dict[str, Reply]:
        """Run each call, all at once; returns when the last has answered or is given up.

        Calls are named by their hosts; one with a ``host`` of its own has another name, so that a host can have several.
        """
        replies: dict[str, Reply] = {}
        working: dict[str, Session] = {}
        started = time.monotonic()
        threads = {}
        for name, call in calls.items():
            # Variables are read here: templating is not made for threads. The first connections open meanwhile.
            variables = self._prepare(call.host or name)
            # Daemons, so that a host that hangs cannot keep the run from ending.
            thread = threading.Thread(
                target=self._run_one, args=(name, call, check, variables, replies, working), daemon=True
            )
            thread.start()
            threads[name] = thread
        with self.aside():
            for host, thread in threads.items():
                left = started + calls[host].limit + self._grace - time.monotonic()
                thread.join(max(0.0, left))
        result = {}
        for host in calls:
            seconds = time.monotonic() - started
            session = working.pop(host, None) if host not in replies else None
            if session is not None:
                session.close(at_once=True)
            result[host] = replies.get(host) or Reply(
                host, error=_lost(host, f"no answer within {seconds:.0f} s"), seconds=seconds
            )
        return result

    def prepare(self, hosts: Iterable[str]) -> None:
        """Read these hosts' variables now, so that ``run`` can be called for them from another thread."""
        for host in hosts:
            self._prepare(host)

    def pause(self, seconds: float) -> None:
        """Wait, where nobody is asked."""
        with self.aside():
            time.sleep(seconds)

    def copy_to(self, source: str, targets: Mapping[str, str]) -> dict[str, Reply]:
        """Copy a file of the controller to a path on each host, all at once."""
        replies: dict[str, Reply] = {}
        prepared = {host: self._prepare(host) for host in targets}

        def copy_one(host: str, path: str) -> None:
            try:
                connection = self._connect(prepared[host])
                connection.put_file(source, path)
                replies[host] = Reply(host)
            except (AnsibleError, OSError) as error:
                replies[host] = Reply(host, error=_lost(host, str(error)))

        threads = [threading.Thread(target=copy_one, args=item, daemon=True) for item in targets.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return replies

    def _run_one(
        self,
        host: str,
        call: Call,
        check: bool,
        variables: Mapping[str, Any],
        replies: dict[str, Reply],
        working: dict[str, Session],
    ) -> None:
        started = time.monotonic()
        try:
            result = self._exchange(host, call, check, variables, working)
            replies[host] = Reply(host, result=result, seconds=time.monotonic() - started)
        except AnsibleConnectionFailure as error:
            replies[host] = Reply(host, error=_lost(host, str(error)), seconds=time.monotonic() - started)
        except RolloutError as error:
            replies[host] = Reply(host, error=error, seconds=time.monotonic() - started)
        except Exception as error:  # a thread must never lose its host
            replies[host] = Reply(host, error=BadReply(f"{host}: {error}"), seconds=time.monotonic() - started)

    def _exchange(
        self, name: str, call: Call, check: bool, variables: Mapping[str, Any], working: dict[str, Session]
    ) -> dict[str, Any]:
        data = self._ask_session(name, call, check, variables, working) or self._run_once(call, check, variables)
        if "error" in data:
            raise from_dict(data["error"])
        result: dict[str, Any] = data["result"]
        return result

    def _ask_session(
        self, name: str, call: Call, check: bool, variables: Mapping[str, Any], working: dict[str, Session]
    ) -> dict[str, Any] | None:
        """The answer of a lasting program for this name; None where there is none and none can be started.

        While it is asked it stands in ``working``: whoever gives it up ends it. A second call of the name has another one.
        """
        idle = self._idle.setdefault(name, [])
        session = idle.pop() if idle else None
        if session is None or not session.alive:
            session = self._start_session(call, variables)
            if session is None:
                return None
        working[name] = session
        try:
            answer = session.ask(call.operation, call.params, check)
        except Unreachable as error:
            working.pop(name, None)
            session.close(at_once=True)
            if not session.proven:
                return None  # it never came up; the ordinary way says better why
            raise _lost(name, error.message) from error
        if working.pop(name, None) is not None:
            idle.append(session)
        return answer

    def _start_session(self, call: Call, variables: Mapping[str, Any]) -> Session | None:
        """Start a lasting program over ssh, where nothing has to be typed on the way.

        ``_build_command`` is the connection plugin's own, so that every ssh
        setting applies; it is not public, and without it each call starts anew.
        """
        if not self._lasting or variables.get("__missing") or self._transport(variables) != "ssh":
            return None
        connection = self._connect(variables)
        build = getattr(connection, "_build_command", None)
        typed = [connection.get_option("password")]
        if connection.become:
            typed.append(connection.become.get_option("become_pass"))
        if build is None or any(typed):
            return None
        host = connection.get_option("host") or connection._play_context.remote_addr
        command = build(
            connection.get_option("ssh_executable"), "ssh", host, self._program_command(connection, variables)
        )
        return Session(command, call.operation, call.params)

    @staticmethod
    def _program_command(connection: Any, variables: Mapping[str, Any]) -> str:
        command = _command(variables.get("ansible_python_interpreter"))
        if connection.become:
            command = str(connection.become.build_become_command(command, connection._shell))
        return command

    def _run_once(self, call: Call, check: bool, variables: Mapping[str, Any]) -> dict[str, Any]:
        connection = self._connect(variables)
        command = self._program_command(connection, variables)
        code, out, err = connection.exec_command(
            command, in_data=_program.standard_input(call.operation, call.params, check), sudoable=True
        )
        try:
            return _program.answer(out)
        except BadReply as error:
            said = (err or out or b"").decode("utf-8", "replace").strip().splitlines()
            raise BadReply(
                f"{error.message} It ended with {code}" + (f" and said: {said[-1]}" if said else "."),
                "Check that the host has Python 3.9 or newer and that become works without a question.",
            ) from error

    def _prepare(self, host: str) -> dict[str, Any]:
        """Everything about a host that its connection may ask for, rendered once: it takes milliseconds for each host."""
        if host not in self._prepared:
            self._prepared[host] = self._render(host)
        return self._prepared[host]

    def _render(self, host: str) -> dict[str, Any]:
        if host not in self._hostvars:
            return {"inventory_hostname": host, "__missing": True}
        hostvars = self._hostvars[host]
        names = {"inventory_hostname", "ansible_python_interpreter", "ansible_become", "ansible_become_method"}
        names.add("ansible_connection")
        transport = self._transport(hostvars)
        for kind, plugin in (("connection", transport), ("shell", "sh"), ("become", self._become_method(hostvars))):
            names.update(C.config.get_plugin_vars(kind, plugin))
        return {name: hostvars[name] for name in names if name in hostvars}

    def _transport(self, hostvars: Mapping[str, Any]) -> str:
        return str(hostvars.get("ansible_connection") or context.CLIARGS.get("connection") or C.DEFAULT_TRANSPORT)

    def _become_method(self, hostvars: Mapping[str, Any]) -> str:
        return str(hostvars.get("ansible_become_method") or self._task.become_method or C.DEFAULT_BECOME_METHOD)

    def _connect(self, variables: Mapping[str, Any]) -> Any:
        host = variables["inventory_hostname"]
        if variables.get("__missing"):
            raise _lost(host, "the inventory has no such host")
        play_context = self._play_context.copy()
        play_context.remote_addr = variables.get("ansible_host") or host
        play_context.port = variables.get("ansible_port")
        transport = self._transport(variables)
        play_context.connection = transport
        variables = _with_keepalive(variables) if transport == "ssh" else variables
        connection = connection_loader.get(transport, play_context, task_uuid=self._task._uuid)
        if connection is None:
            raise _lost(host, f"there is no connection plugin {transport!r}")
        keys = self._task.dump_attrs()
        keys["timeout"] = self._play_context.timeout
        keys.pop("retries", None)
        # These belong to the task's own host, the coordinator.
        for own in ("connection", "port", "remote_user"):
            keys.pop(own, None)
        if self._play_context.password:
            keys["password"] = self._play_context.password
        become = self._become(variables, keys)
        connection.set_become_plugin(become)
        connection.set_options(task_keys=keys, var_options=dict(variables))
        connection._shell.set_options(task_keys=keys, var_options=dict(variables))
        return connection

    def _become(self, variables: Mapping[str, Any], keys: dict[str, Any]) -> Any:
        wanted = variables.get("ansible_become")
        wanted = self._task.become if wanted is None else _truth(wanted)
        if not wanted:
            return None
        plugin = become_loader.get(self._become_method(variables))
        if plugin is None:
            raise _lost(
                variables["inventory_hostname"], f"there is no become plugin {self._become_method(variables)!r}"
            )
        if self._play_context.become_pass:
            keys["become_pass"] = self._play_context.become_pass
        plugin.set_options(task_keys=keys, var_options=dict(variables))
        return plugin


def _with_keepalive(variables: Mapping[str, Any]) -> Mapping[str, Any]:
    """Have ssh notice a network that is gone within seconds, unless the user has said how."""
    arguments = ("ansible_ssh_args", "ansible_ssh_common_args", "ansible_ssh_extra_args")
    if any("ServerAlive" in str(variables.get(name, "")) for name in arguments):
        return variables
    extra = str(variables.get("ansible_ssh_extra_args", ""))
    return {**variables, "ansible_ssh_extra_args": f"{extra} {_KEEPALIVE}".strip()}


def _truth(value: Any) -> bool:
    return value if isinstance(value, bool) else str(value).strip().lower() in ("1", "true", "yes", "on", "y", "t")


def _command(interpreter: Any) -> str:
    boot = shlex.quote(_program.BOOT)
    path = str(interpreter or "")
    if path.startswith("/"):
        return f"{shlex.quote(path)} -I -S -c {boot}"
    return "/bin/sh -c " + shlex.quote(_ANY_PYTHON.format(boot=boot))


def _lost(host: str, why: str) -> Unreachable:
    reason = " ".join(why.split()).rstrip(".: ")
    return Unreachable(f"{host} cannot be reached: {reason}.", host=host, lost=True)
