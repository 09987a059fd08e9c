# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a setting's value may be: checks that take what YAML, ``-e`` or a survey gives, and raise ``BadInput``."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import MISSING, field
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils import _names
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput

Check = Callable[[Any, str], Any]


def text(value: Any, name: str) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = str(value)  # -e rollout_version=2.0 stays text, but YAML makes a number of it
    if not isinstance(value, str) or any(ord(char) < 32 or ord(char) == 127 for char in value):
        raise BadInput(f"{name} must be one line of text, got {_names.shown(value)}.")
    return value.strip()


def required_text(value: Any, name: str) -> str:
    result = text(value, name)
    if not result:
        raise BadInput(f"{name} is empty.")
    return result


def named(check: Callable[[object, str], str]) -> Check:
    return lambda value, name: check(text(value, name), name)


def optional(check: Check) -> Check:
    return lambda value, name: "" if text(value, name) == "" else check(value, name)


def number(minimum: float, maximum: float = float("inf")) -> Check:
    def convert(value: Any, name: str) -> float:
        try:
            result = float(value) if not isinstance(value, bool) else float("nan")
        except (TypeError, ValueError):
            result = float("nan")
        if not minimum <= result <= maximum or result == float("inf"):
            top = f" and at most {maximum:g}" if maximum != float("inf") else ""
            raise BadInput(f"{name} must be a number, at least {minimum:g}{top}, got {value!r}.")
        return result

    return convert


def whole(minimum: int, maximum: int = 2**31) -> Check:
    def convert(value: Any, name: str) -> int:
        result = number(minimum, maximum)(value, name)
        if result != int(result):
            raise BadInput(f"{name} must be a whole number, got {value!r}.")
        return int(result)

    return convert


def boolean(value: Any, name: str) -> bool:
    words = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    result = value if isinstance(value, bool) else words.get(str(value).strip().lower())
    if result is None:
        raise BadInput(f"{name} must be true or false, got {value!r}.")
    return result


def choice(*allowed: str) -> Check:
    def convert(value: Any, name: str) -> str:
        result = text(value, name)
        if result not in allowed:
            raise BadInput(f"{name} must be one of {', '.join(allowed)}, got {value!r}.")
        return result

    return convert


def items(value: Any, name: str) -> list[Any]:
    """A list, or text with a JSON list or with values set apart by commas."""
    if isinstance(value, str):
        stripped = value.strip()
        if stripped.startswith("["):
            try:
                value = json.loads(stripped)
            except ValueError as error:
                raise BadInput(f"{name} is not a list: {error}.") from error
        else:
            value = [part.strip() for part in stripped.split(",") if part.strip()]
    if not isinstance(value, (list, tuple)):
        value = [value]
    if not value:
        raise BadInput(f"{name} is an empty list.")
    return list(value)


def setting(check: Check, default: Any = MISSING) -> Any:
    metadata = {"check": check}
    if default is MISSING:
        return field(metadata=metadata)  # pylint: disable=invalid-field-call  # called in a dataclass below
    return field(default=default, metadata=metadata)  # pylint: disable=invalid-field-call
