# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""nginx's configuration language: tokens, words and directives, by the rules of nginx's own reader.

A file is text decoded by ``decode``, which keeps every byte, also those that are
no UTF-8. Tokens lie side by side without a hole, so that joined they are the text.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import InvalidConfiguration

SPACE, COMMENT, QUOTED, PLAIN, MARK, LUA = "space", "comment", "quoted", "plain", "mark", "lua"

# ngx_conf_read_token(): a word begins after space. Only then do quotes, `}` and `#` mean anything; `${` never opens
# a block; a backslash keeps whatever follows it.
_TOKEN = re.compile(
    r"""
      (?P<space> [ \t\r\n]+ )
    | (?P<comment> \#[^\n]* )
    | (?P<quoted> "[^"\\]*(?:\\.[^"\\]*)*" | '[^'\\]*(?:\\.[^'\\]*)*' )
    | (?P<mark> [;{}] )
    | (?P<plain> (?!["']) (?:[^ \t\r\n;{\\$]+ | \\. | \$\{*)+ )
    """,
    re.DOTALL | re.VERBOSE,
)
_AFTER_QUOTED = frozenset(" \t\r\n;{)")
_ESCAPE = re.compile(r"""\\(["'\\trn])""")
_ESCAPED = {"t": "\t", "r": "\r", "n": "\n"}

# The Lua module reads its blocks by itself: everything up to the brace that closes, leaving out the braces in
# strings, comments and long brackets. A quote that is not closed on its line is no string.
_LUA_BLOCK = re.compile(r"[a-z_]+_by_lua_block\Z")
_LUA_TOKEN = re.compile(
    r"""
      (?P<open> \{ ) | (?P<close> \} )
    | (?: -- )? \[ (?P<level> =* ) \[
    | --[^\n]*
    | "(?:\\[^\n]|[^"\n\\])*" | '(?:\\[^\n]|[^'\n\\])*'
    """,
    re.VERBOSE,
)


def decode(content: bytes) -> str:
    """A file's text; ``encode`` gives back the same bytes, whatever they were."""
    return content.decode("utf-8", "surrogateescape")


def encode(text: str) -> bytes:
    """The bytes of a text that ``decode`` made."""
    return text.encode("utf-8", "surrogateescape")


def shown(value: str) -> str:
    """A word of a file, for a message."""
    return repr(value if len(value) <= 80 else value[:77] + "...")


class Token(NamedTuple):
    kind: str
    start: int
    end: int


class Word(NamedTuple):
    value: str  # without quotes and escapes
    start: int
    end: int


@dataclass(frozen=True)
class Directive:
    words: tuple[Word, ...]
    end: int  # behind its `;` or `{`
    block: list[Directive] | None  # None when it ends with `;`; a Lua block is empty

    @property
    def name(self) -> str:
        return self.words[0].value

    @property
    def start(self) -> int:
        return self.words[0].start


class Source:
    """One file: its name for messages, its text, its directives; raises ``InvalidConfiguration``."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self._ends = [found.start() for found in re.finditer("\n", text)]
        self.directives = self._parse()

    def line(self, offset: int) -> int:
        """The line of a place in the text, as nginx counts them."""
        return bisect_left(self._ends, offset) + 1

    def invalid(self, offset: int, message: str, hint: str = "") -> InvalidConfiguration:
        """The error to raise about this place."""
        line = self.line(offset)
        return InvalidConfiguration(f"{self.name}:{line}: {message}", hint, file=self.name, line=line)

    def tokens(self) -> Iterator[Token]:
        """The whole text as tokens, one behind the other."""
        text, place, size = self.text, 0, len(self.text)
        statement: list[Token] = []  # the words of a directive so far
        while place < size:
            found = _TOKEN.match(text, place)
            kind = found.lastgroup if found else None
            if found is None or kind is None:
                raise self.invalid(place, self._unmatched(place))
            token = Token(kind, place, found.end())
            yield token
            place = token.end
            if kind == QUOTED:
                if place < size and text[place] not in _AFTER_QUOTED:
                    raise self.invalid(place, f"unexpected {shown(text[place])} behind a quoted word.")
                statement.append(token)
            elif kind == PLAIN:
                statement.append(token)
            elif kind == MARK:
                if text[token.start] == "{" and statement and _LUA_BLOCK.match(word(text, statement[0]).value):
                    end = self._lua_end(token)
                    if end > place:
                        yield Token(LUA, place, end)
                    place = end
                statement = []

    def _unmatched(self, place: int) -> str:
        if self.text[place] in "\"'":
            return f"a quoted word has no closing {shown(self.text[place])}."
        return "unexpected end of the file behind a backslash."

    def _lua_end(self, brace: Token) -> int:
        """Where the Lua code behind this brace ends: at the brace that closes it."""
        place, depth = brace.end, 1
        while True:
            found = _LUA_TOKEN.search(self.text, place)
            if not found:
                raise self.invalid(brace.start, "the Lua block is never closed.")
            place = found.end()
            level = found.group("level")
            if level is not None:
                closing = f"]{level}]"
                place = self.text.find(closing, place)
                if place < 0:
                    raise self.invalid(found.start(), f"the Lua block lacks the closing {closing}.")
                place += len(closing)
            elif found.group("open"):
                depth += 1
            elif found.group("close"):
                depth -= 1
                if not depth:
                    return found.start()

    def _parse(self) -> list[Directive]:
        top: list[Directive] = []
        blocks: list[tuple[Directive, list[Directive]]] = []  # those that are open
        current = top
        words: list[Word] = []
        for token in self.tokens():
            if token.kind in (QUOTED, PLAIN):
                words.append(self._word(token))
                continue
            if token.kind != MARK:
                continue
            mark = self.text[token.start]
            if mark == "}":
                if words or not blocks:
                    raise self.invalid(token.start, 'unexpected "}".')
                blocks.pop()
                current = blocks[-1][1] if blocks else top
                continue
            if not words:
                raise self.invalid(token.start, f'unexpected "{mark}".')
            inner: list[Directive] | None = [] if mark == "{" else None
            directive = Directive(tuple(words), token.end, inner)
            current.append(directive)
            words = []
            if inner is not None:
                blocks.append((directive, inner))
                current = inner
        if words:
            raise self.invalid(len(self.text), 'unexpected end of the file, expecting ";" or "{".')
        if blocks:
            raise self.invalid(blocks[-1][0].start, f"the block of {shown(blocks[-1][0].name)} is never closed.")
        return top

    def _word(self, token: Token) -> Word:
        found = word(self.text, token)
        if "\0" in found.value:
            raise self.invalid(token.start, "there is a NUL byte in a word.")
        return found

    def all_directives(self) -> Iterator[Directive]:
        """Every directive, those in blocks included."""
        left = [iter(self.directives)]
        while left:
            directive = next(left[-1], None)
            if directive is None:
                left.pop()
                continue
            yield directive
            if directive.block:
                left.append(iter(directive.block))


def word(text: str, token: Token) -> Word:
    """The word that a token of kind QUOTED or PLAIN stands for."""
    start, end = token.start, token.end
    value = text[start + 1 : end - 1] if token.kind == QUOTED else text[start:end]
    if "\\" in value:
        value = _ESCAPE.sub(lambda found: _ESCAPED.get(found.group(1), found.group(1)), value)
    return Word(value, start, end)


def statements(source: Source) -> list[tuple[int, str]]:
    """What the text says, without how it is written: its words and marks, each with the place where it begins."""
    said = []
    for token in source.tokens():
        if token.kind in (QUOTED, PLAIN):
            said.append((token.start, "=" + word(source.text, token).value))
        elif token.kind in (MARK, LUA):
            said.append((token.start, source.text[token.start : token.end]))
    return said
