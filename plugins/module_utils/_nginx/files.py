# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""nginx's files: read for the editor, replaced in one step and put back as they were."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping, Sequence

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import ChangedByOther
from ansible_collections.zerodrop.rollout.plugins.module_utils._files import replace


class OnDisk:
    """The files of a configuration, and what to look at to know whether any of them has changed."""

    def __init__(self) -> None:
        self._looked_at: set[str] = set()

    def read(self, path: str) -> bytes:
        self._looked_at.add(path)
        with open(path, "rb") as file:
            return file.read()

    def glob(self, pattern: str) -> Sequence[str]:
        self._looked_at.add(os.path.dirname(pattern))
        return sorted(glob.glob(pattern), key=os.fsencode)

    def real(self, path: str) -> str:
        return os.path.realpath(path)

    def signature(self) -> tuple[tuple[str, int, int, int], ...]:
        """Another value means that some file is another one now."""
        found = []
        for path in sorted(self._looked_at):
            try:
                stat = os.stat(path)
                found.append((path, stat.st_ino, stat.st_mtime_ns, stat.st_size))
            except OSError:
                found.append((path, 0, 0, 0))
        return tuple(found)


class Replaced:
    """Files whose texts are replaced, with what is needed to put them back."""

    def __init__(self) -> None:
        self._old: dict[str, tuple[bytes, os.stat_result]] = {}

    def write(self, expected: Mapping[str, bytes], wanted: Mapping[str, bytes]) -> None:
        """Replace the files that are still as expected; raises ``ChangedByOther`` before the first otherwise."""
        for path in wanted:
            with open(path, "rb") as file:
                if file.read() != expected[path]:
                    raise ChangedByOther(
                        f"{path} was changed by somebody else in the same moment; nothing was touched.",
                        "See who else works on this balancer, then run this again.",
                    )
        for path, content in wanted.items():
            self._old[path] = (expected[path], os.stat(path))
            replace(path, content)

    def restore(self) -> None:
        """The old contents, and their times: a file must not look newer than the workers that run it."""
        for path, (content, stat) in self._old.items():
            replace(path, content)
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
