"""Reach into a host from outside."""

from __future__ import annotations

from pathlib import Path

from . import podman
from .errors import LabError
from .hosts import Host


def pid_of(host: Host) -> int | None:
    """The process that is init in the host, None when the host is down."""
    done = podman.call("inspect", "--format", "{{.State.Pid}}", host.container, check=False)
    if done.returncode:
        raise LabError(f"{host.name} is gone: {done.stderr.strip()}")
    return int(done.stdout) or None


def root_of(host: Host) -> Path | None:
    """The host's file system as it is seen from here, its sockets included."""
    pid = pid_of(host)
    return Path(f"/proc/{pid}/root") if pid else None
