# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""nginx for the conformance cases, prepared so that members are switched by links without a reload."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils import _nginx_links
from ansible_collections.zerodrop.rollout.plugins.module_utils._drivers.base import Clock
from ansible_collections.zerodrop.rollout.plugins.module_utils._drivers.nginx_links import NginxLinksDriver
from ansible_collections.zerodrop.rollout.plugins.module_utils._nginx.upstreams import Server
from tests.conformance.harness import PoolSpec
from tests.conformance.nginx import NAMES, Nginx, _drivers


class NamedLinks(NginxLinksDriver):
    """The cases give members names; nginx knows only addresses."""

    kind = "nginx-links-named"

    def member_name(self, server: Server) -> str:
        return NAMES.get(server.port or 0, server.address)


class NginxByLinks(Nginx):
    kind = "nginx-links"
    lacks: Mapping[str, str] = {  # type: ignore[misc]
        "route": "links are of one pool; a route is tried in front of pools without them",
        **{name: Nginx.lacks[name] for name in ("checks", "counters", "queue", "tcp", "check_words")},
        "cut": "by links no worker ends, and nginx cannot end one member's connections",
    }

    def __init__(self, folder: Path, version: str) -> None:
        super().__init__(folder, version)
        _drivers()[NamedLinks.kind] = NamedLinks.from_params

    def start(self, pools: Sequence[PoolSpec], **more: Any) -> None:
        super().start(pools, **more)
        for pool in pools:
            self.prepare(pool.name)

    def prepare(self, pool: str, check: bool = False, **more: Any) -> dict[str, Any]:
        params = {
            **self.params(pool),
            "http_file": str(self.folder / "conf.d" / f"zerodrop-{pool}.conf"),
            "location_file": str(self.folder / "zerodrop" / f"{pool}.conf"),
            **more,
        }
        return _nginx_links.nginx_links(params, check)

    def location(self, pool: str) -> str:
        # A pattern: the file is not there before the pool is prepared.
        return f"include {self.folder}/zerodrop/{pool}.con[f];"

    def stop(self) -> None:
        _drivers().pop(NamedLinks.kind, None)
        super().stop()

    def restart(self) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait()
        self.run()

    def params(self, pool: str) -> dict[str, Any]:
        return {**super().params(pool), "driver": NamedLinks.kind, "nginx_links_root": str(self.folder / "links")}

    def driver(self) -> NamedLinks:
        return NamedLinks.from_params(self.params("shop"), Clock())  # type: ignore[return-value]
