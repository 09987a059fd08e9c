# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""nginx's processes, from its pid file and /proc: the master, the workers that serve and those that leave."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from typing import NamedTuple

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import PermissionDenied, Unreachable

_MASTER = "nginx: master process"
_WORKER = "nginx: worker process"
_LEAVING = "nginx: worker process is shutting down"
_ONE_GENERATION = 0.05  # seconds between the first and the last worker of one generation, at most
_JUST_NOW = 0.6


class Process(NamedTuple):
    """A process for good: its number alone may be given to another one."""

    pid: int
    start: int  # in ticks since the machine's start, so that a clock that is set changes nothing


class Processes(NamedTuple):
    """One nginx at one moment."""

    master: Process
    serving: frozenset[Process]
    leaving: frozenset[Process]

    @property
    def workers(self) -> frozenset[Process]:
        return self.serving | self.leaving

    @property
    def identity(self) -> str:
        """Names the generation that serves: another value means a reload, a restart or a worker that crashed."""
        workers = "+".join(f"{one.pid}.{one.start}" for one in sorted(self.serving))
        return f"{self.master.pid}.{self.master.start}:{workers}"


def start_of(stat: str) -> int:
    """The start time in /proc/<pid>/stat. The name before it is free text, with spaces and brackets."""
    fields = stat.rpartition(")")[2].split()
    if len(fields) < 20:
        raise ValueError("this is no /proc/<pid>/stat")
    return int(fields[19])


def parent_of(stat: str) -> int:
    """The parent's number in /proc/<pid>/stat."""
    return int(stat.rpartition(")")[2].split()[1])


def pid_of(text: str) -> int:
    """What a pid file says; raises ``ValueError``."""
    word = text.strip()
    if not (word.isascii() and word.isdigit()) or not 0 < int(word) < 2**31:
        raise ValueError("this is no process number")
    return int(word)


def read(pid_file: str) -> Processes:
    """The processes of the nginx that wrote this pid file; raises ``Unreachable``."""
    try:
        with open(pid_file, encoding="ascii", errors="replace") as file:
            pid = pid_of(file.read(64))
    except PermissionError:
        raise PermissionDenied(f"{pid_file} may not be read.", "Become root on the balancer.") from None
    except (OSError, ValueError) as error:
        raise Unreachable(
            f"nginx's pid file {pid_file} says nothing: {error}.", "See whether nginx runs, and where it keeps its pid."
        ) from None
    title = _title(pid)
    if not title.startswith(_MASTER):
        raise Unreachable(
            f"{pid_file} names the process {pid}, which is not nginx's master: {title or 'it is gone'}.",
            "See whether nginx runs, and with `master_process on`.",
        )
    master = _process(pid)
    if master is None:
        raise Unreachable(f"nginx's master {pid} has just ended.")
    serving: set[Process] = set()
    leaving: set[Process] = set()
    for child in _children(pid):
        title = _title(child)
        process = _process(child) if title.startswith(_WORKER) else None
        if process is not None:
            (leaving if title.startswith(_LEAVING) else serving).add(process)
    return Processes(master, frozenset(serving), frozenset(leaving))


def started_at(process: Process) -> float:
    """When it started, by the wall clock, to be compared with a file's time."""
    ticks = os.sysconf("SC_CLK_TCK")
    return time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - process.start / ticks)


def are_replaced(serving: Iterable[Process]) -> bool:
    """Whether a worker has just been started beside older ones: nginx tells those to leave a moment later."""
    starts = [process.start for process in serving]
    if not starts or max(starts) - min(starts) < os.sysconf("SC_CLK_TCK") * _ONE_GENERATION:
        return False
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - max(starts) / os.sysconf("SC_CLK_TCK")
    return age < _JUST_NOW


def lives(process: Process) -> bool:
    return _process(process.pid) == process


class Progress(NamedTuple):
    """How far a process has come."""

    sleeps: bool  # a worker sleeps only where it waits for the next event
    slept: int  # how often it went to sleep
    ticks: int  # of processor time


def progress(process: Process) -> Progress | None:
    """None when it is gone."""
    text = _text(f"/proc/{process.pid}/stat")
    slept = re.search(r"^voluntary_ctxt_switches:\s*([0-9]+)", _text(f"/proc/{process.pid}/status"), re.MULTILINE)
    try:
        fields = text.rpartition(")")[2].split()
        if start_of(text) != process.start or slept is None:
            return None
        return Progress(fields[0] == "S", int(slept.group(1)), int(fields[11]) + int(fields[12]))
    except (ValueError, IndexError):
        return None


def user_of(process: Process) -> tuple[int, frozenset[int]] | None:
    """Its effective user and all its groups; None when it is gone."""
    rows = dict(line.partition(":")[::2] for line in _text(f"/proc/{process.pid}/status").splitlines())
    try:
        groups = [rows["Gid"].split()[1], *rows["Groups"].split()]
        return int(rows["Uid"].split()[1]), frozenset(map(int, groups))
    except (KeyError, ValueError, IndexError):
        return None


def _children(pid: int) -> Iterable[int]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except (OSError, ValueError):
        return [child for child in map(int, filter(str.isdigit, os.listdir("/proc"))) if _parent(child) == pid]


def _text(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(4096).decode("utf-8", "replace")
    except OSError:
        return ""


def _title(pid: int) -> str:
    return _text(f"/proc/{pid}/cmdline").replace("\0", " ").strip()


def _process(pid: int) -> Process | None:
    try:
        return Process(pid, start_of(_text(f"/proc/{pid}/stat")))
    except ValueError:
        return None


def _parent(pid: int) -> int:
    try:
        return parent_of(_text(f"/proc/{pid}/stat"))
    except (ValueError, IndexError):
        return 0
