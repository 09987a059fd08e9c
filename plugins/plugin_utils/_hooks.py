# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hooks: tasks of the user's at the points of a rollout, ready notices and silences, and what their failure means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils import _names
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._values import (
    choice,
    items,
    named,
    optional,
    setting,
    text,
    whole,
)

BEFORE_ROLLOUT, AFTER_ROLLOUT, FAILURE = "before_rollout", "after_rollout", "failure"
BEFORE_ROLLBACK, AFTER_ROLLBACK = "before_rollback", "after_rollback"
OF_A_BATCH = (
    *("before_drain", "after_drain", "before_upgrade", "after_upgrade", "before_put_back", "after_put_back"),
    *("before_verdict", "after_verdict"),
)
POINTS = (
    BEFORE_ROLLOUT,
    *OF_A_BATCH,
    *("before_flip", "after_flip"),
    *(BEFORE_ROLLBACK, AFTER_ROLLBACK, FAILURE, AFTER_ROLLOUT),
)
ALL = "all"

# What is there to be used as a hook: by name, the role's entry point, the setting it needs, and the collection.
READY: Mapping[str, tuple[str, str, str, str]] = {
    "webhook": ("notify", "webhook", "notice_webhook_url", ""),
    "slack": ("notify", "slack", "notice_slack_url", ""),
    "teams": ("notify", "teams", "notice_teams_url", ""),
    "email": ("notify", "email", "notice_email_to", "community.general"),
    "silence_alertmanager": ("silence", "alertmanager", "silence_alertmanager_url", ""),
    "unsilence_alertmanager": ("silence", "alertmanager_end", "silence_alertmanager_url", ""),
    "silence_nagios": ("silence", "nagios", "silence_nagios_host", "community.general"),
    "unsilence_nagios": ("silence", "nagios_end", "silence_nagios_host", "community.general"),
}


def tasks(value: Any, name: str) -> tuple[str, ...]:
    """Tasks files, or names of what is ready."""
    found = items(value, name) if value not in ([], "", None) else []
    return tuple(text(each, name) for each in found)


def points(value: Any, name: str) -> tuple[str, ...]:
    found = items(value, name) if value not in ([], "", None) else []
    for each in found:
        if each not in (*POINTS, ALL):
            raise BadInput(f"{name} has {each!r}, which is no point of a rollout: {', '.join((*POINTS, ALL))}.")
    return tuple(found)


def secret_url(value: Any, name: str) -> str:
    """A URL whose path is a secret: an error does not show it."""
    if value in ("", None):
        return ""
    try:
        return _names.http_url(text(value, name), name)
    except BadInput:
        raise BadInput(f"{name} is not a URL that starts with http:// or https:// and names a host.") from None


def email_addresses(value: Any, name: str) -> tuple[str, ...]:
    found = tasks(value, name)
    for each in found:
        if each.count("@") != 1 or any(char in each for char in " ,;<>") or each[0] == "@" or each[-1] == "@":
            raise BadInput(f"{name} has {each!r}, which is no e-mail address.")
    return found


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """The settings about hooks, notices and silences."""

    hook_before_rollout: tuple[str, ...] = setting(tasks, ())
    hook_after_rollout: tuple[str, ...] = setting(tasks, ())
    hook_before_drain: tuple[str, ...] = setting(tasks, ())
    hook_after_drain: tuple[str, ...] = setting(tasks, ())
    hook_before_upgrade: tuple[str, ...] = setting(tasks, ())
    hook_after_upgrade: tuple[str, ...] = setting(tasks, ())
    hook_before_put_back: tuple[str, ...] = setting(tasks, ())
    hook_after_put_back: tuple[str, ...] = setting(tasks, ())
    hook_before_verdict: tuple[str, ...] = setting(tasks, ())
    hook_after_verdict: tuple[str, ...] = setting(tasks, ())
    hook_before_flip: tuple[str, ...] = setting(tasks, ())
    hook_after_flip: tuple[str, ...] = setting(tasks, ())
    hook_before_rollback: tuple[str, ...] = setting(tasks, ())
    hook_after_rollback: tuple[str, ...] = setting(tasks, ())
    hook_failure: tuple[str, ...] = setting(tasks, ())
    hooks_may_fail: tuple[str, ...] = setting(points, ())

    notice_webhook_url: str = setting(secret_url, "")
    notice_slack_url: str = setting(secret_url, "")
    notice_teams_url: str = setting(secret_url, "")
    notice_email_to: tuple[str, ...] = setting(email_addresses, ())
    notice_email_from: str = setting(text, "")
    notice_email_host: str = setting(text, "localhost")
    notice_email_port: int = setting(whole(1, 65535), 25)
    notice_email_secure: str = setting(choice("try", "starttls", "always", "never"), "try")
    notice_email_username: str = setting(text, "")
    notice_email_password: str = setting(text, "")

    silence_seconds: int = setting(whole(60, 7 * 86400), 1800)
    silence_alertmanager_url: str = setting(secret_url, "")
    silence_label: str = setting(text, "instance")
    silence_nagios_host: str = setting(text, "")
    silence_nagios_command_file: str = setting(optional(named(_names.absolute_path)), "/var/lib/nagios4/rw/nagios.cmd")

    @property
    def hooks(self) -> dict[str, tuple[str, ...]]:
        """By point, the hooks there are."""
        found = {point: getattr(self, f"hook_{point}") for point in POINTS}
        return {point: each for point, each in found.items() if each}

    def check_hooks(self) -> None:
        """Raise ``BadInput`` where a ready hook lacks what it needs."""
        for point, names in self.hooks.items():
            for name in names:
                wanted = READY[name][2] if name in READY else ""
                if wanted and not getattr(self, wanted):
                    raise BadInput(f"rollout_hook_{point} is {name}, and rollout_{wanted} is not set.")


def may_fail(point: str, allowed: object) -> bool:
    """Whether the user lets a hook of this point fail."""
    return isinstance(allowed, (list, tuple)) and (point in allowed or ALL in allowed)
