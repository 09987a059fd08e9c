"""Wait until a lab can be used."""

from __future__ import annotations

import time
from collections.abc import Callable

from . import podman
from .balancers import Server
from .errors import LabError
from .hosts import Host
from .model import Lab
from .namespaces import root_of
from .probes import http_status, port_open, ssh_answers

PORT = 8080


def wait(lab: Lab, timeout: float) -> None:
    """Return when every host lets SSH in and every balancer sees every member healthy."""
    servers = [Server(host.name, host.address) for host in lab.members]

    roots = {host.name: root_of(host) for host in lab.balancers}

    def balances(host: Host) -> bool:
        root = roots[host.name]
        return (
            root is not None
            and lab.generation(host).ready(root, lab.description, servers)
            and (not servers or http_status(host.address, 80, "/") is not None)
        )

    waiting: dict[str, tuple[Host, Callable[[Host], bool]]] = {}
    for host in lab.hosts:
        waiting[f"sshd on {host.name}"] = (host, lambda host: ssh_answers(host.address))
    for host in lab.members:
        waiting[f"the service on {host.name}"] = (
            host,
            lambda host: http_status(host.address, PORT, "/health") == 200,
        )
    for host in lab.databases:
        waiting[f"PostgreSQL on {host.name}"] = (host, lambda host: port_open(host.address, 5432))
    for host in lab.balancers:
        waiting[f"healthy members behind {host.name}"] = (host, balances)
    deadline = time.monotonic() + timeout
    while waiting:
        waiting = {what: (host, ok) for what, (host, ok) in waiting.items() if not ok(host)}
        if waiting and time.monotonic() > deadline:
            what, (host, _unused) = next(iter(waiting.items()))
            others = f" (and {len(waiting) - 1} more)" if len(waiting) > 1 else ""
            raise LabError(f"no {what} within {timeout:.0f} s{others}{_journal(host)}")
        if waiting:
            time.sleep(0.05)


def _journal(host: Host) -> str:
    """What the host itself says about it."""
    command = ["exec", host.container, "journalctl", "--no-pager", "-n", "30"]
    try:
        return "\n" + podman.call(*command, check=False, timeout=10).stdout
    except LabError:
        return ""
