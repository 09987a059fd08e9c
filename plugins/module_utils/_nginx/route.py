# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""nginx's files that say which pool is live: a flag that is looked for with each request, or what a location includes."""

from __future__ import annotations

import os
import re

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    InvalidConfiguration,
    PermissionDenied,
    Refused,
    RouteDiffers,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._files import replace
from ansible_collections.zerodrop.rollout.plugins.module_utils._nginx import usage
from ansible_collections.zerodrop.rollout.plugins.module_utils._route import FLAGS, RELOAD, Slots

_CACHED = re.compile(r"^\s*open_file_cache\s+(?!off\b)", re.MULTILINE)


def not_prepared(slots: Slots, why: str) -> InvalidConfiguration:
    lines = "\n".join(f"    {line}" for line in slots.nginx_lines)
    return InvalidConfiguration(
        f"nginx is not prepared for a flip of {slots.name}: {why}.",
        "Have the file made (module pool_route with prepare, or the role flip), put this line into each location in place "
        f"of its proxy_pass, and reload nginx:\n{lines}",
        missing=list(slots.nginx_lines),
    )


def included(slots: Slots) -> str:
    """The text that locations include; empty where there is none."""
    try:
        with open(slots.file, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise PermissionDenied(
            f"{slots.file} cannot be read: {error.strerror}.", "Become root on the balancer."
        ) from None


def mode_of(slots: Slots) -> tuple[str, str]:
    """How nginx is told, and with ``reload`` the pool that the file names; raises ``InvalidConfiguration``."""
    text = included(slots)
    if not text:
        raise not_prepared(slots, f"there is no {slots.file}")
    for pool in slots.pools.values():
        for mode in (FLAGS, RELOAD):
            if text == slots.nginx_text(mode, pool):
                return mode, pool if mode == RELOAD else ""
    raise not_prepared(slots, f"{slots.file} is not what this collection writes for these pools and this preview")


def flag(slots: Slots) -> str:
    """The pool that the flag names; raises ``RouteDiffers`` where there is not exactly one."""
    there = [pool for pool in slots.pools.values() if os.path.isfile(os.path.join(slots.folder, pool))]
    if len(there) != 1:
        what = "no flag" if not there else f"two flags ({' and '.join(there)})"
        raise RouteDiffers(
            f"{slots.folder} has {what}: nginx sends new requests to "
            f"{slots.pools['green'] if slots.pools['green'] in there else slots.pools['blue']}, and nobody knows whether "
            "that was meant.",
            "The playbook zerodrop.rollout.recover sets what the ledger says.",
            live=slots.pools["green"] if slots.pools["green"] in there else slots.pools["blue"],
        )
    return there[0]


def turn(slots: Slots, pool: str) -> None:
    """Have the flag name this pool, in one step; raises ``PermissionDenied``."""
    wanted, other = (os.path.join(slots.folder, each) for each in (pool, slots.other(pool)))
    try:
        os.makedirs(slots.folder, mode=0o755, exist_ok=True)
        if os.path.isfile(other) and not os.path.isfile(wanted):
            os.rename(other, wanted)
        else:
            replace(wanted, b"", 0o644)
            if os.path.lexists(other):
                os.unlink(other)
        handle = os.open(slots.folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise PermissionDenied(
            f"{error.filename} cannot be changed: {error.strerror}.", "Become root on the balancer."
        ) from None
    if flag(slots) != pool:
        raise Refused(f"{slots.folder} was changed by somebody else in the same moment.")


def write(slots: Slots, mode: str, pool: str) -> None:
    try:
        os.makedirs(os.path.dirname(slots.file), mode=0o755, exist_ok=True)
        replace(slots.file, slots.nginx_text(mode, pool).encode(), 0o644)
    except OSError as error:
        raise PermissionDenied(
            f"{slots.file} cannot be written: {error.strerror}.", "Become root on the balancer."
        ) from None


def check(slots: Slots, mode: str, dump: str) -> None:
    """Raise ``InvalidConfiguration`` unless this configuration includes the file, and what it needs is as it must be."""
    texts = usage.files_of(dump)
    if slots.file not in texts:
        raise not_prepared(slots, f"no location includes {slots.file}")
    if mode == FLAGS and any(_CACHED.search(text) for text in texts.values()):
        raise InvalidConfiguration(
            "open_file_cache is set: nginx would see a flag only when its cache has grown old.",
            "Set it to off in the locations that include the route, or at the top.",
        )
