"""What this machine must have, and how it gets it."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .errors import LabError
from .progress import step

# Each command the lab calls, and the Debian package that brings it.
COMMANDS = {
    "podman": "podman",
    "runc": "runc",
    "debootstrap": "debootstrap",
    "nft": "nftables",
    "iptables": "iptables",  # netavark's
    "nsenter": "util-linux",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "tar": "tar",
    "setpriv": "util-linux",
    "unshare": "util-linux",
}
# Podman's network back end is no command of its own.
_HELPERS = ("/usr/lib/podman", "/usr/libexec/podman", "/usr/local/lib/podman", "/usr/local/libexec/podman")
_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"


@dataclass(frozen=True)
class Machine:
    """The facts that decide whether the lab can run here."""

    linux: bool
    root: bool
    apt: bool
    docker: bool
    missing: tuple[str, ...]  # Debian packages


def which(command: str) -> str | None:
    """Find a command, also where a user's PATH does not reach."""
    return shutil.which(command, path=f"{os.environ.get('PATH', '')}:{_SBIN}")


def look() -> Machine:
    """Look at this machine."""
    packages = {package: None for name, package in COMMANDS.items() if not which(name)}
    if not any(Path(place, "netavark").exists() for place in _HELPERS):
        packages["netavark"] = None
    return Machine(
        linux=Path("/proc/self/ns/net").exists(),
        root=os.geteuid() == 0,
        apt=which("apt-get") is not None,
        docker=which("docker") is not None and which("podman") is None,
        missing=tuple(packages),
    )


def install_command(packages: tuple[str, ...]) -> list[str]:
    """The command that installs packages; podman's network needs its recommended ones."""
    return ["apt-get", "install", "-y", *packages]


def verdict(machine: Machine) -> str | None:
    """One line that says what is missing and what to do about it; None when all is there."""
    if not machine.linux:
        return "the lab needs Linux with network namespaces: run it in a Debian 12 machine"
    problems = []
    command = ""
    if machine.missing:
        problems.append(f"missing: {' '.join(machine.missing)}")
        if machine.apt:
            command = "install with: " + " ".join(install_command(machine.missing))
            if not machine.root:
                command = command.replace("with: ", "with: sudo ")
        else:
            command = "install them with this system's package manager (there is no apt-get here)"
    if machine.docker:
        problems.append("Docker alone does not do, the lab needs Podman")
    if not machine.root:
        problems.append("not root: run it as root (sudo)")
    return "; ".join([*problems, *([command] if command else [])]) or None


def ensure() -> None:
    """Install what is missing with apt, or say in one line what to do."""
    # Children find nft and debootstrap although a user's PATH leaves sbin out.
    path = os.environ.get("PATH", "").split(":")
    os.environ["PATH"] = ":".join([*path, *(d for d in _SBIN.split(":") if d not in path)])
    machine = look()
    if machine.missing and machine.root and machine.apt and machine.linux:
        with step(f"installing {' '.join(machine.missing)} with apt"):
            _install(machine.missing)
        machine = look()
    problem = verdict(machine)
    if problem:
        raise LabError(problem)


def _install(packages: tuple[str, ...]) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update", "-q"], [*install_command(packages), "-q"]):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        # A broken third-party source fails the update; what matters is the installation.
        if done.returncode and "install" in command:
            raise LabError(f"{' '.join(command)} failed: {done.stderr.strip()[-1000:]}")
