# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""A log read from where it was left off, through rotation by rename or by copy, whole lines only."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    BadInput,
    PermissionDenied,
    Unreachable,
)

BLOCK = 1 << 20
MARK = 256  # bytes before the place, whose checksum tells that this is the file that was read
LAST = 64 * 1024  # of a log that is read for the first time, to see whether its format is the one that is meant
PACKED = (".gz", ".bz2", ".xz", ".zst", ".lz4", ".Z", ".zip")


class Place:
    """How far a file was read: its inode, the offset, and a checksum of what stands just before it."""

    def __init__(self, inode: int, offset: int, mark: str) -> None:
        self.inode = inode
        self.offset = offset
        self.mark = mark

    def to_dict(self) -> dict[str, Any]:
        return {"inode": self.inode, "offset": self.offset, "mark": self.mark}

    @classmethod
    def from_dict(cls, data: Any) -> Place:
        try:
            place = cls(int(data["inode"]), int(data["offset"]), str(data["mark"]))
        except (KeyError, TypeError, ValueError):
            place = cls(0, -1, "")
        if place.offset < 0:
            raise BadInput(f"A place in a log must be what an earlier read returned, got {data!r}.")
        return place


class Log:
    """One log file, by its path, with what was rotated away from it."""

    def __init__(self, path: str, places: list[Place]) -> None:
        """``places``: where the last read ended, the present file last; none: this is the first read."""
        self.path = path
        self._places = places
        self.lost = False  # lines were rotated away and are gone

    def first_look(self) -> str:
        """The last lines of a log that was never read; it counts from here on."""
        with opened(self.path) as file:
            size = os.fstat(file.fileno()).st_size
            start = max(0, size - LAST)
            file.seek(start)
            data = file.read(LAST)
            end = data.rfind(b"\n") + 1
            begin = data.find(b"\n") + 1 if start else 0
            self._places = [_place(file, start + end)]
        return str(data[begin:end].decode("utf-8", "replace"))

    def blocks(self) -> Iterator[str]:
        """Everything that was written since, in blocks of whole lines."""
        inodes = {each.inode for each in self._places}
        current = _stat(self.path)
        kept: list[Place] = []
        for number, place in enumerate(self._places):
            last = number == len(self._places) - 1
            path, offset = self._find(place, current)
            if path == self.path:
                continue  # it is read below
            if path is None:
                self.lost = self.lost or last
                continue
            with opened(path) as file:
                before = offset
                for block in _lines(file, offset):
                    offset += len(block)
                    yield block.decode("utf-8", "replace")
                # A process may write on in a file that was rotated until it is told: it is looked at once more.
                if last or offset > before:
                    kept.append(_place(file, offset))
        yield from self._between(current, inodes)
        with opened(self.path) as file:
            now = os.fstat(file.fileno())
            offset = self._offset_of(now, file)
            for block in _lines(file, offset):
                offset += len(block)
                yield block.decode("utf-8", "replace")
            kept.append(_place(file, offset))
        self._places = kept

    def to_dict(self) -> dict[str, Any]:
        return {"files": [place.to_dict() for place in self._places]}

    def rotated(self) -> list[str]:
        """What the log may have been rotated to, the newest first."""
        return [path for path, _found in self._siblings()]

    def _offset_of(self, now: os.stat_result, file: Any) -> int:
        """Where to go on in the present file: where it was left, or at its beginning where it is a new one."""
        for place in self._places:
            if place.inode == now.st_ino and now.st_size >= place.offset and _mark(file, place.offset) == place.mark:
                return place.offset
        return 0

    def _find(self, place: Place, current: os.stat_result) -> Any:
        """The file that was read up to this place, and the offset to go on at; None where it is gone."""
        for path, found in [(self.path, current), *self._siblings()]:
            if found.st_ino == place.inode and found.st_size >= place.offset:
                with opened(path) as file:
                    if _mark(file, place.offset) == place.mark:
                        return path, place.offset
        # Copied and truncated: the copy has another inode and the same lines.
        for path, found in self._siblings():
            if found.st_size >= place.offset and place.offset:
                with opened(path) as file:
                    if _mark(file, place.offset) == place.mark:
                        return path, place.offset
        return None, 0

    def _between(self, current: os.stat_result, known: Any) -> Iterator[str]:
        """Files that came and were rotated away since the last read, the oldest first."""
        if not self._places or current.st_ino == self._places[-1].inode:
            return
        oldest = [found.st_mtime for _path, found in self._siblings() if found.st_ino == self._places[-1].inode]
        if not oldest:
            return
        for path, found in sorted(self._siblings(), key=lambda each: each[1].st_mtime):
            if found.st_ino not in known and found.st_mtime > oldest[0]:
                with opened(path) as file:
                    for block in _lines(file, 0):
                        yield block.decode("utf-8", "replace")

    def _siblings(self) -> list[Any]:
        """What the log may have been rotated to, the newest first."""
        folder, name = os.path.split(self.path)
        found = []
        for entry in os.scandir(folder or "."):
            mine = entry.name != name and entry.name.startswith(name) and not entry.name.endswith(PACKED)
            if mine and entry.is_file(follow_symlinks=False):
                found.append((entry.path, entry.stat()))
        return sorted(found, key=lambda each: -each[1].st_mtime)


def places_of(positions: Mapping[str, Any], path: str) -> list[Place]:
    """Where an earlier read of this log ended; raises ``BadInput``."""
    data = positions.get(path)
    if data is None:
        return []
    files = data.get("files") if isinstance(data, Mapping) else None
    if not isinstance(files, (list, tuple)) or not files:
        raise BadInput(f"The place in {path} must be what an earlier read returned, got {data!r}.")
    return [Place.from_dict(each) for each in files]


def _lines(file: Any, offset: int) -> Iterator[bytes]:
    """Blocks that end with a line; a line that is not whole yet is left for the next time."""
    file.seek(offset)
    rest = b""
    while True:
        data = file.read(BLOCK)
        if not data:
            return
        data = rest + data
        end = data.rfind(b"\n") + 1
        rest = data[end:]
        if end:
            yield data[:end]


def _mark(file: Any, offset: int) -> str:
    start = max(0, offset - MARK)
    file.seek(start)
    return str(hashlib.sha256(file.read(offset - start)).hexdigest()[:16])


def _place(file: Any, offset: int) -> Place:
    return Place(os.fstat(file.fileno()).st_ino, offset, _mark(file, offset))


def _stat(path: str) -> os.stat_result:
    with opened(path) as file:
        return os.fstat(file.fileno())


def opened(path: str) -> Any:
    """A plain file for reading; raises what is the matter with it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise Unreachable(f"There is no log {path}.", "See where the balancer writes its access log.") from error
    except PermissionError as error:
        raise PermissionDenied(f"The log {path} may not be read.", "Use become, or a user who may.") from error
    except (OSError, ValueError) as error:
        raise Unreachable(f"The log {path} cannot be read: {error}.") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BadInput(f"The log {path} is no plain file.", "A pipe or a device cannot be read again.")
    return os.fdopen(descriptor, "rb")
