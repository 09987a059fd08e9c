# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``python -m tests.verdict.look``: what one look costs at 100 members and an hour of polls every ten seconds."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._access_log.counts import BUCKETS
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict import verdict

MEMBERS, POLLS, CANARIES, TURNS = 100, 360, 10, 12
# As the logs' reader has them: 37 bounds, and answers in a dozen of the buckets.
LATENCY = [*[0] * 8, 1, 3, 6, 8, 8, 7, 6, 4, 3, 2, 1, 1, *[0] * (len(BUCKETS) - 19)]


def hour(draw: random.Random) -> list[dict[str, Any]]:
    return [
        {
            "at": 10 * number,
            "members": [
                {
                    "name": f"web{member}",
                    "arm": "canary" if member < CANARIES else "baseline",
                    "requests": 50,
                    "errors": int(draw.random() < 0.02),
                    "latency": LATENCY,
                    "restarts": 0,
                    "host_seconds": 10.0,
                }
                for member in range(MEMBERS)
            ],
        }
        for number in range(1, POLLS + 1)
    ]


def million() -> None:
    """What the machine can do at the moment: a million turns of next to nothing."""
    x = 0
    for j in range(1_000_000):
        x += j * j


def milliseconds(work: Callable[[], object]) -> float:
    since = time.process_time()
    work()
    return 1000.0 * (time.process_time() - since)


def main() -> None:
    polls = hour(random.Random(1))
    history = hour(random.Random(2))[:12]
    looks, turns = [], []
    for _unused in range(TURNS):
        looks.append(milliseconds(lambda: verdict({"polls": polls, "history": history})))
        turns.append(milliseconds(million))
    print(
        f"one look: {min(looks):.0f} ms at best, {sorted(looks)[len(looks) // 2]:.0f} ms in the middle of {len(looks)}; "
        f"a million turns of x += j * j: {min(turns):.0f} ms; {min(looks) / min(turns):.2f} times as long"
    )


if __name__ == "__main__":
    main()
