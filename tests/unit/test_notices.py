# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Notices and silences against listeners that speak what theirs speak: HTTP, SMTP, Nagios' command file."""

from __future__ import annotations

import json
import os
import re
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

ROOT = Path(__file__).parents[2]
COLLECTIONS = ROOT / ".build" / "collections"
# Where PyPI's `ansible` has put community.general: `make bench` installs it.
OTHERS = next((ROOT / ".cache" / "bench-venv" / "lib").glob("python3*/site-packages"), Path("/nonexistent"))
GENERAL = pytest.mark.skipif(
    not (OTHERS / "ansible_collections" / "community" / "general").exists(),
    reason="community.general is not here: make bench installs it",
)
TEXT = "shop: 1.0 to 2.0 <done> & dusted, \u00fcber alles: {{ 7 * 7 }}"
HOOK = {"text": TEXT, "service": "shop", "members": ["web1", "web2"], "addresses": {"web1": ["10.0.0.1"]}}


class Listener(BaseHTTPRequestHandler):
    """Keeps what is posted; of Alertmanager's API what a silence needs."""

    seen: ClassVar[list[tuple[str, str, Any]]]
    silences: ClassVar[list[dict[str, Any]]]
    answer: ClassVar[int]

    def log_message(self, *_args: Any) -> None:
        """Quiet."""

    def _reply(self, status: int, data: Any) -> None:
        body = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        data = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen.append(("POST", self.path, data))
        if self.path == "/api/v2/silences":
            self.silences.append({**data, "id": f"s{len(self.silences)}", "status": {"state": "active"}})
            self._reply(200, {"silenceID": self.silences[-1]["id"]})
        else:
            self._reply(self.answer, "ok")

    def do_GET(self) -> None:
        self._reply(200, self.silences)

    def do_DELETE(self) -> None:
        self.seen.append(("DELETE", self.path, None))
        for each in self.silences:
            if self.path == f"/api/v2/silence/{each['id']}":
                each["status"] = {"state": "expired"}
        self._reply(200, None)


class Mail(socketserver.StreamRequestHandler):
    """As much of SMTP as a message takes."""

    messages: ClassVar[list[str]]

    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        while line := self.rfile.readline():
            if line.upper().startswith(b"DATA"):
                self.wfile.write(b"354 go on\r\n")
                lines: list[bytes] = []
                while (each := self.rfile.readline()) not in (b".\r\n", b""):
                    lines.append(each)
                self.messages.append(b"".join(lines).decode())
            elif line.upper().startswith(b"QUIT"):
                self.wfile.write(b"221 bye\r\n")
                return
            self.wfile.write(b"250 fine\r\n")


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])  # type: ignore[index]  # of TCP it is a pair
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def http() -> Iterator[tuple[int, type[Listener]]]:
    kind = type("Own", (Listener,), {"seen": [], "silences": [], "answer": 200})
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), kind)) as port:
        yield port, kind


def play(tmp_path: Path, role: str, points: list[str], **variables: Any) -> tuple[int, str]:
    """Run these entry points of a role as a rollout does."""
    tasks = [
        {
            "name": f"Run {point}",
            "ansible.builtin.include_role": {"name": f"zerodrop.rollout.{role}", "tasks_from": point},
        }
        for point in points
    ]
    path = tmp_path / "play.yml"
    path.write_text(
        yaml.safe_dump([{"name": "Hooks", "hosts": "localhost", "gather_facts": False, "tasks": tasks}]),
        encoding="utf-8",
    )
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            str(path),
            "-e",
            f"@{_variables(tmp_path, variables)}",
        ],
        env={
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": f"{COLLECTIONS}:{OTHERS}",
            "ANSIBLE_LOCALHOST_WARNING": "0",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=tmp_path,
    )
    return done.returncode, done.stdout + done.stderr


def _variables(folder: Path, variables: dict[str, Any]) -> Path:
    path = folder / "variables.json"
    # What comes from a host is no template, as in a rollout.
    hook = {name: {"__ansible_unsafe": value} if name == "text" else value for name, value in HOOK.items()}
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    path.write_text(json.dumps({"rollout_hook": hook, **local, **variables}), encoding="utf-8")
    return path


def test_webhook_slack_and_teams(tmp_path: Path, http: tuple[int, type[Listener]]) -> None:
    port, listener = http
    urls = {f"rollout_notice_{kind}_url": f"http://127.0.0.1:{port}/{kind}" for kind in ("webhook", "slack", "teams")}
    rc, output = play(tmp_path, "notify", ["webhook", "slack", "teams"], **urls)
    assert rc == 0, output
    assert "/slack" not in output
    webhook, slack, teams = listener.seen
    assert webhook[1:] == ("/webhook", HOOK)
    assert slack[1:] == ("/slack", {"text": TEXT.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")})
    card = teams[2]["attachments"][0]
    assert card["contentType"] == "application/vnd.microsoft.card.adaptive"
    assert card["content"]["body"][0]["text"] == TEXT


def test_a_notice_that_is_not_taken_is_an_error_without_its_url(
    tmp_path: Path, http: tuple[int, type[Listener]]
) -> None:
    port, listener = http
    listener.answer = 403
    rc, output = play(tmp_path, "notify", ["slack"], rollout_notice_slack_url=f"http://127.0.0.1:{port}/T00/secret")
    assert rc == 2
    assert "The notice to Slack did not arrive: it answered 403." in " ".join(output.split())
    assert "secret" not in output


def test_members_are_silenced_one_by_one_with_an_end_and_only_ours_are_ended(
    tmp_path: Path, http: tuple[int, type[Listener]]
) -> None:
    port, listener = http
    other = {
        "id": "other",
        "createdBy": "somebody",
        "comment": "zerodrop.rollout of shop: web1",
        "status": {"state": "active"},
    }
    listener.silences.append(other)
    url = {"rollout_silence_alertmanager_url": f"http://127.0.0.1:{port}/", "rollout_silence_seconds": 600}
    rc, output = play(tmp_path, "silence", ["alertmanager"], **url)
    assert rc == 0, output
    made = listener.silences[1:]
    (matcher,) = made[0]["matchers"]
    assert (matcher["name"], matcher["isRegex"]) == ("instance", True)
    for label, hit in (("web1", 1), ("web1:9100", 1), ("10.0.0.1:9100", 1), ("web11", 0), ("10a0.0.1", 0), ("web2", 0)):
        assert bool(re.fullmatch(matcher["value"], label)) == bool(hit), label
    assert made[0]["endsAt"] > made[0]["startsAt"]
    assert [each["comment"] for each in made] == [f"zerodrop.rollout of shop: {host}" for host in HOOK["members"]]
    rc, output = play(tmp_path, "silence", ["alertmanager_end"], **url)
    assert rc == 0, output
    assert [each["status"]["state"] for each in listener.silences] == ["active", "expired", "expired"]


@GENERAL
def test_a_mail_is_sent(tmp_path: Path) -> None:
    kind = type("OwnMail", (Mail,), {"messages": []})
    with serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), kind)) as port:
        rc, output = play(
            tmp_path,
            "notify",
            ["email"],
            rollout_notice_email_to="ops@example.com, dev@example.com",
            rollout_notice_email_host="127.0.0.1",
            rollout_notice_email_port=port,
            rollout_notice_email_secure="never",
        )
    assert rc == 0, output
    (message,) = kind.messages  # type: ignore[attr-defined]
    assert "ops@example.com" in message
    assert "dev@example.com" in message


@GENERAL
def test_nagios_is_told_of_a_downtime_and_of_its_end(tmp_path: Path) -> None:
    pipe = tmp_path / "rw" / "nagios.cmd"
    pipe.parent.mkdir()
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        nagios = {"rollout_silence_nagios_host": "localhost", "rollout_silence_nagios_command_file": str(pipe)}
        rc, output = play(tmp_path, "silence", ["nagios", "nagios_end"], **nagios)
        assert rc == 0, output
        lines = os.read(reader, 65536).decode().splitlines()
    finally:
        os.close(reader)
    commands = [re.sub(r"^\[\d+\] ", "", line).split(";") for line in lines]
    assert [(each[0], each[1]) for each in commands] == [
        ("SCHEDULE_HOST_DOWNTIME", "web1"),
        ("SCHEDULE_HOST_SVC_DOWNTIME", "web1"),
        ("SCHEDULE_HOST_DOWNTIME", "web2"),
        ("SCHEDULE_HOST_SVC_DOWNTIME", "web2"),
        ("DEL_DOWNTIME_BY_HOST_NAME", "web1"),
        ("DEL_DOWNTIME_BY_HOST_NAME", "web2"),
    ]
    assert int(commands[0][3]) - int(commands[0][2]) == 1800
    assert commands[-1][-1] == "zerodrop.rollout of shop"
