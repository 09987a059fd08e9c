# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Options that several modules share; ``doc_fragments/_balancer.py`` documents them."""

from __future__ import annotations

from typing import Any


def balancer_options() -> dict[str, dict[str, Any]]:
    """How to reach the balancer of this host."""
    return {
        "driver": {"type": "str", "choices": ["haproxy"], "default": "haproxy"},
        "socket": {"type": "str"},
        "master_socket": {"type": "str"},
    }
