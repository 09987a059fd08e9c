"""What the lab's tests share: a client that hides nothing, and a deployment by hand."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import lab


@dataclass(frozen=True)
class Answer:
    """One answer of the service."""

    status: int
    headers: Mapping[str, str]  # names in lower case, as HAProxy writes them
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def request(
    address: str,
    path: str,
    *,
    method: str = "GET",
    body: str | None = None,
    headers: Mapping[str, str] | None = None,
    port: int = 80,
) -> Answer:
    """One request over a connection of its own."""
    connection = http.client.HTTPConnection(address, port, timeout=10)
    try:
        connection.request(method, path, body=body, headers=dict(headers or {}))
        answer = connection.getresponse()
        return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def direct(host: lab.Host, path: str) -> Answer | None:
    """Ask a member itself; None when nobody answers."""
    try:
        return request(host.address, path, port=8080)
    except ConnectionError:
        return None


def wait_for(what: Callable[[], object], seconds: float = 10.0) -> None:
    """Return when `what` holds."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def deploy(up: lab.Lab, host: lab.Host, release: lab.Release) -> None:
    """Install a release and restart; it does not wait for anything."""
    shop = up.files(host) / "shop"
    target = shop / "releases" / release.version
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    with tarfile.open(release.path) as archive:
        for member in archive:
            content = archive.extractfile(member)
            assert content is not None
            (target / member.name).write_bytes(content.read())
    link = shop / "next"
    link.symlink_to(f"releases/{release.version}")
    link.replace(shop / "current")
    up.exec(host, ["systemctl", "restart", "shop.service"])


def leftovers(label: str) -> str:
    """What Podman still has of a lab, by a label of it."""
    chosen = ["--filter", f"label={label}"]
    found = ""
    for command in (["ps", "-aq"], ["network", "ls", "-q"]):
        found += subprocess.run(["podman", *command, *chosen], capture_output=True, text=True, check=True).stdout
    return found
