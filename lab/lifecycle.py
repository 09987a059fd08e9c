"""Bring a lab up, take it down."""

from __future__ import annotations

import os
import random
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

from . import (
    balancers,
    images,
    inventory,
    kernel,
    locks,
    owner,
    podman,
    prerequisites,
    readiness,
    releases,
    subnets,
)
from .balancers import Server
from .description import Description
from .errors import LabError
from .hosts import BALANCER, DATABASE, MEMBER, Host
from .model import Lab, dump, load
from .recipes import MEMBERS, SHOP_UID, Recipe, database, image
from .signals import ending, undisturbed

LABEL = "zerodrop.lab"
LABEL_ID = "zerodrop.id"
LABEL_DIR = "zerodrop.dir"
LABEL_OWNER = "zerodrop.owner"

# SYS_ADMIN for systemd and the sandbox of Debian's haproxy.service, AUDIT_WRITE for sessions with a
# terminal, NET_ADMIN for hosts that change their own network, SYS_PTRACE since root of a server sees what
# another user's process has open.
_PRIVILEGES = (
    "--systemd=always",
    "--cap-add=SYS_ADMIN,NET_ADMIN,AUDIT_WRITE,SYS_PTRACE",
    "--security-opt=seccomp=unconfined",
    "--security-opt=apparmor=unconfined",
)


# Where members that run containers keep their layers.
_STORES = {"engine": "/var/lib/containers", "engine-5": "/var/lib/containers", "docker": "/var/lib/docker"}

_FILES = ("lab.json", "inventory.yml", "id_ed25519", "id_ed25519.pub")


def up(description: Description, state_dir: Path, *, owner_pid: int | None = None, timeout: float | None = None) -> Lab:
    """Bring up a lab and wait until it serves.

    With `owner_pid` the lab ends with that process at the latest: whoever brings up a lab later
    takes it down. When anything fails, or a signal ends this, nothing is left behind.
    """
    for name in description.generations or (description.generation,):
        balancers.find(name)
    directory = Path(state_dir).resolve()
    if (directory / "lab.json").exists():
        raise LabError(f"a lab is already up in {directory}: python3 -m lab down --dir {directory}")
    # What `down` removes must be the lab's own.
    for name in (*_FILES, "hosts"):
        if (directory / name).exists():
            raise LabError(f"{directory / name} is there already: choose an empty directory")
    owned_by = owner.identity(owner_pid) if owner_pid is not None else ""
    if owned_by is None:
        raise LabError(f"there is no process {owner_pid} to own the lab")
    lab_id = secrets.token_hex(6)
    lab = Lab(lab_id, directory, description, "", ())
    with ending():
        prerequisites.ensure()
        more = [database()] if description.database else []
        images.ensure(
            [*(balancers.find(name).recipe for name in description.generations), MEMBERS[description.member](), *more]
        )
        kernel.allow_many_hosts()
        share = kernel.own_share()
        try:
            labels = [f"{LABEL}={description.prefix}", f"{LABEL_ID}={lab_id}"]
            labels += [f"{LABEL_DIR}={directory}", f"{LABEL_OWNER}={owned_by}"]
            flags = [f"--label={label}" for label in labels]
            subnet = _network(description, flags)
            lab = replace(lab, subnet=str(subnet), hosts=_hosts(description, subnet))
            _prepare(lab)
            lab = _start(lab, [*flags, *share])
            readiness.wait(lab, timeout or 30 + len(lab.hosts))
            _write(directory / "inventory.yml", inventory.render(lab))
            _write(directory / "lab.json", dump(lab))
        except BaseException:
            with undisturbed():
                down(lab)
            raise
    return lab


def down(lab: Lab) -> None:
    """Remove what `up` made: containers, network and files. Does no harm when repeated."""
    discard(lab.id, lab.directory)


def discard(lab_id: str, directory: Path) -> None:
    """Remove a lab of which nothing but its id and its directory is known."""
    _remove(lab_id)
    with suppress(LabError):
        if load(directory).id != lab_id:  # another lab has come up in the directory since
            return
    for name in _FILES:
        (directory / name).unlink(missing_ok=True)
    shutil.rmtree(directory / "hosts", ignore_errors=True)
    for release in (directory / "artifacts").glob("shop-*.tar.gz"):
        release.unlink()
    for place in (directory / "artifacts", directory):
        with suppress(OSError):  # somebody else has files there, or it is gone
            place.rmdir()


def _remove(lab_id: str) -> None:
    chosen = f"label={LABEL_ID}={lab_id}"
    # More than once: a container may still have been on its way when its lab was given up.
    for _unused in range(5):
        containers = podman.lines("ps", "-aq", "--filter", chosen)
        networks = podman.lines("network", "ls", "-q", "--filter", chosen)
        if not containers and not networks:
            return
        if containers:
            podman.call("rm", "-f", "-v", "-t", "0", *containers, check=False)
        elif networks:
            podman.call("network", "rm", "-f", *networks, check=False)
    raise LabError(f"could not remove the lab {lab_id}: podman ps -a --filter {chosen}")


@contextmanager
def running(description: Description, state_dir: Path | None = None) -> Iterator[Lab]:
    """A lab for the length of a `with`; without a directory it gets a temporary one."""
    directory = state_dir or Path(tempfile.mkdtemp(prefix=f"zerodrop-{description.prefix}-"))
    with ending():
        try:
            lab = up(description, directory, owner_pid=os.getpid())
        except BaseException:
            if state_dir is None:
                shutil.rmtree(directory, ignore_errors=True)
            raise
        try:
            yield lab
        finally:
            with undisturbed():
                down(lab)
                if state_dir is None:
                    shutil.rmtree(directory, ignore_errors=True)


def listing() -> list[dict[str, str]]:
    """Every lab on this machine: name, id, dir, owner and subnet."""
    template = "{{.Name}}"
    found = []
    for name in podman.lines("network", "ls", "--filter", f"label={LABEL}", "--format", template):
        # Between the two calls a lab may have gone.
        done = podman.call(
            "network",
            "inspect",
            name,
            "--format",
            "\t".join(
                [f'{{{{index .Labels "{key}"}}}}' for key in (LABEL, LABEL_ID, LABEL_DIR, LABEL_OWNER)]
                + ["{{range .Subnets}}{{.Subnet}}{{end}}"]
            ),
            check=False,
        )
        if done.returncode == 0:
            keys = ("name", "id", "dir", "owner", "subnet")
            found.append(dict(zip(keys, done.stdout.rstrip("\n").split("\t"), strict=True)))
    return found


def reap() -> None:
    """Take down the labs whose owner is gone."""
    for lab in listing():
        if lab["owner"] and not owner.alive(lab["owner"]):
            discard(lab["id"], Path(lab["dir"]))


def _network(description: Description, flags: list[str]) -> IPv4Network:
    """Make the lab's network; its name and its subnet are what makes two labs exclusive."""
    with locks.held("networks"):
        reap()
        name = f"{description.prefix}-lab"
        for lab in listing():
            if lab["name"] == description.prefix:
                raise LabError(
                    f"a lab {description.prefix!r} is already up in {lab['dir']}: choose another"
                    f" prefix, or python3 -m lab down --prefix {description.prefix}"
                )
        template = "{{range .Subnets}}{{.Subnet}} {{end}}"
        known = podman.lines("network", "ls", "-q")
        ranges = podman.call("network", "inspect", "--format", template, *known).stdout.split()
        taken = [IPv4Network(text) for text in ranges if ":" not in text] + subnets.routed()
        if description.subnet:
            subnet = IPv4Network(description.subnet)
            if any(subnet.overlaps(network) for network in taken):
                raise LabError(f"subnet {subnet} is in use on this machine")
        else:
            subnet = subnets.choose(taken, random.randrange(256))
        # Without Podman's name server: hosts are known by address.
        command = ["network", "create", "--disable-dns", "--subnet", str(subnet), *flags, name]
        podman.call(*command)
    return subnet


def _hosts(description: Description, subnet: IPv4Network) -> tuple[Host, ...]:
    kinds = (
        ("lb", BALANCER, description.balancers, subnets.balancer_address),
        ("db", DATABASE, int(description.database), subnets.database_address),
        ("web", MEMBER, description.members, subnets.member_address),
    )
    return tuple(
        Host(
            name=f"{short}{number}",
            role=role,
            address=str(address(subnet, number)),
            container=f"{description.prefix}-{short}{number}",
        )
        for short, role, count, address in kinds
        for number in range(1, count + 1)
    )


def _prepare(lab: Lab) -> None:
    """Write what the hosts need before they start."""
    lab.directory.mkdir(parents=True, exist_ok=True)
    lab.artifacts.mkdir(exist_ok=True)
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", lab.name, "-f", str(lab.key)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    )
    lab.key.with_suffix(".pub").chmod(0o644)
    servers = [Server(host.name, host.address) for host in lab.members]
    for host in lab.members:
        releases.install(lab.files(host) / "shop", lab.description.version, lab.description.switches)
        log = lab.files(host) / "log"
        log.mkdir()
        log.chmod(0o755)
        os.chown(log, SHOP_UID, SHOP_UID)
    for host in lab.balancers:
        directory = lab.files(host) / "config"
        directory.mkdir(parents=True)
        directory.chmod(0o755)
        for name, text in lab.generation(host).render(lab.description, servers).items():
            (directory / name).parent.mkdir(exist_ok=True)
            _write(directory / name, text)


def _start(lab: Lab, flags: list[str]) -> Lab:
    """Start all hosts, several at a time."""
    pool = ThreadPoolExecutor(max_workers=8)
    try:
        started = [pool.submit(podman.call, *_run(lab, host), *flags, *_image(lab, host)) for host in lab.hosts]
        ids = [future.result().stdout.strip() for future in started]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    pairs = zip(lab.hosts, ids, strict=True)
    return replace(lab, hosts=tuple(replace(host, container_id=id_) for host, id_ in pairs))


def _run(lab: Lab, host: Host) -> list[str]:
    files = lab.files(host)
    if host.role == MEMBER:
        volumes = [f"{files}/shop:/opt/shop", f"{files}/log:/var/log/shop"]
    else:
        volumes = [f"{files}/config:{lab.generation(host).config_dir}"] if host.role == BALANCER else []
    more = []
    if host.role == MEMBER and lab.description.member in _STORES:
        # Containers within: each has devices of its own, and layers do not lie on other layers.
        more = ["--cap-add=MKNOD,NET_RAW", f"--volume={_STORES[lab.description.member]}"]
    if host.role == MEMBER:
        more += [f"--add-host=db:{each.address}" for each in lab.databases]
    volumes.append(f"{lab.key}.pub:/root/.ssh/authorized_keys:ro")
    return [
        *("run", "-d", "--pull=never", "--name", host.container, "--hostname", host.name),
        *("--network", f"{lab.name}-lab", "--ip", host.address),
        # The same after a restart: nobody holds on to an outdated neighbour entry.
        *("--mac-address", subnets.mac_address(host.address)),
        *_PRIVILEGES,
        *more,
        *podman.limits(),
        *(f"--volume={volume}" for volume in volumes),
    ]


def _image(lab: Lab, host: Host) -> list[str]:
    recipe: Recipe = database() if host.role == DATABASE else MEMBERS[lab.description.member]()
    if host.role == BALANCER:
        recipe = lab.generation(host).recipe
    return [image(recipe), "/sbin/init"]


def _write(path: Path, text: str) -> None:
    """Write a file whole: nobody reads half of it."""
    part = path.with_name(f".{path.name}.{time.monotonic_ns()}")
    part.write_text(text, encoding="utf-8")
    part.chmod(0o644)
    part.replace(path)
