"""What goes wrong with hosts and networks, and how it is made right again."""

from __future__ import annotations

import subprocess
import time

from . import podman
from .errors import LabError
from .hosts import Host
from .namespaces import pid_of
from .probes import ssh_answers

_TABLE = "inet zerodrop_cut"


def rules(peer: str | None, port: int | None, direction: str) -> str:
    """The nftables rules, for the host's own namespace, that drop what comes from and goes to
    `peer`, or to anybody else when there is none.

    `port` is a TCP port on the host itself; without it everything is dropped.
    """
    if direction not in ("both", "in", "out"):
        raise LabError(f"direction {direction!r}: both, in or out")
    lines = [f"add table {_TABLE}"]
    for way, hook, address, side, device in (
        ("in", "input", "saddr", "dport", "iifname"),
        ("out", "output", "daddr", "sport", "oifname"),
    ):
        chain = f"{_TABLE} {way}"
        lines.append(f"add chain {chain} {{ type filter hook {hook} priority -10 ; }}")
        if direction in ("both", way):
            match = f"ip {address} {peer}" if peer else f'{device} != "lo"'
            match += f" tcp {side} {port}" if port else ""
            lines.append(f"add rule {chain} {match} drop")
    return "\n".join(lines) + "\n"


def cut(host: Host, peer: str | None, port: int | None, direction: str) -> None:
    """Drop packets in silence; open connections hang as they do when a network dies."""
    _nft(host, rules(peer, port, direction))


def heal(host: Host) -> None:
    """Undo every cut of this host."""
    _nft(host, f"add table {_TABLE}\ndelete table {_TABLE}\n")


def kill(host: Host) -> None:
    """Take the power away."""
    podman.call("kill", "--signal", "KILL", host.container)


def start(host: Host, timeout: float) -> None:
    """Start a killed host; return when SSH answers."""
    podman.call("start", host.container)
    _wait(host, timeout)


def reboot(host: Host, hard: bool, timeout: float) -> None:
    """Reboot; return when SSH answers again. Cuts are gone after it."""
    podman.call("restart", "--time", "0" if hard else "10", host.container)
    _wait(host, timeout)


def stop_sshd(host: Host, sessions: bool) -> None:
    """Refuse new SSH connections; with `sessions` end those that are open, too."""
    podman.call("exec", host.container, "systemctl", "stop", "ssh.service")
    if sessions:
        podman.call("exec", host.container, "pkill", "-KILL", "-x", "sshd", check=False)


def start_sshd(host: Host, timeout: float) -> None:
    """Let SSH in again."""
    podman.call("exec", host.container, "systemctl", "start", "ssh.service")
    _wait(host, timeout)


def _wait(host: Host, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while not ssh_answers(host.address):
        if time.monotonic() > deadline:
            raise LabError(f"{host.name}: no sshd within {timeout:.0f} s")
        time.sleep(0.05)


def _nft(host: Host, script: str) -> None:
    pid = pid_of(host)
    if pid is None:
        raise LabError(f"{host.name} is down")
    done = subprocess.run(
        ["nsenter", "-t", str(pid), "-n", "nft", "-f", "-"],
        input=script,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise LabError(f"nft in {host.name}: {done.stderr.strip()}")
