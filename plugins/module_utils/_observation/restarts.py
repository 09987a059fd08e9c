# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The operation ``unit_restarts``: how often systemd had to start a member's unit again, since the last look."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput
from ansible_collections.zerodrop.rollout.plugins.module_utils._names import unit as unit_name
from ansible_collections.zerodrop.rollout.plugins.module_utils._systemd import Run, require_unit, run_command


def unit_restarts(params: Mapping[str, Any], check: bool, *, run: Run = run_command) -> dict[str, Any]:
    """Restarts after crashes and the seconds in which they could have been, since the ``cursor``; it reads only.

    The count of systemd begins anew when somebody starts the unit; that is no crash, and what it counts then is all new.
    """
    found = require_unit(unit_name(params.get("unit"), "unit"), run)
    now = {"restarts": found.restarts, "at": round(time.clock_gettime(time.CLOCK_BOOTTIME), 3)}
    before = params.get("cursor")
    if before is None:
        return {"changed": False, "restarts": 0, "seconds": 0.0, "cursor": now}
    try:
        restarts, at = int(before["restarts"]), float(before["at"])
    except (KeyError, TypeError, ValueError):
        raise BadInput(f"cursor must be what an earlier look returned, got {before!r}.") from None
    new = now["restarts"] - restarts if now["restarts"] >= restarts else now["restarts"]
    # The clock of a host that was booted in between begins anew.
    seconds = now["at"] - at if now["at"] >= at else now["at"]
    return {"changed": False, "restarts": int(new), "seconds": round(seconds, 3), "cursor": now}
