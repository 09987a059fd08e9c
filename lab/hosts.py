"""One host of a lab."""

from __future__ import annotations

from dataclasses import dataclass

MEMBER = "member"
BALANCER = "balancer"
DATABASE = "database"


@dataclass(frozen=True)
class Host:
    """A container with systemd, sshd and its own address."""

    name: str  # web1, lb1
    role: str  # member, balancer or database
    address: str
    container: str  # Podman's name for it
    container_id: str = ""
