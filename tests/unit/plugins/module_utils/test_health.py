# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The health gate: exact times by a clock of its own, real answers by real servers."""

from __future__ import annotations

import itertools
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput, Unhealthy
from ansible_collections.zerodrop.rollout.plugins.module_utils._health import (
    Answer,
    health_gate,
    health_probe,
    names_version,
)

URL = "http://127.0.0.1:8080/health"


class Member:
    """A clock, and a member that answers by it."""

    def __init__(self, healthy: Callable[[float], bool], takes: float = 0.0) -> None:
        self.now = 1000.0
        self.healthy = healthy
        self.takes = takes
        self.asked: list[float] = []
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.slept.append(seconds)
        self.now += seconds

    def probe(self, limit: float) -> Answer:
        begun = self.now - 1000
        self.asked.append(round(begun, 6))
        self.now += min(self.takes, limit)
        if self.takes > limit:
            return Answer(None, None, limit, f"no answer within {limit:.3g} s")
        healthy = self.healthy(begun)
        return Answer(200 if healthy else 503, "2.0", self.takes, "" if healthy else "status 503, not 200")

    def gate(self, **params: Any) -> dict[str, Any]:
        return health_gate({"url": URL, **params}, False, self.clock, self.sleep, self.probe)


def test_the_first_probe_is_at_once_and_none_is_waited_for_in_vain() -> None:
    member = Member(lambda _: True)
    result = member.gate(successes=3, interval=0.1)
    assert result == {
        "changed": False,
        "result": "pass",
        "attempts": 3,
        "waited": 0.2,
        "answer": {"status": 200, "version": "2.0", "took": 0.0},
    }
    assert member.asked == [0, 0.1, 0.2]
    assert len(member.slept) == 2


def test_one_success_is_enough_when_asked() -> None:
    member = Member(lambda _: True)
    assert member.gate(successes=1)["waited"] == 0
    assert member.slept == []


def test_probes_are_spaced_from_start_to_start() -> None:
    member = Member(lambda _: True, takes=0.04)
    member.gate(successes=4, interval=0.1)
    assert member.asked == [0, 0.1, 0.2, 0.3]


def test_a_slow_probe_delays_the_next_but_none_follow_in_a_rush() -> None:
    member = Member(lambda _: True, takes=0.25)
    member.gate(successes=3, interval=0.1)
    assert member.asked == [0, 0.25, 0.5]


def test_a_failure_starts_the_row_anew() -> None:
    member = Member(lambda now: round(now, 3) not in (0.2, 0.4))
    result = member.gate(successes=3, interval=0.1)
    assert (result["attempts"], result["waited"]) == (8, 0.7)


def test_it_must_be_healthy_for_long_enough() -> None:
    member = Member(lambda now: now > 0.35)
    result = member.gate(successes=2, seconds=1, interval=0.1)
    assert result["waited"] == 1.4  # healthy since 0.4


def test_a_failure_starts_the_seconds_anew() -> None:
    member = Member(lambda now: round(now, 3) != 0.9)
    assert member.gate(successes=1, seconds=1, interval=0.1)["waited"] == 2.0


@pytest.mark.parametrize("timeout", [0.95, 1.0])
def test_the_deadline_is_exact_and_nothing_is_slept_after_the_last_probe(timeout: float) -> None:
    member = Member(lambda _: False)
    with pytest.raises(Unhealthy, match=r"within 0?\.?\d+ s \(10 probes\); last answer: status 503, not 200") as caught:
        member.gate(timeout=timeout, interval=0.1)
    assert member.asked[-1] == 0.9
    assert member.now == pytest.approx(1000.9)
    facts = caught.value.facts
    assert facts["answer"] == {"status": 503, "version": "2.0", "took": 0.0, "reason": "status 503, not 200"}
    assert (facts["result"], facts["attempts"], facts["waited"]) == ("fail", 10, 0.9)


def test_a_probe_ends_at_the_deadline() -> None:
    member = Member(lambda _: True, takes=60)
    with pytest.raises(Unhealthy, match=r"no answer within 2 s\.") as caught:
        member.gate(timeout=5, request_timeout=2)
    assert member.asked == [0, 2, 4]
    assert member.now == pytest.approx(1005)
    assert caught.value.facts["waited"] == 5


def test_a_good_answer_after_the_deadline_does_not_count() -> None:
    member = Member(lambda _: True)

    def late(limit: float) -> Answer:
        member.now += limit + 0.001
        return Answer(200, None, limit, "")

    with pytest.raises(Unhealthy):
        health_gate({"url": URL, "successes": 1, "timeout": 1}, False, member.clock, member.sleep, late)


def test_healthy_but_not_for_long_enough_is_said() -> None:
    member = Member(lambda now: now > 0.75)
    with pytest.raises(Unhealthy, match=r"answers well now \(2 in a row\), but not for long enough"):
        member.gate(timeout=1, successes=3, interval=0.1)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.booleans(), min_size=1, max_size=60),
    st.integers(1, 6),
    st.sampled_from([0.0, 0.2, 0.45]),
    st.sampled_from([0.0, 0.03, 0.3]),
)
def test_a_pass_is_always_earned(answers: list[bool], successes: int, seconds: float, takes: float) -> None:
    row = iter(itertools.chain(answers, itertools.repeat(False)))
    seen: list[tuple[float, bool]] = []
    member = Member(lambda _: True, takes)

    def probe(limit: float) -> Answer:
        healthy = next(row)
        member.now += min(takes, limit)
        seen.append((member.now, healthy and takes <= limit))
        return Answer(200, None, takes, "" if seen[-1][1] else "status 503, not 200")

    params = {"url": URL, "successes": successes, "seconds": seconds, "timeout": 5, "interval": 0.1}
    try:
        health_gate(params, False, member.clock, member.sleep, probe)
        passed = True
    except Unhealthy:
        passed = False
    last = list(itertools.takewhile(lambda each: each[1], reversed(seen)))
    earned = len(last) >= successes and last[0][0] - last[-1][0] >= seconds
    assert passed is earned
    assert member.now <= 1005.0 + 1e-6


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"url": "127.0.0.1:8080/health"}, "not a URL"),
        ({"url": "localhost/health"}, "not a URL"),
        ({"url": "ftp://localhost/"}, "not a URL"),
        ({"url": "http:///health"}, "not a URL"),
        ({"url": "http://host:99999/"}, "not a URL"),
        ({"url": "http://host/a b"}, "space or a control"),
        ({"url": "http://host/\r\nX: y"}, "space or a control"),
        ({"url": "http://a..b/"}, "host that cannot exist"),
        ({"url": None}, "non-empty text"),
        ({"status": ["ok"]}, "status must be"),
        ({"status": [99]}, "status must be"),
        ({"status": 200}, "must be a list"),
        ({"successes": 0}, "successes must be"),
        ({"successes": 1.5}, "whole number"),
        ({"seconds": -1}, "seconds must be"),
        ({"seconds": "soon"}, "seconds must be"),
        ({"timeout": 0}, "timeout must be"),
        ({"timeout": float("nan")}, "timeout must be"),
        ({"interval": 0}, "interval must be"),
        ({"request_timeout": 0}, "request_timeout must be"),
        ({"seconds": 30, "timeout": 30}, "can never pass"),
        ({"successes": 100, "interval": 1, "timeout": 30}, "can never pass"),
        ({"version_key": "a", "version_header": "b"}, "Only one of"),
        ({"version_header": "X Version"}, "not the name of a header"),
        ({"headers": {"X-A": "a\r\nX-B: b"}}, "characters that a header cannot have"),
        ({"headers": {"X A": "a"}}, "not the name of a header"),
        ({"headers": ["X-A"]}, "must be a dictionary"),
        ({"validate_certs": "maybe"}, "validate_certs must be"),
    ],
)
def test_bad_input_sends_nothing(params: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        health_gate({"url": URL, **params}, False, probe=lambda _: pytest.fail("a probe was sent"))


# -- the version in a text ---------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "version", "expected"),
    [
        ("1.0", "1.0", True),
        ("shop 1.0 on web1", "1.0", True),
        ('{"version":"1.0"}', "1.0", True),
        ("version=1.0\n", "1.0", True),
        ("shop/1.0 (linux)", "1.0", True),
        ("v1.0", "1.0", True),
        ("This is 1.0.", "1.0", True),
        ("11.0.5", "1.0", False),
        ("1.0.1", "1.0", False),
        ("1.01", "1.0", False),
        ("11.0", "1.0", False),
        ("2.1.0", "1.0", False),
        ("1.0-rc1", "1.0", False),
        ("1.0+build", "1.0", False),
        ("1.0_1", "1.0", False),
        ("1.0~rc1", "1.0", False),
        ("1x0", "1.0", False),
        ("rev1.0", "1.0", False),
        ("11.0.5 1.0", "1.0", True),
        ("", "1.0", False),
    ],
)
def test_a_version_is_a_word_of_its_own(where: str, version: str, expected: bool) -> None:
    assert names_version(where, version) is expected


_VERSION = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+~-]{0,8}", fullmatch=True)


@given(_VERSION, st.sampled_from(['"{}"', "x {} y", "{}", "={}\n", "({})"]))
def test_every_version_is_found_where_it_stands(version: str, where: str) -> None:
    assert names_version(where.format(version), version)


@given(_VERSION, _VERSION)
def test_no_version_is_found_in_another(one: str, other: str) -> None:
    if names_version(other, one):
        assert other.rstrip(".").removeprefix("v") == one.rstrip(".").removeprefix("v")


# -- real servers ------------------------------------------------------------------


@contextmanager
def serving(answer: Callable[[socket.socket, int], None], tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """A server that lets ``answer`` do as it likes with each connection; yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stopped = threading.Event()
        threads: list[threading.Thread] = []

        def handle(connection: socket.socket, number: int) -> None:
            with suppress(OSError), connection:
                if tls:
                    connection = tls.wrap_socket(connection, server_side=True)
                with connection:
                    connection.settimeout(5)
                    if not connection.recv(65536):
                        return
                    answer(connection, number)

        def accept() -> None:
            for number in itertools.count():
                try:
                    connection, _peer = listener.accept()
                except OSError:
                    return
                if stopped.is_set():
                    connection.close()
                    return
                threads.append(threading.Thread(target=handle, args=(connection, number)))
                threads[-1].start()

        acceptor = threading.Thread(target=accept)
        acceptor.start()
        port = listener.getsockname()[1]
        try:
            yield f"127.0.0.1:{port}"
        finally:
            stopped.set()
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", port)).close()
            acceptor.join()
            for thread in threads:
                thread.join()


def http(body: bytes = b"ok", status: int = 200, headers: str = "", length: int | None = None) -> bytes:
    head = f"HTTP/1.1 {status} Word\r\nContent-Length: {len(body) if length is None else length}\r\n{headers}\r\n"
    return head.encode() + body


def always(data: bytes) -> Callable[[socket.socket, int], None]:
    return lambda connection, _number: connection.sendall(data)


def gate(address: str, **params: Any) -> dict[str, Any]:
    return health_gate({"url": f"http://{address}/health", "interval": 0.02, "timeout": 30, **params}, False)


class Hurried:
    """The real clock, but sleep takes no time: a long timeout ends soon, and a busy machine has time to answer."""

    def __init__(self) -> None:
        self.skipped = 0.0

    def clock(self) -> float:
        return time.monotonic() + self.skipped

    def sleep(self, seconds: float) -> None:
        self.skipped += seconds


def refusal(url: str, **params: Any) -> Unhealthy:
    hurried = Hurried()
    url = url if "://" in url else f"http://{url}/health"
    times = {"timeout": 40, "interval": 10, "request_timeout": 10}
    with pytest.raises(Unhealthy) as caught:
        health_gate({"url": url, **times, **params}, False, hurried.clock, hurried.sleep)
    return caught.value


def test_a_healthy_member_passes() -> None:
    with serving(always(http())) as address:
        result = gate(address)
    assert (result["result"], result["attempts"], result["answer"]["status"]) == ("pass", 3, 200)


def test_every_probe_uses_a_fresh_connection() -> None:
    seen: list[int] = []

    def answer(connection: socket.socket, number: int) -> None:
        seen.append(number)
        connection.sendall(http(headers="Connection: keep-alive\r\n"))
        connection.recv(1)

    with serving(answer) as address:
        gate(address, successes=4)
    assert seen == [0, 1, 2, 3]


def test_what_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _peer = listener.accept()
            with connection:
                asked.append(connection.recv(65536))
                connection.sendall(http())

        thread = threading.Thread(target=serve)
        thread.start()
        port = listener.getsockname()[1]
        params = {
            "url": f"http://me:p%40ss@127.0.0.1:{port}/h\u00e4?a=b&c=%20",
            "headers": {"host": "shop.example", "X-A": "b"},
        }
        assert health_probe(params, False)["healthy"] is True
        thread.join()
    lines = asked[0].decode().split("\r\n")
    assert lines[0] == "GET /h%C3%A4?a=b&c=%20 HTTP/1.1"
    assert [line for line in lines if line.lower().startswith("host:")] == ["host: shop.example"]
    assert "Authorization: Basic bWU6cEBzcw==" in lines
    assert "X-A: b" in lines
    assert "Connection: close" in lines


def test_a_name_with_two_addresses_is_tried_at_both() -> None:
    with serving(always(http())) as address:
        port = address.rpartition(":")[2]
        assert gate(f"localhost:{port}")["result"] == "pass"


@pytest.mark.parametrize(
    ("data", "params", "reason"),
    [
        (http(status=503), {}, "status 503, not 200"),
        (http(status=503), {"status": [200, 204]}, "status 503, not 200 or 204"),
        (http(status=302, headers="Location: /login\r\n"), {}, "status 302, not 200 (leads to '/login')"),
        (http(b"starting"), {"text": "ready"}, "the answer does not contain 'ready'"),
        (http(b'{"version": "1.0"}'), {"version": "2.0"}, "answers as version 1.0, not 2.0"),
        (http(b'{"version": "1.0"}'), {"version": "2.0", "version_key": "version"}, "answers as version 1.0, not 2.0"),
        (http(headers="X-Version: 1.0\r\n"), {"version": "2.0"}, "answers as version 1.0, not 2.0"),
        (http(headers="X-Rev: 1\r\n"), {"version": "2", "version_header": "x-rev"}, "answers as version 1, not 2"),
        (http(), {"version": "2.0"}, "the answer names no version, 2.0 is expected"),
        (http(), {"version": "2.0", "version_key": "a.b"}, "the answer names no version under a.b, 2.0 is expected"),
        (http(), {"version": "2.0", "version_header": "X-V"}, "the answer names no version in the header X-V, 2.0 is expected"),
        (http(b'{"build": {"version": "2.0.1"}}'), {"version": "2.0", "version_key": "build.version"}, "answers as version 2.0.1, not 2.0"),
        (http(b"ok", length=10), {}, "the answer was cut off"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", {}, "the answer was cut off"),
        (b"", {}, "connection closed without an answer"),
        (b"SSH-2.0-OpenSSH\r\n", {}, "the answer is not HTTP (BadStatusLine)"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(data: bytes, params: dict[str, Any], reason: str) -> None:
    with serving(always(data)) as address:
        error = refusal(address, **params)
        probe = health_probe({"url": f"http://{address}/", "request_timeout": 20, **params}, False)
    assert error.facts["answer"]["reason"] == reason
    assert f"last answer: {reason}." in error.message
    assert error.hint
    assert (probe["healthy"], probe["reason"]) == (False, reason)


@pytest.mark.parametrize(
    ("data", "params"),
    [
        (http(status=204), {"status": [200, 204]}),
        (http(status=302, headers="Location: http://127.0.0.1:1/\r\n"), {"status": [302]}),
        (http(status=418), {"status": ["418"]}),
        (http(b"all is ready"), {"text": "ready"}),
        (http(b"x" * 3_000_000), {"text": "x"}),
        (http(b'{"version": "2.0"}'), {"version": "2.0"}),
        (http(b"shop 2.0"), {"version": "2.0"}),
        (http(headers="X-Version: 2.0\r\n"), {"version": "2.0"}),
        (http(headers="X-Rev:  2.0 \r\n"), {"version": "2.0", "version_header": "X-Rev"}),
        (http(b'{"build": [{"v": "2.0"}]}'), {"version": "2.0", "version_key": "build.0.v"}),
        (http(b'{"v": 2.10}'), {"version": "2.10", "version_key": "v"}),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", {"text": "the end"}),
    ],
)
def test_what_is_good_passes(data: bytes, params: dict[str, Any]) -> None:
    with serving(always(data)) as address:
        assert gate(address, **params)["result"] == "pass"


@pytest.mark.parametrize(
    ("body", "key"),
    [
        (b"{", "v"), (b"[]", "v"), (b'{"v": null}', "v"), (b'{"v": {}}', "v"), (b'{"v": true}', "v"),
        (b'{"v": []}', "v.0"), (b"[" * 100_000, "v"), (b"\xff\xfe", "v"), (b'{"v": ""}', "v"),
    ],
)  # fmt: skip
def test_json_without_the_version_is_no_match(body: bytes, key: str) -> None:
    with serving(always(http(body))) as address:
        probe = health_probe({"url": f"http://{address}/", "version": "2.0", "version_key": key}, False)
    assert (probe["healthy"], probe["version"]) == (False, None)


def test_a_probe_tells_which_version_runs() -> None:
    with serving(always(http(b'{"version": "1.4", "n": 3}', headers="X-Rev: 7\r\n"))) as address:
        url = f"http://{address}/"
        assert health_probe({"url": url, "version_key": "version"}, False)["version"] == "1.4"
        assert health_probe({"url": url, "version_key": "n"}, False)["version"] == "3"
        assert health_probe({"url": url, "version_header": "X-Rev"}, False)["version"] == "7"
        # Without a place where it stands, any number could be taken for it.
        assert health_probe({"url": url}, False)["version"] is None


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = "127.0.0.1:%d" % listener.getsockname()[1]  # noqa: UP031
    error = refusal(address)
    assert error.facts["answer"] == {"status": None, "version": None, "took": 0.0, "reason": "connection refused"} | {
        "took": error.facts["answer"]["took"]
    }
    assert "Nothing listens there" in error.hint


def test_a_name_that_does_not_exist() -> None:
    probe = health_probe({"url": "http://no-such-host.invalid/"}, False)
    assert probe["reason"] == "the name no-such-host.invalid cannot be resolved"


def test_a_reset_connection() -> None:
    def reset(connection: socket.socket, _number: int) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with serving(reset) as address:
        assert refusal(address).facts["answer"]["reason"] == "connection reset"


@pytest.mark.parametrize("trickle", [False, True])
def test_a_member_that_never_answers_holds_nobody(trickle: bool) -> None:
    def silent(connection: socket.socket, _number: int) -> None:
        if trickle:  # a byte now and then restarts a socket's own timeout
            for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Slow: " + b"x" * 3000:
                connection.sendall(bytes([byte]))
                time.sleep(0.02)
        else:
            connection.recv(1)

    with serving(silent) as address:
        started = time.monotonic()
        with pytest.raises(Unhealthy, match=r"no answer within 0\.3 s"):
            gate(address, timeout=0.7, request_timeout=0.3)
        took = time.monotonic() - started
    assert 0.65 < took < 20


def test_a_slow_member_passes_within_the_limit_of_a_request() -> None:
    def slow(connection: socket.socket, _number: int) -> None:
        time.sleep(0.1)
        connection.sendall(http())

    with serving(slow) as address:
        assert gate(address, request_timeout=20)["result"] == "pass"
        assert "no answer" in refusal(address, request_timeout=0.05).facts["answer"]["reason"]


def test_a_flapping_member_passes_only_after_a_whole_row() -> None:
    def flapping(connection: socket.socket, number: int) -> None:
        connection.sendall(http(status=200 if number % 3 or number > 8 else 500))

    with serving(flapping) as address:
        result = gate(address, successes=3)
    assert result["attempts"] == 10  # 0, 3 and 6 fail, so 7 is the first of three


def test_a_member_that_comes_up_later() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    def start() -> None:
        time.sleep(0.2)
        with socket.create_server(("127.0.0.1", port)) as server:
            for _number in range(3):
                connection, _peer = server.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(http(b"2.0"))

    thread = threading.Thread(target=start)
    thread.start()
    result = gate(f"127.0.0.1:{port}", version="2.0")
    thread.join()
    assert result["attempts"] > 3
    assert result["waited"] >= 0.2


def test_check_mode_sends_one_probe_and_never_fails() -> None:
    with serving(always(http(b"1.0"))) as address:
        url = f"http://{address}/"
        result = health_gate({"url": url, "version": "2.0"}, True)
        assert (result["result"], result["attempts"], result["changed"]) == ("inconclusive", 1, False)
        assert "2.0 is expected" in result["reason"]
        assert health_gate({"url": url}, True)["result"] == "inconclusive"


def test_no_secret_of_the_url_is_shown() -> None:
    with serving(always(http(status=500))) as address, pytest.raises(Unhealthy) as caught:
        health_gate({"url": f"http://me:secret@{address}/h?token=secret", "timeout": 0.1, "successes": 1}, False)
    assert "secret" not in str(caught.value) + json.dumps(caught.value.facts)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=127.0.0.1", "-days", "2", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def test_https(tls: ssl.SSLContext) -> None:
    with serving(always(http(b"2.0")), tls) as address:
        url = f"https://{address}/health"
        result = health_gate({"url": url, "validate_certs": False, "version": "2.0", "interval": 0.02}, False)
        assert result["result"] == "pass"
        reason = refusal(url).facts["answer"]["reason"]
    assert reason.startswith("the certificate is not valid: self")


def test_https_where_plain_http_is_spoken() -> None:
    with serving(always(http())) as address:
        assert health_probe({"url": f"https://{address}/"}, False)["reason"].startswith("TLS failed")


def test_the_times_of_the_real_clock() -> None:
    with serving(always(http())) as address:
        started = time.monotonic()
        result = gate(address, successes=2, seconds=0.3, interval=0.05)
        took = time.monotonic() - started
    assert 0.3 <= result["waited"] <= took + 0.001
