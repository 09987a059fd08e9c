# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a plan says, and that its hash tells which part of two plans is not the same."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput, Refused
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._report import plan as plan_page
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout import ahead, foresight
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import MemberRecord, Record
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import Settings

VARIABLES = {
    "rollout_service": "shop",
    "rollout_hosts": "shop",
    "rollout_balancers": "lb",
    "rollout_pool": "shop",
    "rollout_version": "2.0",
    "rollout_health_url": "http://127.0.0.1:8080/health",
    "rollout_upgrade_tasks": "upgrade.yml",
}


def record(members: int = 4, size: int = 2) -> Record:
    hosts = [f"web{number}" for number in range(1, members + 1)]
    return Record(
        rollout_id="20261124T120000Z-abcdef",
        service="shop",
        strategy="rolling",
        pool="shop",
        from_version="1.0",
        to_version="2.0",
        started_at=time.time(),
        check=True,
        method="tasks",
        upgrade="upgrade.yml",
        floor=members // 2,
        balancers=["lb1", "lb2"],
        batches=[hosts[at : at + size] for at in range(0, members, size)],
        members={
            host: MemberRecord(
                host, {"lb1": host, "lb2": host}, True, "1.0", "1.0", addresses={"lb1": ("192.0.2.1", 80)}
            )
            for host in hosts
        },
        settings={"rollout_service": "shop"},
    )


def words(made: Record) -> dict[str, list[dict[str, list[str]]]]:
    return {
        place: [
            {"out": [f"set server shop/{host} state maint" for host in batch], "checked": [], "back": []}
            for batch in made.batches
        ]
        for place in made.balancers
    }


HISTORY = [
    {"outcome": outcome, "strategy": "rolling", "seconds": {"total": total}, "plan": {"batches": [["a"], ["b"]]}}
    for outcome, total in (("succeeded", 10.0), ("succeeded", 20.0), ("succeeded", 14.0), ("failed", 500.0))
]


def test_a_plan_says_what_people_ask() -> None:
    data = foresight.plan_data(record(), words(record()), HISTORY)
    text = foresight.text(data)
    for said in (
        "4 members in 2 batches; 4 are in service and at least 2 stay so.",
        "batch 1: web1, web2; 2 stay in service",
        "lb2: set server shop/web3 state maint",
        "It will take about 14.0 s, between 10.0 s and 20.0 s, by 3 earlier rollouts.",
        "After a failure, what was changed goes back to 1.0.",
        f"rollout_plan_hash: {data['hash']}",
    ):
        assert said in text
    page = plan_page.html(data)
    assert data["hash"] in page
    assert "set server shop/… state maint" in page


def test_what_is_not_known_is_said() -> None:
    made = record()
    made.members["web1"].release_before = None
    text = foresight.text(foresight.plan_data(made, words(made), []))
    assert "How long it will take is not known" in text
    assert "No release is known of web1: nothing goes back there." in text


def test_a_hostile_word_in_a_plan_is_no_markup() -> None:
    made = record()
    made.notes = ["<script>alert(1)</script>"]
    told = words(made)
    told["lb1"][0]["out"] = ["<img src=x>"]
    page = plan_page.html(foresight.plan_data(made, told, []))
    assert "<script" not in page
    assert "<img" not in page


def _member_out(made: Record) -> None:
    made.members["web3"].in_service_before = False


def _other_release(made: Record) -> None:
    made.members["web3"].release = "0.9"


def _other_batches(made: Record) -> None:
    made.batches = [["web1"], ["web2", "web3", "web4"]]


def _balancer_gone(made: Record) -> None:
    made.balancers = ["lb1"]


def _other_version(made: Record) -> None:
    made.to_version = "3.0"


def _other_setting(made: Record) -> None:
    made.settings = {"rollout_service": "shop", "rollout_floor": "75%"}


CHANGES: list[tuple[Callable[[Record], None], str]] = [
    (_member_out, "members in service"),
    (_other_release, "releases"),
    (_other_batches, "batches"),
    (_balancer_gone, "balancers"),
    (_other_version, "what goes where"),
    (_other_setting, "settings"),
]


@pytest.mark.parametrize(("change", "said"), CHANGES)
def test_a_run_is_held_to_its_plan(change: Callable[[Record], None], said: str) -> None:
    planned = record()
    settings = Settings.from_vars({**VARIABLES, "rollout_plan_hash": foresight.hash_of(planned)})
    ahead.check_plan(settings, planned)
    found = copy.deepcopy(planned)
    change(found)
    with pytest.raises(Refused, match=rf"rollout_plan_hash was taken: {said}\. Now"):
        ahead.check_plan(settings, found)


def test_without_a_hash_any_plan_will_do() -> None:
    ahead.check_plan(Settings.from_vars(VARIABLES), record())


@pytest.mark.parametrize("wrong", ["abc", "1234567-123456-123456-123456-123456-123456", "G" * 41])
def test_what_is_no_hash_is_refused(wrong: str) -> None:
    with pytest.raises(BadInput, match="rollout_plan_hash must be a plan's hash"):
        Settings.from_vars({**VARIABLES, "rollout_plan_hash": wrong})


def test_the_time_and_the_name_of_a_run_are_no_part_of_its_plan() -> None:
    other = dataclasses.replace(record(), started_at=0.0, rollout_id="20261125T120000Z-abcdef", check=False)
    other.settings = {**other.settings, "rollout_report_dir": "/srv/reports"}
    assert foresight.hash_of(other) == foresight.hash_of(record())


@given(st.lists(st.floats(1, 1e4), min_size=1, max_size=20), st.integers(1, 50))
def test_a_prediction_lies_between_its_ends(totals: list[float], batches: int) -> None:
    history: list[dict[str, Any]] = [
        {"outcome": "succeeded", "strategy": "rolling", "seconds": {"total": each}, "plan": {"batches": [["a"]]}}
        for each in totals
    ]
    found = foresight.prediction(batches, "rolling", history)
    assert found is not None
    assert found["least"] <= found["seconds"] <= found["most"]
    assert found["rollouts"] == len(totals)


def test_a_plan_for_a_thousand_members_is_made_at_once() -> None:
    made = record(1000, 100)
    began = time.monotonic()
    foresight.text(foresight.plan_data(made, words(made), HISTORY))
    assert time.monotonic() - began < 10
