"""nginx whose members are switched by links on the disk: what the table says, read without the collection."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from ..description import Description
from .generation import Server

_SERVER = re.compile(r"^\s+server (\S+?)((?: \S+)*);$", re.MULTILINE)


def location(description: Description) -> str:
    """What a location has instead of its `proxy_pass`. A pattern, as the file is there only once it is prepared."""
    return f"include /etc/nginx/zerodrop/{description.pool}.con[f];"


def states(root: Path, description: Description, servers: Sequence[Server]) -> dict[str, str]:
    """Each member's state and its weight in the configuration."""
    text = (root / f"etc/nginx/conf.d/zerodrop-{description.pool}.conf").read_text(encoding="utf-8")
    lines = [(address, re.search(r" weight=(\d+)", words)) for address, words in _SERVER.findall(text)]
    weights = [int(found.group(1)) if found else 1 for _address, found in lines]
    table = _table(root, description)
    if os.readlink(table / "live") == "even":
        serving = set(range(len(lines)))
    else:
        keys = {os.path.basename(os.readlink(path)) for path in (table / "slots").iterdir()}
        serving = {_owner(key, weights) for key in keys}
    names = {f"{server.address}:{server.port}": server.name for server in servers}
    return {
        names[address]: f"{'UP' if place in serving else 'MAINT'} {weights[place]}"
        for place, (address, _found) in enumerate(lines)
    }


def restore(root: Path, description: Description) -> None:
    """All in service."""
    table = _table(root, description)
    temporary = table / ".lab"
    temporary.symlink_to("even")
    temporary.replace(table / "live")


def _table(root: Path, description: Description) -> Path:
    text = (root / f"etc/nginx/zerodrop/{description.pool}.conf").read_text(encoding="utf-8")
    found = re.search(r"^root (/\S+)/live/", text, re.MULTILINE)
    if found is None:
        raise OSError("the location's file names no table")
    return root / found.group(1).lstrip("/")


def _owner(key: str, weights: Sequence[int]) -> int:
    """The server that nginx's `hash` leads to."""
    place = ((zlib.crc32(key.encode()) >> 16) & 0x7FFF) % sum(weights)
    return next(number for number, end in enumerate(accumulate(weights)) if place < end)
