"""The floor: a script of its own over warm SSH."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from lab.inventory import SSH_OPTIONS

from .. import floor_nginx
from .base import BASE, INTERVAL, PORT, SOCKET, SUCCESSES, UNIT, Command, Run, Way

_PROGRAM = Path(__file__).parent.parent / "floor.py"


def command(run: Run) -> Command:
    """Write the plan, and the program that carries it out."""
    options = " ".join(SSH_OPTIONS).split()
    shared = ["ControlMaster=auto", "ControlPersist=60s", f"ControlPath={run.sockets}/%h"]
    plan = {
        "balancers": {host.name: host.address for host in run.up.balancers},
        "members": {host.name: host.address for host in run.up.members},
        "batches": run.scenario.batches(tuple(host.name for host in run.up.members)),
        "ssh": [
            *options,
            *(word for option in shared for word in ("-o", option)),
            "-i",
            str(run.up.key),
            "-l",
            "root",
        ],
        "socket": SOCKET,
        "pool": run.up.description.pool,
        "nginx_config": f"/etc/nginx/conf.d/upstream-{run.up.description.pool}.conf" if run.scenario.nginx else "",
        "base": BASE,
        "version": run.release.version,
        "unit": UNIT,
        "port": PORT,
        "programs": {"drain": floor_nginx.DRAIN, "return": floor_nginx.RETURN} if run.scenario.nginx else {},
        "successes": SUCCESSES,
        "interval": INTERVAL,
        "limit": 60,
    }
    path = run.directory / "plan.json"
    path.write_text(json.dumps(plan, indent=1), encoding="utf-8")
    return Command([sys.executable, "-S", "-E", "-s", str(_PROGRAM), str(path)])


WAY = Way("floor", "the floor: warm SSH and the runtime socket", command)
