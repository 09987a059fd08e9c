# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Polls for the tests of decisions, without chance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Counts = tuple[int, int]  # requests and errors


def polls(
    count: int,
    canary: Callable[[int], Counts] | Counts,
    baseline: Callable[[int], Counts] | Counts = (900, 2),
    hosts: int = 3,
    **more: Any,
) -> list[dict[str, Any]]:
    """``count`` polls of one canary and some hosts of the baseline, every ten seconds."""
    found = []
    for number in range(count):
        n_c, x_c = canary(number) if callable(canary) else canary
        n_b, x_b = baseline(number) if callable(baseline) else baseline
        members = [{"name": "web1", "arm": "canary", "requests": n_c, "errors": x_c}]
        members += [
            {"name": f"web{host}", "arm": "baseline", "requests": n_b, "errors": x_b} for host in range(2, 2 + hosts)
        ]
        found.append({"at": 10 * (number + 1), "members": [{**member, **more} for member in members]})
    return found


def with_latency(rows: Sequence[dict[str, Any]], canary: list[int], baseline: list[int]) -> list[dict[str, Any]]:
    for poll in rows:
        for member in poll["members"]:
            member["latency"] = list(canary if member["arm"] == "canary" else baseline)
    return list(rows)
