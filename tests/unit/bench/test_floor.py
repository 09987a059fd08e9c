# SPDX-License-Identifier: GPL-3.0-or-later
"""The floor's programs against a pretended balancer: it must be as safe as what it is the floor of."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import floor


class Balancer:
    """Answers on a socket; in flight goes down with every look, health comes up with every look."""

    def __init__(self, path: Path, busy: int = 2, unhealthy: int = 2) -> None:
        self.asked: list[str] = []
        self.busy = busy
        self.unhealthy = unhealthy
        self.admin = 0
        self.operational = 2
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _unused = self._server.accept()
            except OSError:
                return
            with connection:
                line = connection.makefile().readline().strip()
                self.asked.append(line)
                connection.sendall(self._answer(line).encode())

    def _answer(self, line: str) -> str:
        if line.endswith("state maint"):
            self.admin = 1
        elif line.endswith("state drain"):
            self.admin = 8
        elif line.endswith("state ready"):
            self.admin = 0
        elif line.endswith("health down"):
            self.operational = 0
        elif line.startswith("show stat"):
            self.busy -= 1
            return f"# pxname,svname,qcur,scur\nshop,web1,0,{max(0, self.busy)}\n\n"
        elif line.startswith("show servers state"):
            if not self.operational:
                self.unhealthy -= 1
                self.operational = 0 if self.unhealthy > 0 else 2
            return f"1\n# be_id\n3 shop 1 web1 198.18.0.21 {self.operational} {self.admin} 100\n\n"
        return "\n"

    def close(self) -> None:
        self._server.close()


@pytest.fixture
def balancer(tmp_path: Path) -> Iterator[Balancer]:
    one = Balancer(tmp_path / "admin.sock")
    yield one
    one.close()


def carry_out(program: str, folder: Path, told: str = "") -> subprocess.CompletedProcess[str]:
    parameters = {"socket": str(folder / "admin.sock"), "pool": "shop", "members": ["web1"], "limit": 5}
    return subprocess.run(
        [sys.executable, "-S", "-E", "-s", "-c", floor.COMMON + program, json.dumps(parameters)],
        input=told,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_drained_is_seen_empty_three_times_in_a_row(balancer: Balancer, tmp_path: Path) -> None:
    done = carry_out(floor.DRAIN, tmp_path)
    assert done.returncode == 0, done.stderr
    assert balancer.asked[0] == "set server shop/web1 state maint"
    assert balancer.asked.count("show stat shop 4 -1") == 4  # once busy, then three times empty


def test_put_back_waits_for_the_checks_and_for_the_word(balancer: Balancer, tmp_path: Path) -> None:
    done = carry_out(floor.RETURN, tmp_path, "go\n")
    assert done.returncode == 0, done.stderr
    assert balancer.asked[:2] == ["set server shop/web1 state drain", "set server shop/web1 health down"]
    assert balancer.asked[-2:] == ["set server shop/web1 state ready", "show servers state shop"]


def test_without_the_word_it_is_not_put_back(balancer: Balancer, tmp_path: Path) -> None:
    done = carry_out(floor.RETURN, tmp_path, "")
    assert done.returncode == 1
    assert "not told to go on" in done.stderr
    assert balancer.admin == 8


def test_the_first_failure_is_raised() -> None:
    def fail() -> None:
        raise floor.StepFailed("no")

    with pytest.raises(floor.StepFailed, match="no"):
        floor.at_once({"a": lambda: None, "b": fail})
