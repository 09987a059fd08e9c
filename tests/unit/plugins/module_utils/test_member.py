# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A member's own word: which release it has, and the record that the gate leaves."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils import _package
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import InvalidConfiguration, Unhealthy
from ansible_collections.zerodrop.rollout.plugins.module_utils._member import member_gate, member_info


class Service(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(type(self).status)
        self.send_header("X-Version", "1.5")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    Service.status = 200
    server = HTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/health"
    server.shutdown()
    thread.join()
    server.server_close()


def params(url: str, folder: Path, **more: Any) -> dict[str, Any]:
    health = {"url": url, "successes": 1, "timeout": 5, **more.pop("health", {})}
    return {"service": "shop", "records": str(folder), "health": health, **more}


def test_the_gate_leaves_a_record_that_the_next_look_finds(url: str, tmp_path: Path) -> None:
    folder = tmp_path / "records"
    assert member_info(params(url, folder), False)["release"] is None
    gate = params(url, folder, release="2.0", previous="1.0")
    assert member_gate(gate, False)["changed"] is True
    assert member_gate(gate, False)["changed"] is False
    info = member_info(params(url, folder), False)
    assert (info["release"], info["previous"], info["healthy"]) == ("2.0", "1.0", True)
    assert json.loads((folder / "shop.json").read_text()) == {"release": "2.0", "previous": "1.0"}
    assert [each.name for each in folder.iterdir()] == ["shop.json"]


def test_the_service_s_own_word_comes_before_the_record(url: str, tmp_path: Path) -> None:
    member_gate(params(url, tmp_path, release="2.0"), False)
    asked = params(url, tmp_path, health={"version_header": "X-Version"})
    assert member_info(asked, False)["release"] == "1.5"


def test_a_member_that_is_not_healthy_leaves_no_record(url: str, tmp_path: Path) -> None:
    Service.status = 503
    with pytest.raises(Unhealthy):
        member_gate(params(url, tmp_path, release="2.0", health={"timeout": 0.3}), False)
    assert list(tmp_path.iterdir()) == []
    assert member_info(params(url, tmp_path), False)["healthy"] is False


def test_check_mode_writes_nothing(url: str, tmp_path: Path) -> None:
    member_gate(params(url, tmp_path, release="2.0"), True)
    assert list(tmp_path.iterdir()) == []


def test_a_broken_record_is_refused_and_kept(url: str, tmp_path: Path) -> None:
    (tmp_path / "shop.json").write_text("{")
    with pytest.raises(InvalidConfiguration, match=r"shop\.json, cannot be read"):
        member_info(params(url, tmp_path), False)
    assert (tmp_path / "shop.json").read_text() == "{"


def test_it_says_whether_a_record_can_be_kept(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert member_info(params(url, tmp_path / "not" / "yet"), False)["keeps_record"] is True
    monkeypatch.setattr(os, "access", lambda *_arguments: False)
    assert member_info(params(url, tmp_path), False)["keeps_record"] is False


class Package:
    """Stands for what dpkg and the last switch say."""

    def __init__(self, current: str | None, before: str | None = None) -> None:
        self.current, self.before = current, before

    def __call__(self, _params: Any, _check: bool) -> dict[str, Any]:
        return {
            "current": self.current,
            "before": self.before,
            "previous": None,
            "releases": [],
            "unit": {"load": "not-found"},
            "whole": True,
        }


@pytest.mark.parametrize(
    ("package", "release"),
    [
        (Package("1.5-2"), "1.5-2"),
        (Package("1.5"), "1.5"),
        (Package("2.0-1", before="1.5-2"), "1.5-2"),  # installed, but not restarted
        (Package("1.5-2", before="1.0-1"), "1.5-2"),  # the package restarted it by itself
        (Package(None), None),
    ],
)
def test_of_a_package_dpkg_says_the_release_and_the_service_must_agree(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: Package, release: str | None
) -> None:
    monkeypatch.setattr(_package, "package_info", package)
    health = {"version_header": "X-Version"}
    info = member_info(params(url, tmp_path, package="shop", unit="shop.service", health=health), False)
    assert info["release"] == release
    assert (info["unit"] is None) == (package.current is None)


def test_a_service_that_runs_another_version_than_its_package_is_refused(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_package, "package_info", Package("2.0-1"))
    with pytest.raises(InvalidConfiguration, match=r"answers as version 1\.5, but its package shop is at 2\.0-1"):
        member_info(params(url, tmp_path, package="shop", health={"version_header": "X-Version"}), False)


def test_the_gate_takes_a_packages_version_with_and_without_its_revision(url: str, tmp_path: Path) -> None:
    for version, also, passes in (("1.5-1", "1.5", True), ("1.5", "1.5", True), ("1.6-1", "1.6", False)):
        health = {"version": version, "version_also": also, "version_header": "X-Version", "timeout": 0.3}
        gate = params(url, tmp_path, health=health)
        if passes:
            assert member_gate(gate, False)["result"] == "pass"
            del health["version_header"]
            assert member_gate(params(url, tmp_path, health=health), False)["result"] == "pass"
        else:
            with pytest.raises(Unhealthy, match=r"answers as version 1\.5, not 1\.6-1"):
                member_gate(gate, False)
