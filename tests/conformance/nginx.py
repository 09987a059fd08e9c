# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""nginx for the conformance cases: a master and its workers in a folder of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils import _pool_operations
from ansible_collections.zerodrop.rollout.plugins.module_utils._drivers.base import Clock
from ansible_collections.zerodrop.rollout.plugins.module_utils._drivers.nginx import NginxDriver
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import RolloutError
from ansible_collections.zerodrop.rollout.plugins.module_utils._nginx.upstreams import Server
from tests.conformance import generations
from tests.conformance.harness import Balancer, PoolSpec, wait_for

HEAD = """
{user}
daemon off;
worker_processes {workers};
pid {folder}/nginx.pid;
error_log {folder}/error.log notice;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000;
  keepalive_timeout 300s;
  {keepalive}
  proxy_next_upstream {next_upstream};
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  include {folder}/conf.d/*.conf;
}}
"""
NAMES: dict[int, str] = {}  # of the members, by port


class Named(NginxDriver):
    """The cases give members names; nginx knows only addresses."""

    kind = "nginx-named"

    def member_name(self, server: Server) -> str:
        return NAMES.get(server.port or 0, server.address)


class Nginx(Balancer):
    kind = "nginx"
    lacks: Mapping[str, str] = {  # type: ignore[misc]
        "checks": "open source nginx has no health checks of its own",
        "counters": "open source nginx counts no requests by member",
        "queue": "open source nginx has no queue; max_conns answers 502",
        "tcp": "the stream module is not in every build",
        "check_words": "open source nginx has no health checks of its own",
        "cut": "nginx cannot end one member's connections; a leaving worker ends with all that it has",
        "foreign_reload": "what was changed stands in the configuration, and a reload brings it with it",
    }

    def __init__(self, folder: Path, version: str) -> None:
        super().__init__(folder, version)
        self.config = folder / "nginx.conf"
        if tuple(map(int, version.split("."))) < (1, 27):
            self.lacks = {**self.lacks, "idle": "before 1.27.4 a reload closes the connections of idle clients"}
        self.binary = generations.binary(self.kind, version)
        self._process: subprocess.Popen[bytes] | None = None
        _drivers()[Named.kind] = Named.from_params

    def start(self, pools: Sequence[PoolSpec], **more: Any) -> None:
        """``more``: ``extra`` is text in an upstream, ``next_upstream`` and ``keepalive`` stand in http."""
        self.write(pools, **more)
        self.run()

    def run(self) -> None:
        with (self.folder / "stderr").open("wb") as errors:
            self._process = subprocess.Popen(
                [self.binary, "-c", str(self.config), "-e", str(self.folder / "error.log")],
                stdout=errors,
                stderr=errors,
            )
        wait_for(self._serves)
        # Reloads are a tenth of a second apart, but the first may follow the start at once: no driver could tell the
        # two generations apart by their age then.
        time.sleep(0.1)

    def _serves(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "error.log").read_text()
        try:
            return bool(self.driver().identity())
        except RolloutError:
            return False

    def write(
        self,
        pools: Sequence[PoolSpec],
        extra: str = "",
        next_upstream: str = "off",
        keepalive: str | None = None,
        workers: int = 1,
        log: str = "",
        log_format: str = "",
    ) -> None:
        if keepalive is None:
            keepalive = "keepalive_min_timeout 2s;" if "idle" not in self.lacks else ""
        user = "user root;" if os.geteuid() == 0 else ""
        self.config.write_text(
            HEAD.format(
                folder=self.folder, user=user, keepalive=keepalive, next_upstream=next_upstream, workers=workers
            )
        )
        (self.folder / "conf.d").mkdir(exist_ok=True)
        if log:
            (self.folder / "conf.d" / "log.conf").write_text(f"log_format rollout '{log_format}';\n")
        for pool in pools:
            text = f"# {pool.name}\nupstream {pool.name} {{\n"
            for name, port in pool.members:
                NAMES[port] = name
                text += f"    server 127.0.0.1:{port}  max_fails=0;   # {name}\n"
            text += f"  {extra}\n}}\nserver {{\n  listen 127.0.0.1:{pool.port};\n"
            text += f"  access_log {log} rollout;\n" if log else ""
            text += f"  location / {{ {self.location(pool.name)} }}\n}}\n"
            (self.folder / "conf.d" / f"{pool.name}.conf").write_text(text)

    def location(self, pool: str) -> str:
        """How a location passes requests to this pool."""
        return f"proxy_pass http://{pool};"

    def stop(self) -> None:
        _drivers().pop(Named.kind, None)
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def reload(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def params(self, pool: str) -> dict[str, Any]:
        return {
            "driver": Named.kind,
            "nginx_config": str(self.config),
            "nginx_binary": self.binary,
            "pool": pool,
        }

    def driver(self) -> NginxDriver:
        return Named.from_params(self.params(""), Clock())


def _drivers() -> dict[str, Any]:
    """The registry, in which the cases' own driver stands while a case runs."""
    assert isinstance(_pool_operations.DRIVERS, dict)
    return _pool_operations.DRIVERS
