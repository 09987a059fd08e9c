"""A running lab and its hosts."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from ipaddress import IPv4Network
from pathlib import Path

from .description import Description
from .errors import LabError
from .switches import Switches

MEMBER = "member"
BALANCER = "balancer"


@dataclass(frozen=True)
class Host:
    """One host: a container with systemd, sshd and its own address."""

    name: str  # web1, lb1
    role: str  # member or balancer
    address: str
    container: str  # Podman's name for it
    container_id: str = ""


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

    def host(self, name: str) -> Host:
        """The host of this name."""
        for host in self.hosts:
            if host.name == name:
                return host
        raise LabError(f"{name!r} is no host of the lab {self.name}")

    def files(self, host: Host | str) -> Path:
        """The directory that holds what a host keeps outside its container."""
        return self.directory / "hosts" / (host if isinstance(host, str) else host.name)


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
