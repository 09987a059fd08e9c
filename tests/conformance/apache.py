# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Apache httpd for the conformance cases: mpm_event and mod_proxy_balancer in a folder of their own."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from ansible_collections.zerodrop.rollout.plugins.module_utils._drivers.apache import ApacheDriver
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import RolloutError
from tests.conformance import generations
from tests.conformance.harness import Balancer, PoolSpec, free_port, wait_for

MODULES = (
    *("mpm_event", "authz_core", "authz_host", "proxy", "proxy_http", "proxy_balancer", "proxy_hcheck"),
    *("slotmem_shm", "lbmethod_byrequests", "lbmethod_bybusyness", "status", "headers"),
)
HEAD = """
ServerRoot {folder}
ServerName localhost
DefaultRuntimeDir {folder}
PidFile {folder}/pid
ErrorLog {folder}/log
Listen 127.0.0.1:{port}
StartServers 2
ThreadsPerChild 64
MaxKeepAliveRequests 0
KeepAliveTimeout 30
<Location /balancer-manager>
  SetHandler balancer-manager
  Require local
</Location>
<Location /server-status>
  SetHandler server-status
  Require local
</Location>
"""


class Apache(Balancer):
    kind = "apache"
    lacks: ClassVar[Mapping[str, str]] = {
        "route": "mod_proxy_balancer has no word for it; its configuration would have to be written anew",
        "tcp": "mod_proxy_balancer speaks HTTP with its members",
        "exact": "its processes count what is in flight without a lock: a count may stick above 0, and then a drain fails",
        "queue": "a request that finds no free connection waits in a thread, where nothing counts it",
        "cut": "the manager has no such command",
        "work": "the manager gives numbers, not requests",
        "check_words": "the manager says that a check failed, not how",
        "idle": "a process that leaves closes its idle connections at once, as HTTP allows",
        "apart": "the manager shows one process's memory; of the older ones server-status gives totals",
    }

    def __init__(self, folder: Path, version: str) -> None:
        super().__init__(folder, version)
        self._home = generations.folder(self.kind, version)
        self._program = generations.binary(self.kind, version)
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, pools: Sequence[PoolSpec], **more: Any) -> None:
        """``more``: ``extra`` is text added to the configuration."""
        self.write(pools, **more)
        libraries = self._home / "root" / "usr" / "lib" / "x86_64-linux-gnu"
        with (self.folder / "stderr").open("wb") as errors:
            self._process = subprocess.Popen(
                [self._program, "-f", str(self.folder / "httpd.conf"), "-D", "FOREGROUND"],
                env={**os.environ, "LD_LIBRARY_PATH": str(libraries)},
                stdout=errors,
                stderr=errors,
            )
        wait_for(lambda: self._answers(pools))

    def _answers(self, pools: Sequence[PoolSpec]) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "stderr").read_text()
        try:
            return all(member.in_service for pool in pools for member in self.driver().read(pool.name).members)
        except RolloutError:
            return False

    def write(self, pools: Sequence[PoolSpec], extra: str = "") -> None:
        text = ""
        for module in MODULES:
            text += f"LoadModule {module}_module {self._home}/root/usr/lib/apache2/modules/mod_{module}.so\n"
        text += HEAD.format(folder=self.folder, port=self._port)
        text += "".join(f"Listen 127.0.0.1:{pool.port}\n" for pool in pools)
        for pool in pools:
            # Outside of the virtual hosts: one manager then shows them all.
            text += f"<Proxy balancer://{pool.name}>\n"
            for name, port in pool.members:
                text += f"  BalancerMember http://127.0.0.1:{port} route={name} retry=1"
                text += " hcmethod=GET hcuri=/health hcinterval=100ms hcpasses=2 hcfails=2" if pool.checked else ""
                text += "\n"
            text += "  ProxySet lbmethod=byrequests\n"
            text += "  ProxySet stickysession=MEMBER\n" if pool.sticky else ""
            text += "</Proxy>\n"
        for pool in pools:
            text += f"<VirtualHost 127.0.0.1:{pool.port}>\n  ProxyPass / balancer://{pool.name}/\n"
            if pool.sticky:
                text += (
                    '  Header add Set-Cookie "MEMBER=.%{BALANCER_WORKER_ROUTE}e; path=/" env=BALANCER_ROUTE_CHANGED\n'
                )
            text += "</VirtualHost>\n"
        if os.geteuid() == 0:
            text += "User nobody\nGroup nogroup\n"
        (self.folder / "httpd.conf").write_text(text + extra)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def reload(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGUSR1)

    def params(self, pool: str) -> dict[str, Any]:
        return {"driver": "apache", "manager_url": self._url, "pool": pool}

    def driver(self) -> ApacheDriver:
        return ApacheDriver(self._url)

    @property
    def _url(self) -> str:
        return f"http://127.0.0.1:{self._port}/balancer-manager"
