# SPDX-License-Identifier: GPL-3.0-or-later

"""Settings in a report: whatever they are, they are plain data, and no secrets."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import STRATEGIES
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._shown import shown

SEVEN: dict[str, Any] = {
    "rollout_service": "shop",
    "rollout_hosts": "shop",
    "rollout_balancers": "lb",
    "rollout_pool": "shop",
    "rollout_version": "2.0",
    "rollout_health_url": "http://user:s3cret@127.0.0.1:8080/health?token=s3cret",
    "rollout_upgrade_tasks": "upgrade.yml",
}


@pytest.mark.parametrize(
    ("strategy", "more", "name", "said"),
    [
        ("rolling", {}, "rollout_health_url", "http://...@127.0.0.1:8080/health?..."),
        (
            "rolling",
            {"rollout_health_url": "http://user:pass@s3cret@127.0.0.1:8080/health"},
            "rollout_health_url",
            "http://...@127.0.0.1:8080/health",
        ),
        ("rolling", {"rollout_batches": [1, "25%", "100%"]}, "rollout_batches", [1, "25%", "100%"]),
        ("rolling", {"rollout_expand": "psql -c s3cret"}, "rollout_expand", "psql ..."),
        ("rolling", {"rollout_expand": "expand.yml"}, "rollout_expand", "expand.yml"),
        (
            "rolling",
            {"rollout_canary_source": "command", "rollout_canary_command": ["count", "--password", "s3cret"]},
            "rollout_canary_command",
            "count ...",
        ),
    ],
)
def test_a_setting_is_shown(strategy: str, more: dict[str, Any], name: str, said: Any) -> None:
    found = shown(STRATEGIES[strategy].from_vars({**SEVEN, **more}))
    assert found[name] == said
    assert "s3cret" not in json.dumps(found)


def test_a_calendar_is_plain() -> None:
    calendar = {"rollout_freeze_until": "2099-01-01", "rollout_allowed_hours": ["Mon-Thu 09:00-16:00"]}
    found = json.loads(json.dumps(shown(STRATEGIES["rolling"].from_vars({**SEVEN, **calendar}))))
    assert found["rollout_freeze_until"].startswith("2099-01-01")
    assert "rollout_allowed_hours" in found


def test_the_steps_of_a_canary_are_plain() -> None:
    steps = [{"members": 1, "seconds": 60}, {"members": "100%"}]
    found = shown(STRATEGIES["canary"].from_vars({**SEVEN, "rollout_canary_steps": steps}))
    assert len(json.loads(json.dumps(found))["rollout_canary_steps"]) == 2
