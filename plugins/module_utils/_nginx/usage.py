# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Who passes requests to a pool, in the whole configuration as ``nginx -T`` prints it. No input or output."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ansible_collections.zerodrop.rollout.plugins.module_utils._nginx import links
from ansible_collections.zerodrop.rollout.plugins.module_utils._nginx.tokens import Directive, Source

_FILE = re.compile(r"(?m)^# configuration file (.+):$")
_HOST = re.compile(r"(?:[a-z]+://)?([^/?:$]+)")


class Usage(NamedTuple):
    """By place, as ``file:line``."""

    by_links: tuple[str, ...]
    besides: tuple[str, ...]  # to the upstream itself, which links do not switch
    astray: tuple[str, ...]  # to the generated upstream without the table: any of its servers may answer


def files_of(dump: str) -> dict[str, str]:
    """The text of each file."""
    parts = _FILE.split(dump)
    return dict(zip(parts[1::2], parts[2::2]))


def usage_of(dump: str, pool: str, folder: str) -> Usage:
    """Who passes to this pool; ``folder`` is that of its table."""
    names = links.names_of(pool)
    root = links.root_of(folder, names)
    found: dict[str, list[str]] = {"links": [], "besides": [], "astray": []}
    for path, text in files_of(dump).items():
        source = Source(path, text)
        for block in _blocks(source.directives):
            rooted = any(one.name == "root" and [word.value for word in one.words[1:]] == [root] for one in block)
            for one in block:
                if not one.name.endswith("_pass") or len(one.words) < 2:
                    continue
                host = _HOST.match(one.words[1].value)
                name = host.group(1).lower() if host else ""
                kind = {pool.lower(): "besides", names.upstream.lower(): "links" if rooted else "astray"}.get(name)
                if kind:
                    found[kind].append(f"{path}:{source.line(one.start) - 1}")
    return Usage(*(tuple(found[kind]) for kind in ("links", "besides", "astray")))


def _blocks(directives: Sequence[Directive]) -> Iterator[Sequence[Directive]]:
    yield directives
    for one in directives:
        if one.block is not None:
            yield from _blocks(one.block)
