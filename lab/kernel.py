"""Kernel limits that many hosts on one machine run into."""

from __future__ import annotations

from pathlib import Path

from .progress import say

# Every systemd watches files with several instances; Linux allows root 128 on the whole machine.
INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")
WANTED = 2048


def allow_many_hosts(path: Path = INSTANCES) -> None:
    """Raise the number of inotify instances until the next reboot, and say so."""
    allowed = int(path.read_text(encoding="ascii"))
    if allowed >= WANTED:
        return
    try:
        path.write_text(f"{WANTED}\n", encoding="ascii")
    except OSError:
        say(f"about {allowed // 5} hosts fit on this machine; for more: sysctl fs.inotify.max_user_instances={WANTED}")
    else:
        say(f"raised fs.inotify.max_user_instances from {allowed} to {WANTED}, for systemd in many hosts")
