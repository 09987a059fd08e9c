"""Ask a HAProxy of the lab over its runtime socket, from outside its host."""

from __future__ import annotations

import csv
import io
import re
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from ..description import Description
from .generation import Server

SOCKETS = {
    "admin": "run/haproxy/admin.sock",
    "operator": "run/haproxy/operator.sock",
    "user": "run/haproxy/user.sock",
    "master": "run/haproxy-master.sock",
}
_HELD_OUT = re.compile(r" disabled # zerodrop\.rollout.*$", re.MULTILINE)  # what a run that was killed left in the file


def ask(root: Path, command: str, level: str = "admin", timeout: float = 5.0) -> str:
    """Send one line to a socket of the HAProxy that lives under `root`; the whole answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        connection.connect(str(root / SOCKETS[level]))
        connection.sendall(command.encode() + b"\n")
        if level == "master":  # it waits for more, where a worker closes after one line
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    return answer.decode(errors="replace")


def statuses(stat: str, pool: str) -> dict[str, str]:
    """Each server's status in `pool`, out of the answer to `show stat`."""
    rows = [line.split(",") for line in stat.splitlines() if line]
    if not rows:
        return {}
    status = rows[0].index("status")
    found = {row[1]: row[status] for row in rows[1:] if row[0] == pool}
    return {name: s for name, s in found.items() if name not in ("FRONTEND", "BACKEND")}


def ready(root: Path, description: Description, servers: Sequence[Server]) -> bool:
    """Is every member up, by a check that has really run?"""
    try:
        stat = ask(root, "show stat", "user")
    except OSError:
        return False
    wanted = {"UP"} if description.check else {"no check"}
    return all(
        found.keys() == {server.name for server in servers} and set(found.values()) <= wanted
        for found in (statuses(stat, pool) for pool in description.pools)
    )


def states(root: Path, description: Description, _servers: Sequence[Server]) -> dict[str, str]:
    """Each member's status and weight, as clients feel them."""
    rows = csv.DictReader(io.StringIO(ask(root, "show stat", "user").removeprefix("# ")))
    return {
        row["svname"]: f"{row['status'].split(' ')[0]} {row['weight']}"
        for row in rows
        if row["pxname"] == description.pool and row["svname"] not in ("FRONTEND", "BACKEND")
    }


def restore(
    root: Path, description: Description, servers: Sequence[Server], _run: Callable[[Sequence[str]], object]
) -> None:
    """Let every member serve, at the weight of the configuration."""
    for server in servers:
        for change in ("state ready", "health up", f"weight {description.weight}"):
            ask(root, f"set server {description.pool}/{server.name} {change}")
    config = root / "etc/haproxy/haproxy.cfg"
    text = config.read_text(encoding="utf-8")
    as_it_was = _HELD_OUT.sub("", text)
    if as_it_was != text:
        config.write_text(as_it_was, encoding="utf-8")
