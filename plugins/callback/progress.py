# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: progress
type: notification
short_description: Show a rollout's members, batches and requests live in a terminal
version_added: 0.1.0
description:
  - While a playbook of this collection runs, the foot of the terminal shows a line for each member with its phase and for how
    long, a bar for the whole rollout, and the requests and failures that the witness has counted so far.
  - Everything else that Ansible prints, errors above all, stands above it as always.
  - Where the output is no terminal, as in AWX and in logs, it shows nothing. The playbooks print a plain line for each phase in
    any case.
author:
  - "zerodrop.rollout contributors (@zerodrop)"
requirements:
  - Enable it with C(callbacks_enabled = zerodrop.rollout.progress) in C(ansible.cfg), or with
    E(ANSIBLE_CALLBACKS_ENABLED).
"""

import json
import os
import shutil
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from ansible import constants as C
from ansible.plugins.callback import CallbackBase

from ansible_collections.zerodrop.rollout.plugins.plugin_utils import _progress

_EVERY = 0.5


class Foot:
    """The lines at the foot of the terminal, drawn again below whatever is printed."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.RLock()
        self._drawn: list[str] = []
        self._live = True
        # A task's process has no part in it, and must not wait for a lock that a thread of this one holds.
        os.register_at_fork(before=self._lock.acquire, after_in_parent=self._lock.release, after_in_child=self._forget)

    def _forget(self) -> None:
        self._live, self._drawn, self._lock = False, [], threading.RLock()

    def show(self, lines: list[str]) -> None:
        with self._lock:
            if self._live and lines != self._drawn:
                self._stream.write(_progress.erase(len(self._drawn)) + _progress.block(lines))
                self._stream.flush()
                self._drawn = lines

    def pass_on(self, stream: TextIO, text: str) -> int:
        """Something else is printed: the foot makes room for it."""
        with self._lock:
            if self._drawn:
                self._stream.write(_progress.erase(len(self._drawn)))
                self._stream.flush()
            written = stream.write(text)
            stream.flush()
            if self._drawn and text.endswith("\n"):
                self._stream.write(_progress.block(self._drawn))
                self._stream.flush()
            elif self._drawn:
                self._drawn = []
            return written

    def end(self) -> None:
        self.show([])
        self._live = False


class Above:
    """A stream whose text is written above the foot."""

    def __init__(self, stream: TextIO, foot: Foot) -> None:
        self._stream = stream
        self._foot = foot

    def write(self, text: str) -> int:
        return self._foot.pass_on(self._stream, text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class CallbackModule(CallbackBase):
    """Follows the record of the rollout that runs."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "zerodrop.rollout.progress"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # ansible-runner, and so AWX, gives its jobs a terminal that nobody looks at, and keeps what is written there.
        unseen = str(C.DEFAULT_STDOUT_CALLBACK).endswith("awx_display") or os.environ.get("TERM", "dumb") == "dumb"
        self.disabled = unseen or not sys.stdout.isatty()
        if self.disabled:
            return
        handle, self._pointer = tempfile.mkstemp(prefix="zerodrop-progress-")
        os.close(handle)
        os.environ[_progress.ENVIRONMENT] = self._pointer  # the processes of the tasks inherit it
        self._streams = sys.stdout, sys.stderr
        self._foot = Foot(sys.stdout)
        self._over = threading.Event()
        sys.stdout, sys.stderr = Above(sys.stdout, self._foot), Above(sys.stderr, self._foot)
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        seen: tuple[str, float] = "", 0.0
        record: dict[str, Any] = {}
        while not self._over.wait(_EVERY):
            # The files come and go with the run; a terminal that shows nothing for a moment is no harm.
            with suppress(OSError, ValueError, KeyError, TypeError):
                path = Path(self._pointer).read_text(encoding="utf-8")
                if not path:
                    continue
                changed = os.stat(path).st_mtime
                if (path, changed) != seen:
                    record, seen = json.loads(Path(path).read_text(encoding="utf-8")), (path, changed)
                size = shutil.get_terminal_size()
                now = time.time() - record["started_at"]
                self._foot.show(_progress.lines(record, _witness(record), now, size.columns, size.lines))

    def v2_playbook_on_stats(self, stats: Any) -> None:
        self._over.set()
        self._thread.join(2 * _EVERY)
        self._foot.end()
        sys.stdout, sys.stderr = self._streams
        os.environ.pop(_progress.ENVIRONMENT, None)
        with suppress(OSError):
            os.unlink(self._pointer)


def _witness(record: dict[str, Any]) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(Path(record["witness"]["status"]).read_text(encoding="utf-8"))
    except (KeyError, OSError, ValueError):
        return {}
    return found
