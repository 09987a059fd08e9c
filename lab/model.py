"""A running lab and its hosts."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from ipaddress import IPv4Network
from pathlib import Path

from . import balancers, faults, order_log, podman, releases
from .balancers import Generation, haproxy_socket
from .description import Description
from .errors import LabError
from .hosts import BALANCER, DATABASE, MEMBER, Host
from .namespaces import root_of
from .switches import Switches


@dataclass(frozen=True)
class Lab:
    """A lab that is up. `lab.json` in its directory holds the same."""

    id: str  # unique, also among labs of the same name
    directory: Path
    description: Description
    subnet: str
    hosts: tuple[Host, ...]

    @property
    def name(self) -> str:
        """The prefix of its containers and its network."""
        return self.description.prefix

    @property
    def members(self) -> tuple[Host, ...]:
        """web1, web2, …"""
        return tuple(host for host in self.hosts if host.role == MEMBER)

    @property
    def balancers(self) -> tuple[Host, ...]:
        """lb1, lb2, …"""
        return tuple(host for host in self.hosts if host.role == BALANCER)

    @property
    def databases(self) -> tuple[Host, ...]:
        """db1, where there is one."""
        return tuple(host for host in self.hosts if host.role == DATABASE)

    def generation(self, balancer: Host | str) -> Generation:
        """The kind and version of a balancer."""
        names = [host.name for host in self.balancers]
        return balancers.find(self.description.generations[names.index(self.host(balancer).name)])

    @property
    def controller(self) -> str:
        """The address this machine has in the lab's network."""
        return str(next(IPv4Network(self.subnet).hosts()))

    @property
    def url(self) -> str:
        """The service through the first balancer."""
        return f"http://{self.balancers[0].address}"

    @property
    def inventory(self) -> Path:
        """The Ansible inventory."""
        return self.directory / "inventory.yml"

    @property
    def key(self) -> Path:
        """The private key that opens every host to root."""
        return self.directory / "id_ed25519"

    @property
    def artifacts(self) -> Path:
        """Where releases are made."""
        return self.directory / "artifacts"

    def host(self, name: Host | str) -> Host:
        """The host of this name."""
        if isinstance(name, Host):
            return name
        for host in self.hosts:
            if host.name == name:
                return host
        raise LabError(f"{name!r} is no host of the lab {self.name}")

    def files(self, host: Host | str) -> Path:
        """The directory that holds what a host keeps outside its container."""
        return self.directory / "hosts" / self.host(host).name

    # Releases and what they did.

    def release(
        self,
        version: str,
        *,
        start_delay: float = 0.0,
        warm_up: float = 0.0,
        never_healthy: bool = False,
        error_share: float = 0.0,
        extra_latency: float = 0.0,
        cold_requests: int = 0,
        cold_latency: float = 0.0,
        loopback_only: bool = False,
        slots: int = 0,
        slow_starts: str = "",
        crash_after: float = 0.0,
        customers: str = "",
    ) -> releases.Release:
        """Make a release of the sample service that behaves like this."""
        switches = Switches(
            start_delay=start_delay,
            warm_up=warm_up,
            never_healthy=never_healthy,
            error_share=error_share,
            extra_latency=extra_latency,
            cold_requests=cold_requests,
            cold_latency=cold_latency,
            loopback_only=loopback_only,
            slots=slots,
            slow_starts=slow_starts,
            crash_after=crash_after,
            customers=customers,
        )
        return releases.build(self.artifacts, version, switches)

    def orders(self) -> list[order_log.Order]:
        """Every POST that any member executed since the lab came up, also on a dead host."""
        return order_log.read([self.files(host) / "log/orders.log" for host in self.members])

    # Hosts, from outside.

    def exec(
        self,
        host: Host | str,
        argv: Sequence[str],
        *,
        check: bool = True,
        stdin: str | None = None,
        timeout: float = 60.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program on a host as root, without SSH."""
        command = ["exec", *(["-i"] if stdin is not None else []), self.host(host).container]
        return podman.call(*command, *argv, check=check, stdin=stdin, timeout=timeout)

    def ask(self, balancer: Host | str, command: str, level: str = "admin") -> str:
        """Send one line to HAProxy's runtime socket: admin, operator, user or master."""
        root = root_of(self.host(balancer))
        if root is None:
            raise LabError(f"{self.host(balancer).name} is down")
        return haproxy_socket.ask(root, command, level)

    # Faults.

    def cut(
        self,
        host: Host | str,
        *,
        from_: Host | str | None = None,
        port: int | None = None,
        direction: str = "both",
    ) -> None:
        """Cut a host's network: from a host, from "controller" (this machine), or from all.

        `port` narrows it to a TCP port of the host, `direction` ("in", "out") to one way. Cuts
        add up until `heal`; a host that dies or reboots comes back without them.
        """
        peer = None
        if from_ is not None:
            peer = self.controller if from_ == "controller" else self.host(from_).address
        faults.cut(self.host(host), peer, port, direction)

    def heal(self, host: Host | str) -> None:
        """Undo every cut of this host."""
        faults.heal(self.host(host))

    def kill(self, host: Host | str) -> None:
        """Take the power away."""
        faults.kill(self.host(host))

    def start(self, host: Host | str, timeout: float = 30.0) -> None:
        """Start a killed host; return when SSH answers."""
        faults.start(self.host(host), timeout)

    def reboot(self, host: Host | str, *, hard: bool = False, timeout: float = 30.0) -> None:
        """Reboot a host, in good order or not; return when SSH answers again."""
        faults.reboot(self.host(host), hard, timeout)

    def stop_sshd(self, host: Host | str, *, sessions: bool = False) -> None:
        """Refuse new SSH connections; with `sessions` end those that are open, too."""
        faults.stop_sshd(self.host(host), sessions)

    def start_sshd(self, host: Host | str, timeout: float = 30.0) -> None:
        """Let SSH in again."""
        faults.start_sshd(self.host(host), timeout)


def dump(lab: Lab) -> str:
    """The text of lab.json."""
    value = {
        "name": lab.name,
        "id": lab.id,
        "subnet": lab.subnet,
        "url": lab.url if lab.balancers else None,
        "description": asdict(lab.description),
        "hosts": [asdict(host) for host in lab.hosts],
    }
    return json.dumps(value, indent=2) + "\n"


def load(directory: Path) -> Lab:
    """The lab that was brought up in this directory."""
    directory = Path(directory).resolve()
    try:
        value = json.loads((directory / "lab.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LabError(f"no lab is up in {directory}") from None
    fields = value["description"]
    fields["switches"] = Switches(**fields["switches"])
    for name, held in fields.items():
        if isinstance(held, list):
            fields[name] = tuple(held)
    return Lab(
        id=value["id"],
        directory=directory,
        description=Description(**fields),
        subnet=value["subnet"],
        hosts=tuple(Host(**host) for host in value["hosts"]),
    )
