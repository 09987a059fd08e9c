# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""docs/add-a-balancer.md has every operation of the contract, and no other."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from ansible_collections.zerodrop.rollout.plugins.module_utils._drivers.base import Driver

PAGE = Path(__file__).parents[2] / "docs" / "add-a-balancer.md"


def test_the_page_has_every_operation_of_the_contract() -> None:
    rows = re.findall(
        r"^\| ((?:`\w+`(?:, )?)+) \| [^|]+\| [^|]+\| [^|]+\|[^|]*\|$", PAGE.read_text(encoding="utf-8"), re.M
    )
    told = {name for row in rows for name in re.findall(r"\w+", row)}
    assert told == {name for name, _method in inspect.getmembers(Driver, callable) if not name.startswith("_")}
