# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What an operation on a pool returns and says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Admin, Member, Pool, Setting


def plain(settings: Mapping[str, Setting]) -> dict[str, dict[str, Any]]:
    return {name: {"admin": one.admin.value, "weight": one.weight} for name, one in settings.items()}


def outcome(before: Pool, after: Mapping[str, Setting]) -> dict[str, Any]:
    """What every changing operation returns. Only settings count as a change, never what traffic does."""
    was = {member.name: member.setting for member in before.chosen(list(after))}
    return {
        "changed": was != dict(after),
        "pool": before.name,
        "before": plain(was),
        "after": plain(after),
        "diff": {
            "before": {"pool": before.name, "members": plain(was)},
            "after": {"pool": before.name, "members": plain(after)},
        },
    }


def in_service(pool: Pool) -> list[str]:
    return [member.name for member in pool.members if member.in_service]


def with_settings(pool: Pool, settings: Mapping[str, Setting]) -> Pool:
    """The pool as it would be with these members so."""
    return replace(
        pool,
        members=tuple(
            replace(member, admin=settings[member.name].admin, weight=settings[member.name].weight)
            if member.name in settings
            else member
            for member in pool.members
        ),
    )


def last_check(member: Member) -> str:
    words = [str(member.detail.get(key, "")) for key in ("check_status", "check_desc")]
    return ": ".join(word for word in words if word) or "the balancer says nothing about a check"


def words_for(setting: Setting) -> str:
    return f"{setting.admin.value} at weight {setting.weight}"


def why_not(pool: Pool) -> str:
    words = []
    for member in pool.members:
        if member.in_service:
            continue
        if member.admin is not Admin.READY:
            reason = member.admin.value
        elif member.backup:
            reason = "backup"
        elif member.weight == 0:
            reason = "weight 0"
        else:
            reason = member.health.value
        words.append(f"{member.name} ({reason})")
    return ", ".join(words)
