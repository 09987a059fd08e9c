# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The upstreams of an nginx configuration, over all its files. No input or output: files are read by callbacks.

Only what matters for upstreams is followed: ``http`` and ``stream``, the ``upstream`` blocks in them, and every
``include`` on the way there. What stands in a ``server`` or a ``map`` cannot hold an upstream and is left alone.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    InvalidConfiguration,
    UnknownMember,
    UnknownPool,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._nginx import addresses
from ansible_collections.zerodrop.rollout.plugins.module_utils._nginx.tokens import Directive, Source, decode, shown

MAIN, HTTP, STREAM, UPSTREAM = "main", "http", "stream", "upstream"
METHODS = (
    "ip_hash", "hash", "least_conn", "least_time", "random", "fair", "balancer_by_lua", "balancer_by_lua_file",
    "balancer_by_lua_block",
)  # fmt: skip

_GLOB = re.compile(r"[*?\[]")
_OTHER_GLOB = re.compile(r"\\|\[\^|\[[:.=]|\*\*")  # glob(3) and Python's glob read these differently
_INCLUDE_DEPTH = 50
_INCLUDES = 20_000
_NUMBER = re.compile(r"[0-9]{1,18}\Z")


def is_weight(text: object) -> bool:
    """Whether this is a weight as it may stand behind ``weight=``."""
    return isinstance(text, str) and bool(_NUMBER.match(text)) and int(text) > 0


class Files(Protocol):
    """How a configuration's files are read; errors of the system come as ``OSError``."""

    def read(self, path: str) -> bytes:
        """A file's content."""

    def glob(self, pattern: str) -> Sequence[str]:
        """The files that fit a pattern, as glob(3) sees it: no hidden ones, sorted by bytes, none is no error."""

    def real(self, path: str) -> str:
        """The path without symbolic links, so that one file has one name."""


class Settings(NamedTuple):
    """What may be changed on a server. Plain data, to be kept and given back later."""

    down: bool
    drain: bool
    weight: int | str  # as it stands in the file, such as "5"; "" when it is not there, which means 1

    @property
    def in_service(self) -> bool:
        return not self.down and not self.drain


@dataclass(frozen=True)
class Server:
    """One ``server`` line of one upstream."""

    upstream: str
    context: str
    position: int  # among the servers of its upstream, from 1
    address: str  # as it stands in the file
    host: str
    port: int | None
    socket: str
    parameters: tuple[str, ...]
    source: str
    line: int
    start: int  # of the word `server` in the file's text
    end: int  # behind its semicolon

    def parameter(self, name: str) -> str | None:
        """The value of ``name=value``: the last one, as for nginx. None when it is not there."""
        values = [text[len(name) + 1 :] for text in self.parameters if text.startswith(name + "=")]
        return values[-1] if values else None

    @property
    def settings(self) -> Settings:
        return Settings(self.down, self.drain, self.parameter("weight") or "")

    @property
    def down(self) -> bool:
        return "down" in self.parameters

    @property
    def drain(self) -> bool:
        return "drain" in self.parameters

    @property
    def backup(self) -> bool:
        return "backup" in self.parameters

    @property
    def resolve(self) -> bool:
        return "resolve" in self.parameters

    @property
    def weight(self) -> int:
        return int(self.parameter("weight") or "1")


@dataclass(frozen=True)
class Upstream:
    """One ``upstream`` block."""

    name: str
    context: str  # http or stream
    servers: tuple[Server, ...]
    directives: tuple[tuple[str, ...], ...]  # all but the servers, words by words
    source: str
    line: int

    def choose(self, address: str, occurrence: int | None = None, every: bool = False) -> list[Server]:
        """The server with this address, written as in the file; raises ``UnknownMember`` unless it is exactly one.

        ``occurrence`` chooses among several of one address, from 1; ``every`` takes them all.
        """
        found = [server for server in self.servers if server.address == address]
        facts: dict[str, Any] = {"upstream": self.name, "servers": [server.address for server in self.servers]}
        if not found:
            raise UnknownMember(
                f"Upstream {shown(self.name)} has no server {shown(address)}.", f"It has {self._servers()}.", **facts
            )
        if occurrence is not None:
            if not 1 <= occurrence <= len(found):
                raise UnknownMember(
                    f"Upstream {shown(self.name)} has {len(found)} servers {shown(address)}, not {occurrence}.",
                    **facts,
                )
            return [found[occurrence - 1]]
        if len(found) > 1 and not every:
            places = ", ".join(f"{server.source}:{server.line}" for server in found)
            raise UnknownMember(
                f"Upstream {shown(self.name)} has {len(found)} servers {shown(address)}: {places}.", **facts
            )
        return found

    def _servers(self) -> str:
        names = [server.address for server in self.servers]
        return (", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")) or "none"

    def directive(self, name: str) -> tuple[str, ...] | None:
        """The arguments of a directive: of the last one of its name. None when it is not there."""
        found = [words[1:] for words in self.directives if words[0] == name]
        return found[-1] if found else None

    @property
    def method(self) -> str:
        """What chooses a server: ``ip_hash``, ``hash``, ``least_conn``, ``random`` ... or ``round_robin``."""
        found = [words[0] for words in self.directives if words[0] in METHODS]
        return found[-1] if found else "round_robin"

    @property
    def method_parameters(self) -> tuple[str, ...]:
        return self.directive(self.method) or ()

    @property
    def sticky(self) -> tuple[str, ...] | None:
        """The arguments of ``sticky``; None when there is none."""
        return self.directive("sticky")

    @property
    def zone(self) -> str:
        """The name of the shared memory; empty when each worker keeps its own state."""
        found = self.directive("zone")
        return found[0] if found else ""

    @property
    def keepalive(self) -> int | None:
        """How many idle connections a worker keeps; None when the file leaves it to nginx."""
        found = self.directive("keepalive")
        return int(found[0]) if found else None

    @property
    def state_file(self) -> str:
        """Where nginx keeps servers that are not in its configuration; empty when nowhere."""
        found = self.directive("state")
        return found[0] if found else ""


class Configuration:
    """All upstreams of a configuration, and the texts of the files that were read, by their real paths."""

    def __init__(self, sources: Mapping[str, Source], upstreams: Sequence[Upstream]) -> None:
        self.sources = dict(sources)
        self.upstreams = tuple(upstreams)
        seen: dict[tuple[str, str], Upstream] = {}
        for upstream in self.upstreams:
            key = upstream.context, upstream.name.lower()  # nginx compares them without regard to case
            first = seen.setdefault(key, upstream)
            if first is not upstream:
                raise InvalidConfiguration(
                    f"{upstream.source}:{upstream.line}: upstream {shown(upstream.name)} stands a second time; "
                    f"the first is at {first.source}:{first.line}.",
                    file=upstream.source,
                    line=upstream.line,
                )

    def upstream(self, name: str, context: str | None = None) -> Upstream:
        """The upstream of this name; raises ``UnknownPool`` unless it is exactly one."""
        found = [one for one in self.upstreams if one.name == name and context in (None, one.context)]
        if not found:
            names = sorted({one.name for one in self.upstreams})
            raise UnknownPool(
                f"nginx's configuration has no upstream {shown(name)}.",
                f"It has {', '.join(names[:20]) or 'none'}.",
                upstreams=names,
            )
        if len(found) > 1:
            raise UnknownPool(f"There is an upstream {shown(name)} in http and one in stream.", "Say which one.")
        return found[0]


def load(path: str, files: Files) -> Configuration:
    """The configuration that nginx reads from ``path`` (its ``-c``); raises ``InvalidConfiguration``."""
    reader = _Reader(files, posixpath.dirname(path))
    try:
        source = reader.source(path)
    except OSError as error:
        raise InvalidConfiguration(f"{path} cannot be read: {error.strerror or error}.", file=path) from None
    reader.walk(source, source.directives, MAIN, [source.name])
    return Configuration(reader.sources, reader.upstreams)


def of_text(text: str, name: str = "nginx.conf", context: str = MAIN) -> Configuration:
    """The same for one text alone, which stands in ``context``: ``main``, ``http`` or ``stream``.

    Its includes are left out, but not in an upstream: the rest of its servers would be missing.
    """
    reader = _Reader(None, "")
    source = reader.sources[name] = Source(name, text)
    reader.walk(source, source.directives, context, [name])
    return Configuration(reader.sources, reader.upstreams)


def read(text: str, name: str = "nginx.conf", context: str = MAIN) -> list[Upstream]:
    """The upstreams of one text."""
    return list(of_text(text, name, context).upstreams)


class _Block:
    """An upstream that is being read."""

    def __init__(self, name: str, context: str) -> None:
        self.name = name
        self.context = context
        self.servers: list[Server] = []
        self.directives: list[tuple[str, ...]] = []


class _Reader:
    def __init__(self, files: Files | None, directory: str) -> None:
        self._files = files
        self._directory = directory  # of the first file; every relative include starts here
        self._included = 0
        self._block = _Block("", "")
        self.sources: dict[str, Source] = {}
        self.upstreams: list[Upstream] = []

    def source(self, path: str) -> Source:
        files = self._files
        if files is None:
            raise ValueError("this configuration was read without a way to read files")
        real = files.real(path)
        if real not in self.sources:
            self.sources[real] = Source(real, decode(files.read(path)))
        return self.sources[real]

    def walk(self, source: Source, directives: Sequence[Directive], context: str, way: list[str]) -> None:
        for directive in directives:
            name = directive.name
            if name == "include":
                self._include(source, directive, context, way)
            elif context == UPSTREAM:
                self._in_upstream(source, directive)
            elif context == MAIN and name in (HTTP, STREAM):
                if directive.block is None or len(directive.words) != 1:
                    raise source.invalid(directive.start, f"{name} is a block without arguments.")
                self.walk(source, directive.block, name, way)
            elif context in (HTTP, STREAM) and name == "upstream":
                self._upstream(source, directive, context, way)

    def _include(self, source: Source, directive: Directive, context: str, way: list[str]) -> None:
        if directive.block is not None or len(directive.words) != 2 or not directive.words[1].value:
            raise source.invalid(directive.start, "include takes one file or pattern.")
        pattern = directive.words[1].value
        if self._files is None:
            if context == UPSTREAM:
                raise source.invalid(
                    directive.start, f"the servers in {shown(pattern)} are not known from this text alone."
                )
            return
        path = posixpath.join(self._directory, pattern)
        if _GLOB.search(path):
            if _OTHER_GLOB.search(path):
                raise source.invalid(directive.start, f"the pattern {shown(pattern)} is not understood.")
            paths = list(self._files.glob(path))
        else:
            paths = [path]
        for path in paths:
            self._included += 1
            try:
                found = self.source(path)
            except (OSError, ValueError) as error:
                why = getattr(error, "strerror", None) or error
                raise source.invalid(directive.start, f"the included {shown(path)} cannot be read: {why}.") from None
            if found.name in way:
                raise source.invalid(directive.start, f"{shown(path)} includes itself.")
            if len(way) > _INCLUDE_DEPTH or self._included > _INCLUDES:
                raise source.invalid(directive.start, "there are too many includes.")
            self.walk(found, found.directives, context, [*way, found.name])

    def _upstream(self, source: Source, directive: Directive, context: str, way: list[str]) -> None:
        if directive.block is None or len(directive.words) != 2:
            raise source.invalid(directive.start, "upstream is a block with one name.")
        name = directive.words[1].value
        if not name or not name.isprintable():
            raise source.invalid(directive.start, f"{shown(name)} is no name for an upstream.")
        self._block = block = _Block(name, context)
        self.walk(source, directive.block, UPSTREAM, way)
        self.upstreams.append(
            Upstream(
                name=name,
                context=context,
                servers=tuple(block.servers),
                directives=tuple(block.directives),
                source=source.name,
                line=source.line(directive.start),
            )
        )

    def _in_upstream(self, source: Source, directive: Directive) -> None:
        words = tuple(word.value for word in directive.words)
        if words[0] == "server":
            self._block.servers.append(self._server(source, directive, words[1:]))
            return
        wants_value = words[0] in ("keepalive", "zone", "state")
        if (wants_value and not any(words[1:2])) or (words[0] == "keepalive" and not _NUMBER.match(words[1])):
            raise source.invalid(directive.start, f"{words[0]} is not understood.")
        self._block.directives.append(words)

    def _server(self, source: Source, directive: Directive, words: tuple[str, ...]) -> Server:
        if directive.block is not None or not words:
            raise source.invalid(directive.start, "a server of an upstream is one address with parameters.")
        parameters = words[1:]
        for text in parameters:
            if text.startswith("weight=") and not is_weight(text[7:]):
                raise source.invalid(directive.start, f"{shown(text)} is no weight.")
        try:
            address = addresses.parse(words[0], 80 if self._block.context == HTTP else None)
        except ValueError as error:
            raise source.invalid(
                directive.start, f"the address {shown(words[0])} is not understood: {error}."
            ) from None
        by_dns = any(text.startswith("service=") for text in parameters)
        port = address.port
        if by_dns and ":" not in words[0]:
            port = None
        elif port is None and not address.socket:
            raise source.invalid(directive.start, f"the address {shown(words[0])} has no port.")
        return Server(
            upstream=self._block.name,
            context=self._block.context,
            position=len(self._block.servers) + 1,
            address=words[0],
            host=address.host,
            port=port,
            socket=address.socket,
            parameters=parameters,
            source=source.name,
            line=source.line(directive.start),
            start=directive.start,
            end=directive.end,
        )
