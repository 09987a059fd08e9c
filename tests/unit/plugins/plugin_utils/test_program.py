# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program that hosts are sent: one request, many requests, and what is said when it cannot answer."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadReply, Unreachable
from ansible_collections.zerodrop.rollout.plugins.module_utils._operations import OPERATIONS
from ansible_collections.zerodrop.rollout.plugins.plugin_utils import _program
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._session import Session

PYTHON = (sys.executable, "-I", "-S", "-c", _program.BOOT)
NOWHERE = {"url": "http://127.0.0.1:9/health", "request_timeout": 0.5}


def run(operation: str, params: dict[str, object], check: bool = False) -> bytes:
    done = subprocess.run(
        PYTHON, input=_program.standard_input(operation, params, check), capture_output=True, check=True
    )
    return done.stdout


@pytest.fixture
def session() -> Iterator[Session]:
    made = Session(PYTHON, "health_probe", {})
    yield made
    made.close()


def test_a_single_operation_runs_in_a_bare_interpreter() -> None:
    answer = _program.answer(b"a banner of the login shell\n" + run("health_probe", NOWHERE))
    assert answer["result"]["healthy"] is False
    assert "refused" in answer["result"]["reason"]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_takes_with_it_all_that_it_imports(operation: str) -> None:
    error = _program.answer(run(operation, {}))["error"]
    assert not error["message"].startswith("unexpected: ModuleNotFoundError"), error
    assert not error["message"].startswith("unexpected: ImportError"), error


def test_a_host_with_another_python_runs_the_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.MAGIC_NUMBER", b"\x00\x00\r\n")
    _program._compiled_with.cache_clear()
    try:
        assert _program.answer(run("health_probe", NOWHERE))["result"]["healthy"] is False
    finally:
        _program._compiled_with.cache_clear()


def test_a_program_of_sources_alone_runs() -> None:
    data = _program.sources_alone("health_probe") + _program.request("health_probe", NOWHERE, False, {"health_probe"})
    done = subprocess.run(PYTHON, input=data, capture_output=True, check=True)
    assert _program.answer(done.stdout)["result"]["healthy"] is False


@pytest.mark.parametrize(
    ("operation", "params", "later"),
    [
        ("pool_read", {"driver": "haproxy"}, ["pool_read", "lease_acquire", "pool_drain", "pool_put_back"]),
        ("member_info", {"base": "/opt/shop"}, ["member_info", "member_sockets", "release_switch", "member_gate"]),
    ],
)
def test_what_a_host_is_sure_to_need_comes_compiled(
    operation: str, params: dict[str, object], later: list[str]
) -> None:
    """Nothing of the sources is compiled there; what would be says so in its answer."""
    start, known = _program.opening(operation, params), {operation}
    without = "SOURCES = {name: 'raise AssertionError(__name__)' for name in SOURCES}\n"
    length, _end, blocks = start.partition(b"\n")
    program = zlib.compress(
        zlib.decompress(blocks[: int(length)]).replace(b"\nMARK =", b"\n" + without.encode() + b"MARK =", 1)
    )
    requests = b""
    for name in later:
        line = json.loads(_program.request(name, {}, False, known))
        line["sources"] = dict.fromkeys(line["sources"], "raise AssertionError(__name__)")
        requests += json.dumps(line).encode() + b"\n"
    data = b"%d\n" % len(program) + program + blocks[int(length) :] + requests
    done = subprocess.run(PYTHON, input=data, capture_output=True, check=True)
    assert done.stdout.count(_program.MARK.encode()) == len(later)
    assert "AssertionError" not in done.stdout.decode() + done.stderr.decode()


def test_an_error_of_ours_comes_back_as_one() -> None:
    error = _program.answer(run("release_info", {"base": "not/absolute"}))["error"]
    assert error["code"] == "bad_input"


def test_a_session_answers_one_request_after_another_and_learns_new_operations(
    session: Session, tmp_path: Path
) -> None:
    assert session.ask("health_probe", NOWHERE, False)["result"]["healthy"] is False
    assert session.ask("release_info", {"base": str(tmp_path)}, False)["result"]["current"] is None
    assert session.ask("health_probe", NOWHERE, False)["result"]["healthy"] is False
    assert session.alive
    assert session.proven


def test_a_session_ends_with_its_input(session: Session) -> None:
    session.ask("health_probe", NOWHERE, False)
    session.close()
    assert not session.alive


def test_a_session_that_is_left_ends_by_itself() -> None:
    session = Session(PYTHON, "health_probe", {})
    session.ask("health_probe", NOWHERE, False)
    session.leave()
    assert session._process.wait(timeout=20) == 0


def test_a_session_that_never_came_up_says_why() -> None:
    session = Session(("sh", "-c", "echo no way in >&2; exit 255"), "health_probe", {})
    with pytest.raises(Unreachable, match="no way in"):
        session.ask("health_probe", NOWHERE, False)
    assert not session.proven
    session.close()


def test_a_session_that_is_killed_is_unreachable_and_not_unproven(session: Session) -> None:
    session.ask("health_probe", NOWHERE, False)
    session._process.kill()
    session._process.wait()
    with pytest.raises(Unreachable, match="ended before the answer"):
        session.ask("health_probe", NOWHERE, False)
    assert session.proven


@pytest.mark.parametrize(
    "output", [b"", b"Welcome\n", _program.MARK.encode() + b'{"result": ', b"python3: not found\n"]
)
def test_no_answer_is_an_error(output: bytes) -> None:
    with pytest.raises(BadReply):
        _program.answer(output)


def test_the_forced_command_of_the_page_on_security_is_how_a_program_begins() -> None:
    page = Path(__file__).parents[4] / "docs" / "security.md"
    assert f"command=\"/usr/bin/python3 -I -S -c '{_program.BOOT}'\"" in page.read_text(encoding="utf-8")
