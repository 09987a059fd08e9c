# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A small HTTP service in a process of its own, so that it can be killed like a real one.

``python app.py NAME PORT``. Answers ``/`` and ``/slow/SECONDS`` with its name,
``/health`` with 200, 503 or 404 (switched by ``/switch/well``, ``/switch/ill`` and ``/switch/leaving``),
``/drip/SECONDS`` with a slow download, ``/status/CODE`` with that status; ``/cut`` ends in mid-answer and
``/hang-up`` before it; accepts a WebSocket anywhere. ``/switch/shaky`` makes every fourth answer of ``/`` a 500,
``/switch/late`` makes it slow, ``/switch/slower`` has ``/slow/SECONDS`` take 1.5 times as long.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import sys


async def websocket(writer: asyncio.StreamWriter, key: bytes) -> None:
    """Accept one, and say nothing more."""
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    head = b"HTTP/1.1 101 -\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n\r\n"
    writer.write(head % accept)
    await writer.drain()


async def drip(writer: asyncio.StreamWriter, seconds: float) -> None:
    """A download that takes so long."""
    pieces = max(1, int(seconds / 0.05))
    writer.write(f"HTTP/1.1 200 -\r\nContent-Length: {pieces}\r\n\r\n".encode())
    for _unused in range(pieces):
        writer.write(b".")
        await writer.drain()
        await asyncio.sleep(0.05)


async def serve(name: str, port: int) -> None:
    health, shaky, late, slower, count = 200, False, False, 1.0, 0

    def answer(path: str) -> tuple[int, str]:
        nonlocal health, shaky, late, slower, count
        if path.startswith("/switch/"):
            health, shaky = {"ill": 503, "leaving": 404}.get(path[8:], 200), path == "/switch/shaky"
            late = path == "/switch/late"
            slower = 1.5 if path == "/switch/slower" else 1.0
        if path.startswith("/status/"):
            return int(path[8:]), name
        count += path == "/"
        if shaky and path == "/" and count % 4 == 0:
            return 500, name
        return (health if path == "/health" else 200), name

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                key = b""
                while header := (await reader.readline()).strip():
                    if header.lower().startswith(b"sec-websocket-key:"):
                        key = header.split(b":", 1)[1].strip()
                path = line.split()[1].decode()
                if key:
                    await websocket(writer, key)
                    await reader.read()
                    break
                if path.startswith("/drip/"):
                    await drip(writer, float(path[6:]))
                    continue
                if path in ("/cut", "/hang-up"):
                    if path == "/cut":
                        writer.write(b"HTTP/1.1 200 -\r\nContent-Length: 1000\r\n\r\nonly this")
                        await writer.drain()
                        await asyncio.sleep(0.05)
                    break
                if path.startswith("/slow/"):
                    await asyncio.sleep(float(path[6:]) * slower)
                if late and path == "/":
                    await asyncio.sleep(0.03)
                status, body = answer(path)
                head = f"HTTP/1.1 {status} -\r\nContent-Length: {len(body)}\r\n\r\n"
                writer.write((head + body).encode())
                await writer.drain()
        except (OSError, IndexError):
            pass
        writer.close()

    server = await asyncio.start_server(client, "127.0.0.1", port, reuse_address=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2])))
