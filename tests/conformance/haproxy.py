# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HAProxy for the conformance cases: a master and its workers in a folder of their own."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._drivers.haproxy import HAProxyDriver
from tests.conformance.generations import binary
from tests.conformance.harness import Balancer, PoolSpec, wait_for

HEAD = """
global
  stats socket {folder}/admin.sock mode 600 level admin
  stats socket {folder}/operator.sock mode 600 level operator
  stats socket {folder}/user.sock mode 600 level user
  nbthread 2
  hard-stop-after 30s
defaults
  timeout client 30s
  timeout server 30s
  timeout connect 1s
  timeout queue 20s
  retries 0
"""


class HAProxy(Balancer):
    kind = "haproxy"

    def __init__(self, folder: Path, version: str) -> None:
        super().__init__(folder, version)
        self.config = folder / "haproxy.cfg"
        self._process: subprocess.Popen[bytes] | None = None
        self._checked: list[str] = []

    def start(self, pools: Sequence[PoolSpec], **more: Any) -> None:
        """``more``: ``extra`` is text added to the configuration, ``check`` the members' check options, ``log`` a socket."""
        self.write(pools, **more)
        self._checked = [pool.name for pool in pools if pool.checked and pool.members]
        self.restart()

    def restart(self) -> None:
        """Start it with the configuration that is there."""
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [binary(self.kind, self.version), "-W", "-S", f"{self.folder}/master.sock", "-f", str(self.config)],
                stdout=log,
                stderr=log,
            )
        wait_for(self._answers)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "log").read_text()
        if not (self.folder / "admin.sock").exists():
            return False
        driver = self.driver()
        driver.check_rights()  # both sockets answer: a reload before that would be lost
        members = [member for pool in self._checked for member in driver.read(pool).members]
        return all(member.health.value == "up" or member.admin.value == "out" for member in members)

    def write(
        self,
        pools: Sequence[PoolSpec],
        extra: str = "",
        check: str = "inter 50ms rise 2 fall 2",
        state_file: bool = False,
        redispatch: bool = False,
        log: str = "",
        log_format: str = "",
    ) -> None:
        text = HEAD.format(folder=self.folder)
        if redispatch:
            text += "  option redispatch\n"
        if log:
            text = text.replace("\ndefaults\n", f"\n  log {log} local0\ndefaults\n  mode http\n  log global\n")
            text += f"  log-format {log_format}\n" if log_format else "  option httplog\n"
        if state_file:
            text = text.replace("\ndefaults\n", f"\n  server-state-file {self.folder}/state\ndefaults\n")
            text += "  load-server-state-from-file global\n"
        for pool in pools:
            mode = "tcp" if pool.tcp else "http"
            text += f"frontend in_{pool.name}\n  mode {mode}\n  bind 127.0.0.1:{pool.port}\n"
            if not pool.tcp:
                text += "  option idle-close-on-response\n"
            text += f"  default_backend {pool.name}\nbackend {pool.name}\n  mode {mode}\n  balance roundrobin\n"
            if pool.checked and not pool.tcp:
                text += "  option httpchk GET /health\n"
            if pool.sticky:
                text += "  cookie MEMBER insert indirect nocache\n"
            for name, port in pool.members:
                text += f"  server {name} 127.0.0.1:{port}"
                text += f" check {check}" if pool.checked else ""
                text += f" cookie {name}" if pool.sticky else ""
                text += f" maxconn {pool.max_in_flight}" if pool.max_in_flight else ""
                text += "\n"
        self.config.write_text(text + extra)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(3)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def reload(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGUSR2)

    def params(self, pool: str) -> dict[str, Any]:
        return {
            "driver": "haproxy",
            "socket": str(self.folder / "admin.sock"),
            "master_socket": str(self.folder / "master.sock"),
            "pool": pool,
        }

    def driver(self) -> HAProxyDriver:
        return HAProxyDriver(str(self.folder / "admin.sock"), str(self.folder / "master.sock"))
