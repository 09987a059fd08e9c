# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The circuit breaker: a canary that fails outright goes back at once. It is no statistics and costs no guarantee."""

from __future__ import annotations

from collections import deque

REQUESTS = 20  # of the canary, the latest ones
BROKEN = 0.5
SOUND = 0.1  # where the baseline fails as well, the fault is elsewhere


class Breaker:
    """Looks at the latest polls that together hold enough of the canary's requests."""

    def __init__(self) -> None:
        self._recent: deque[tuple[int, int, int, int]] = deque()
        self.tripped: tuple[int, int] | None = None  # failed, of

    def see(self, n_c: int, x_c: int, n_b: int, x_b: int) -> None:
        recent = self._recent
        recent.append((n_c, x_c, n_b, x_b))
        canary = sum(each[0] for each in recent)
        while canary - recent[0][0] >= REQUESTS:
            canary -= recent.popleft()[0]
        if self.tripped or canary < REQUESTS:
            return
        failed = sum(each[1] for each in recent)
        baseline, failed_b = sum(each[2] for each in recent), sum(each[3] for each in recent)
        if failed >= BROKEN * canary and failed_b < SOUND * max(baseline, 1):
            self.tripped = (failed, canary)
