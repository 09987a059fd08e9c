"""Names that reach containers, file names and configuration files."""

from __future__ import annotations

import re

from .errors import LabError

_PREFIX = re.compile(r"[a-z][a-z0-9-]{0,19}", re.ASCII)
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z._+-]{0,63}", re.ASCII)
_POOL = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_.-]{0,62}", re.ASCII)


def prefix(value: str) -> str:
    """A lab's own name: the start of every container and network name."""
    if not _PREFIX.fullmatch(value):
        raise LabError(f"prefix {value!r}: use 1 to 20 lower-case letters, digits and dashes, a letter first")
    return value


def version(value: str) -> str:
    """A version of the sample service: it becomes a directory and a file name."""
    if not _VERSION.fullmatch(value) or ".." in value:
        raise LabError(f"version {value!r}: use letters, digits and . _ + - without '..'")
    return value


def pool(value: str) -> str:
    """The name of a pool in a balancer's configuration."""
    if not _POOL.fullmatch(value):
        raise LabError(f"pool {value!r}: use letters, digits and _ . -")
    return value
