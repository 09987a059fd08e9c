# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a poll of a real balancer tells of its members: every request and every failure, once."""

from __future__ import annotations

import http.client
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils._access_log.haproxy import JSON_FORMAT
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput
from ansible_collections.zerodrop.rollout.plugins.module_utils._observation.observe import observe
from tests.conformance.haproxy import HAProxy
from tests.conformance.harness import App, Balancer, Load, PoolSpec, wait_for

# The fixture that starts a balancer with a log.
from tests.conformance.test_access_log import NAMES, Syslog, ask, logging  # noqa: F401  # pylint: disable=unused-import

pytestmark = pytest.mark.balancer

FAULTS = {"/status/500": (5, "status_5xx"), "/cut": (4, "cut"), "/hang-up": (3, "response")}


def order(balancer: Balancer, params: dict[str, Any], apps: dict[str, App], **more: Any) -> dict[str, Any]:
    """What the operation is asked."""
    return {
        **balancer.params("shop"),
        "members": {name: f"127.0.0.1:{apps[name].port}" for name in NAMES},
        "access_log": params.get("logs"),
        "access_log_format": params.get("log_format"),
        **more,
    }


class Polls:
    """One poll after the other, added up."""

    def __init__(self, asked: dict[str, Any]) -> None:
        self._asked = asked
        first = observe(asked, False)
        self.source = first["source"]
        self.notes = first["notes"]
        self.cursor = first["cursor"]
        self.requests: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.answers = 0
        self.resets: list[str] = []

    def take(self) -> None:
        found = observe({**self._asked, "cursor": self.cursor}, False)
        self.cursor = found["cursor"]
        if found["reset"]:
            self.resets.append(found["reset"])
        for name, one in found["members"].items():
            assert 0 <= one["errors"] <= one["requests"], found
            self.requests[name] += one["requests"]
            self.errors[name] += one["errors"]
            self.kinds.update({kind: count for kind, count in one["kinds"].items() if count})
            self.answers += sum(one.get("latency", []))

    def until(self, requests: int) -> None:
        def more() -> bool:
            self.take()
            return self.requests.total() >= requests

        wait_for(more)
        time.sleep(0.3)
        self.take()
        self.take()  # what no log has is told when two polls see it


def with_faults(port: int) -> int:
    """Requests of every ending; how many."""
    for _unused in range(30):
        assert ask(port, "/") == 200
    for path, (times, _kind) in FAULTS.items():
        for _unused in range(times):
            assert ask(port, path) != 200
    return 30 + sum(times for times, _kind in FAULTS.values())


def test_every_failure_of_the_log_once(balancer: Balancer, apps: dict[str, App], logging: Any) -> None:  # noqa: F811
    pool, params = logging()
    polls = Polls(order(balancer, params, apps))
    assert polls.source == "log"
    count = with_faults(pool.port)
    polls.until(count)
    assert polls.requests.total() == count
    assert polls.kinds == {kind: times for times, kind in FAULTS.values()}
    assert polls.errors.total() == polls.kinds.total()
    assert polls.answers == count - 3
    assert not polls.resets


def test_failures_that_haproxy_logs_nowhere_are_told_once(haproxy: HAProxy, apps: dict[str, App]) -> None:
    """On a kept connection HAProxy closes in silence when a member hangs up."""
    pool = PoolSpec("shop", [("s1", apps["s1"].port)], checked=False)
    one = {"s1": f"127.0.0.1:{apps['s1'].port}"}
    syslog = Syslog(haproxy.folder)
    haproxy.start([pool], log=str(syslog.socket))
    try:
        polls = Polls(order(haproxy, {"logs": [str(syslog.path)]}, apps, members=one))
        counted = Polls(order(haproxy, {}, apps, members=one))
        assert (polls.source, counted.source) == ("log", "counters")
        assert "failures on reused connections" in counted.notes[-1]
        count = with_faults(pool.port)
        for _unused in range(6):
            client = http.client.HTTPConnection("127.0.0.1", pool.port, timeout=10)
            client.request("GET", "/")
            client.getresponse().read()
            client.request("GET", "/hang-up")
            with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
                client.getresponse()
            client.close()
        polls.until(count + 12)
        assert polls.requests.total() == count + 12
        assert polls.kinds == {**{kind: times for times, kind in FAULTS.values()}, "unlogged": 6}
        counted.until(count + 12)
        for _unused in range(10):
            ask(pool.port, "/")  # a failure is told with a request, and that one was told before
        counted.until(count + 12 + 10)
        assert counted.requests.total() == count + 12 + 10
        # Its own statuses and what got no answer; answers that were cut are not among them.
        assert counted.errors.total() == 5 + 3 + 6
    finally:
        syslog.stop()


def test_a_dead_member_is_one_failure_for_each_request(haproxy: HAProxy, apps: dict[str, App]) -> None:
    """Each attempt that HAProxy makes again, and each request that it takes elsewhere, is the dead member's failure, once."""
    pool = PoolSpec("shop", [(name, apps[name].port) for name in NAMES], checked=False)
    syslog = Syslog(haproxy.folder)
    haproxy.start([pool], log=str(syslog.socket), redispatch=True, extra="  retries 2\n")
    try:
        polls = Polls(order(haproxy, {"logs": [str(syslog.path)]}, apps))
        counted = Polls(order(haproxy, {}, apps))
        apps["s2"].kill()
        for _unused in range(8):
            assert ask(pool.port, "/") == 200  # the other one was asked
        taken_away = wait_for(lambda: haproxy.driver().read("shop").member("s2").counters.redispatches)
        assert taken_away >= 4
        polls.until(8 + taken_away)
        counted.until(8 + taken_away)
        for each in (polls, counted):
            assert each.errors["s1"] == 0
            assert each.requests["s1"] == 8
            assert each.errors["s2"] == each.requests["s2"] == taken_away, each.kinds
    finally:
        syslog.stop()


def test_a_reload_drops_a_poll_of_counters_and_none_of_the_log(haproxy: HAProxy, apps: dict[str, App]) -> None:
    pool = PoolSpec("shop", [(name, apps[name].port) for name in NAMES], checked=False)
    syslog = Syslog(haproxy.folder)
    haproxy.start([pool], log=str(syslog.socket))
    try:
        polls = Polls(order(haproxy, {"logs": [str(syslog.path)]}, apps))
        counted = Polls(order(haproxy, {}, apps))
        for _unused in range(20):
            ask(pool.port, "/")
        before = haproxy.driver().identity()
        haproxy.reload()
        wait_for(lambda: haproxy.driver().identity() != before)
        for _unused in range(10):
            ask(pool.port, "/")
        polls.until(30)
        assert polls.requests.total() == 30
        assert polls.errors.total() == 0
        assert not polls.resets
        counted.take()
        assert len(counted.resets) == 1
        assert "reloaded or restarted" in counted.resets[0]
        for _unused in range(5):
            ask(pool.port, "/")
        counted.take()
        assert counted.requests.total() == 5
        assert len(counted.resets) == 1
    finally:
        syslog.stop()


def test_under_load_nothing_that_went_well_is_a_failure(balancer: Balancer, apps: dict[str, App], logging: Any) -> None:  # noqa: F811
    pool, params = logging()
    polls = Polls(order(balancer, params, apps))
    others = [Polls(order(balancer, {}, apps))] if isinstance(balancer, HAProxy) else []
    load = Load(pool.port)
    with load.running(clients=4, pause=0.03):  # a log's socket that is overrun loses lines
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            for each in (polls, *others):
                each.take()
            time.sleep(0.05)
    answered = load.answers.total()
    assert not load.failures
    for each in (polls, *others):
        each.until(answered)
        assert each.errors.total() == 0, each.kinds
        assert each.requests.total() == answered
        assert not each.resets


def test_half_a_log_is_no_log(haproxy: HAProxy, apps: dict[str, App]) -> None:
    pool = PoolSpec("shop", [(name, apps[name].port) for name in NAMES], checked=False)
    syslog = Syslog(haproxy.folder)
    escaped = JSON_FORMAT.replace('"', '\\"')
    haproxy.start([pool], log=str(syslog.socket), log_format=f'"{escaped}"\n  option dontlog-normal')
    try:
        polls = Polls(order(haproxy, {"logs": [str(syslog.path)]}, apps))
        for _unused in range(120):
            ask(pool.port, "/")
        polls.take()
        assert len(polls.resets) == 1
        assert "it is not the whole log" in polls.resets[0]
    finally:
        syslog.stop()


def test_where_nothing_can_be_counted_it_is_refused(balancer: Balancer, apps: dict[str, App], logging: Any) -> None:  # noqa: F811
    _pool, params = logging()
    asked = order(balancer, {**params, "logs": None}, apps)
    if isinstance(balancer, HAProxy):
        fallback = observe({**asked, "access_log": [str(Path(balancer.folder) / "none.log")]}, False)
        assert fallback["source"] == "counters"
        assert "There is no log" in fallback["notes"][0]
        with pytest.raises(BadInput, match="rollout_access_log names none"):
            observe({**asked, "source": "log"}, False)
        return
    with pytest.raises(BadInput, match="counts no requests by member"):
        observe(asked, False)
