# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every balancer kind brings to the conformance cases, and what the cases share: members and load."""

from __future__ import annotations

import abc
import asyncio
import http.client
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils._drivers.base import Driver

APP = Path(__file__).with_name("app.py")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: Callable[[], Any], limit: float = 10.0) -> Any:
    """Poll until it is true; what it returned."""
    deadline = time.monotonic() + limit
    while not (found := what()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)
    return found


class App:
    """One member's service."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-S", str(APP), self.name, str(self.port)])
        wait_for(self._listens)

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def switch(self, state: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        connection.request("GET", f"/switch/{state}")
        connection.getresponse().read()
        connection.close()


@dataclass(frozen=True)
class PoolSpec:
    """A pool as a case wants it; each balancer kind writes it in its own words."""

    name: str
    members: Sequence[tuple[str, int]]
    tcp: bool = False
    checked: bool = True
    sticky: bool = False
    max_in_flight: int = 0  # per member
    port: int = field(default_factory=free_port)  # where clients reach it


class Balancer(abc.ABC):
    """A real balancer in a folder of its own. Another kind is one subclass, named in ``conftest.py``."""

    kind: ClassVar[str]
    lacks: ClassVar[Mapping[str, str]] = {}  # what this kind cannot do, by feature, each with the reason

    def __init__(self, folder: Path, version: str) -> None:
        """``version`` is one of those in ``generations.py``."""
        self.folder = folder
        self.version = version

    @abc.abstractmethod
    def start(self, pools: Sequence[PoolSpec], **more: Any) -> None: ...

    @abc.abstractmethod
    def stop(self) -> None: ...

    @abc.abstractmethod
    def reload(self) -> None:
        """Ask for a reload; do not wait for it."""

    @abc.abstractmethod
    def params(self, pool: str) -> dict[str, Any]:
        """What an operation needs to know to reach this pool."""

    @abc.abstractmethod
    def driver(self) -> Driver: ...


FEATURES = {
    "tcp": "a pool of TCP sessions",
    "exact": "an exact count of what is in flight under any load",
    "queue": "requests that wait for a member",
    "cut": "ending what is in flight",
    "work": "naming what is in flight",
    "checks": "health checks of its own",
    "counters": "counters of requests by member",
    "check_words": "the words of the check that failed",
    "idle": "idle clients kept over a reload",
    "route": "flips from one pool to another",
    "apart": "what an older process still serves told apart by member",
}


def needs(balancer: Balancer, feature: str) -> None:
    """Skip this case, with the reason, where this kind of balancer cannot do it."""
    assert feature in FEATURES, feature
    if feature in balancer.lacks:
        pytest.skip(f"{balancer.kind} has not {FEATURES[feature]}: {balancer.lacks[feature]}")


class Load:
    """Clients on a pool's address that count every answer. No retries."""

    forgives_closed_idle: ClassVar[bool] = False  # the balancer at hand closes idle clients when it is reloaded

    def __init__(self, port: int) -> None:
        self.port = port
        self.closed_idle = 0  # kept connections that ended just when a request was sent on them
        self.answers: Counter[str] = Counter()  # by member
        self.failures: Counter[str] = Counter()  # by kind
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._stopping = False

    @contextmanager
    def running(
        self, clients: int = 16, path: str = "/", keep_alive: bool = True, pause: float = 0.0
    ) -> Iterator[Load]:
        self._thread.start()
        tasks = [
            asyncio.run_coroutine_threadsafe(self._client(path, keep_alive, pause), self._loop)
            for _unused in range(clients)
        ]
        try:
            wait_for(lambda: sum(self.answers.values()) > clients or path != "/")
            yield self
        finally:
            self._stopping = True
            for task in tasks:
                task.result(30)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def _client(self, path: str, keep_alive: bool, pause: float) -> None:
        reader = writer = None
        used = False
        while not self._stopping:
            try:
                if writer is None or reader is None:
                    used = False
                    reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                name, last = await self._request(reader, writer, path)
                self.answers[name] += 1
                used = True
                if last or not keep_alive:
                    writer.close()
                    writer = None
            except Exception as error:
                if used and self.forgives_closed_idle and _is_closed_idle(error):
                    self.closed_idle += 1
                else:
                    self.failures[f"{type(error).__name__}: {error}"] += 1
                if writer is not None:
                    writer.close()
                    writer = None
            await asyncio.sleep(pause)
        if writer is not None:
            writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> tuple[str, bool]:
        """The member's name, and whether the balancer closes the connection now."""
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        status, length, last = 0, 0, False
        for line in head.decode().split("\r\n"):
            if line.startswith("HTTP/"):
                status = int(line.split()[1])
            if line.lower().startswith("content-length:"):
                length = int(line.split(":")[1])
            if line.lower().startswith("connection:"):
                last = "close" in line.lower()
        body = (await reader.readexactly(length)).decode()
        if status != 200:
            raise RuntimeError(f"status {status}")
        return body, last


def _is_closed_idle(error: Exception) -> bool:
    return isinstance(error, ConnectionError) or (isinstance(error, asyncio.IncompleteReadError) and not error.partial)


class Slow:
    """One request that takes long, in a thread of its own."""

    def __init__(self, port: int, seconds: float, headers: Mapping[str, str] | None = None) -> None:
        self.outcome = ""
        self.ended = 0.0
        self._port = port
        self._path = f"/slow/{seconds}"
        self._headers = dict(headers or {})
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
            connection.request("GET", self._path, headers=self._headers)
            answer = connection.getresponse()
            body = answer.read().decode()
            self.outcome = body if answer.status == 200 else f"status {answer.status}"
            connection.close()
        except (OSError, http.client.HTTPException) as error:
            self.outcome = f"failed: {error!r}"
        self.ended = time.monotonic()

    def wait(self) -> str:
        self._thread.join(60)
        return self.outcome
