# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Prepare a pool of nginx for links: two generated files, a table, one reload. What cannot be finished is undone."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils import _names, _params
from ansible_collections.zerodrop.rollout.plugins.module_utils._drivers.base import Clock
from ansible_collections.zerodrop.rollout.plugins.module_utils._drivers.nginx_links import NginxLinksDriver, table_of
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    InvalidConfiguration,
    PermissionDenied,
    Refused,
    RolloutError,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._files import replace
from ansible_collections.zerodrop.rollout.plugins.module_utils._nginx import links
from ansible_collections.zerodrop.rollout.plugins.module_utils._nginx.links import Wishes
from ansible_collections.zerodrop.rollout.plugins.module_utils._nginx.table import Table, Weights
from ansible_collections.zerodrop.rollout.plugins.module_utils._nginx.upstreams import HTTP, Upstream

HTTP_FOLDER = "/etc/nginx/conf.d"
LOCATION_FOLDER = "/etc/nginx/zerodrop"


def nginx_links(params: Mapping[str, Any], check: bool, *, clock: Clock | None = None) -> dict[str, Any]:
    """Write what the pool needs to be switched by links; ``changed`` only where something was not there."""
    pool = _names.pool_name(params.get("pool"), "pool")
    wishes = Wishes.checked(
        _params.text(params, "key") or "",
        _params.text(params, "scheme") or "http",
        _params.text(params, "keepalive_timeout") or "20ms",
    )
    links.names_of(pool)
    paths = [
        _path(params, "http_file", f"{HTTP_FOLDER}/zerodrop-{pool}.conf"),
        _path(params, "location_file", f"{LOCATION_FOLDER}/{pool}.conf"),
    ]
    preparation = _Preparation(params, pool, paths, clock or Clock())
    return preparation.run(wishes, check)


def _path(params: Mapping[str, Any], key: str, default: str) -> str:
    return _names.absolute_path(params[key], key) if _params.given(params, key) else default


class _Preparation(NginxLinksDriver):
    """One preparation; it works on nginx as the driver does."""

    def __init__(self, params: Mapping[str, Any], pool: str, paths: list[str], clock: Clock) -> None:
        like = NginxLinksDriver.from_params({**params, "nginx_mode": "auto"}, clock)
        self.__dict__.update(like.__dict__)
        self._paths = paths
        self._pool = pool

    def run(self, wishes: Wishes, check: bool) -> dict[str, Any]:
        source = self._configuration(self._processes()).upstream(self._pool, HTTP)
        literal = {server.address: self.literal(server) for server in source.servers}
        generated = links.generate(source, literal, self._root, wishes, self._program.build().version)
        table = Table(self._root, self._pool, {literal[one.address]: one.weight for one in source.servers})
        weights = self._weights(source, literal, table)
        texts = dict(zip(self._paths, (generated.http, generated.location)))
        before = {path: _read(path) for path in texts}
        stale = {path: text for path, text in texts.items() if before[path] != text}
        to_deal = not table.exists() or not table.holds(weights, generated.even)
        if (stale or to_deal) and not check:
            self._make(table, weights, generated.even, to_deal, stale, before)
        return {
            "changed": bool(stale or to_deal),
            "files": self._paths,
            "table": generated.folder,
            "members": {server.address: _plain(weights[literal[server.address]]) for server in source.servers},
            "diff": [
                {"before_header": path, "after_header": path, "before": before[path] or "", "after": text}
                for path, text in texts.items()
                if path in stale
            ],
        }

    def _weights(self, source: Upstream, literal: Mapping[str, str], table: Table) -> dict[str, Weights]:
        """What each server is to have: what it has by the table that is in use, else what the upstream says."""
        old = self._generated(self._pool)
        in_use = table if old is None else table_of(self._root, self._pool, old)
        known = in_use.read() if in_use.exists() else {}
        found = {}
        for server in source.servers:
            row = known.get(literal[server.address])
            if row is None:
                found[literal[server.address]] = Weights(server.weight, server.weight, not server.down)
            else:
                # One that was changed at run time stays so; one that was not follows the upstream.
                now = server.weight if row.now == row.home else row.now
                found[literal[server.address]] = Weights(server.weight, now, row.serves)
        if not any(row.serves for row in found.values()):
            raise Refused(f"No server of the upstream {self._pool!r} is in service.")
        return found

    def _make(
        self,
        table: Table,
        weights: Mapping[str, Weights],
        even: bool,
        to_deal: bool,
        stale: Mapping[str, str],
        before: Mapping[str, str | None],
    ) -> None:
        self._test("It was so before; nothing was touched.")
        if to_deal:
            os.makedirs(table.folder, mode=0o755, exist_ok=True)
            with table.lock():
                table.write(weights, even)
        if not stale:
            return
        asked = None
        times = {path: os.stat(path) for path, text in before.items() if text is not None}
        try:
            self._write(stale)
            self._load()
            if self._written() is None:
                raise InvalidConfiguration(
                    f"nginx does not include {self._paths[0]}. The files are as they were again.",
                    "Say which file nginx includes in its http block (nginx_links_http_file).",
                )
            self._test("The files are as they were again.")
            asked = self._reload()
            self._settle(asked)
        except RolloutError:
            self._restore_files(before, times)
            if asked is not None:
                os.kill(asked.master.pid, signal.SIGHUP)
            raise

    def _restore_files(self, before: Mapping[str, str | None], times: Mapping[str, os.stat_result]) -> None:
        """Their times too: a file must not look newer than the workers that run it."""
        self._write(before)
        for path, found in times.items():
            os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))

    def _written(self) -> Upstream | None:
        name = links.names_of(self._pool).upstream
        return next((one for one in (self._loaded or self._load()).upstreams if one.name == name), None)

    def _write(self, texts: Mapping[str, str | None]) -> None:
        for path, text in texts.items():
            try:
                if text is None:
                    if os.path.lexists(path):
                        os.unlink(path)
                    continue
                os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
                replace(path, text.encode(), 0o644)
            except OSError as error:
                raise PermissionDenied(
                    f"{path} cannot be written: {error.strerror}.", "Become root on the balancer."
                ) from None


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PermissionDenied(f"{path} cannot be read: {error.strerror}.", "Become root on the balancer.") from None


def _plain(row: Weights) -> dict[str, Any]:
    return {"weight": row.now, "admin": "ready" if row.serves else "out"}
