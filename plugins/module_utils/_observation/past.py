# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The operation ``observe_past``: what each member did before now, as this balancer's access log has it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils import _params
from ansible_collections.zerodrop.rollout.plugins.module_utils._access_log.counts import BUCKETS, Counts
from ansible_collections.zerodrop.rollout.plugins.module_utils._access_log.past import count_past
from ansible_collections.zerodrop.rollout.plugins.module_utils._access_log.read import format_of
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput
from ansible_collections.zerodrop.rollout.plugins.module_utils._names import member_name

PIECES = 24
SHORTEST = 10.0  # seconds that are a past


def observe_past(params: Mapping[str, Any], check: bool) -> dict[str, Any]:
    """Requests, errors and a histogram for each of ``members`` in each of ``pieces`` of the last ``seconds``.

    What was before ``since``, by this host's clock, is left out. ``members`` has the address that nginx writes by each
    member's name. The ``pieces`` of the answer are the oldest first; there is none where there is no log, or its lines
    do not say when they were written, and ``notes`` says so. It reads only.
    """
    members = params.get("members")
    if not isinstance(members, Mapping) or not members:
        raise BadInput(f"members must name each member and its address, got {members!r}.")
    names = [member_name(name) for name in members]
    seconds = _params.number(params, "seconds", 3600.0, 1.0, 30 * 86400.0)
    pieces = _params.whole(params, "pieces", PIECES, 1, 1000)
    paths = [str(path) for path in _params.items(params, "access_log")]
    if not paths:
        return _answer([], "without rollout_access_log the members' own past is not known")
    log_format = format_of({**params, "log_format": params.get("access_log_format")})
    now = time.time()
    seconds = min(seconds, now - _params.number(params, "since", 0.0, 0.0, 1e12))
    if seconds < SHORTEST:
        return _answer([], "")
    moments = [now - seconds * (pieces - piece) / pieces for piece in range(pieces + 1)]
    found = count_past(log_format, paths, moments, lambda: Counts(names))
    if found is None:
        return _answer(
            [], "the access log's lines do not say when they were written: the members' own past is not known"
        )
    rows = [{name: counts.members[name].to_dict() for name in names} for counts in found]
    return _answer([{name: _plain(row) for name, row in each.items()} for each in rows], "", seconds)


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in ("requests", "errors", "latency")}


def _answer(pieces: list[dict[str, Any]], note: str, seconds: float = 0.0) -> dict[str, Any]:
    notes = [note] if note else []
    return {"changed": False, "pieces": pieces, "seconds": seconds, "buckets": list(BUCKETS), "notes": notes}
