# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Values of an operation's parameters, checked before anything is done with them.

Parameters come from an inventory as well as from a module's argument spec, so a
number may arrive as text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput

_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def given(params: Mapping[str, Any], key: str) -> bool:
    """Whether the parameter has a value; an empty text counts as none."""
    return params.get(key) not in (None, "")


def number(params: Mapping[str, Any], key: str, default: float, low: float, high: float) -> float:
    """A number from ``low`` to ``high``; raises ``BadInput``."""
    value = params[key] if given(params, key) else default
    try:
        result = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        result = math.nan
    if not low <= result <= high:
        raise BadInput(f"{key} must be a number from {low:g} to {high:g}, got {value!r}.")
    return result


def whole(params: Mapping[str, Any], key: str, default: int, low: int, high: int) -> int:
    """A whole number from ``low`` to ``high``; raises ``BadInput``."""
    result = number(params, key, default, low, high)
    if result != int(result):
        raise BadInput(f"{key} must be a whole number, got {params[key]!r}.")
    return int(result)


def flag(params: Mapping[str, Any], key: str, default: bool) -> bool:
    """True or false; raises ``BadInput``."""
    value = params[key] if given(params, key) else default
    if isinstance(value, bool):
        return value
    word = str(value).lower()
    if word not in _WORDS:
        raise BadInput(f"{key} must be true or false, got {value!r}.")
    return _WORDS[word]


def text(params: Mapping[str, Any], key: str) -> str | None:
    """A text, or None where it is not given; raises ``BadInput``."""
    if not given(params, key):
        return None
    if not isinstance(params[key], str):
        raise BadInput(f"{key} must be a text, got {params[key]!r}.")
    return str(params[key])


def items(params: Mapping[str, Any], key: str) -> list[Any]:
    """A list, empty where it is not given; raises ``BadInput``."""
    if not given(params, key):
        return []
    if not isinstance(params[key], (list, tuple)):
        raise BadInput(f"{key} must be a list, got {params[key]!r}.")
    return list(params[key])
