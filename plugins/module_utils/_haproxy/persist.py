# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Make servers' state outlive a reload: HAProxy's own server-state file, where its configuration reads one.

HAProxy reads that file when it starts and never writes it; ``show servers state`` is its content. Which
file, and for which backends, only the configuration says, and which configuration only the process's own
command line.
"""

from __future__ import annotations

import glob
import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.zerodrop.rollout.plugins.module_utils._files import replace

_DIALECT = "server-state-file"
_LOAD = "load-server-state-from-file"
_SECTIONS = (
    "global", "defaults", "frontend", "backend", "listen", "userlist", "peers", "resolvers", "mailers", "ring",
    "cache", "program", "http-errors", "log-forward", "fcgi-app", "crt-store", "traces", "acme",
)  # fmt: skip


class NotKept(Exception):
    """Nothing is read at the next start; says why, for people."""


@dataclass(frozen=True)
class StateFile:
    """Where HAProxy looks for the state of a backend's servers."""

    path: str
    whole: bool  # it has every backend's servers, not this one's alone

    def write(self, state: str) -> None:
        """Replace it in one step; owner, mode and SELinux label stay. Raises ``OSError``."""
        replace(self.path, state.encode("utf-8", "replace"), mode=0o644)


def of_process(pid: int, pool: str) -> StateFile:
    """The file of a pool of a running HAProxy; raises ``NotKept``."""
    return state_file([_read(path) for path in configurations(_command_line(pid), _folder(pid))], pool)


def configurations(command_line: Sequence[str], folder: str) -> list[str]:
    """The configuration files that a command line names."""
    named = [value for option, value in zip(command_line, command_line[1:]) if option == "-f"]
    if not named or "haproxy" not in os.path.basename(command_line[0]):
        raise NotKept("the command line of HAProxy's process cannot be read or names no configuration")
    moved = [value for option, value in zip(command_line, command_line[1:]) if option == "-C"]
    found: list[str] = []
    for name in named:
        path = os.path.join(folder, *moved[-1:], name)
        if not os.path.isabs(path):
            raise NotKept(f"its configuration {name!r} is named relative to a folder that is not known")
        found += sorted(glob.glob(f"{glob.escape(path)}/*.cfg")) if os.path.isdir(path) else [path]
    return found


def state_file(texts: Iterable[str], pool: str) -> StateFile:
    """The file that HAProxy with this configuration reads for a pool's servers; raises ``NotKept``."""
    base, whole, mode, name = "", "", "none", ""
    for section, lines in _sections(texts, pool):
        if section == "global":
            base = lines.get("server-state-base", base)
            whole = lines.get(_DIALECT, whole)
        else:
            mode = lines.get(_LOAD, "none")
            name = lines.get(f"{_DIALECT}-name", "")
    if mode == "none":
        raise NotKept(f"its configuration has no '{_LOAD}' for the backend {pool}")
    if mode == "local":
        return StateFile(_absolute(base, pool if name in ("", "use-backend-name") else name), whole=False)
    if not whole:
        raise NotKept(f"its configuration has '{_LOAD} {mode}', but no '{_DIALECT}'")
    return StateFile(_absolute(base, whole), whole=True)


def _absolute(base: str, name: str) -> str:
    path = os.path.join(base, name)
    if not os.path.isabs(path) or "$" in path:
        raise NotKept(f"where its {_DIALECT} {path!r} lies is not known")
    return path


def _sections(texts: Iterable[str], pool: str) -> Iterable[tuple[str, Mapping[str, str]]]:
    """The global sections, and the pool's settings with those of its defaults, in the order they stand in."""
    named: dict[str, dict[str, str]] = {}
    defaults: dict[str, str] = {}
    section, lines = "", {}  # type: str, dict[str, str]
    for text in texts:
        for line in text.splitlines():
            words = _words(line)
            if not words:
                continue
            if words[0] in _SECTIONS:
                if section:
                    yield section, lines
                section, lines = "", {}
                inherited = named.get(words[words.index("from") + 1], {}) if "from" in words[1:-1] else None
                if words[0] == "global":
                    section = "global"
                elif words[0] == "defaults":
                    defaults = lines = dict(inherited or {})
                    if len(words) > 1 and words[1] != "from":
                        named[words[1]] = lines
                elif words[0] in ("backend", "listen") and words[1:2] == [pool]:
                    section, lines = "pool", dict(defaults if inherited is None else inherited)
            elif words[0] in (_LOAD, _DIALECT, f"{_DIALECT}-name", "server-state-base"):
                lines[words[0]] = words[1] if len(words) > 1 else ""
    if section:
        yield section, lines


def _words(line: str) -> list[str]:
    if not re.match(r"\s*[a-z]", line):
        return []
    try:
        return shlex.split(line, comments=True)
    except ValueError:
        return line.split()


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError as error:
        raise NotKept(f"its configuration {path} cannot be read: {error.strerror}") from None


def _command_line(pid: int) -> list[str]:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return [os.fsdecode(word) for word in file.read().split(b"\0")[:-1]] or [""]
    except OSError:
        return [""]


def _folder(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return ""
