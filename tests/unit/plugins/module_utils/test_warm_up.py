# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The warm-up: so many requests to the right place, and the first failure ends it."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput, Unhealthy
from ansible_collections.zerodrop.rollout.plugins.module_utils._names import url_path
from ansible_collections.zerodrop.rollout.plugins.module_utils._warm_up import gate_and_warm_up, warm_up


class Service:
    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.at_once = self.most_at_once = 0
        self.ill: set[str] = set()
        self.takes = 0.0
        lock = threading.Lock()
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with lock:
                    service.asked[self.path] += 1
                    service.at_once += 1
                    service.most_at_once = max(service.most_at_once, service.at_once)
                time.sleep(service.takes)
                with lock:
                    service.at_once -= 1
                self.send_response(500 if self.path in service.ill else 204)
                self.end_headers()

            def log_message(self, *_words: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def warm(self, *paths: str, **params: Any) -> dict[str, Any]:
        health = {"url": "http://127.0.0.1:1/health", "status": [503]}
        return warm_up({"paths": paths, "port": self.port, **params}, health)


@pytest.fixture
def service() -> Iterator[Service]:
    found = Service()
    yield found
    found.server.shutdown()
    found.server.server_close()


def test_every_path_is_requested_as_often_as_asked(service: Service) -> None:
    result = service.warm("/", "/list?page=1", count=5)
    assert service.asked == {"/": 5, "/list?page=1": 5}
    assert result["requests"] == 10
    assert service.most_at_once == 1


def test_so_many_at_once(service: Service) -> None:
    service.takes = 0.05
    service.warm("/", count=24, concurrency=4)
    assert service.asked["/"] == 24
    assert 2 <= service.most_at_once <= 4


def test_the_first_failure_ends_it(service: Service) -> None:
    service.ill.add("/b")
    with pytest.raises(Unhealthy, match=r"warm-up failed at /b: status 500.*request 2 of 300"):
        service.warm("/a", "/b", "/c", count=100)
    assert sum(service.asked.values()) == 2


def test_it_has_a_limit(service: Service) -> None:
    service.takes = 0.3
    with pytest.raises(Unhealthy, match=r"no answer within|not done within"):
        service.warm("/", count=100, timeout=0.5)
    assert service.asked["/"] <= 3


def test_the_health_urls_own_port_where_the_pool_has_none(service: Service) -> None:
    health = {"url": f"http://127.0.0.1:{service.port}/health"}
    warm_up({"paths": ["/x"], "port": None}, health)
    assert service.asked == {"/x": 1}


def gate(service: Service, check: bool = False, **params: Any) -> dict[str, Any]:
    return gate_and_warm_up({"url": f"http://127.0.0.1:{service.port}/health", "status": [204], **params}, check)


def test_it_begins_when_the_gate_has_passed(service: Service) -> None:
    result = gate(service, warm_up=["/a", "/b"], warm_up_count=3, successes=2)
    assert service.asked == {"/health": 2, "/a": 3, "/b": 3}
    assert (result["result"], result["warm_up"]["requests"]) == ("pass", 6)


def test_it_is_left_out_in_check_mode_and_where_there_are_no_paths(service: Service) -> None:
    assert "warm_up" not in gate(service, warm_up=["/a"], check=True)
    assert "warm_up" not in gate(service, warm_up=[])
    assert service.asked.keys() == {"/health"}


def test_a_member_that_is_not_healthy_is_not_warmed_and_a_wrong_path_asks_nothing(service: Service) -> None:
    with pytest.raises(Unhealthy):
        gate(service, warm_up=["/a"], status=[200], timeout=0.3)
    assert "/a" not in service.asked
    service.asked.clear()
    with pytest.raises(BadInput):
        gate(service, warm_up=["a b"])
    assert not service.asked


@pytest.mark.parametrize("path", ["", "x", "http://host/", "/a b", "/a\r\nHost: x", "/a#b", "/ä", None, 5])
def test_what_is_no_path_is_refused(path: object) -> None:
    with pytest.raises(BadInput):
        url_path(path, "x")


@given(st.text())
def test_a_path_is_one_word_of_a_request(text: str) -> None:
    try:
        found = url_path(text, "x")
    except BadInput:
        return
    assert found == text
    assert text.startswith("/")
    assert text.isascii()
    assert not set(text) & set(" \t\r\n#\x00\x7f")
