# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What ``ansible-playbook`` itself does when it is told to end: it waits until its rollout was cancelled in order.

ansible-core passes a signal on to the processes of its tasks and ends at once.
The strategy loads the class of an action in the process of the playbook before
it forks a task: the one place where a collection gets hold of that process. The
handlers that ansible-core has set are kept, and have the last word.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

from ansible.executor.task_queue_manager import TaskQueueManager
from ansible.utils.display import Display

from ansible_collections.zerodrop.rollout.plugins.plugin_utils import _keeper

LIMIT = 12.0  # seconds; a second signal ends it at once
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def install() -> None:
    """Wait for the keeper before the playbook ends; nothing is done where this is no playbook's own process."""
    for number in _SIGNALS:
        handler = signal.getsignal(number)
        owner = getattr(handler, "__self__", None)
        if callable(handler) and isinstance(owner, TaskQueueManager):
            with suppress(ValueError):  # not in the main thread: another kind of program
                signal.signal(number, _waiting(handler, owner, os.getpid()))


def _waiting(
    then: Callable[[int, FrameType | None], Any], playbook: TaskQueueManager, process: int
) -> Callable[[int, FrameType | None], Any]:
    def handle(number: int, frame: FrameType | None) -> Any:
        if os.getpid() == process:
            for each in _SIGNALS:
                signal.signal(each, signal.SIG_DFL)
            if _keeper.note().exists():
                Display().display(
                    "Cancelling: members are put back where that is safe. A second signal ends this at once."
                )
            _end_tasks(playbook, number)
            said = _keeper.act_now(LIMIT)
            if said is not None:
                Display().display(f"Cancelled. {said}")
                sys.stdout.flush()  # what ends by a signal writes nothing more
        return then(number, frame)

    return handle


def _end_tasks(playbook: TaskQueueManager, number: int) -> None:
    """The tasks that run end first, so that nobody else works on the fleet when the keeper does."""
    for worker in playbook.get_workers():
        if worker is not None and worker.is_alive():
            with suppress(ProcessLookupError):
                os.kill(worker.pid, number)
