# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The weights that give a canary a share of the traffic. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Pool

_CLOSE = 0.25  # how far the share may be from the one that was asked for, since weights are whole numbers


def weight_of(pool: Pool, canaries: Sequence[str], share: float, highest: int, where: str) -> int:
    """The weight that each canary gets, for all of them to have this share; raises ``BadInput``.

    The others keep theirs, so that nothing has to be undone on them.
    """
    others = sum(
        member.weight for member in pool.members if member.name not in canaries and not member.backup and member.weight
    )
    exact = share / (100.0 - share) * others / len(canaries)
    weight = min(max(round(exact), 1), highest)
    part = 100.0 * weight * len(canaries) / (weight * len(canaries) + others)
    if others and abs(part - share) <= _CLOSE * share:
        return weight
    raise BadInput(
        f"A share of {share:g} % cannot be had on {where}: {len(canaries)} canary members at the weight {weight} beside "
        f"others of {others} together get {part:.1f} %. Weights go from 1 to {highest}.",
        "Give all members of the pool larger weights, such as 100, or ask for another share.",
    )
