# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A lab with a controller beside it: runs playbooks as a user does, drives load, and looks from outside."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import lab
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness import (
    Outcome,
    Reconciliation,
    read_log,
    reconcile,
    sent_posts,
)
from lab import readiness, releases
from lab.balancers import Server
from lab.namespaces import root_of
from lab.probes import ssh_answers

ROOT = Path(__file__).resolve().parents[2]
COLLECTIONS = ROOT / ".build" / "collections"
FIRST = "1.0"  # the release of every member of a fresh lab
RUN_TOKEN = "ZERODROP_TEST_RUN"  # in the environment of every process of a run: the folder of its controller

# Every kind of client; POSTs are many, since each of them can tell a lie.
MIX = {
    "keepalive": 0.45,
    "close": 0.15,
    "slow": 0.01,
    "stream": 0.02,
    "websocket": 0.02,
    "session": 0.15,
    "post": 0.2,
}
_WITNESS = "ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness"
_ROOTS: dict[str, Path] = {}  # by container
_RECAP = re.compile(r"^(?P<host>\S.*?)\s+: (?P<counts>ok=\d+ .*)$", re.MULTILINE)


def ansible_playbook(core: str = "") -> Path | None:
    """The program of this interpreter's ansible-core, or of another one; None when it is not here."""
    if not core:
        return Path(sys.executable).parent / "ansible-playbook"
    folder = os.environ.get(f"ZERODROP_VENV_{core.replace('.', '_')}") or ROOT / f".venv-{core}"
    path = Path(folder) / "bin" / "ansible-playbook"
    return path if path.exists() else None


@dataclass(frozen=True)
class Run:
    """One run of a playbook."""

    rc: int
    output: str  # what a user sees, both streams
    reports: list[dict[str, Any]]
    folder: Path
    seconds: float

    @property
    def report(self) -> dict[str, Any]:
        assert len(self.reports) == 1, f"{len(self.reports)} reports\n{self}"
        return self.reports[0]

    @property
    def text(self) -> str:
        """What it said, on one line, as it wraps and quotes."""
        return " ".join(self.output.replace('\\"', '"').replace("\\n", " ").split())

    @property
    def changed(self) -> dict[str, int]:
        """How many tasks changed something, by host."""
        return {host: counts["changed"] for host, counts in self.recap.items()}

    @property
    def recap(self) -> dict[str, dict[str, int]]:
        found = {}
        _head, _mark, tail = self.output.partition("PLAY RECAP")
        for match in _RECAP.finditer(tail):
            pairs = (pair.split("=") for pair in match["counts"].split())
            found[match["host"].strip()] = {name: int(value) for name, value in pairs}
        return found

    def states(self) -> dict[str, str]:
        """Each member's state at the end, by the report."""
        return {host: member["state"] for host, member in self.report["members"].items()}

    def __str__(self) -> str:
        return f"ended with {self.rc} after {self.seconds:.1f} s\n{self.output}"


@dataclass
class Load:
    """Clients of all kinds; what they saw is known when they have stopped."""

    summaries: list[dict[str, Any]] = field(default_factory=list)
    sent: dict[str, Outcome] = field(default_factory=dict)
    posts: Reconciliation | None = None
    logs: list[Path] = field(default_factory=list)

    def total(self, name: str) -> int:
        return sum(int(summary[name]) for summary in self.summaries)

    def served(self, version: str) -> int:
        """Good answers of a version."""
        return sum(summary["by_version"].get(version, {}).get("ok", 0) for summary in self.summaries)

    def problems(self, closed_idle: int = 0) -> str:
        """Everything that a client could complain about; empty when there is nothing.

        So many kept connections may have been closed just when they were used again.
        """
        assert self.posts is not None
        found: list[str] = []
        forgiven = self.total("closed_idle") <= closed_idle
        for summary in self.summaries:
            for name in ("failed", "not_sent", *(() if forgiven else ("closed_idle",))):
                if summary[name]:
                    found.append(f"{name}: {summary[name]} of {summary['requests_total']} at {summary['url']}")
            found += [json.dumps(each) for each in summary["failures"]]
            found += [] if forgiven else [json.dumps(each) for each in summary["idle_closes"]]
            if summary["websockets"]["cut"]:
                found.append(f"WebSockets cut: {summary['websockets']['cut']}")
        for name in ("lost", "failed_but_executed", "executed_twice"):
            ids = getattr(self.posts, name)
            if ids:
                found.append(f"POSTs {name}: {len(ids)}, such as {ids[:3]}")
        return "\n".join(found)

    def assert_nothing_lost(self, at_least: int = 200, closed_idle: int = 0) -> None:
        problems = self.problems(closed_idle)
        assert not problems, problems
        assert self.total("requests_total") >= at_least, "there was no load to speak of"

    def answered_by(self, host: str, since: float = 0.0) -> int:
        """Good answers of a member, to requests that began later than this many seconds after the start."""
        return sum(
            1
            for log in self.logs
            for record in read_log(str(log))
            if record.host == host and record.started >= since and record.outcome is Outcome.OK
        )


class Watch:
    """Samples which members each balancer would give new work to, all the time."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.samples: list[tuple[float, str, frozenset[str]]] = []
        self.trouble: list[str] = []

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(0.04):
            for name in [host.name for host in self._rig.lab.balancers]:
                try:
                    states = self._rig.states(name)
                except OSError as error:
                    self.trouble.append(f"{name}: {error}")
                    continue
                serving = frozenset(each for each, state in states.items() if state.startswith("UP"))
                self.samples.append((time.monotonic(), name, serving))

    @property
    def least(self) -> int:
        """The smallest number of members that were in service at once."""
        assert len(self.samples) > 20, self.trouble
        return min(len(serving) for _at, _name, serving in self.samples)

    @property
    def ever_out(self) -> set[str]:
        """Members that were out of service on any balancer at any time."""
        everyone = {host.name for host in self._rig.lab.members}
        return {name for _at, _name, serving in self.samples for name in everyone - serving}


class Rig:
    """One lab and what tests do with it."""

    def __init__(self, up: lab.Lab, folder: Path) -> None:
        self.lab = up
        self.folder = folder
        self._runs = itertools.count(1)
        self._playbook: subprocess.Popen[str] | None = None
        self._reports: Path | None = None
        self.control_paths: list[str] = []  # folders of the sockets over which connections are shared, one for each run
        self._faulted: set[str] = set()

    @property
    def hosts(self) -> list[str]:
        return [host.name for host in self.lab.members]

    def root(self, host: lab.Host | str) -> Path:
        """A host's file system as it is seen from here."""
        found = self.lab.host(host)
        root = _ROOTS.get(found.container_id)
        if root is None or not root.exists():
            root = root_of(found)
            assert root is not None, f"{host} is down"
            _ROOTS[found.container_id] = root  # asking Podman takes a while
        return root

    # -- playbooks --------------------------------------------------------------

    def seven_lines(self) -> dict[str, Any]:
        """The shortest configuration, but for the upgrade."""
        return {
            "rollout_service": "shop",
            "rollout_hosts": "shop",
            "rollout_balancers": "lb",
            "rollout_driver": self.lab.description.generations[0].partition("-")[0],
            "rollout_pool": "shop",
            "rollout_health_url": "http://127.0.0.1:8080/health",
        }

    def archive(self, version: str, **switches: float | str) -> dict[str, Any]:
        """A release of this version, and the settings that install it."""
        release = self.lab.release(version, **switches)  # type: ignore[arg-type]
        return {
            "rollout_version": version,
            "rollout_upgrade_method": "archive",
            "rollout_archive_src": str(release.path),
            "rollout_archive_checksum": f"sha256:{release.sha256}",
        }

    def rollout(
        self,
        *settings: Mapping[str, Any],
        options: Sequence[str] = (),
        inventory: str | Path | None = None,
        core: str = "",
        environment: Mapping[str, str] | None = None,
        timeout: float = 600.0,
        directory: Path | None = None,
        playbook: str = "rolling",
        **more: Any,
    ) -> Run:
        """Run a playbook, ours or a file, with the seven lines and these settings; None leaves one out."""
        values: dict[str, Any] = self.seven_lines()
        for each in settings:
            values.update(each)
        values.update(more)
        folder = self.folder / f"run{next(self._runs)}"
        folder.mkdir(parents=True)
        values.setdefault("rollout_report_dir", str(folder / "reports"))
        values = {name: value for name, value in values.items() if value is not None}
        (folder / "settings.json").write_text(json.dumps(values), encoding="utf-8")
        program = ansible_playbook(core)
        assert program is not None
        name = playbook if playbook.endswith(".yml") else f"zerodrop.rollout.{playbook}"
        command = [str(program), name, "-i", str(inventory or self.lab.inventory)]
        command += ["-e", f"@{folder / 'settings.json'}", *options]
        started = time.monotonic()
        with _controller({RUN_TOKEN: str(self.folder), **(environment or {})}) as own:
            process = subprocess.Popen(
                command,
                cwd=directory or folder,
                env=own,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
            self._playbook, self._reports = process, Path(values["rollout_report_dir"])
            self.control_paths.append(own["ANSIBLE_SSH_CONTROL_PATH_DIR"])
            try:
                output, _none = process.communicate(timeout=timeout)
            except BaseException as error:
                os.killpg(process.pid, signal.SIGKILL)
                output, _none = process.communicate()
                raise AssertionError(f"did not end within {timeout:g} s:\n{output}") from error
        seconds = time.monotonic() - started
        found = sorted(Path(values["rollout_report_dir"]).glob("*/report.json"))
        reports = [json.loads(path.read_text(encoding="utf-8")) for path in found]
        return Run(process.returncode, output, reports, folder, seconds)

    def signal(self, number: int, group: bool = False) -> None:
        """Tell the playbook that runs to end: it alone, or its whole group as a terminal and AWX do."""
        assert self._playbook is not None
        if self._playbook.poll() is None:
            (os.killpg if group else os.kill)(self._playbook.pid, number)

    def begun(self) -> bool:
        """Whether the run that was started last has a record."""
        return any(self.records())

    def records(self) -> list[Path]:
        """Of the run that was started last."""
        return list(self._reports.glob("*/record.json")) if self._reports else []

    def member_is(self, host: str, *states: str, out: bool = True) -> Callable[[], bool]:
        """A look whether the run's own record has a member in one of these states, while it is out of service."""

        def look() -> bool:
            for path in self.records():
                try:
                    member = json.loads(path.read_text(encoding="utf-8"))["members"][host]
                except (OSError, ValueError):
                    return False
                return member["state"] in states and (member["out_at"] is not None) is out
            return False

        return look

    # -- load -------------------------------------------------------------------

    @contextmanager
    def load(
        self,
        rate: float = 150.0,
        mix: Mapping[str, float] | None = None,
        slow: float = 2.0,
        hold: float = 1.0,
        without: Sequence[str] = (),
    ) -> Iterator[Load]:
        """Clients on every balancer but those, as long as the block lasts; nothing may be cut short by its end."""
        load = Load()
        balancers = [host for host in self.lab.balancers if host.name not in without]
        folder = Path(tempfile.mkdtemp(prefix="load-", dir=self.folder))
        processes: list[subprocess.Popen[str]] = []
        try:
            for host in balancers:
                log, summary, status = (folder / f"{host.name}.{end}" for end in ("log", "json", "status"))
                load.logs.append(log)
                settings = {
                    "url": f"http://{host.address}/",
                    "rate": rate / len(balancers),
                    # Shared out as the rate is, so that none is left idle for longer than with one balancer.
                    "keepalive_connections": max(4, 16 // len(balancers)),
                    "mix": dict(mix or MIX),
                    "slow_path": f"/slow/{slow:g}",
                    "websocket_hold": hold,
                    "grace": 30.0,
                    "timeout": 20.0,
                    "log": str(log),
                    "summary": str(summary),
                    "status": str(status),
                    "die_with_parent": os.getpid(),
                }
                (folder / f"{host.name}.settings").write_text(json.dumps(settings), encoding="utf-8")
                processes.append(
                    subprocess.Popen(
                        [sys.executable, "-m", _WITNESS, "--settings", str(folder / f"{host.name}.settings")],
                        env={**os.environ, "PYTHONPATH": str(COLLECTIONS)},
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.STDOUT,
                        text=True,
                    )
                )
            for host in balancers:
                wait_for(lambda host=host: _requests(folder / f"{host.name}.status") > 20)  # type: ignore[misc]
            yield load
        finally:
            for process in processes:
                process.send_signal(signal.SIGTERM)
            for process in processes:
                said, _none = process.communicate(timeout=60)
                assert process.returncode in (0, 1), said
        for host in balancers:
            load.summaries.append(json.loads((folder / f"{host.name}.json").read_text(encoding="utf-8")))
        for log in load.logs:
            load.sent.update(sent_posts(str(log)))
        load.posts = reconcile(load.sent, [order.id for order in lab.orders(self.lab)])

    def watch(self) -> Watch:
        return Watch(self)

    # -- what is there ----------------------------------------------------------

    def current(self) -> dict[str, str]:
        """The release that each member's link names."""
        links = {host: os.readlink(self.lab.files(host) / "shop/current") for host in self.hosts}
        return {host: os.path.basename(link) for host, link in links.items()}

    def all_on(self, version: str) -> dict[str, str]:
        return dict.fromkeys(self.hosts, version)

    def servers(self) -> dict[str, dict[str, str]]:
        """By balancer and member of the pool: status and weight, as clients feel them."""
        return {host.name: dict(self.states(host)) for host in self.lab.balancers}

    def states(self, balancer: lab.Host | str) -> Mapping[str, str]:
        """The same for one balancer."""
        look = self.lab.generation(balancer).states
        return look(self.root(balancer), self.lab.description, self._servers)

    @property
    def _servers(self) -> list[Server]:
        return [Server(host.name, host.address) for host in self.lab.members]

    def in_service(self) -> set[str]:
        """Members that every balancer gives new work to."""
        return {
            name
            for name in self.hosts
            if all(servers.get(name, "").startswith("UP ") for servers in self.servers().values())
        }

    def snapshot(self) -> dict[str, Any]:
        """Everything that a rollout could touch, so that two of them are equal when it touched nothing."""
        members = {host.name: self._member(host) for host in self.lab.members}
        return {"members": members, "servers": self.servers()}

    def _member(self, host: lab.Host) -> dict[str, Any]:
        shop, root = self.lab.files(host) / "shop", self.root(host)
        return {
            "current": os.readlink(shop / "current"),
            "store": sorted(str(path.relative_to(shop)) for path in shop.rglob("*")),
            "left": self.leftovers(host),
            "records": sorted(path.name for path in (root / "var/lib").glob("zerodrop/*")),
            "service": _processes(root, b"shop.py"),
        }

    def leftovers(self, host: lab.Host | str) -> list[str]:
        """Files on a host that belong to a run and must not outlive it."""
        root = self.root(host)
        found = [path.name for pattern in ("zerodrop*", "ansible*") for path in (root / "tmp").glob(pattern)]
        found += [path.name for path in (root / "root/.ansible/tmp").glob("*")]
        found += [f".incoming/{path.name}" for path in (root / "opt/shop/.incoming").glob("*")]
        return sorted(found)

    def on_members(self, command: str) -> dict[str, str]:
        """What a shell's command says on every member."""
        argv = ["sh", "-c", command]
        with ThreadPoolExecutor(8) as pool:
            said = pool.map(lambda host: self.lab.exec(host, argv, check=False, timeout=120).stdout.strip(), self.hosts)
            return dict(zip(self.hosts, said, strict=True))

    # -- faults -----------------------------------------------------------------

    def lose(self, host: str) -> None:
        """SSH of this host is gone, also where it was in use; it goes on serving."""
        self._faulted.add(host)
        self.lab.stop_sshd(host, sessions=True)

    def expect_loss(self, host: str) -> None:
        """The playbook itself does that to this host."""
        self._faulted.add(host)

    def cut(self, host: str, port: int | None = None) -> None:
        """The way from the controller to this host, or to a port of it, is gone, in silence; it goes on serving."""
        self._faulted.add(host)
        self.lab.cut(host, from_="controller", port=port)

    @contextmanager
    def when(self, condition: Callable[[], bool], action: Callable[[], None]) -> Iterator[list[float]]:
        """Act once, as soon as something holds, while the block runs; gives the moments at which it did."""
        end = threading.Event()
        acted: list[float] = []

        def wait() -> None:
            while not end.wait(0.02):
                if condition():
                    acted.append(time.monotonic())
                    action()
                    return

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        try:
            yield acted
        finally:
            end.set()
            thread.join()

    def is_out(self, host: str) -> Callable[[], bool]:
        """A quick look whether the first balancer holds a member out."""

        def look() -> bool:
            try:
                return self.states(self.lab.balancers[0])[host].startswith(("MAINT", "DRAIN"))
            except OSError:
                return False

        return look

    # -- releases by hand -------------------------------------------------------

    def lay_out(self, version: str, **switches: float) -> None:
        """Put a release beside the running one on every member, for a deployment of the user's own."""
        contents = releases.contents(version, lab.Switches(**switches))  # type: ignore[arg-type]
        for host in self.hosts:
            folder = self.lab.files(host) / "shop/releases" / version
            folder.mkdir(parents=True)
            for name, data in contents.items():
                (folder / name).write_bytes(data)
                (folder / name).chmod(0o644)
            folder.chmod(0o755)

    # -- as in the beginning ----------------------------------------------------

    def heal(self) -> None:
        """Undo every fault."""
        for name in self._faulted:
            self.lab.heal(name)
            if not ssh_answers(self.lab.host(name).address):
                self.lab.start_sshd(name)
        self._faulted.clear()

    def reset(self) -> None:
        """Every member on its first release and in service, nothing left of an earlier run."""
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(self._reset_member, self.lab.members))
        for host in self.lab.balancers:
            for path in (self.root(host) / "var/lib/zerodrop").glob("*"):
                if path.name != "nginx":  # what members are switched by belongs to the configuration
                    shutil.rmtree(path, ignore_errors=True)
            restore = self.lab.generation(host).restore
            restore(self.root(host), self.lab.description, self._servers, partial(self.lab.exec, host))
        readiness.wait(self.lab, 30)

    def _reset_member(self, host: lab.Host) -> None:
        shop, root = self.lab.files(host) / "shop", self.root(host)
        shutil.rmtree(root / "var/lib/zerodrop", ignore_errors=True)
        for name in self.leftovers(host):
            if name.startswith(("zerodrop", "ansible")):
                shutil.rmtree(root / "tmp" / name, ignore_errors=True)
                (root / "tmp" / name).unlink(missing_ok=True)
        pristine = {"current", "releases"} == {path.name for path in shop.iterdir()}
        if pristine and [path.name for path in (shop / "releases").iterdir()] == [FIRST]:
            return
        for path in shop.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        releases.install(shop, FIRST, self.lab.description.switches)
        self.lab.exec(host, ["systemctl", "restart", "shop.service"])


def on_all(hosts: Sequence[lab.Host], up: lab.Lab, script: str) -> None:
    """Run a script on some hosts at once; each must end well."""

    def run(host: lab.Host) -> None:
        done = up.exec(host, ["sh", "-s"], stdin=f"set -e\n{script}", check=False, timeout=180)
        assert done.returncode == 0, f"{host.name}: {done.stdout}{done.stderr}"

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, hosts))


def wait_for(what: Callable[[], bool], seconds: float = 20.0) -> None:
    """Return when `what` holds."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def _processes(root: Path, word: bytes) -> list[str]:
    """The processes of a host whose command has this word, and when each was started."""
    found = []
    for folder in (root / "proc").glob("[0-9]*"):
        try:
            if word in (folder / "cmdline").read_bytes():
                found.append(f"{folder.name} {(folder / 'stat').read_text().rpartition(')')[2].split()[19]}")
        except OSError:
            continue  # it has ended
    return sorted(found)


def _requests(status: Path) -> int:
    try:
        return int(json.loads(status.read_text(encoding="utf-8"))["requests_total"])
    except (OSError, ValueError, KeyError):
        return 0


@contextmanager
def _controller(environment: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """The environment of a controller that was just started: no connection is open, none is left."""
    # Sockets have short names.
    with tempfile.TemporaryDirectory(prefix="zd-") as own:
        values = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "PYTHON"))}
        values |= {
            "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
            "ANSIBLE_PIPELINING": "true",
            "ANSIBLE_FORKS": "20",
            "ANSIBLE_TIMEOUT": "5",
            "ANSIBLE_NOCOLOR": "true",
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_SSH_CONTROL_PATH_DIR": f"{own}/cp",
            "ANSIBLE_LOCAL_TEMP": f"{own}/tmp",
            **environment,
        }
        try:
            yield values
        finally:
            for path in Path(own, "cp").glob("*"):
                command = ["ssh", "-O", "exit", "-o", f"ControlPath={path}", "controller"]
                subprocess.run(command, capture_output=True, check=False, timeout=20)
