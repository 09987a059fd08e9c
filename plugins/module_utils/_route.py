# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""A route: which of two pools gets the traffic of a service, and which one a preview reaches.

What a balancer's configuration needs for it, as text. No input or output.

* HAProxy reads a map at run time; its file is what a reload finds.
* nginx looks for a flag on the disk with each request, or reads an included file at a reload.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils import _names, _params
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput

BLUE, GREEN = "blue", "green"
SLOTS = (BLUE, GREEN)
LIVE, IDLE = "live", "idle"  # the keys of HAProxy's map
FLAGS, RELOAD = "flags", "reload"  # how nginx is told
FOLDERS: Mapping[str, str] = {"haproxy": "/etc/haproxy/zerodrop", "nginx": "/etc/nginx/zerodrop"}
FLAG_ROOT = "/var/lib/zerodrop/nginx/routes"

_OURS = "# Written by zerodrop.rollout: which pool gets the requests. A flip changes it; do not edit."
_PREVIEW = re.compile(
    r"(?:(?P<kind>header|cookie):(?P<name>[A-Za-z][A-Za-z0-9_-]{0,63})=(?P<value>[A-Za-z0-9][A-Za-z0-9._-]{0,127})"
    r"|host:(?P<host>[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?)|port:(?P<port>[0-9]{1,5}))\Z"
)
_PATH = re.compile(r"/[A-Za-z0-9_./-]{1,200}\Z")  # as it stands in a configuration and on a runtime socket
_ENTRY = re.compile(r"^\s*([^\s#]\S*)\s+(\S+)\s*$")


@dataclass(frozen=True)
class Preview:
    """What sets the requests apart that reach the idle pool."""

    kind: str  # header, cookie, host or port; empty for none
    name: str = ""
    value: str = ""

    @classmethod
    def parse(cls, value: str, what: str) -> Preview:
        """Such as ``header:X-Preview=secret``, ``cookie:preview=secret``, ``host:preview.example.com``, ``port:8081``."""
        if not value:
            return cls("")
        found = _PREVIEW.match(value)
        if found is None or (found["port"] and not 0 < int(found["port"]) < 65536):
            raise BadInput(
                f"{what} {value!r} is not a preview.",
                "It is header:NAME=VALUE, cookie:NAME=VALUE, host:NAME or port:NUMBER; names and values have letters, "
                "digits and . _ -.",
            )
        if found["kind"]:
            if found["kind"] == "cookie" and "-" in found["name"]:
                raise BadInput(f"{what} {value!r}: nginx cannot read a cookie with - in its name.", "Use _ instead.")
            return cls(found["kind"], found["name"], found["value"])
        return cls("host", "", found["host"]) if found["host"] else cls("port", "", found["port"])

    @property
    def haproxy(self) -> str:
        """As a condition of HAProxy's."""
        return {
            "header": f"req.hdr({self.name}) -m str {self.value}",
            "cookie": f"req.cook({self.name}) -m str {self.value}",
            "host": f"req.hdr(host),field(1,:) -m str -i {self.value}",
            "port": f"dst_port {self.value}",
        }[self.kind]

    @property
    def nginx(self) -> str:
        """As a condition of nginx's."""
        variable = {
            "header": "$http_" + self.name.lower().replace("-", "_"),
            "cookie": f"$cookie_{self.name}",
            "host": "$host",
            "port": "$server_port",
        }[self.kind]
        return f'{variable} = "{self.value}"'


@dataclass(frozen=True)
class Slots:
    """A route with its two pools, as every operation on it knows it."""

    name: str  # of the service
    pools: Mapping[str, str]  # by slot
    file: str  # HAProxy's map, or what nginx includes
    preview: Preview
    flag_root: str = FLAG_ROOT

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Slots:
        """Raises ``BadInput``."""
        name = _names.service(params.get("service"), "service")
        pools = {slot: _names.pool_name(params.get(f"{slot}_pool"), f"{slot}_pool") for slot in SLOTS}
        if pools[BLUE] == pools[GREEN]:
            raise BadInput(f"Both slots have the pool {pools[BLUE]!r}.", "Give each slot a pool of its own.")
        kind = str(params.get("driver") or "haproxy")
        ending = "map" if kind == "haproxy" else "route"
        file = _params.text(params, "route_file") or f"{FOLDERS.get(kind, FOLDERS['nginx'])}/{name}.{ending}"
        root = _params.text(params, "route_flags") or FLAG_ROOT
        for path, what in ((file, "route_file"), (root, "route_flags")):
            _names.absolute_path(path, what)
            if not _PATH.match(path):
                raise BadInput(f"{what} {path!r} may have letters, digits and _ . - only.")
        return cls(name, pools, file, Preview.parse(_params.text(params, "preview") or "", "preview"), root)

    def slot_of(self, pool: str) -> str:
        """The slot with this pool; empty for another one."""
        return next((slot for slot, own in self.pools.items() if own == pool), "")

    def other(self, pool: str) -> str:
        return self.pools[GREEN if pool == self.pools[BLUE] else BLUE]

    @property
    def folder(self) -> str:
        """Where nginx's flags stand: one file, called like the pool that is live."""
        return f"{self.flag_root}/{self.name}"

    # -- HAProxy --

    def map_text(self, live: str) -> str:
        return f"{_OURS}\n{LIVE} {live}\n{IDLE} {self.other(live)}\n"

    @property
    def haproxy_lines(self) -> tuple[str, ...]:
        """What the frontend needs, in this order and before any default_backend."""
        lines = [f"use_backend %[str({LIVE}),map({self.file})]"]
        if self.preview.kind:
            lines.insert(0, f"use_backend %[str({IDLE}),map({self.file})] if {{ {self.preview.haproxy} }}")
        return tuple(lines)

    # -- nginx --

    @property
    def _variable(self) -> str:
        return "$zerodrop_route_" + re.sub(r"[^a-z0-9]", "_", self.name.lower())

    def nginx_text(self, mode: str, live: str) -> str:
        """What a location includes instead of its ``proxy_pass``; with flags it does not depend on what is live."""
        pool, idle = self._variable, self._variable + "_idle"
        first = self.pools[BLUE] if mode == FLAGS else live
        lines = [_OURS, f"set {pool} {first};", f"set {idle} {self.other(first)};"]
        if mode == FLAGS:
            # One test alone decides, so that no request falls between two.
            flag = f"{self.folder}/{self.pools[GREEN]}"
            lines.append(f"if (-f {flag}) {{ set {pool} {self.pools[GREEN]}; set {idle} {self.pools[BLUE]}; }}")
        if self.preview.kind:
            lines.append(f"if ({self.preview.nginx}) {{ set {pool} {idle}; }}")
        return "\n".join([*lines, f"proxy_pass http://{pool};"]) + "\n"

    @property
    def nginx_lines(self) -> tuple[str, ...]:
        return (f"include {self.file};",)


def entries(text: str) -> dict[str, str]:
    """The entries of a map's file; the first of a key counts, as for HAProxy."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        entry = _ENTRY.match(line)
        if entry:
            found.setdefault(entry[1], entry[2])
    return found


@dataclass(frozen=True)
class Route:
    """Where new requests go on one balancer: now, and after its next start."""

    live: str  # pool; empty where the processes that serve do not agree, or none is known
    kept: str  # pool that the disk says

    @property
    def agrees(self) -> bool:
        return self.live == self.kept != ""
