# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The page of all rollouts whose reports lie in one folder, made anew with each of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._files import replace
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._report import index

_MOST = 500  # the latest; the folders of others stay


def add_to_index(folder: str, report: Mapping[str, Any]) -> None:
    """Write ``index.html``, and ``index.json`` that saves reading every report again.

    A folder that cannot be written, or an earlier report that cannot be read, is no reason for a rollout to fail.
    """
    home = Path(folder)
    known: dict[str, dict[str, Any]] = {}
    with suppress(OSError, ValueError, TypeError, KeyError):
        known = {each["rollout_id"]: index.entry(each) for each in json.loads((home / "index.json").read_text("utf-8"))}
    for path in home.glob("*/report.json"):
        if path.parent.name not in known:
            with suppress(OSError, ValueError, TypeError, KeyError):
                earlier = index.entry(json.loads(path.read_text("utf-8")))
                known[earlier["rollout_id"]] = earlier
    known[report["rollout_id"]] = index.entry(report)
    entries = sorted(known.values(), key=lambda each: str(each["rollout_id"]))[-_MOST:]
    with suppress(OSError):
        replace(str(home / "index.json"), (json.dumps(entries, indent=1) + "\n").encode(), 0o644)
        replace(str(home / "index.html"), index.html(entries).encode(), 0o644)
