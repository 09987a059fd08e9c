"""Whom a lab belongs to, so that it does not outlive a process that was killed."""

from __future__ import annotations

from pathlib import Path


def identity(pid: int) -> str | None:
    """A name for a running process that no later process can have, or None if it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command, in brackets, may hold spaces and brackets itself: count from the last one.
    fields = stat.rpartition(")")[2].split()
    state, start_time = fields[0], fields[19]
    return None if state in "ZX" else f"{pid}.{start_time}.{boot}"


def alive(owner: str) -> bool:
    """Does the process still run that `identity` once named?"""
    pid = owner.partition(".")[0]
    return pid.isdigit() and identity(int(pid)) == owner
