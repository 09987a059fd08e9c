# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Work of the user's that a setting names: a tasks file, or a command as its words. Pure.

A command never passes through a shell: its words reach the program as they are.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput

_TASKS = (".yml", ".yaml")


@dataclass(frozen=True)
class Work:
    """One of both, or nothing."""

    tasks: str = ""  # a file of tasks, as the user wrote it
    command: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.tasks or self.command)

    def __str__(self) -> str:
        return self.tasks or shlex.join(self.command)

    @classmethod
    def parse(cls, value: Any, name: str) -> Work:
        """From the name of a tasks file (it ends with ``.yml`` or ``.yaml``) or a command, as text or as a list."""
        words = _words(value, name)
        if any(not isinstance(word, str) or any(ord(char) < 32 or ord(char) == 127 for char in word) for word in words):
            raise BadInput(
                f"{name} must be a tasks file or a command, in one line of text or a list of words, got {value!r}."
            )
        if len(words) == 1 and words[0].endswith(_TASKS):
            return cls(tasks=words[0])
        if words and (words[0].startswith("-") or not words[0]):
            raise BadInput(f"{name} names no program: {value!r}.")
        return cls(command=tuple(words))


def _words(value: Any, name: str) -> list[Any]:
    if isinstance(value, str) and value.strip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise BadInput(f"{name} is not a list: {error}.") from error
    if isinstance(value, str):
        if any(ord(char) < 32 or ord(char) == 127 for char in value):
            return [value]
        try:
            return shlex.split(value)
        except ValueError as error:
            raise BadInput(f"{name} is a command with a quotation that does not end: {value!r}.") from error
    return list(value) if isinstance(value, (list, tuple)) else [value]
