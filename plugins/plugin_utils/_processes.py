# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Other processes of this machine."""

from __future__ import annotations

import os


def alive(pid: int) -> bool:
    """Whether a process is there and has not ended; one that was not waited for is gone to us."""
    if os.getppid() == pid:
        return True
    state = _state(pid)
    if state is None:  # no Linux
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True
    # A process that has ended but was not waited for answers to signals.
    return state not in ("", "Z", "X")


def stopped(pid: int) -> bool:
    """Whether a process was stopped and may go on one day."""
    return _state(pid) in ("T", "t")


def started(pid: int) -> str:
    """When a living process was started, in ticks since boot; empty where it is dead, or nobody says."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            fields = stat.read().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def _state(pid: int) -> str | None:
    """The letter that Linux has for its state; empty where there is no such process, None where nobody says."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "" if os.path.isdir("/proc/self") else None
    except (OSError, IndexError):
        return "?"
