# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sessions in the memory of members that leave are handed over, while their clients go on: docs/sessions.md."""

from __future__ import annotations

import http.client
import json
import os
import threading
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

import lab

from .rig import Rig
from .slots import Slots, description

pytestmark = [
    pytest.mark.lab,
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("ZERODROP_FLIPS"), reason="make flips runs these"),
]

SESSIONS = 1000
_HERE = "http://127.0.0.1:8080/sessions"
_GET = f"import urllib.request as u; print(u.urlopen({_HERE!r}).read().decode(), end='')"
_PUT = (
    "import sys, urllib.request as u; data = sys.stdin.buffer.read(); "
    f"u.urlopen(u.Request({_HERE!r}, data, method='PUT')).read()"
)
HAND_OVER: dict[str, Any] = {
    "rollout_sessions": "hand_over",
    "rollout_session_export": ["python3", "-c", _GET],
    "rollout_session_import": ["python3", "-c", _PUT],
    "rollout_health_version_key": "version",
    "rollout_look_requests": 0,
}


class Clients:
    """Each has a session, and comes again and again with the cookies that it was given."""

    def __init__(self, address: str, cookies: Sequence[dict[str, str]], threads: int = 4) -> None:
        self._address, self._cookies = address, list(cookies)
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n, threads), daemon=True) for n in range(threads)]
        self.requests = 0
        self.failed: list[str] = []
        self.hosts: set[str] = set()

    @contextmanager
    def at_work(self) -> Iterator[Clients]:
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._end.set()
            for thread in self._threads:
                thread.join()

    def _run(self, first: int, step: int) -> None:
        connection = http.client.HTTPConnection(self._address, timeout=20)
        while not self._end.is_set():
            for jar in self._cookies[first::step]:
                try:
                    self.visit(connection, jar)
                except (OSError, http.client.HTTPException) as error:
                    self.failed.append(repr(error))
                    connection.close()
                if self._end.wait(0.01):
                    connection.close()
                    return

    def once(self, jar: dict[str, str]) -> dict[str, Any]:
        with closing(http.client.HTTPConnection(self._address, timeout=20)) as connection:
            return self.visit(connection, jar)

    def visit(self, connection: http.client.HTTPConnection, jar: dict[str, str]) -> dict[str, Any]:
        self.requests += 1
        connection.request("GET", "/session", headers={"Cookie": "; ".join(f"{k}={v}" for k, v in jar.items())})
        answer = connection.getresponse()
        found: dict[str, Any] = json.loads(answer.read())
        for text in answer.headers.get_all("Set-Cookie") or []:
            name, _sign, value = text.partition(";")[0].partition("=")
            jar[name] = value
        if answer.status != 200 or found["lost"]:
            self.failed.append(f"{answer.status} {found}")
        self.hosts.add(found["host"])
        return found


def begin(address: str, count: int, also: Mapping[str, str]) -> list[dict[str, str]]:
    """So many new sessions on a member, asked without any balancer."""
    jars = []
    with closing(http.client.HTTPConnection(address, 8080, timeout=20)) as connection:
        for _number in range(count):
            connection.request("GET", "/session")
            jars.append({"SHOPSESSION": json.loads(connection.getresponse().read())["session"], **also})
    return jars


def known_to(address: str) -> set[str]:
    with urllib.request.urlopen(f"http://{address}:8080/sessions", timeout=20) as answer:
        return {line.split()[0] for line in answer.read().decode().splitlines()}


def test_a_thousand_sessions_of_a_leaving_member(rig: Rig) -> None:
    jars = begin(rig.lab.host("web1").address, SESSIONS, {"SRV": "web1"})
    clients = Clients(rig.lab.balancers[0].address, jars)
    with clients.at_work():
        run = rig.rollout(rig.archive("2.0"), HAND_OVER, rollout_batches=[2, "50%"])
    assert run.rc == 0, str(run)
    assert clients.failed == [], clients.failed[:5]
    assert clients.requests > SESSIONS
    assert len(clients.hosts) > 1, "nobody was moved"
    keys = {jar["SHOPSESSION"] for jar in jars}
    assert len(keys) == SESSIONS, "a client was given another session"
    words = [event["message"] for event in run.report["events"] if event["phase"] == "hand over"]
    assert words[0].startswith(f"{SESSIONS} sessions of web1, web2 are known to web3, web4"), words
    print(f"\n{clients.requests} requests of {SESSIONS} sessions, none lost; {len(words)} times handed over")


def test_sessions_that_cannot_be_handed_over_keep_their_member(rig: Rig) -> None:
    begin(rig.lab.host("web1").address, 3, {})
    before = rig.snapshot()
    bad = {"rollout_session_import": ["/bin/sh", "-c", "echo no room >&2; exit 3"]}
    run = rig.rollout(rig.archive("2.0"), HAND_OVER, bad, rollout_batches=[2])
    assert run.rc != 0
    assert "ended with 3: no room" in run.text, str(run)
    assert rig.current() == rig.all_on("1.0")
    assert rig.servers() == before["servers"]


def test_sessions_that_stay_are_counted(rig: Rig) -> None:
    begin(rig.lab.host("web1").address, 7, {})
    follow = {"rollout_sessions": "follow", "rollout_batches": ["100%"], "rollout_floor": 0}
    run = rig.rollout(rig.archive("2.0"), HAND_OVER, follow)
    assert run.rc == 0, str(run)
    assert any("7 sessions end with" in note for note in run.report["notes"]), run.report["notes"]


TABLE = (
    "timeout check 5s",
    "stick-table type string len 64 size 10k expire 30m",
    "stick on req.cook(SHOPSESSION)",
    "stick store-response res.cook(SHOPSESSION)",
)


@pytest.fixture(scope="module")
def with_table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lab.Lab]:
    """Two slots whose clients are tied by a table."""
    wanted = description(prefix=f"s{os.getpid()}-t", pool_lines=TABLE)
    with lab.running(wanted, tmp_path_factory.mktemp("lab") / "table") as up:
        yield up


def test_a_stick_table_survives_flips(with_table: lab.Lab, tmp_path: Path) -> None:
    slots = Slots(Rig(with_table, tmp_path))
    slots.reset()
    address = slots.rig.lab.balancers[0].address
    clients = Clients(address, [])
    jars: list[dict[str, str]] = [{} for _number in range(30)]
    first = [clients.once(jar)["host"] for jar in jars]
    slots.flips(["green", "blue"])
    # In another order, so that taking turns would not look the same.
    again = [clients.once(jar)["host"] for jar in reversed(jars)][::-1]
    assert clients.failed == []
    assert again == first
    assert set(first) == set(slots.hosts["blue"])


def test_sessions_flip_too(with_table: lab.Lab, tmp_path: Path) -> None:
    slots = Slots(Rig(with_table, tmp_path))
    slots.reset()
    jars = [jar for host in slots.hosts["blue"] for jar in begin(slots.rig.lab.host(host).address, SESSIONS // 2, {})]
    run = slots.run("blue_green", slots.rig.archive("2.0"), HAND_OVER, rollout_bake=0)
    assert run.rc == 0, str(run)
    for host in slots.hosts["green"]:
        assert {jar["SHOPSESSION"] for jar in jars} <= known_to(slots.rig.lab.host(host).address)
    clients = Clients(slots.rig.lab.balancers[0].address, jars)
    for jar in jars:
        clients.once(jar)
    assert clients.failed == [], clients.failed[:5]
    assert clients.hosts <= set(slots.hosts["green"])
