# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""HAProxy's configuration: its lines and words, and ``disabled`` written on a server's line or taken away again.

What is written carries a comment of ours, so that only our own word is ever taken away: a `disabled`
that somebody wrote by hand stays. Nothing else of a file changes, byte for byte. No input or output.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import InvalidConfiguration

OURS = "# zerodrop.rollout holds it out of service"
MARK = f" disabled {OURS}"

SECTIONS = (
    "global", "defaults", "frontend", "backend", "listen", "userlist", "peers", "resolvers", "mailers", "ring",
    "cache", "program", "http-errors", "log-forward", "log-profile", "fcgi-app", "crt-store", "traces", "acme",
)  # fmt: skip

_SPACE = re.compile(r"\s*", re.ASCII)
# A backslash keeps a space, a `#` and quotes; before anything else it stands for itself.
_WORD = re.compile(r"""(?:[^\s"'\\#]|\\[^\t\n\r\f\v]|"(?:[^"\\]|\\.)*"|'[^']*')+""", re.ASCII)
_FIRST = re.compile(r"""\s*([^\s"'\\#]+)(?=[\s#]|$)""", re.ASCII)
_PART = re.compile(r"""\\(.)|"((?:[^"\\]|\\.)*)"|'([^']*)'""")
_KEPT = frozenset(" \\#\"'")


class Word(NamedTuple):
    value: str  # without quotes and escapes; environment variables are left as they stand
    start: int
    end: int


class ServerLine(NamedTuple):
    """A line that defines a server of a pool."""

    file: str
    number: int  # from 1
    name: str
    address: str
    words: tuple[Word, ...]
    ours: bool  # it ends with our mark
    disabled_by_hand: bool

    @property
    def place(self) -> str:
        return f"{self.file}:{self.number}"


def decode(content: bytes) -> str:
    """A file's text; ``encode`` gives back the same bytes, whatever they were."""
    return content.decode("utf-8", "surrogateescape")


def encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def words(line: str) -> list[Word] | None:
    """The words of a line as HAProxy takes them; None for one that it would refuse or that is not understood."""
    found: list[Word] = []
    place = 0
    while True:
        skipped = _SPACE.match(line, place)
        place = skipped.end() if skipped else place
        if place == len(line) or line[place] == "#":
            return found
        word = _WORD.match(line, place)
        if not word:
            return None
        place = word.end()
        found.append(Word(_PART.sub(_plain, word.group()), word.start(), place))


def _plain(part: re.Match[str]) -> str:
    escaped, weak, strong = part.groups()
    if escaped is not None:
        return escaped if escaped in _KEPT else part.group()
    if weak is not None:
        return re.sub(r'\\([\\"$#])', r"\1", weak)
    return strong or ""


def pool_lines(texts: Mapping[str, str], pool: str) -> Iterator[tuple[str, int, str]]:
    """The file, number and text of each line in the sections that define this pool."""
    inside = False
    for file, text in texts.items():
        inside = False  # no section goes on in another file
        for number, line in enumerate(text.split("\n"), 1):
            if _first_word(line) in SECTIONS:
                said = words(line) or []
                inside = len(said) > 1 and said[0].value in ("backend", "listen") and said[1].value == pool
            elif inside:
                yield file, number, line


def _first_word(line: str) -> str:
    """Much quicker than all of them, where it is written plainly."""
    plain = _FIRST.match(line)
    if plain:
        return plain.group(1)
    said = words(line)
    return said[0].value if said else ""


def server_lines(texts: Mapping[str, str], pool: str) -> dict[str, list[ServerLine]]:
    """The lines of each server of a pool; a server may have several, of which `.if` takes one."""
    found: dict[str, list[ServerLine]] = {}
    for file, number, line in pool_lines(texts, pool):
        said = words(line)
        if said is None:
            if re.match(r"\s*server\s", line, re.ASCII):
                raise InvalidConfiguration(f"{file}:{number}: this line is not understood.", file=file, line=number)
            continue
        if len(said) > 2 and said[0].value == "server":
            ours = len(said) > 3 and line.startswith(MARK, said[-2].end)
            values = [word.value for word in (said[3:-1] if ours else said[3:])]
            found.setdefault(said[1].value, []).append(
                ServerLine(file, number, said[1].value, said[2].value, tuple(said), ours, _state(values) == "disabled")
            )
    return found


def _state(values: Sequence[str]) -> str:
    """The last of `enabled` and `disabled` counts."""
    return next((value for value in reversed(values) if value in ("enabled", "disabled")), "")


def edit(texts: Mapping[str, str], pool: str, out: Mapping[str, bool]) -> dict[str, str]:
    """The new texts of the files that change when these servers are held out or put back, by their paths.

    Servers without a line are left alone. Raises ``InvalidConfiguration`` for a line that cannot be changed.
    """
    rows = {file: text.split("\n") for file, text in texts.items()}
    changed = set()
    lines = server_lines(texts, pool)
    for name, wanted in out.items():
        for line in lines.get(name, ()):
            row = rows[line.file][line.number - 1]
            _refuse_changed_mark(row, line)
            if line.ours is not wanted:
                rows[line.file][line.number - 1] = _changed(row, line, wanted)
                changed.add(line.file)
    return {file: "\n".join(rows[file]) for file in changed}


def _changed(row: str, line: ServerLine, out: bool) -> str:
    if out:
        end = line.words[-1].end
        changed, meant = row[:end] + MARK + row[end:], [*line.words, Word("disabled", 0, 0)]
    else:
        end = line.words[-2].end
        changed, meant = row[:end] + row[end + len(MARK) :], list(line.words[:-1])
    said = words(changed)
    if said is None or [word.value for word in said] != [word.value for word in meant]:
        raise InvalidConfiguration(f"{line.place}: this line is written so that it cannot be changed safely.")
    return changed


def _refuse_changed_mark(row: str, line: ServerLine) -> None:
    if not line.ours and OURS in row:
        raise InvalidConfiguration(
            f"{line.place}: the mark of this collection on the server {line.name!r} was changed by somebody.",
            f"Take '{MARK.strip()}' off the line if the server is to serve, then run this again.",
            file=line.file,
            line=line.number,
        )
