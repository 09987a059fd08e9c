# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What outlives a reload of HAProxy: its own server-state file, or ``disabled`` on a server's line.

HAProxy reads both when it starts and writes neither; ``show servers state`` is the content of the state file.
Which file is read, and for which backends, only the configuration says, and which configuration only the
command line of the process that was started with it.
"""

from __future__ import annotations

import glob
import hashlib
import os
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.zerodrop.rollout.plugins.module_utils._files import replace
from ansible_collections.zerodrop.rollout.plugins.module_utils._haproxy import config

_DIALECT = "server-state-file"
_LOAD = "load-server-state-from-file"
_WITH_A_VALUE = ("-C", "-L")  # of the command line, what a test of the configuration needs as well
_TEST_LIMIT = 60.0
# What a master tells itself and systemd, and what a mere test must not take for its own.
_OF_THE_MASTER = ("HAPROXY_MWORKER", "HAPROXY_PROCESSES", "HAPROXY_STARTUPLOGS", "HAPROXY_LOAD", "NOTIFY_SOCKET")


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


@dataclass(frozen=True)
class Launch:
    """How a running HAProxy was started."""

    pid: int  # of the master, or of the only process
    command_line: tuple[str, ...]
    files: tuple[str, ...]  # of its configuration, in their order

    def texts(self) -> dict[str, str]:
        """The files' texts; raises ``NotKept``."""
        return {path: _read(path) for path in self.files}

    def refuse_other_files(self) -> None:
        """Raise ``NotKept`` unless the files that are seen here are the ones that this HAProxy sees."""
        for path in self.files:
            try:
                own, its = os.stat(path), os.stat(f"/proc/{self.pid}/root{path}")
            except PermissionError:
                raise NotKept(
                    f"this user may not see whether {path} is the file that HAProxy sees (use become)"
                ) from None
            except OSError as error:
                raise NotKept(
                    f"HAProxy runs in a container or chroot, or has ended: its {path} cannot be seen: {error.strerror}"
                ) from None
            if not os.path.samestat(own, its):
                raise NotKept(f"HAProxy runs in a container or chroot, where {path} is another file")

    def refuse_read_only(self, paths: Iterable[str]) -> None:
        """Raise ``NotKept`` unless this user may replace these files."""
        for path in paths:
            real = os.path.realpath(path)
            if not os.access(os.path.dirname(real), os.W_OK) or not os.access(real, os.W_OK):
                raise NotKept(f"this user may not write {path}")

    def replace(self, texts: Mapping[str, str]) -> None:
        """Put new texts in place of old ones, each in one step; raises ``OSError``."""
        for path, text in texts.items():
            replace(os.path.realpath(path), config.encode(text))

    def fingerprint(self, texts: Mapping[str, str]) -> str:
        """What a test of these texts depends on: the same again means that it need not be made again."""
        try:
            program = os.stat(f"/proc/{self.pid}/exe")
            of_program = (program.st_dev, program.st_ino, program.st_size, program.st_mtime_ns)
        except OSError:
            of_program = (0, 0, 0, 0)
        parts = [repr((of_program, self.command_line)).encode(), *(config.encode(texts[path]) for path in self.files)]
        return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()

    def complaint(self, texts: Mapping[str, str] | None = None) -> str:
        """What HAProxy has against its files, with these texts in place of theirs; empty when it takes them."""
        arguments = ["-c", *(["-dr"] if "-dr" in self.command_line else [])]
        for option, value in zip(self.command_line, self.command_line[1:]):
            if option in _WITH_A_VALUE:
                arguments += [option, value]
        made: dict[str, str] = {}
        try:
            for path in self.files:
                if texts is not None and path in texts:
                    # Paths in it may be relative to its folder, so that is where it is tested.
                    beside = _beside(path, texts[path])
                    made[beside] = path
                    path = beside
                arguments += ["-f", path]
            said = self._test(arguments)
            for beside, path in made.items():
                said = said.replace(beside, path)
            return said
        except OSError as error:
            return f"{error.filename} cannot be written: {error.strerror}"
        finally:
            for path in made:
                os.unlink(path)

    def _test(self, arguments: Sequence[str]) -> str:
        try:
            done = subprocess.run(  # pylint: disable=ansible-bad-function  # also runs where there is no module
                [f"/proc/{self.pid}/exe", *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                env=_environment(self.pid),
                timeout=_TEST_LIMIT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"`haproxy -c` does not end within {_TEST_LIMIT:g} s"
        except OSError as error:
            return f"`haproxy -c` cannot be run: {error.strerror}"
        if done.returncode == 0:
            return ""
        said = [line for line in done.stderr.splitlines() if "[ALERT]" in line][:3]
        return " | ".join(said) or f"`haproxy -c` ends with exit code {done.returncode}"


def _beside(path: str, text: str) -> str:
    """A file with this text in the same folder, under a name that no HAProxy reads by itself."""
    handle, name = tempfile.mkstemp(dir=os.path.dirname(os.path.realpath(path)), prefix=".zerodrop-", suffix=".new")
    with os.fdopen(handle, "wb") as file:
        file.write(config.encode(text))
    return name


def launch_of(pid: int) -> Launch:
    """How the HAProxy of this worker was started; raises ``NotKept``."""
    parent = _parent(pid)
    # The worker may be in a chroot; its master is not, and has the same command line.
    if parent > 1 and _is_haproxy(_command_line(parent)):
        pid = parent
    command_line = _command_line(pid)
    return Launch(pid, tuple(command_line), tuple(configurations(command_line, _folder(pid))))


def configurations(command_line: Sequence[str], folder: str) -> list[str]:
    """The configuration files that a command line names."""
    named = [value for option, value in zip(command_line, command_line[1:]) if option == "-f"]
    if "--" in command_line:
        named += [value for value in command_line[command_line.index("--") + 1 :] if value]
    if not named or not _is_haproxy(command_line):
        raise NotKept("the command line of HAProxy's process cannot be read or names no configuration")
    moved = [value for option, value in zip(command_line, command_line[1:]) if option == "-C"]
    found: list[str] = []
    for name in named:
        path = os.path.join(folder, *moved[-1:], name)
        if not os.path.isabs(path):
            raise NotKept(f"its configuration {name!r} is named relative to a folder that is not known")
        found += sorted(glob.glob(f"{glob.escape(path)}/*.cfg")) if os.path.isdir(path) else [path]
    return found


def _is_haproxy(command_line: Sequence[str]) -> bool:
    return "haproxy" in os.path.basename(command_line[0])


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
        for line in text.split("\n"):
            words = [word.value for word in config.words(line) or ()]
            if not words:
                continue
            if words[0] in config.SECTIONS:
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


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return config.decode(file.read())
    except OSError as error:
        raise NotKept(f"its configuration {path} cannot be read: {error.strerror}") from None


def _command_line(pid: int) -> list[str]:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return [os.fsdecode(word) for word in file.read().split(b"\0")[:-1]] or [""]
    except OSError:
        return [""]


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def _environment(pid: int) -> dict[str, str]:
    """What its configuration may refer to."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            pairs = [os.fsdecode(each).partition("=") for each in file.read().split(b"\0") if each]
    except OSError:
        return dict(os.environ)
    return {name: value for name, _sign, value in pairs if not name.startswith(_OF_THE_MASTER)}


def _folder(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return ""
