# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The witness: an outside client that sends requests during a rollout and counts what failed.

It sends on a fixed schedule, repeats nothing, and tells every ending of a request apart. It runs
in a plain Python process, without Ansible: ``python -m ..._witness --help``.
"""

from __future__ import annotations

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.classify import Outcome
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.libraries import (
    MissingLibraryError,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.reconcile import (
    Reconciliation,
    reconcile,
    sent_posts,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.record import (
    Record,
    read_log,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.runner import (
    Witness,
    run,
    run_async,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.schedule import Kind
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.settings import (
    SettingsError,
    WitnessSettings,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.summary import (
    Summary,
    SummaryError,
)

__all__ = [
    "Kind",
    "MissingLibraryError",
    "Outcome",
    "Reconciliation",
    "Record",
    "SettingsError",
    "Summary",
    "SummaryError",
    "Witness",
    "WitnessSettings",
    "read_log",
    "reconcile",
    "run",
    "run_async",
    "sent_posts",
]
