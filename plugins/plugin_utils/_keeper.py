# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A process beside the playbook that puts members back when the playbook ends before its rollout does.

Ansible runs nothing of a play after a signal: neither ``always`` nor a later
task. So the step that begins a rollout leaves a process of its own behind, which
knows all that the step knows. It does nothing as long as the playbook lives.
When that is told to end, or is gone, the keeper cancels the rollout: see
``_rollout/cancel.py``.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from ansible import constants as C

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._processes import alive, stopped

LEAVE, ACT = signal.SIGTERM, signal.SIGUSR1
_PAUSE = 0.1
_EVERY = 1.0


def note() -> Path:
    """Where the playbook's own process finds its keeper: in the folder that Ansible makes for each run."""
    return Path(C.DEFAULT_LOCAL_TMP) / "zerodrop-keeper.json"


def start(playbook: int, act: Callable[[str], str], meanwhile: Callable[[], None] = lambda: None) -> int:
    """Start it and return its process.

    ``act`` is given why, and returns what the user is to be told; ``meanwhile`` is called about once a second as long
    as the playbook runs, but not while it is stopped.
    """
    told = {LEAVE, ACT, signal.SIGINT}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, told)  # until it knows what they mean to it
    process = os.fork()
    if process:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        note().write_text(json.dumps({"process": process}), encoding="utf-8")
        return process
    try:
        _let_go()
        why = _wait(playbook, meanwhile)
        if why:
            try:
                said = act(why)
            except Exception as error:  # nobody else is left who could say it
                said = f"It went wrong: {type(error).__name__}: {error}"
            with suppress(OSError):
                note().with_suffix(".said").write_text(said, encoding="utf-8")
    finally:
        _leave()


def end(process: int) -> None:
    """The rollout has come to its end: nobody needs to be watched any more."""
    with suppress(ProcessLookupError):
        os.kill(process, LEAVE)
    with suppress(OSError):
        note().unlink()


def act_now(limit: float) -> str | None:
    """Have the keeper of this playbook act and wait for it; what it said, or None where there is none."""
    try:
        process = int(json.loads(note().read_text(encoding="utf-8"))["process"])
        os.kill(process, ACT)
    except (OSError, ValueError, KeyError):
        return None
    deadline = time.monotonic() + limit
    while alive(process):
        if time.monotonic() > deadline:
            return "It is still at work, and goes on by itself."
        time.sleep(_PAUSE / 2)
    try:
        return note().with_suffix(".said").read_text(encoding="utf-8")
    except OSError:
        return "It could not say what it did; run the playbook recover."


def _wait(playbook: int, meanwhile: Callable[[], None]) -> str:
    """Why it must act; empty when it must not."""
    told: list[str] = []
    signal.signal(LEAVE, lambda *_args: _leave())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(ACT, lambda *_args: told.append("the playbook was told to end"))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {LEAVE, ACT, signal.SIGINT})
    due = time.monotonic()
    while not told:
        if not alive(playbook):
            return "the playbook ended before its rollout did"
        if time.monotonic() >= due and not stopped(playbook):
            meanwhile()
            due = time.monotonic() + _EVERY
        time.sleep(_PAUSE)
    signal.signal(LEAVE, signal.SIG_IGN)
    return told[0]


def _let_go() -> None:
    """Hold nothing of the step that this came from: its connections must end when it ends them.

    What is open is covered and not closed, so that no object that still thinks it owns a file can close another.
    """
    os.setsid()
    gc.disable()
    nothing = os.open(os.devnull, os.O_RDWR)
    for name in os.listdir("/dev/fd"):
        if int(name) != nothing:
            with suppress(OSError):
                os.fstat(int(name))
                os.dup2(nothing, int(name), inheritable=False)


def _leave() -> NoReturn:
    os._exit(0)


def quiet(display: Any) -> None:
    """Let nothing be said through the playbook, which may be gone."""
    display._final_q = None
