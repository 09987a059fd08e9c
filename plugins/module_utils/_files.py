# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Files on a host, replaced whole or not at all, and locks that are waited for."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
import time
from typing import Any, Callable

_LABEL = "security.selinux"


def replace_json(path: str, data: Any, mode: int) -> None:
    """Write data to a file in one step that survives a crash; its folder is made. Raises ``OSError``."""
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    _replace(path, json.dumps(data).encode("utf-8"), lambda handle: os.fchmod(handle, mode))


def replace(path: str, content: bytes, mode: int | None = None) -> None:
    """Replace a file in one step; owner, mode and SELinux label stay. Raises ``OSError``.

    A file that is not there is made with ``mode``; without one it must be there.
    """
    try:
        old = os.stat(path)
    except FileNotFoundError:
        if mode is None:
            raise
        new_mode = mode
        _replace(path, content, lambda handle: os.fchmod(handle, new_mode))
        return

    def keep(handle: int) -> None:
        os.fchown(handle, old.st_uid, old.st_gid)
        os.fchmod(handle, old.st_mode & 0o7777)
        try:
            label = os.getxattr(path, _LABEL)
        except OSError:
            return
        os.setxattr(handle, _LABEL, label)

    _replace(path, content, keep)


def take_lock(handle: int, limit: float, pause: float = 0.05, now: Callable[[], float] = time.monotonic) -> bool:
    """Wait for the lock of an open file, which ends with the file; False where it cannot be had in time."""
    deadline = now() + limit
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if now() >= deadline:
                return False
        time.sleep(pause)


def _replace(path: str, content: bytes, rights: Callable[[int], None]) -> None:
    # A name that no `*.conf` fits: a reload in this moment must not read it.
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".zerodrop-", suffix=".new")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            rights(file.fileno())
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
