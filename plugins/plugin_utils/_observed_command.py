# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Counts from a command of the user's, which prints what every member has served and failed since any beginning."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadReply, TimedOut
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._observed import Tale

SHAPE = '{"members": {"web1": {"requests": 1200, "errors": 3, "latency": [900, 250, 50]}}}'

Totals = dict[str, dict[str, Any]]


def ask_command(argv: Sequence[str], limit: float) -> str:
    """What it prints. It runs on the controller, without a shell; raises ``BadReply`` and ``TimedOut``."""
    try:
        done = subprocess.run(list(argv), stdin=subprocess.DEVNULL, capture_output=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        raise TimedOut(f"rollout_canary_command ({argv[0]}) did not end within {limit:g} s.") from None
    except OSError as error:
        raise BadReply(f"rollout_canary_command ({argv[0]}) cannot be run: {error.strerror or error}.") from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or ["nothing"]
        raise BadReply(f"rollout_canary_command ({argv[0]}) ended with {done.returncode} and said: {said[0][:200]}.")
    return done.stdout.decode("utf-8", "replace")


def totals_of(printed: str, hosts: Sequence[str]) -> Totals:
    """The totals of these members; raises ``BadReply`` with what was found and what was expected. Pure."""
    try:
        data = json.loads(printed)
        members = data["members"]
        found = {host: {**_counts(members[host], host)} for host in hosts}
    except KeyError as error:
        raise BadReply(
            f"rollout_canary_command printed no {error.args[0]}; expected {SHAPE} with all members."
        ) from None
    except (ValueError, TypeError, AttributeError):
        raise BadReply(f"rollout_canary_command printed {printed[:80]!r}; expected {SHAPE}.") from None
    if len({len(each.get("latency", ())) for each in found.values()}) > 1:
        raise BadReply(
            "rollout_canary_command printed histograms of different lengths; all members must have the same buckets."
        )
    return found


def _counts(row: Mapping[str, Any], host: str) -> dict[str, Any]:
    latency = row.get("latency") or []
    numbers = [row["requests"], row["errors"], *latency]
    if any(isinstance(each, bool) or not isinstance(each, int) or each < 0 for each in numbers):
        raise BadReply(f"rollout_canary_command printed {dict(row)!r} for {host}; expected whole numbers from 0 up.")
    if row["errors"] > row["requests"] or sum(latency) > row["requests"]:
        raise BadReply(
            f"rollout_canary_command printed {dict(row)!r} for {host}: errors and latency are parts of the requests."
        )
    return {"requests": row["requests"], "errors": row["errors"], **({"latency": latency} if latency else {})}


def since(before: Totals, now: Totals) -> Tale:
    """What is new between two totals; a total that fell began anew, and the poll does not tell all. Pure."""
    members: dict[str, dict[str, Any]] = {}
    fell = []
    for host, row in now.items():
        old = before.get(host, {})
        requests, errors = row["requests"] - old.get("requests", 0), row["errors"] - old.get("errors", 0)
        latency = [a - b for a, b in zip(row.get("latency", ()), old.get("latency", ()), strict=False)]
        if (
            not old
            or len(latency) != len(row.get("latency", ()))
            or min(requests, errors, requests - errors, *latency, 0) < 0
        ):
            fell.append(host)
            requests, errors, latency = 0, 0, [0] * len(row.get("latency", ()))
        members[host] = {"requests": requests, "errors": errors, "latency": latency}
    buckets = max((len(row["latency"]) for row in members.values()), default=0)
    reset = f"the totals of {', '.join(fell)} fell, or are new" if fell else ""
    return Tale(members, reset, (), buckets)
