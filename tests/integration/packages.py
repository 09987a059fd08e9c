# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every repository of packages needs: a unit for the sample service, and a folder on the web."""

from __future__ import annotations

import functools
import http.server
import threading
from pathlib import Path
from typing import Any

UNIT = """\
[Unit]
Description=The sample service, packaged
StartLimitIntervalSec=0
[Service]
User=shop
ExecStart=/usr/bin/python3 -S -E -s /usr/lib/shop/shop.py
Restart=on-failure
RestartSec=200ms
TimeoutStopSec=2
"""


class Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""


class WebFolder:
    """A folder that is served from the controller until it is closed."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder = folder
        handler = functools.partial(Silent, directory=str(folder))
        self._server = http.server.ThreadingHTTPServer((address, 0), handler)
        self.url = f"http://{address}:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
