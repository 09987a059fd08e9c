# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a balancer was told, so that a hundred members of a batch are one line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

HOLE = "\N{HORIZONTAL ELLIPSIS}"
_COMMAND = re.compile(r"^(?P<before>(?:set|shutdown sessions) server [^/\s]+/)(?P<member>\S+)(?P<after>.*)$")


def folded(words: Iterable[str]) -> list[tuple[str, Sequence[str]]]:
    """Each thing that was said, once, and the members that it was said of, where it differs in nothing else."""
    found: dict[str, list[str]] = {}
    for each in words:
        match = _COMMAND.match(each)
        key = f"{match['before']}{HOLE}{match['after']}" if match else each
        found.setdefault(key, []).extend([match["member"]] if match else [])
    return [
        (key.replace(HOLE, names[0], 1), ()) if len(names) == 1 else (key, tuple(names)) for key, names in found.items()
    ]
