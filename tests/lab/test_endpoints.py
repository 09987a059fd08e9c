"""The sample service, through the balancer."""

from __future__ import annotations

import http.client
import os
import socket
import struct
import time

import pytest

import lab

from .helpers import direct, request

pytestmark = pytest.mark.lab


@pytest.fixture
def address(small_lab: lab.Lab) -> str:
    return small_lab.balancers[0].address


def test_the_plain_page_names_version_and_host_and_every_member_serves(address: str) -> None:
    hosts = set()
    for _unused in range(4):
        answer = request(address, "/")
        assert answer.status == 200
        assert answer.json() == {"service": "shop", "version": "1.0", "host": answer.headers["x-host"]}
        assert answer.headers["x-version"] == "1.0"
        hosts.add(answer.headers["x-host"])
    assert hosts == {"web1", "web2"}


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_health_names_the_version(address: str, path: str) -> None:
    answer = request(address, path)
    assert (answer.status, answer.json()["status"], answer.json()["version"]) == (200, "healthy", "1.0")


@pytest.mark.parametrize("port", [80, 8080])
def test_a_connection_is_kept_until_the_client_says_close(small_lab: lab.Lab, address: str, port: int) -> None:
    at = address if port == 80 else small_lab.members[0].address
    connection = http.client.HTTPConnection(at, port, timeout=5)
    ports = set()
    for _unused in range(3):
        connection.request("GET", "/")
        answer = connection.getresponse()
        assert answer.status == 200
        assert answer.read()
        ports.add(connection.sock.getsockname()[1])
    assert len(ports) == 1
    connection.request("GET", "/", headers={"Connection": "close"})
    assert connection.getresponse().will_close
    connection.close()


def test_slow_takes_as_long_as_asked(address: str) -> None:
    started = time.monotonic()
    assert request(address, "/slow/0.4").json()["slept"] == 0.4
    assert 0.4 <= time.monotonic() - started < 1.5


def test_a_stream_is_paced_and_whole(address: str) -> None:
    started = time.monotonic()
    answer = request(address, "/stream/100003/0.5")
    assert len(answer.body) == 100_003
    assert answer.headers["transfer-encoding"] == "chunked"
    assert 0.4 <= time.monotonic() - started < 2


def test_a_large_stream_to_a_slow_client_arrives_whole(address: str) -> None:
    connection = http.client.HTTPConnection(address, 80, timeout=10)
    connection.request("GET", "/stream/30000000/0.1")
    answer = connection.getresponse()
    time.sleep(0.5)
    assert len(answer.read()) == 30_000_000
    connection.close()


@pytest.mark.parametrize("path", ["/slow/x", "/slow/-1", "/slow/nan", "/stream/-1", "/stream/1/x"])
def test_bad_numbers_are_refused(address: str, path: str) -> None:
    assert request(address, path).status == 400


def test_an_unknown_page_is_not_found(address: str) -> None:
    assert request(address, "/nothing").status == 404


def test_a_session_is_known_to_its_member_alone(small_lab: lab.Lab) -> None:
    first, second = small_lab.members
    answer = request(first.address, "/session", port=8080)
    assert answer.json()["state"] == "new"
    assert answer.json()["lost"] is False
    cookie = {"Cookie": "a=b; " + answer.headers["set-cookie"].partition(";")[0]}
    again = request(first.address, "/session", port=8080, headers=cookie).json()
    assert (again["state"], again["visits"], again["session"]) == ("known", 2, answer.json()["session"])
    other = request(second.address, "/session", port=8080, headers=cookie).json()
    assert (other["state"], other["visits"], other["lost"]) == ("new", 1, True)


def test_an_order_is_in_the_log_of_the_member_that_answered(small_lab: lab.Lab, address: str) -> None:
    number = os.urandom(8).hex()
    answer = request(address, "/orders", method="POST", body=f'{{"id": "{number}"}}')
    assert answer.status == 200
    logged = [order for order in lab.orders(small_lab) if order.id == number]
    assert logged == [(number, "1.0", answer.headers["x-host"])]


@pytest.mark.parametrize("body", ["", "x", "[]", "{}", '{"id": 1}', '{"id": ""}', '{"id": "a b"}', '{"id": "a\\n"}'])
def test_an_order_without_a_good_id_is_refused_and_not_logged(small_lab: lab.Lab, address: str, body: str) -> None:
    before = lab.orders(small_lab)
    assert request(address, "/orders", method="POST", body=body).status == 400
    assert lab.orders(small_lab) == before


def test_an_order_is_not_placed_by_a_get(address: str) -> None:
    assert request(address, "/orders").status == 405


def _frame(kind: int, payload: bytes) -> bytes:
    mask = os.urandom(4)
    size = len(payload)
    head = bytes([0x80 | kind]) + (bytes([0x80 | size]) if size < 126 else b"\xfe" + struct.pack(">H", size))
    return head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


def _read_frame(reader: socket.SocketIO) -> tuple[int, bytes]:
    def exactly(count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = reader.read(count - len(data))
            assert piece
            data += piece
        return data

    head, size = exactly(2)
    if size == 126:
        (size,) = struct.unpack(">H", exactly(2))
    return head & 0x0F, exactly(size)


def test_the_websocket_echoes_pongs_and_closes(address: str) -> None:
    with socket.create_connection((address, 80), timeout=5) as connection:
        # The key and its answer are those of RFC 6455, section 1.3.
        connection.sendall(
            b"GET /ws HTTP/1.1\r\nHost: shop\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += connection.recv(1)
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
        assert b"x-version: 1.0" in head.lower()
        reader = connection.makefile("rb", buffering=0)
        for text in (b"hello", b"x" * 300, b""):
            connection.sendall(_frame(0x1, text))
            assert _read_frame(reader) == (0x1, text)
        connection.sendall(_frame(0x9, b"are you there"))
        assert _read_frame(reader) == (0xA, b"are you there")
        two = _frame(0x1, b"one") + _frame(0x1, b"two")
        connection.sendall(two[:5])
        time.sleep(0.05)
        connection.sendall(two[5:])
        assert [_read_frame(reader), _read_frame(reader)] == [(0x1, b"one"), (0x1, b"two")]
        connection.sendall(_frame(0x8, struct.pack(">H", 1000)))
        assert _read_frame(reader) == (0x8, struct.pack(">H", 1000))
        assert connection.recv(1) == b""
        reader.close()


def test_ws_without_an_upgrade_is_refused(address: str) -> None:
    assert request(address, "/ws").status == 400


def test_the_tcp_pool_serves_too(address: str) -> None:
    assert request(address, "/", port=81).json()["service"] == "shop"


def test_a_member_answers_http_1_0_and_closes(small_lab: lab.Lab) -> None:
    with socket.create_connection((small_lab.members[0].address, 8080), timeout=5) as connection:
        connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        data = b""
        while piece := connection.recv(4096):
            data += piece
    assert data.startswith(b"HTTP/1.1 200 ")
    assert b"Connection: close" in data


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"rubbish\r\n\r\n", b"400"),
        (b"POST /orders HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"400"),
        (b"POST /orders HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", b"413"),
        (b"POST /orders HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"411"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000, b"431"),
    ],
)
def test_what_a_member_cannot_read_is_refused(small_lab: lab.Lab, sent: bytes, status: bytes) -> None:
    with socket.create_connection((small_lab.members[0].address, 8080), timeout=5) as connection:
        connection.sendall(sent)
        assert connection.recv(4096).split(b" ")[1] == status


def test_a_member_waits_for_the_rest_of_a_request(small_lab: lab.Lab) -> None:
    with socket.create_connection((small_lab.members[0].address, 8080), timeout=5) as connection:
        for piece in (b"POST /orders HTTP/1.1\r\nCon", b"tent-Length: 13\r\n\r\n", b'{"id": "', b'p-1"}'):
            connection.sendall(piece)
            time.sleep(0.02)
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
    assert direct(small_lab.members[0], "/") is not None
