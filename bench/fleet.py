"""A fleet to measure on: a fresh lab with two releases staged, and its state made the same before every run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

import lab
from ansible_collections.zerodrop.rollout.plugins.module_utils._operations import operation
from lab.balancers import Server
from lab.namespaces import root_of
from lab.probes import http_status

from .scenario import Scenario
from .watch import eyes, look
from .ways.base import PORT, UNIT

# A run goes to the one or to the other, whichever the fleet has not.
VERSIONS = ("2.0", "3.0")
# Of the same Debian as the HAProxy.
NGINX = "1.22"


class NotRestored(Exception):
    """The fleet could not be brought back to a known state."""


def description(scenario: Scenario) -> lab.Description:
    """The balancers' configuration is one for all ways: checks every 100 ms, nothing repeated."""
    return lab.Description(
        prefix="bench",
        nginx=NGINX if scenario.nginx else None,
        members=scenario.members,
        balancers=scenario.balancers,
        check_inter_ms=100,
        check_rise=2,
        check_fall=2,
        # The interval would be the checks' limit too, and a busy machine does not always answer in 100 ms.
        pool_lines=() if scenario.nginx else ("timeout check 2s",),
    )


def stage(up: lab.Lab) -> dict[str, lab.Release]:
    """Both releases unpacked on every member, as our own staging leaves them; no way has to bring them."""
    releases = {version: up.release(version) for version in VERSIONS}
    unpack = operation("release_stage")
    for host in up.members:
        for release in releases.values():
            unpack(
                {
                    "base": str(up.files(host) / "shop"),
                    "version": release.version,
                    "source": str(release.path),
                    "checksum": f"sha256:{release.sha256}",
                },
                False,
            )
    return releases


def versions(up: lab.Lab) -> dict[str, str]:
    """The release that each member's link names."""
    return {host.name: (up.files(host) / "shop" / "current").readlink().name for host in up.members}


def in_service(up: lab.Lab, seconds: float) -> Sequence[str]:
    """Wait until all are; the members that are not after it."""
    balancers = eyes(up)
    deadline = time.monotonic() + seconds
    while True:
        out = look(balancers).out
        if not out or time.monotonic() > deadline:
            return sorted(out)
        time.sleep(0.1)


def restore(up: lab.Lab, version: str) -> None:
    """After a run that left members out or on two versions: all on one, healthy and in service."""
    for host in up.members:
        link = up.files(host) / "shop" / ".restored"
        link.unlink(missing_ok=True)
        link.symlink_to(f"releases/{version}")
        link.replace(up.files(host) / "shop" / "current")
        up.exec(host, ["systemctl", "restart", UNIT])
    deadline = time.monotonic() + 20
    while any(http_status(host.address, PORT, "/health") != 200 for host in up.members):
        if time.monotonic() > deadline:
            raise NotRestored("a member does not get healthy")
        time.sleep(0.1)
    servers = [Server(host.name, host.address) for host in up.members]
    for balancer in up.balancers:
        root = root_of(balancer)
        if root is None:
            raise NotRestored(f"{balancer.name} is down")
        up.generation(balancer).restore(root, up.description, servers, partial(up.exec, balancer))
    out = in_service(up, 20)
    if out:
        raise NotRestored(f"still out of service: {', '.join(out)}")
