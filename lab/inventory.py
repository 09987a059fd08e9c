"""Write the Ansible inventory of a lab."""

from __future__ import annotations

import json

from .hosts import Host
from .model import Lab

# The hosts' keys are new with every lab and their addresses come again.
SSH_OPTIONS = (
    "-o StrictHostKeyChecking=no",
    "-o UserKnownHostsFile=/dev/null",
    "-o GlobalKnownHostsFile=/dev/null",
    "-o IdentitiesOnly=yes",
    "-o PasswordAuthentication=no",
    "-o LogLevel=ERROR",
    # What OpenSSH 9.2 prefers to it takes both ends 80 ms of processor time, and here both ends of every host share one machine.
    "-o KexAlgorithms=curve25519-sha256",
)


def render(lab: Lab) -> str:
    """The text of inventory.yml: the group of members bears the pool's name, the other is lb."""
    # JSON strings are YAML strings; hosts and groups have plain names.
    variables = {
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(lab.key),
        "ansible_ssh_common_args": " ".join(SSH_OPTIONS),
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    lines = ["all:", "  vars:"]
    lines += [f"    {name}: {json.dumps(value)}" for name, value in variables.items()]
    lines += ["  children:"]
    lines += _group("shop", lab.members) + _group("lb", lab.balancers)
    if lab.databases:
        lines += _group("db", lab.databases)
    if lab.description.slots:
        half = len(lab.members) // 2
        lines += _group("blue", lab.members[:half]) + _group("green", lab.members[half:])
    return "\n".join(lines) + "\n"


def _group(name: str, hosts: tuple[Host, ...]) -> list[str]:
    lines = [f"    {name}:", "      hosts:" + ("" if hosts else " {}")]
    return lines + [f"        {host.name}: {{ansible_host: {host.address}}}" for host in hosts]
