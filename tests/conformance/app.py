# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A small HTTP service in a process of its own, so that it can be killed like a real one.

``python app.py NAME PORT``. Answers ``/`` and ``/slow/SECONDS`` with its name,
``/health`` with 200 or 503 (switched by ``/switch/ill`` and ``/switch/well``).
"""

from __future__ import annotations

import asyncio
import sys


async def serve(name: str, port: int) -> None:
    well = True

    def answer(path: str) -> tuple[int, str]:
        nonlocal well
        if path.startswith("/switch/"):
            well = path == "/switch/well"
        return (200 if well or path != "/health" else 503), name

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                while (await reader.readline()).strip():
                    pass
                path = line.split()[1].decode()
                if path.startswith("/slow/"):
                    await asyncio.sleep(float(path[6:]))
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
