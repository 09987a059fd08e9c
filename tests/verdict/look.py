# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``python -m tests.verdict.look``: what one look costs at 100 members and an hour of polls every ten seconds."""

from __future__ import annotations

import random
import time
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict import verdict

MEMBERS, POLLS, CANARIES = 100, 360, 10
LATENCY = [5, 10, 15, 10, 5, 2, 1, 1, 1, 0]


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


def main() -> None:
    polls = hour(random.Random(1))
    history = hour(random.Random(2))[:12]
    took = []
    for _unused in range(10):
        since = time.process_time()
        verdict({"polls": polls, "history": history})
        took.append(1000.0 * (time.process_time() - since))
    print(f"{min(took):.0f} ms at best, {sorted(took)[len(took) // 2]:.0f} ms in the middle of {len(took)}")


if __name__ == "__main__":
    main()
