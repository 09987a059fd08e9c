# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line, its exit codes, and how a run is stopped from outside."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness as package
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness import Summary, read_log
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.__main__ import main
from ansible_collections.zerodrop.rollout.tests.unit.plugins.plugin_utils.witness.server import (
    Handler,
    Peer,
    free_port,
    polite,
    serving,
)

NAME = package.__name__
assert package.__file__ is not None
ROOT = Path(package.__file__).parents[6]
ENVIRONMENT = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}


async def start(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", NAME, *arguments),
        env=ENVIRONMENT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def end(process: asyncio.subprocess.Process) -> tuple[int, str, str]:
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


async def until(path: Path, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first status that fulfils the condition."""
    async with asyncio.timeout(30):
        while True:
            status = await asyncio.to_thread(read, path)
            if status and condition(status):
                return status
            await asyncio.sleep(0.02)


def serve_and(handler: Handler, scenario: Callable[[str], Awaitable[None]]) -> None:
    async def both() -> None:
        async with serving(handler) as server:
            await scenario(f"http://127.0.0.1:{server.port}/")

    asyncio.run(both())


async def failing(peer: Peer) -> None:
    while await peer.request():
        await peer.answer(500)


async def silent(peer: Peer) -> None:
    await peer.forever()


@pytest.mark.parametrize(
    ("handler", "code", "words"), [(polite, 0, "0 failed,"), (failing, 1, "20 failed (20 http_5xx)")]
)
def test_a_run_from_the_command_line(tmp_path: Path, handler: Handler, code: int, words: str) -> None:
    files = {name: tmp_path / name for name in ("log", "summary", "status")}

    async def scenario(url: str) -> None:
        options = [f"--{name}={path}" for name, path in files.items()]
        process = await start("--url", url, "--rate", "40", "--duration", "0.5", *options)
        returned, out, err = await end(process)
        assert (returned, err) == (code, "")
        assert out == Summary.from_file(str(files["summary"])).sentence() + "\n"
        assert words in out

    serve_and(handler, scenario)
    assert len(list(read_log(str(files["log"])))) == 20
    status = json.loads(files["status"].read_text(encoding="utf-8"))
    assert (status["state"], status["requests_total"], status["in_flight"]) == ("finished", 20, 0)
    assert status["failed"] == (20 if code else 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "status", "summary"]


def test_quiet_and_a_settings_file_that_options_win_over(tmp_path: Path) -> None:
    settings, summary = tmp_path / "settings.json", tmp_path / "summary.json"

    async def scenario(url: str) -> None:
        given = {"url": url, "rate": 1, "max_requests": 3, "mix": {"post": 1}, "headers": {"X-A": "b"}}
        settings.write_text(json.dumps(given), encoding="utf-8")
        options = ["--settings", str(settings), "--rate", "100", "--mix", '{"close": 1}', "--quiet"]
        process = await start(*options, "--header", "X-C: d", "--summary", str(summary))
        assert await end(process) == (0, "", "")

    serve_and(polite, scenario)
    found = Summary.from_file(str(summary))
    assert (found.rate_asked, found.by_kind) == (100, {"close": {"ok": 3}})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "url: must be given"),
        (["--url", "http://a/"], "rate: must be given"),
        (["--url", "a/", "--rate", "1"], "url: must start with http:// or https://, got 'a/'"),
        (["--url", "http://a/", "--rate", "0"], "rate: must be greater than 0, got 0.0"),
        (["--url", "http://a/", "--rate", "many"], "rate: must be a number, got 'many'"),
        (["--url", "http://a/", "--rate", "nan"], "rate: must be a number, got nan"),
        (["--url", "http://a/", "--rate", "1", "--max-requests", "1.5"], "max_requests: must be a whole number"),
        (["--url", "http://a/", "--rate", "1", "--mix", "{"], "mix: is not JSON"),
        (["--url", "http://a/", "--rate", "1", "--mix", '{"x": 1}'], "mix: 'x' is not a kind"),
        (["--url", "http://a/", "--rate", "1", "--header", "nothing"], "header: must look like NAME: VALUE"),
        (["--url", "http://a/", "--rate", "1", "--header", "X-A: b\nX-B: c"], "headers: the value of X-A"),
        (["--url", "http://a/\n", "--rate", "1"], "url: has a space, a newline"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
        (["--settings", "/nowhere.json"], "settings: cannot read '/nowhere.json': No such file"),
        (["--url", "http://a/", "--rate", "1", "--die-with-parent", "99999999"], "die_with_parent: no process"),
    ],
)
def test_bad_input(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"witness: {message}")
    assert err.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_with_all_its_results(tmp_path: Path, number: signal.Signals) -> None:
    files = {name: tmp_path / name for name in ("log", "summary", "status")}

    async def scenario(url: str) -> None:
        options = [f"--{name}={path}" for name, path in files.items()]
        process = await start("--url", url, "--rate", "50", *options)
        running = await until(files["status"], lambda status: status["requests_total"] >= 10)
        assert running["state"] == "running"
        process.send_signal(number)
        code, out, err = await end(process)
        assert (code, err) == (0, "")
        assert f"stopped by {number.name}" in out

    serve_and(polite, scenario)
    summary = Summary.from_file(str(files["summary"]))
    assert (summary.interrupted, summary.stopped_by, summary.unfinished) == (True, number.name, 0)
    assert summary.requests_total == summary.scheduled == len(list(read_log(str(files["log"]))))
    assert summary.rate_achieved == pytest.approx(50, rel=0.5)


def test_what_is_open_after_the_grace_is_unfinished(tmp_path: Path) -> None:
    settings, summary, status, log = (tmp_path / name for name in ("settings", "summary", "status", "log"))

    async def scenario(url: str) -> None:
        given = {"url": url, "rate": 50, "grace": 0.2, "mix": {"keepalive": 1, "post": 1, "websocket": 1}}
        settings.write_text(json.dumps(given), encoding="utf-8")
        options = ["--settings", str(settings), "--summary", str(summary), "--status", str(status)]
        process = await start(*options, "--log", str(log))
        await until(status, lambda found: found["in_flight"] >= 10)
        process.terminate()
        code, out, _err = await end(process)
        assert code == 0
        assert "unfinished" in out

    serve_and(silent, scenario)
    found = Summary.from_file(str(summary))
    assert found.requests_total == found.failed == 0
    assert found.unfinished == found.scheduled >= 10
    records = list(read_log(str(log)))
    assert {str(record.outcome) for record in records} == {"interrupted"}
    # Their ids are known all the same.
    assert all(record.id for record in records if record.kind == "post")


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    summary = tmp_path / "summary.json"
    status = tmp_path / "status.json"

    async def scenario(url: str) -> None:
        code = (
            "import os, subprocess, sys, time\n"
            "subprocess.Popen([sys.executable, '-m', *sys.argv[1:], '--die-with-parent', str(os.getpid())])\n"
            "time.sleep(60)\n"
        )
        options = ["--url", url, "--rate", "20", "--summary", str(summary), "--status", str(status), "--quiet"]
        parent = await asyncio.create_subprocess_exec(sys.executable, "-c", code, NAME, *options, env=ENVIRONMENT)
        await until(status, lambda found: found["requests_total"] >= 3)
        parent.kill()
        await parent.wait()
        await until(status, lambda found: found["state"] == "finished")

    serve_and(polite, scenario)
    found = Summary.from_file(str(summary))
    assert (found.interrupted, found.stopped_by) == (True, "parent gone")


def test_the_status_shows_failures_while_it_runs(tmp_path: Path) -> None:
    status = tmp_path / "status.json"
    dead = f"http://127.0.0.1:{free_port()}/"

    async def scenario() -> None:
        process = await start("--url", dead, "--rate", "50", "--duration", "30", "--status", str(status))
        found = await until(status, lambda found: found["failed"] >= 5)
        assert found["state"] == "running"
        assert found["by_class"] == {"refused": found["failed"]}
        assert found["first_failure"]["class"] == "refused"
        process.terminate()
        assert (await end(process))[0] == 1

    asyncio.run(scenario())


def test_it_runs_without_ansible() -> None:
    code = (
        f"import sys, {NAME}.__main__\nprint(sorted(name for name in sys.modules if name.split('.')[0] == 'ansible'))"
    )
    result = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


@pytest.mark.parametrize("missing", ["h11", "wsproto"])
def test_a_missing_library_is_named_with_the_command_that_installs_it(missing: str) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        f"from {NAME}.__main__ import main\n"
        "sys.exit(main(['--url', 'http://127.0.0.1/', '--rate', '1']))"
    )
    result = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    assert "python3 -m pip install h11 wsproto" in result.stderr
    assert f"import of {missing} halted" in result.stderr


def test_help_names_every_kind() -> None:
    result = subprocess.run(
        [sys.executable, "-m", NAME, "--help"], env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    assert all(word in " ".join(result.stdout.split()) for word in ("keepalive, close, slow", "--die-with-parent"))


def test_a_full_disk_ends_the_log_and_not_the_run() -> None:
    async def scenario(url: str) -> None:
        process = await start("--url", url, "--rate", "50", "--max-requests", "10", "--log", "/dev/full")
        code, out, err = await end(process)
        assert code == 0
        assert out.startswith("10 requests")
        assert err == "witness: the log stopped: No space left on device\n"

    serve_and(polite, scenario)
