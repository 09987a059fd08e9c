"""What the three ways that are playbooks have in common: the same Ansible with the same settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .base import BASE, PORT, SOCKET, UNIT, Command, Run

_CONFIGURATION = """\
[defaults]
forks = 20
gathering = explicit
retry_files_enabled = false
[connection]
pipelining = true
"""


def command(run: Run, playbook: str, variables: Mapping[str, Any]) -> Command:
    """ansible-playbook with these variables."""
    configuration = run.directory / "ansible.cfg"
    configuration.write_text(_CONFIGURATION, encoding="utf-8")
    given = run.directory / "variables.json"
    given.write_text(json.dumps(variables, indent=1), encoding="utf-8")
    return Command(
        [
            str(run.peers / "bin" / "ansible-playbook"),
            *("-i", str(run.up.inventory)),
            *("-e", f"@{given}"),
            playbook,
        ],
        {
            "ANSIBLE_CONFIG": str(configuration),
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(run.sockets),
            "ANSIBLE_LOCAL_TEMP": str(run.directory / "tmp"),
        },
    )


def peer(run: Run, playbook: Path) -> Command:
    """A peer's playbook, told what it needs to know."""
    return command(
        run,
        str(playbook),
        {
            "bench_socket": SOCKET,
            "bench_pool": run.up.description.pool,
            "bench_base": BASE,
            "bench_unit": UNIT,
            "bench_port": PORT,
            "bench_version": run.release.version,
            "bench_batch": run.scenario.batch,
        },
    )
