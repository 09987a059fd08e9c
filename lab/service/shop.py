"""The lab's sample service: one small HTTP/1.1 server, and the worst case for a deployer.

It dies at once on SIGTERM, with everything it was doing. It runs on the hosts of the lab, from
/opt/shop/current, with the standard library only. VERSION and settings.json lie beside it.
"""

from __future__ import annotations

import asyncio
import collections
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

HERE = os.path.dirname(os.path.realpath(__file__))
PORT = int(os.environ.get("SHOP_PORT", "8080"))
ORDERS = os.environ.get("SHOP_ORDERS", "/var/log/shop/orders.log")

MAX_HEAD = 16_384
MAX_BODY = 1 << 20
MAX_STREAM = 1 << 28
MAX_SECONDS = 3600.0
MAX_SESSIONS = 100_000
TICK = 0.05  # seconds between two pieces of a stream

REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    411: "Length Required",
    413: "Content Too Large",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}

WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Shop:
    """What all connections share: who we are, how we behave, sessions and orders."""

    def __init__(self) -> None:
        with open(os.path.join(HERE, "VERSION"), encoding="utf-8") as file:
            self.version = file.read().strip()
        with open(os.path.join(HERE, "settings.json"), encoding="utf-8") as file:
            settings = json.load(file)
        self.host = socket.gethostname()
        self.start_delay = float(settings.get("start_delay", 0))
        slow = dict(part.split("=") for part in str(settings.get("slow_starts", "")).split(",") if part)
        self.start_delay += float(slow.get(self.host, 0))
        self.slots = int(settings.get("slots", 0))
        self.working = 0
        self.line: collections.deque[tuple[Connection, bytes]] = collections.deque()
        self.warm_up = float(settings.get("warm_up", 0))
        self.warm_until = float("inf")
        self.never_healthy = bool(settings.get("never_healthy", False))
        self.error_share = float(settings.get("error_share", 0))
        self.extra_latency = float(settings.get("extra_latency", 0))
        self.cold_requests = int(settings.get("cold_requests", 0))
        self.cold_latency = float(settings.get("cold_latency", 0))
        self.loopback_only = bool(settings.get("loopback_only", False))
        self.crash_after = float(settings.get("crash_after", 0))
        self.customers = str(settings.get("customers", ""))
        self.database: Any = None
        self.sessions: dict[str, int] = {}
        self.orders = os.open(ORDERS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self.identity = f"X-Version: {self.version}\r\nX-Host: {self.host}\r\n".encode()
        self.about = {"service": "shop", "version": self.version, "host": self.host}
        self.plain = encode(self.about)

    def healthy(self) -> bool:
        """May this member get traffic?"""
        return not self.never_healthy and time.monotonic() >= self.warm_until

    def cold(self) -> float:
        """How much longer this request takes since it is one of the first."""
        if not self.cold_requests:
            return 0.0
        self.cold_requests -= 1
        return self.cold_latency

    def cursor(self) -> Any:
        """On the one connection to the database, where each statement stands for itself."""
        if self.database is None:
            sys.path.append("/usr/lib/python3/dist-packages")  # -S leaves it out
            import psycopg2  # type: ignore[import-untyped]  # only on members that speak to a database

            self.database = psycopg2.connect(host="db", dbname="shop", user="postgres", connect_timeout=5)
            self.database.autocommit = True
        return self.database.cursor()

    def unlucky(self) -> bool:
        """Does this request belong to the share that fails?"""
        share = self.error_share
        return share > 0 and int.from_bytes(os.urandom(4), "little") < share * 2**32


def encode(value: object) -> bytes:
    """JSON on one line."""
    return json.dumps(value).encode() + b"\n"


class Connection(asyncio.Protocol):
    """One client connection; answers one request after the other."""

    def __init__(self, shop: Shop, loop: asyncio.AbstractEventLoop) -> None:
        self.shop = shop
        self.loop = loop
        self.buffer = b""
        self.busy = False
        self.keep = True
        self.method = b""
        self.fields: dict[bytes, bytes] = {}
        self.body = b""
        self.continued = False
        self.timer: asyncio.TimerHandle | None = None
        self.paused = False
        self.holds_slot = False
        self.waiting: Callable[[], None] | None = None
        self.websocket: WebSocket | None = None

    # The transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self.timer:
            self.timer.cancel()
        self.waiting = None
        self.free_slot()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        if self.waiting:
            go_on, self.waiting = self.waiting, None
            go_on()

    def data_received(self, data: bytes) -> None:
        if self.websocket:
            self.websocket.feed(data)
            return
        self.buffer = self.buffer + data if self.buffer else data
        if len(self.buffer) > MAX_HEAD + MAX_BODY:
            self.transport.abort()
        elif not self.busy:
            self.serve()

    # One request.

    def serve(self) -> None:
        """Answer what has arrived in full; the rest waits in the buffer."""
        while self.buffer and not self.busy and not self.transport.is_closing():
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self.buffer) > MAX_HEAD:
                    self.refuse(431)
                return
            first, _unused, rest = self.buffer[:end].partition(b"\r\n")
            words = first.split(b" ")
            if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
                self.refuse(400)
                return
            fields: dict[bytes, bytes] = {}
            if rest:
                for line in rest.split(b"\r\n"):
                    name, _unused, value = line.partition(b":")
                    fields[name.lower()] = value.strip()
            start = end + 4
            if b"transfer-encoding" in fields:
                self.refuse(411)
                return
            if b"content-length" in fields:
                text = fields[b"content-length"]
                if not text.isdigit():
                    self.refuse(400)
                    return
                length = int(text)
                if length > MAX_BODY:
                    self.refuse(413)
                    return
                if len(self.buffer) < start + length:
                    if fields.get(b"expect", b"").lower() == b"100-continue" and not self.continued:
                        self.continued = True
                        self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                    return
                self.body = self.buffer[start : start + length]
                start += length
            else:
                self.body = b""
            self.continued = False
            self.buffer = self.buffer[start:]
            connection = fields.get(b"connection", b"").lower()
            self.keep = b"close" not in connection if words[2] == b"HTTP/1.1" else b"keep-alive" in connection
            self.fields = fields
            self.method = words[0]
            self.busy = True
            self.route(words[1].partition(b"?")[0])

    def route(self, path: bytes) -> None:
        """Choose what answers; only health is spared from delays and errors."""
        shop = self.shop
        if path in (b"/health", b"/ready"):
            healthy = shop.healthy()
            state = "healthy" if healthy else "unhealthy"
            self.answer(200 if healthy else 503, encode({"status": state, **shop.about}))
        elif not shop.healthy():
            # A member that was given traffic too early must show in the witness's count.
            status = 500 if shop.never_healthy else 503
            self.answer(status, encode({"error": "not healthy", **shop.about}))
        elif shop.slots and shop.working >= shop.slots:
            shop.line.append((self, path))
        else:
            self.begin(path)

    def begin(self, path: bytes) -> None:
        """It is this request's turn."""
        shop = self.shop
        if shop.slots:
            shop.working += 1
            self.holds_slot = True
        if delay := shop.extra_latency + shop.cold():
            self.timer = self.loop.call_later(delay, self.work, path)
        else:
            self.work(path)

    def free_slot(self) -> None:
        """Who has waited longest is next."""
        if not self.holds_slot:
            return
        self.holds_slot = False
        self.shop.working -= 1
        while self.shop.line:
            connection, path = self.shop.line.popleft()
            if not connection.transport.is_closing():
                connection.begin(path)
                return

    def work(self, path: bytes) -> None:
        """Do what the path asks for."""
        shop = self.shop
        if shop.error_share and shop.unlucky():
            self.answer(500, encode({"error": "unlucky", **shop.about}))
            return
        if path == b"/":
            self.answer(200, shop.plain)
            return
        parts = path.decode("latin-1").split("/")[1:]
        match parts:
            case ["slow", seconds]:
                delay = number(seconds, MAX_SECONDS)
                if delay is None:
                    self.problem(400, "not a number of seconds")
                else:
                    done = encode({"slept": delay, **shop.about})
                    self.timer = self.loop.call_later(delay, self.answer, 200, done)
            case ["stream", size, *more] if len(more) < 2:
                total = number(size, MAX_STREAM)
                span = number(more[0], MAX_SECONDS) if more else 1.0
                if total is None or span is None:
                    self.problem(400, "not a number of bytes or seconds")
                else:
                    self.stream(int(total), span)
            case ["session"]:
                self.session()
            case ["sessions"]:
                self.hand_over()
            case ["customers", key] if shop.customers:
                self.customer(key)
            case ["orders"]:
                self.order()
            case ["ws"]:
                self.upgrade()
            case _:
                self.problem(404, "no such page")

    # Answers.

    def answer(self, status: int, body: bytes, extra: bytes = b"") -> None:
        """Send a whole answer and go on with the next request."""
        close = b"" if self.keep else b"Connection: close\r\n"
        sent = b"" if self.method == b"HEAD" else body
        self.transport.write(
            b"HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s%s%s\r\n%s"
            % (
                status,
                REASONS[status].encode(),
                len(body),
                self.shop.identity,
                extra,
                close,
                sent,
            )
        )
        self.done()

    def problem(self, status: int, text: str) -> None:
        """Answer with an error that says what was wrong."""
        self.answer(status, encode({"error": text, **self.shop.about}))

    def refuse(self, status: int) -> None:
        """Answer what cannot be read, and close."""
        self.keep = False
        self.problem(status, REASONS[status])

    def done(self) -> None:
        """The answer is out: close, or take the next request."""
        self.timer = None
        self.free_slot()
        if not self.keep:
            self.transport.close()
        elif self.busy:
            self.busy = False
            if self.buffer:
                # Not from here: a client that sends many at once must not starve the others.
                self.loop.call_soon(self.serve)

    def stream(self, total: int, span: float) -> None:
        """Send `total` bytes in equal pieces over about `span` seconds."""
        close = b"" if self.keep else b"Connection: close\r\n"
        self.transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
            b"Transfer-Encoding: chunked\r\nX-Bytes: %d\r\n%s%s\r\n" % (total, self.shop.identity, close)
        )
        if self.method == b"HEAD":
            self.done()
            return
        ticks = max(1, min(total, round(span / TICK)))
        self.piece(total, ticks, span / ticks)

    def piece(self, left: int, ticks: int, pause: float) -> None:
        """Send the next piece; a slow client is waited for."""
        if self.paused:
            self.waiting = lambda: self.piece(left, ticks, pause)
            return
        size = left // ticks
        if size:
            self.transport.write(b"%x\r\n%b\r\n" % (size, b"." * size))
        if ticks > 1:
            self.timer = self.loop.call_later(pause, self.piece, left - size, ticks - 1, pause)
        else:
            self.transport.write(b"0\r\n\r\n")
            self.done()

    def session(self) -> None:
        """Count visits in this process's memory; another member does not know them."""
        presented = ""
        for pair in self.fields.get(b"cookie", b"").split(b";"):
            name, _unused, value = pair.strip().partition(b"=")
            if name == b"SHOPSESSION":
                presented = value.decode("latin-1")
        sessions = self.shop.sessions
        known = presented in sessions
        key = presented if known else os.urandom(16).hex()
        if not known and len(sessions) >= MAX_SESSIONS:
            del sessions[next(iter(sessions))]
        sessions[key] = visits = sessions.get(key, 0) + 1
        body = {
            "session": key,
            "visits": visits,
            "state": "known" if known else "new",
            # A session that was shown but is not known was lost with another process.
            "lost": bool(presented) and not known,
            **self.shop.about,
        }
        extra = b"" if known else b"Set-Cookie: SHOPSESSION=%s; Path=/\r\n" % key.encode()
        self.answer(200, encode(body), extra)

    def hand_over(self) -> None:
        """Write down every session, one a line, or take in those of another member; the newer state of each stays."""
        sessions = self.shop.sessions
        if self.method == b"GET":
            lines = [f"{key} {visits}\n" for key, visits in sessions.items()]
            self.answer(200, "".join(lines).encode())
            return
        try:
            for line in self.body.decode("ascii").splitlines():
                key, visits = line.split()
                sessions[key] = max(sessions.get(key, 0), int(visits))
        except ValueError:
            self.problem(400, "each line must be a session and its visits")
            return
        self.answer(200, encode({"sessions": len(sessions), **self.shop.about}))

    def order(self) -> None:
        """Write the order down, then answer: what is cut between the two was executed."""
        if self.method != b"POST":
            self.problem(405, "POST an order")
            return
        try:
            order = json.loads(self.body)["id"]
        except (ValueError, KeyError, TypeError):
            self.problem(400, 'the body must be {"id": "..."}')
            return
        if not isinstance(order, str) or not order.isascii() or not order.isprintable():
            self.problem(400, "the id must be printable ASCII")
            return
        if not 1 <= len(order) <= 128 or " " in order:
            self.problem(400, "the id must have 1 to 128 characters and no space")
            return
        line = f"{order} {self.shop.version} {self.shop.host}\n"
        os.write(self.shop.orders, line.encode("ascii"))  # one write: lines never mix
        self.answer(200, encode({"order": order, **self.shop.about}))

    def customer(self, key: str) -> None:
        """Write or read a customer's name in the database, in the column that this version knows."""
        column = self.shop.customers
        try:
            cursor = self.shop.cursor()
            if self.method in (b"PUT", b"POST"):
                cursor.execute(
                    f"INSERT INTO customers (id, {column}) VALUES (%s, %s)"
                    f" ON CONFLICT (id) DO UPDATE SET {column} = excluded.{column}",
                    (key, self.body.decode()),
                )
                self.answer(200, encode({"customer": key, **self.shop.about}))
                return
            cursor.execute(f"SELECT {column} FROM customers WHERE id = %s", (key,))
            row = cursor.fetchone()
            self.answer(200 if row else 404, encode({"name": row[0] if row else None, **self.shop.about}))
        except Exception as error:
            self.shop.database = None
            self.problem(500, f"database: {error}")

    def upgrade(self) -> None:
        """Go on as a WebSocket that echoes."""
        key = self.fields.get(b"sec-websocket-key", b"")
        if self.fields.get(b"upgrade", b"").lower() != b"websocket" or not key:
            self.problem(400, "a WebSocket is wanted here")
            return
        import base64
        import hashlib

        accept = base64.b64encode(hashlib.sha1(key + WEBSOCKET_GUID).digest())
        self.transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %s\r\n%s\r\n" % (accept, self.shop.identity)
        )
        self.websocket = WebSocket(self.transport)
        early, self.buffer = self.buffer, b""
        if early:
            self.websocket.feed(early)


class WebSocket:
    """RFC 6455, the server's side: echo text and binary, answer ping and close."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.buffer = b""

    def feed(self, data: bytes) -> None:
        """Take in bytes and answer every whole frame among them."""
        self.buffer += data
        while (frame := self.next()) and not self.transport.is_closing():
            head, payload = frame
            match head & 0x0F:
                case 0x0 | 0x1 | 0x2:
                    self.send(head, payload)
                case 0x8:
                    self.send(0x88, payload)
                    self.transport.close()
                case 0x9:
                    self.send(0x8A, payload)
                case 0xA:
                    pass
                case _:
                    self.fail(1002)

    def next(self) -> tuple[int, bytes] | None:
        """Cut one whole frame off the buffer."""
        buffer = self.buffer
        if len(buffer) < 2:
            return None
        size, start = buffer[1] & 0x7F, 2
        if size >= 126:
            width = 2 if size == 126 else 8
            start = 2 + width
            if len(buffer) < start:
                return None
            size = int.from_bytes(buffer[2:start], "big")
        if size > MAX_BODY:
            self.fail(1009)
            return None
        if not buffer[1] & 0x80:
            self.fail(1002)  # a client must mask
            return None
        end = start + 4 + size
        if len(buffer) < end:
            return None
        mask = (buffer[start : start + 4] * (size // 4 + 1))[:size]
        clear = int.from_bytes(buffer[start + 4 : end], "big") ^ int.from_bytes(mask, "big")
        self.buffer = buffer[end:]
        return buffer[0], clear.to_bytes(size, "big")

    def send(self, head: int, payload: bytes) -> None:
        """Send one frame, unmasked as a server must."""
        size = len(payload)
        if size < 126:
            length = bytes([size])
        elif size < 1 << 16:
            length = b"\x7e" + size.to_bytes(2, "big")
        else:
            length = b"\x7f" + size.to_bytes(8, "big")
        self.transport.write(bytes([head]) + length + payload)

    def fail(self, code: int) -> None:
        """Close because of what the client did."""
        self.buffer = b""
        self.send(0x88, code.to_bytes(2, "big"))
        self.transport.close()


def number(text: str, limit: float) -> float | None:
    """A number from 0 to `limit`, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= limit else None


async def main() -> None:
    """Serve until killed."""
    shop = Shop()
    await asyncio.sleep(shop.start_delay)
    shop.warm_until = time.monotonic() + shop.warm_up
    loop = asyncio.get_running_loop()
    if shop.crash_after:
        loop.call_later(shop.crash_after, os._exit, 70)
    address = "127.0.0.1" if shop.loopback_only else "0.0.0.0"
    server = await loop.create_server(lambda: Connection(shop, loop), address, PORT, backlog=1024, reuse_address=True)
    await server.serve_forever()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    asyncio.run(main())
