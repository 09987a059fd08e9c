# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Files on a host, replaced whole or not at all, and locks that are waited for."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Callable

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import PermissionDenied, TimedOut

LOCK_FOLDER = "/run/zerodrop"

_LOCK_PAUSE = 0.02
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


@contextmanager
def configuration_lock(
    kind: str, config: str, limit: float, now: Callable[[], float] = time.monotonic
) -> Iterator[None]:
    """Let one change of this balancer's files at a time go on, whichever service it is for; ends with its holder."""
    name = hashlib.sha256(os.path.realpath(config).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    path = f"{LOCK_FOLDER}/{kind}-{name}.lock"
    try:
        os.makedirs(LOCK_FOLDER, mode=0o755, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise PermissionDenied(
            f"The lock {path} cannot be had: {error.strerror}.", "Become root on the balancer."
        ) from None
    try:
        if not take_lock(handle, limit, _LOCK_PAUSE, now):
            raise TimedOut(
                f"Another change of {config} has been going on for {limit:g} s; nothing was changed.",
                "See which process holds the lock " + path + ", then run this again.",
            )
        yield
    finally:
        os.close(handle)


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


def changed_lines(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """What became of the files, line by line, as ``FILE:NUMBER: LINE``; their lines keep their numbers."""
    return [
        f"{path}:{number}: {new.strip()}"
        for path, text in after.items()
        for number, (old, new) in enumerate(zip(before[path].splitlines(), text.splitlines()), 1)
        if old != new
    ]
