# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hooks: what is refused beforehand, which points need a play of their own, what a failure does, and what is never shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._hooks import ALL, OF_A_BATCH, POINTS, READY
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout import hooks
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import MemberRecord, Record
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import Settings
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._shown import shown

CALL = {
    "rollout_service": "shop",
    "rollout_hosts": "shop",
    "rollout_balancers": "lb",
    "rollout_pool": "shop",
    "rollout_health_url": "http://127.0.0.1:8080/health",
    "rollout_upgrade_role": "shop_deploy",
    "rollout_version": "2.0",
}
SECRET = "T00/B00/abcdef"
ROLES = Path(__file__).parents[4] / "roles"


def settings(**more: Any) -> Settings:
    return Settings.from_vars({**CALL, **{f"rollout_{name}": value for name, value in more.items()}})


def find(found: Settings, strategy: str = "rolling", collections: bool = True) -> hooks.Found:
    return hooks.find(found, strategy, lambda name, _setting: f"/there/{name}", lambda _name: collections)


def record(**more: Any) -> Record:
    member = MemberRecord("web1", {"lb1": "web1"}, True, "1.0", "1.0", addresses={"lb1": ("10.0.0.1", 8080)})
    values: dict[str, Any] = {
        "rollout_id": "20261124T000000Z-abcdef",
        "service": "shop",
        "strategy": "rolling",
        "pool": "shop",
        "from_version": "1.0",
        "to_version": "2.0",
        "started_at": 0.0,
        "check": False,
        "method": "archive",
        "upgrade": "",
        "floor": 0,
        "balancers": ["lb1"],
        "batches": [["web1"]],
        "members": {"web1": member},
        "path": "/reports/1/record.json",
    }
    return Record(**{**values, **more})


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"hook_failure": "slack"}, "rollout_notice_slack_url is not set"),
        ({"hook_before_drain": "silence_nagios"}, "rollout_silence_nagios_host is not set"),
        ({"hooks_may_fail": "after_everything"}, "no point of a rollout"),
        ({"notice_email_to": "somebody"}, "no e-mail address"),
        ({"hook_after_lunch": "a.yml"}, "rollout_hook_after_lunch is not a setting"),
        ({"silence_seconds": 5}, "at least 60"),
        (
            {
                "window": 2,
                "upgrade_role": "",
                "upgrade_method": "archive",
                "archive_src": "a",
                "archive_checksum": "sha256:" + 64 * "0",
                "hook_before_drain": "a.yml",
            },
            "of which a window has none",
        ),
    ],
)
def test_what_is_refused_beforehand(more: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        settings(**more)


def test_an_error_does_not_show_the_url_of_a_notice() -> None:
    with pytest.raises(BadInput) as refused:
        settings(notice_slack_url=f"hooks.slack.com/services/{SECRET}")
    assert SECRET not in str(refused.value)


def test_a_report_shows_no_url_of_a_notice_and_no_password() -> None:
    found = settings(notice_slack_url=f"https://hooks.slack.com/services/{SECRET}", notice_email_password=SECRET)
    assert SECRET not in json.dumps(shown(found))
    assert shown(found)["rollout_notice_slack_url"] == "..."


def test_files_and_what_is_ready_in_their_order() -> None:
    found = find(settings(hook_failure="page.yml, slack", notice_slack_url="https://hooks.slack.com/x"))
    assert found == {
        "failure": [
            {"file": "/there/page.yml", "role": "", "tasks": ""},
            {"file": "", "role": "zerodrop.rollout.notify", "tasks": "slack"},
        ]
    }


def test_a_collection_that_is_not_there_is_said_beforehand() -> None:
    with pytest.raises(BadInput, match=r"needs the collection community\.general"):
        find(settings(hook_failure="email", notice_email_to="ops@example.com"), collections=False)


@pytest.mark.parametrize("name", READY)
def test_what_is_ready_is_there(name: str) -> None:
    role, tasks, needs, _collection = READY[name]
    assert (ROLES / role / "tasks" / f"{tasks}.yml").exists()
    assert hasattr(Settings, needs) or needs in Settings.__dataclass_fields__


@pytest.mark.parametrize("point", POINTS)
def test_only_points_within_a_batch_and_around_the_way_back_need_a_play(point: str) -> None:
    assert hooks.in_batches({point: []}) == (point in (*OF_A_BATCH, "before_rollback", "after_rollback"))


def test_the_playbook_rollback_is_the_way_back_as_a_whole() -> None:
    found = find(settings(hook_before_rollback="a.yml", hook_before_rollout="b.yml"), "rollback")
    assert [each["file"] for each in found["before_rollout"]] == ["/there/a.yml", "/there/b.yml"]
    assert not hooks.in_batches(found)


def test_what_a_hook_is_told_in_a_batch() -> None:
    told = hooks.facts(record(), "after_drain", "batch 1 of 1", ["web1"])
    assert told["addresses"] == {"web1": ["10.0.0.1"]}
    assert told["text"] == "shop: 1.0 to 2.0, batch 1 of 1 (web1): after drain"
    assert (told["back"], told["report"]) == (False, "/reports/1/report.json")


@pytest.mark.parametrize("point", [point for point in POINTS if point not in ("after_drain", "before_upgrade")])
def test_a_failure_stops_what_can_be_stopped_unless_it_may_fail(point: str) -> None:
    for allowed in ([point], [ALL]):
        free = record(hooks_may_fail=allowed)
        said, error = hooks.ended(free, point, "no", None)
        assert "It may" in said
        assert (error, free.stop, len(free.notes)) == (None, None, 1)
    bound = record()
    said, error = hooks.ended(bound, point, "no", None)
    assert error is not None
    late = point in ("before_rollback", "after_rollback", "failure", "after_rollout")
    assert (bound.stop is None) == late
    if bound.stop is not None:
        assert (bound.stop.phase == "preflight") == (point == "before_rollout")


def test_no_failure_is_nothing() -> None:
    fine = record()
    assert hooks.ended(fine, "before_drain", "", None) == ("", None)
    assert (fine.stop, fine.notes) == (None, [])
