"""Write HAProxy's configuration for a lab."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..description import Description
from .generation import Server

STATE_FILE = "/var/lib/haproxy/server-state"


def render(description: Description, servers: Sequence[Server]) -> Mapping[str, str]:
    """The files in /etc/haproxy."""
    parts = [
        _global(description),
        _defaults(description),
        _frontend(description),
        *(_backend(description, pool, servers) for pool in (description.pool, *description.extra_pools)),
    ]
    if description.slots:
        half = len(servers) // 2
        parts += [
            _backend(description, f"{description.pool}_blue", servers[:half]),
            _backend(description, f"{description.pool}_green", servers[half:]),
        ]
    if description.tcp:
        parts += [_tcp_frontend(description), _tcp_backend(description, servers)]
    files = {"haproxy.cfg": "\n\n".join("\n    ".join(part) for part in parts) + "\n"}
    if description.slots:
        pool = description.pool
        files[f"zerodrop/{pool}.map"] = f"live {pool}_blue\nidle {pool}_green\n"
    return files


def _global(description: Description) -> list[str]:
    lines = [
        "global",
        "log /dev/log local0",
        "chroot /var/lib/haproxy",
        "user haproxy",
        "group haproxy",
        "daemon",
        "maxconn 4000",
        "stats timeout 30s",
        "stats socket /run/haproxy/admin.sock mode 660 level admin",
        # With less than full rights, to see a refusal.
        "stats socket /run/haproxy/operator.sock mode 660 level operator",
        "stats socket /run/haproxy/user.sock mode 660 level user",
    ]
    if description.state_file:
        lines.append(f"server-state-file {STATE_FILE}")
    return lines + list(description.global_lines)


def _defaults(description: Description) -> list[str]:
    lines = [
        "defaults",
        "log global",
        "mode http",
        "timeout connect 5s",
        "timeout client 60s",
        "timeout server 60s",
        "timeout http-request 10s",
        "timeout http-keep-alive 60s",
        "timeout queue 10s",
        f"timeout check {description.check_timeout_s}s",  # a busy machine is no dead member
        "timeout tunnel 1h",
        f"retries {description.retries}",
    ]
    # The sockets' journal entries cost more than the requests; changes of state are logged.
    if not description.log_requests:
        lines.append("option dontlog-normal")
    lines.append("option redispatch" if description.redispatch else "no option redispatch")
    if description.state_file:
        lines.append("load-server-state-from-file global")
    return lines


def _frontend(description: Description) -> list[str]:
    return [
        "frontend www",
        "bind :80",
        "option httplog",
        # A reload lets idle clients finish a request and closes with its answer.
        "option idle-close-on-response",
        *(_route(description) if description.slots else ()),
        f"default_backend {description.pool}",
    ]


def _route(description: Description) -> list[str]:
    """What a flip changes, and a header that reaches the slot which is not live."""
    file = f"/etc/haproxy/zerodrop/{description.pool}.map"
    return [
        f"use_backend %[str(idle),map({file})] if {{ req.hdr(X-Preview) -m str s3cret }}",
        f"use_backend %[str(live),map({file})]",
    ]


def _backend(description: Description, pool: str, servers: Sequence[Server]) -> list[str]:
    lines = [f"backend {pool}", "balance roundrobin"]
    if description.check:
        lines.append("option httpchk GET /health")
    if description.sticky == "cookie":
        lines.append("cookie SRV insert indirect nocache")
    lines += description.pool_lines
    for server in servers:
        cookie = f" cookie {server.name}" if description.sticky == "cookie" else ""
        lines.append(_server(description, server) + cookie)
    return lines


def _tcp_frontend(description: Description) -> list[str]:
    return [
        "frontend raw",
        "bind :81",
        "mode tcp",
        "option tcplog",
        f"default_backend {description.pool}_tcp",
    ]


def _tcp_backend(description: Description, servers: Sequence[Server]) -> list[str]:
    lines = [f"backend {description.pool}_tcp", "mode tcp", "balance roundrobin"]
    if description.check:
        lines.append("option httpchk GET /health")
    return lines + [_server(description, server) for server in servers]


def _server(description: Description, server: Server) -> str:
    words = [f"server {server.name} {server.address}:{server.port}"]
    if description.check:
        words.append(
            f"check inter {description.check_inter_ms}ms fall {description.check_fall} rise {description.check_rise}"
        )
    words.append(f"weight {description.weight}")
    if description.member_maxconn:
        words.append(f"maxconn {description.member_maxconn}")
    if description.server_options:
        words.append(description.server_options)
    return " ".join(words)
