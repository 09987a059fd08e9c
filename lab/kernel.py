"""Kernel limits that many hosts on one machine run into, and their share of its processors."""

from __future__ import annotations

from pathlib import Path

from . import podman
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


CPU = Path("/sys/fs/cgroup/cpu")  # where control groups are of the first version
PARENT = "/zerodrop-lab"
_SHARES = 8192


def own_share(root: Path = CPU) -> list[str]:
    """Let the hosts of all labs have the processors of many processes, not of one; the flags of `podman run` for that.

    Without systemd all containers lie in one control group of Podman's, which has no more weight than each single
    process of the machine: beside a few that are busy, whole labs fall silent.
    """
    if not (root / "cpu.shares").exists():
        return []
    if podman.call("info", "--format", "{{.Host.CgroupManager}}").stdout.strip() != "cgroupfs":
        return []
    group = root / PARENT[1:]
    try:
        group.mkdir(exist_ok=True)
        (group / "cpu.shares").write_text(f"{_SHARES}\n", encoding="ascii")
    except OSError:
        return []  # no root of the machine: they share what they are given
    return [f"--cgroup-parent={PARENT}"]
