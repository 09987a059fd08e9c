# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module ``health_gate``: what its options become, and how its errors leave."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.zerodrop.rollout.plugins.modules import health_gate


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"build": {"version": "2.0"}}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/health"
        server.shutdown()
        thread.join()


def run(capsys: pytest.CaptureFixture[str], check: bool = False, **options: Any) -> dict[str, Any]:
    with patch_module_args({**options, "_ansible_check_mode": check}), pytest.raises(SystemExit):
        health_gate.main()
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_a_healthy_service_passes(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, url=url, version="2.0", version_key="build.version", interval=0.02)
    assert (result["changed"], result["result"], result["attempts"]) == (False, "pass", 3)
    assert result["answer"]["version"] == "2.0"


def test_check_mode_waits_for_nothing(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, check=True, url=url, version="3.0", timeout=60)
    assert (result["result"], result["attempts"]) == ("inconclusive", 1)


def test_another_version_fails_and_says_so(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, url=url, version="3.0", version_key="build.version", timeout=0.3)
    assert (result["failed"], result["code"]) == (True, "unhealthy")
    assert "answers as version 2.0, not 3.0" in result["msg"]
    assert result["facts"]["answer"]["status"] == 200
    assert result["hint"]


@pytest.mark.parametrize("bad", ["127.0.0.1:8080/health", "localhost", "file:///etc/passwd", ""])
def test_a_url_without_a_scheme_is_refused(capsys: pytest.CaptureFixture[str], bad: str) -> None:
    result = run(capsys, url=bad)
    assert (result["failed"], result["code"]) == (True, "bad_input")


def test_the_documentation_has_the_same_options(monkeypatch: pytest.MonkeyPatch) -> None:
    yaml = pytest.importorskip("yaml")
    seen: dict[str, Any] = {}

    class Stop(Exception):
        pass

    def module(argument_spec: dict[str, Any], **_: Any) -> None:
        seen.update(argument_spec)
        raise Stop

    monkeypatch.setattr(health_gate, "AnsibleModule", module)
    with pytest.raises(Stop):
        health_gate.main()
    documented = yaml.safe_load(health_gate.DOCUMENTATION)["options"]
    assert {name: each.get("default") for name, each in seen.items()} == {
        name: each.get("default") for name, each in documented.items()
    }
