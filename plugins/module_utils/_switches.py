# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The folder in which a host keeps what it needs of a service's releases: one run at a time, and the last switch.

::

    .switch.json   the last switch, and whether the restart is still due
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import PermissionDenied, TimedOut
from ansible_collections.zerodrop.rollout.plugins.module_utils._files import replace_json, take_lock

_SWITCH = ".switch.json"


class Switch(NamedTuple):
    """From what to what the service was switched last."""

    before: str | None
    after: str | None
    restart_due: bool

    def due_for(self, release: str | None) -> bool:
        """Whether this release was put in place and the service not restarted with it."""
        return self.restart_due and self.after == release


class Folder:
    """One service's folder."""

    def __init__(self, path: str) -> None:
        self.path = path

    def last_switch(self) -> Switch:
        data = read_object(os.path.join(self.path, _SWITCH))
        return Switch(data.get("before"), data.get("after"), bool(data.get("restart_due")))

    def record_switch(self, before: str | None, after: str, restart_due: bool) -> None:
        data = {"before": before, "after": after, "restart_due": restart_due}
        replace_json(os.path.join(self.path, _SWITCH), data, 0o644)

    @contextlib.contextmanager
    def locked(self, limit: float) -> Iterator[None]:
        """Alone in the folder, which is made where it is missing."""
        try:
            os.makedirs(self.path, mode=0o755, exist_ok=True)
            handle = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise PermissionDenied(f"{self.path} cannot be used: {error}.", "Use 'become'.") from error
        try:
            if not take_lock(handle, limit):
                raise TimedOut(f"Another run has been working on {self.path} for {limit:g} s.")
            yield
        finally:
            os.close(handle)


def read_object(path: str) -> dict[str, Any]:
    """A small record of ours; empty when it is not there or not ours."""
    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}
