# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""HAProxy's map that says which pool is live: in the processes that serve, in those that leave, and on the disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    ChangedByOther,
    InvalidConfiguration,
    PermissionDenied,
    Refused,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._files import replace
from ansible_collections.zerodrop.rollout.plugins.module_utils._haproxy import persist, replies
from ansible_collections.zerodrop.rollout.plugins.module_utils._route import IDLE, LIVE, Route, Slots, entries

_UNKNOWN = "Unknown map identifier"

Ask = Callable[[str], str]


def not_prepared(slots: Slots, why: str) -> InvalidConfiguration:
    lines = "\n".join(f"    {line}" for line in slots.haproxy_lines)
    return InvalidConfiguration(
        f"HAProxy is not prepared for a flip of {slots.name}: {why}.",
        f"Have the map's file made (module pool_route with prepare, or the role flip), put these lines into its frontend, "
        f"before any default_backend, and reload HAProxy:\n{lines}",
        missing=list(slots.haproxy_lines),
    )


def at_run_time(slots: Slots, answer: str) -> dict[str, str]:
    """The entries in the answer to `show map`; raises ``InvalidConfiguration`` where the map is not loaded."""
    if answer.strip().startswith(_UNKNOWN):
        raise not_prepared(slots, f"no line of its configuration reads the map {slots.file}")
    found: dict[str, str] = {}
    for line in answer.splitlines():
        words = line.split()
        if len(words) == 3 and words[0].startswith("0x"):
            found.setdefault(words[1], words[2])
    return found


def on_disk(slots: Slots) -> dict[str, str]:
    try:
        with open(slots.file, encoding="utf-8", errors="replace") as file:
            return entries(file.read())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise PermissionDenied(
            f"{slots.file} cannot be read: {error.strerror}.", "Become root on the balancer."
        ) from None


def read(slots: Slots, answers: Sequence[str]) -> Route:
    """``answers`` are of the process that serves and, after it, of those that leave and know the map."""
    lives = {at_run_time(slots, answer).get(LIVE, "") for answer in answers if answer}
    return Route(lives.pop() if len(lives) == 1 else "", on_disk(slots).get(LIVE, ""))


def write(slots: Slots, pool: str) -> None:
    """The disk says this pool; raises ``PermissionDenied``."""
    try:
        os.makedirs(os.path.dirname(slots.file), mode=0o755, exist_ok=True)
        replace(slots.file, slots.map_text(pool).encode(), 0o644)
    except OSError as error:
        raise PermissionDenied(
            f"{slots.file} cannot be written: {error.strerror}.",
            "Become root on the balancer; see that the disk is not full.",
        ) from None


def tell(slots: Slots, pool: str, ask: Ask) -> None:
    """One process sends new requests to this pool; raises ``Refused``.

    One command in a line each: a process runs those of one line apart, and its threads see them apart.
    """
    known = at_run_time(slots, ask(f"show map {slots.file}"))
    for key, value in ((LIVE, pool), (IDLE, slots.other(pool))):
        if known.get(key) == value:
            continue
        command = f"{'set' if key in known else 'add'} map {slots.file} {key} {value}"
        error = replies.refusal(command, ask(command))
        if error is not None:
            raise error
    after = at_run_time(slots, ask(f"show map {slots.file}"))
    if (after.get(LIVE), after.get(IDLE)) != (pool, slots.other(pool)):
        raise Refused(f"HAProxy said yes, but its map {slots.file} has {after}.", "Somebody else may have changed it.")


def check(slots: Slots, pid: int) -> None:
    """Raise ``InvalidConfiguration`` unless the files on the disk have the lines that read the map."""
    try:
        launch = persist.launch_of(pid)
        text = "\n".join(launch.texts().values())
    except persist.NotKept as error:
        raise InvalidConfiguration(f"It cannot be seen whether HAProxy reads {slots.file}: {error}.") from None
    there = {" ".join(line.split("#")[0].split()) for line in text.split("\n")}
    lacking = [line for line in slots.haproxy_lines if line not in there]
    if lacking:
        raise not_prepared(slots, f"its configuration has not: {'; '.join(lacking)}")
    if not os.access(os.path.dirname(slots.file), os.W_OK):
        raise PermissionDenied(f"{slots.file} may not be written by this user.", "Become root on the balancer.")


def again_and_again(slots: Slots) -> ChangedByOther:
    return ChangedByOther(
        f"HAProxy was reloaded again and again while {slots.name} was to be flipped.",
        "See who reloads it, then run this again.",
    )
