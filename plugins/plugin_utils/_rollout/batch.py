# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The phases of a batch: drain, upgrade, gate, put back; a file for each beside this one.

Each is one step that reaches every balancer, or every member of the batch, at
once. A phase that fails for some members stops the rollout and goes on for the
others as far as they need it to be back in service; nothing in them raises for a
host that is lost.
"""

from __future__ import annotations

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.draining import Draining
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.gating import Gating
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.upgrading import Upgrading


class Phases(Draining, Upgrading, Gating):
    """The phases of one batch."""
