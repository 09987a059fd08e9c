# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Settings as a report may show them: plain, only those that are not the default, and nothing that may be a secret."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._plan import LOAD, Amount, Floor
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import PREFIX, Settings
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._work import Work

_NOT_OF_IT = (f"{PREFIX}plan_hash",)  # it is made of the others
# Whoever has these may write to the team, or log in.
_SECRETS = tuple(f"{PREFIX}notice_{each}" for each in ("webhook_url", "slack_url", "teams_url", "email_password"))
_COMMANDS = (f"{PREFIX}canary_command", f"{PREFIX}preview_command")
_USER = re.compile(r"(?<=://)[^/?#\s]*@")  # up to the last one: a password may have it too
_QUERY = re.compile(r"(?<=\?)[^#\s]+")


def shown(settings: Settings) -> dict[str, Any]:
    """By the names that the user gave them; a URL's user, password and query are left out."""
    found = {PREFIX + each.name: getattr(settings, each.name) for each in fields(settings)}
    defaults = {PREFIX + each.name: each.default for each in fields(settings)}
    return {
        name: "..." if name in _SECRETS else _program(value) if name in _COMMANDS else plain(value)
        for name, value in found.items()
        if value != defaults[name] and value not in ({}, ()) and name not in _NOT_OF_IT
    }


def plain(value: Any) -> Any:
    """As JSON has it."""
    if isinstance(value, Floor) and value.load:
        return {"members": plain(Amount(value.value, value.percent)), LOAD: True}
    if isinstance(value, Amount):
        return str(value) if value.percent else value.value
    if isinstance(value, Work):
        return value.tasks or _program(value.command)
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return without_secrets(str(value))


def _program(command: Sequence[str]) -> str:
    """A command by its program: any of its other words may be a secret."""
    return " ".join([*command[:1], *(["..."] if command[1:] else [])])


def without_secrets(text: str) -> str:
    """What stands between ``://`` and ``@``, and behind ``?``, in anything that looks like a URL."""
    if "://" not in text:
        return text
    return _QUERY.sub("...", _USER.sub("...@", text))
