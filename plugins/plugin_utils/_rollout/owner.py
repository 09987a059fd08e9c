# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who runs a rollout: for people, and as processes that can be told to be dead."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._processes import started


def owner(variables: Mapping[str, Any], playbook_pid: int) -> str:
    """Who and where, for people: the user, or the job of AWX and who launched it."""
    for prefix in ("awx", "tower"):
        job = variables.get(f"{prefix}_job_id")
        if job:
            user = variables.get(f"{prefix}_user_name")
            return _line(f"AWX job {job}" + (f" of {user}" if user else ""))
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = str(os.getuid())
    return _line(f"{user} on {socket.gethostname()}, process {playbook_pid}")


def _line(text: str) -> str:
    return " ".join(text.split())[:200]


def name_processes(pids: Iterable[int]) -> str:
    """A name of these processes that no others ever have; empty where this system does not tell."""
    where = _where()
    starts = [(pid, started(pid)) for pid in pids]
    if not where or not all(start for _pid, start in starts):
        return ""
    return " ".join([where, *(f"{pid}:{start}" for pid, start in starts)])


def are_dead(name: str) -> bool:
    """Whether all these processes are known to be gone; of another machine or container nobody can know."""
    where, *processes = name.split(" ") if name else [""]
    if not where or where != _where() or not processes:
        return False
    return not any(started(int(pid)) == start for pid, start in (each.split(":") for each in processes))


def _where() -> str:
    """This kernel since its boot, and the container whose process numbers these are."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return f"{file.read().strip()}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""
