"""Write nginx's configuration for a lab, and see that it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from ..description import Description
from ..errors import LabError
from . import nginx_links
from .generation import Server

PACKAGES = ("nginx", "libnginx-mod-stream")

Version = tuple[int, ...]


def renderer(version: str) -> Callable[[Description, Sequence[Server]], Mapping[str, str]]:
    """What writes the files in /etc/nginx for this version."""
    return partial(_render, tuple(int(part) for part in version.split(".")))


def ready(root: Path, _description: Description, _servers: Sequence[Server]) -> bool:
    """Has it loaded its configuration? It writes its process number once it listens; members it does not check."""
    try:
        return (root / "run/nginx.pid").read_text(encoding="ascii").strip().isdigit()
    except OSError:
        return False


def restorer(version: str) -> Callable[[Path, Description, Sequence[Server], Callable[[Sequence[str]], object]], None]:
    """What writes the files of this version again, where they differ, and has nginx read them."""
    render = renderer(version)

    def restore(
        root: Path, description: Description, servers: Sequence[Server], run: Callable[[Sequence[str]], object]
    ) -> None:
        changed = False
        for name, text in render(description, servers).items():
            path = root / "etc/nginx" / name
            if path.read_text(encoding="utf-8") != text:
                path.write_text(text, encoding="utf-8")
                changed = True
        if changed:
            run(["systemctl", "reload", "nginx.service"])
        if description.nginx_links:
            nginx_links.restore(root, description)

    return restore


def states(root: Path, description: Description, servers: Sequence[Server]) -> dict[str, str]:
    """Each member's state and weight, as the file has them; a reload follows a change of it within 0.2 s."""
    if description.nginx_links:
        return nginx_links.states(root, description, servers)
    text = (root / "etc/nginx/conf.d" / f"upstream-{description.pool}.conf").read_text(encoding="utf-8")
    found = {}
    for line in text.splitlines():
        words = line.strip().rstrip(";").split()
        name = next((each.name for each in servers if words[:2] == ["server", f"{each.address}:{each.port}"]), None)
        if name is None:
            continue
        weight = next((word.partition("=")[2] for word in words if word.startswith("weight=")), "1")
        state = "MAINT" if "down" in words else "DRAIN" if "drain" in words else "UP"
        found[name] = f"{state} {weight}"
    return found


def _render(version: Version, description: Description, servers: Sequence[Server]) -> Mapping[str, str]:
    files = {
        "nginx.conf": _main(version, description),
        f"conf.d/{description.pool}.conf": _site(description),
    }
    for pool in (description.pool, *description.extra_pools):
        files[f"conf.d/upstream-{pool}.conf"] = _upstream(version, description, pool, servers)
    if description.slots:
        half = len(servers) // 2
        for slot, own in (("blue", servers[:half]), ("green", servers[half:])):
            name = f"{description.pool}_{slot}"
            files[f"conf.d/upstream-{name}.conf"] = _upstream(version, description, name, own)
    if description.tcp:
        files["stream.conf"] = _stream(description, servers)
    return files


def _block(head: str, lines: Sequence[str]) -> str:
    return f"{head} {{\n" + "".join(f"    {line}\n" for line in lines) + "}\n"


def _main(version: Version, description: Description) -> str:
    lines = [
        "user www-data;",
        "worker_processes 2;",
        "pid /run/nginx.pid;",
        # A busy machine lets requests pile up, and 1024 open files would end in answers of 500.
        "worker_rlimit_nofile 16384;",
        "error_log /var/log/nginx/error.log notice;",
        *description.global_lines,
    ]
    http = [
        "log_format lab '$remote_addr [$time_iso8601] \"$request\" $status $body_bytes_sent $request_time '",
        "    'to $upstream_addr $upstream_status $upstream_response_time';",
        # Everything, or what went wrong.
        f"map $status $logged {{ default 1; ~^[123] {description.log_requests:d}; }}",
        "access_log /var/log/nginx/access.log lab if=$logged;",
        # As an upgrade asks for it; empty otherwise, so that connections to members can be kept.
        "map $http_upgrade $connection_upgrade { default upgrade; '' ''; }",
        "keepalive_timeout 60s;",
        "keepalive_requests 100000;",
    ]
    if description.keepalive_min_timeout:
        if version < (1, 28):
            raise LabError("keepalive_min_timeout needs nginx 1.27.4 or newer")
        http.append(f"keepalive_min_timeout {description.keepalive_min_timeout};")
    http.append("include /etc/nginx/conf.d/*.conf;")
    # The stream module is loaded only where it is wanted: a lab should look like most machines.
    stream = "include /etc/nginx/stream.conf;\n" if description.tcp else ""
    load = "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n" if description.tcp else ""
    events = _block("events", ["worker_connections 4096;"])
    return load + "\n".join(lines) + "\n" + events + _block("http", http) + stream


def _site(description: Description) -> str:
    tries = description.retries + 1
    passed_on = "error timeout" if description.retries or description.redispatch else "off"
    proxy = [
        _passed(description),
        "proxy_http_version 1.1;",
        "proxy_set_header Host $host;",
        "proxy_set_header Upgrade $http_upgrade;",
        "proxy_set_header Connection $connection_upgrade;",
        "proxy_connect_timeout 5s;",
        "proxy_send_timeout 60s;",
        "proxy_read_timeout 1h;",
        "proxy_buffering off;",
        "proxy_request_buffering off;",
        # Nothing may hide a lost request.
        f"proxy_next_upstream {passed_on};",
        f"proxy_next_upstream_tries {0 if description.redispatch else tries};",
    ]
    location = [f"    {line}" for line in proxy]
    return _block("server", ["listen 80 default_server;", "location / {", *location, "}"])


def _passed(description: Description) -> str:
    """How a location passes requests. Patterns, as the files are there only once they are prepared."""
    if description.slots:
        return f"include /etc/nginx/zerodrop/{description.pool}.rout[e];"
    return nginx_links.location(description) if description.nginx_links else f"proxy_pass http://{description.pool};"


def _upstream(version: Version, description: Description, pool: str, servers: Sequence[Server]) -> str:
    lines = [f"zone {pool} 256k;"]
    if description.sticky == "cookie":
        if version < (1, 29, 6):
            raise LabError("cookies that keep a client on its member need nginx 1.29.6 or newer")
        lines.append("sticky cookie SRV path=/;")
    lines += description.pool_lines
    lines += [_server(description, server) for server in servers] or ["server 127.0.0.1:9 down;"]
    if description.upstream_keepalive is not None:
        lines.append(f"keepalive {description.upstream_keepalive};")
    return _block(f"upstream {pool}", lines)


def _server(description: Description, server: Server) -> str:
    # Without a check of its own it must not judge members by single failures either.
    words = [f"server {server.address}:{server.port}", f"weight={description.weight}", "max_fails=0"]
    if description.member_maxconn:
        words.append(f"max_conns={description.member_maxconn}")
    if description.server_options:
        words.append(description.server_options)
    return " ".join(words) + ";"


def _stream(description: Description, servers: Sequence[Server]) -> str:
    name = f"{description.pool}_tcp"
    lines = [f"upstream {name} {{", f"    zone {name} 256k;"]
    lines += [f"    {_server(description, server)}" for server in servers] or ["    server 127.0.0.1:9 down;"]
    lines += ["}", "server {", "    listen 81;", f"    proxy_pass {name};", "    proxy_timeout 1h;", "}"]
    return _block("stream", lines)
