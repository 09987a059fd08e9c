# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Controllers that die, hang, or work side by side; and what the balancers' ledgers say of them."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from .rig import RUN_TOKEN, Rig

_READ = """
import json, sqlite3
database = sqlite3.connect("file:/var/lib/zerodrop/shop/ledger.db?mode=ro", uri=True, timeout=20)
database.row_factory = sqlite3.Row
tables = "lease", "rollouts", "members", "held", "events", "flags"
print(json.dumps({each: [dict(row) for row in database.execute("SELECT * FROM " + each)] for each in tables}))
"""


def beside(rig: Rig, name: str) -> Rig:
    """Another controller of the same fleet."""
    folder = rig.folder / name
    folder.mkdir()
    return Rig(rig.lab, folder)


def processes(rig: Rig) -> list[int]:
    """All of this controller's: the playbook, its tasks, its keeper, its connections, whatever session they are in."""
    token = f"{RUN_TOKEN}={rig.folder}".encode()
    shared = [f"ssh: {folder}/".encode() for folder in rig.control_paths]  # which write over their environment
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (folder / "cmdline").read_bytes()
            if token in (folder / "environ").read_bytes().split(b"\0") or command.startswith(tuple(shared)):
                found.append(int(folder.name))
    return found


def signal_all(rig: Rig, number: int) -> None:
    """What was forked meanwhile gets it too; nobody gets it twice."""
    told: set[int] = set()
    for pause in (0.0, 0.02, 0.04):
        time.sleep(pause)
        for pid in set(processes(rig)) - told:
            told.add(pid)
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def kill(rig: Rig) -> None:
    """As when the controller's container is gone: nothing of it lives on."""
    signal_all(rig, signal.SIGKILL)


def ledger_file(rig: Rig, host: str) -> Path:
    return rig.root(host) / "var/lib/zerodrop/shop/ledger.db"


def ledger(rig: Rig, host: str = "lb1") -> dict[str, list[dict[str, Any]]]:
    """What stands in a balancer's ledger; read on its own host, since SQLite's locks and journals are of one."""
    said = rig.lab.exec(host, ["python3", "-c", _READ]).stdout
    found: dict[str, list[dict[str, Any]]] = json.loads(said)
    return found


def rest(rig: Rig, limit: float, still: float = 2.0) -> tuple[float, set[str]]:
    """When the last member that can be back came back after a run that died, and which stay out, left by halves.

    By then no balancer has anything to change any more.
    """
    since, deadline = None, time.monotonic() + limit
    while True:
        now = time.monotonic()
        out = set(rig.hosts) - rig.in_service()
        found = [ledger(rig, host.name) for host in rig.lab.balancers if ledger_file(rig, host.name).exists()]
        halves = [{row["host"] for row in each["members"] if not row["safe"]} for each in found]
        held = [{row["host"] for row in each["held"]} for each in found]
        quiet = all(out | one <= other for one, other in zip(held, halves, strict=True)) if found else not out
        since = (since or now) if quiet else None
        if since is not None and now > since + still:
            return since, out
        assert now < deadline, f"out of service: {out}, held out: {held}, left by halves: {halves}"
        time.sleep(0.1)
