"""One at a time, between processes."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def _directory() -> Path:
    run_lock = Path("/run/lock")
    return run_lock if run_lock.is_dir() else Path(tempfile.gettempdir())


@contextmanager
def held(name: str, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock `name`; call `waiting` once if another process has it.

    The kernel gives the lock back when its holder dies, however it dies.
    """
    # Not inherited by children (Python's default), so a container's monitor cannot keep it.
    handle = os.open(_directory() / f"zerodrop-lab-{name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
