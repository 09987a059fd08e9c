# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done about a member that a dead run left out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput
from ansible_collections.zerodrop.rollout.plugins.module_utils._ledger import PHASES
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.repair import (
    HALVES,
    Decision,
    Left,
    Repair,
    decide,
    entry_of,
    of_member,
    plan,
    words,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import Recovery

HEALTHY = Left("web1", True, "draining", "1.0", "1.0", "2.0", True)
LEFTS = st.builds(
    Left,
    host=st.just("web1"),
    held=st.booleans(),
    phase=st.sampled_from(["", *PHASES]),
    release=st.sampled_from([None, "1.0", "2.0"]),
    before=st.sampled_from([None, "1.0"]),
    wanted=st.sampled_from([None, "2.0"]),
    healthy=st.booleans(),
    lost=st.sampled_from(["", "gone"]),
    whole=st.booleans(),
)


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("phase", ["draining", "healthy", "planned", "finished"])
def test_a_healthy_member_on_a_whole_release_is_put_back(phase: str, ours: bool) -> None:
    found = decide(replace(HEALTHY, phase=phase), "leave", ours)
    assert (found.repair, found.release) == (Repair.PUT_BACK, "1.0")
    assert decide(replace(HEALTHY, phase=phase, release=None), "leave", ours).repair is Repair.PUT_BACK


def test_one_that_was_in_mid_upgrade() -> None:
    left = replace(HEALTHY, phase="upgrading", release="2.0")
    assert decide(left, "leave", ours=True).repair is Repair.PUT_BACK  # the ready method sees what is still to be done
    assert decide(left, "leave", ours=False).repair is Repair.LEAVE_OUT
    assert "rollout_recover_half" in decide(left, "leave", ours=False).words
    assert decide(left, "finish", ours=False) == Decision(
        Repair.INSTALL, "2.0", "gets 2.0, since tasks of yours were broken off on it"
    )
    assert decide(left, "return", ours=False).release == "1.0"
    assert decide(replace(left, healthy=False), "return", ours=True).release == "1.0"
    assert decide(replace(left, whole=False), "finish", ours=True).repair is Repair.INSTALL
    assert decide(replace(left, before=None), "return", ours=False).repair is Repair.LEAVE_OUT


@given(LEFTS, st.sampled_from(HALVES), st.booleans())
def test_nothing_that_is_ill_lost_or_not_ours_is_put_back(left: Left, half: str, ours: bool) -> None:
    found = decide(left, half, ours)
    if not left.held:
        assert found == Decision(Repair.NOTHING)
    elif left.lost:
        assert found.repair is Repair.LEAVE_OUT
    if found.repair is Repair.PUT_BACK:
        assert left.held
        assert left.healthy
        assert left.whole
        assert PHASES.get(left.phase) or ours
    if found.repair is Repair.INSTALL:
        assert half != "leave"
        assert found.release == (left.wanted if half == "finish" else left.before)


def ledger(number: int, **members: dict[str, Any]) -> dict[str, Any]:
    return {"lease": {"number": number}, "members": members}


def test_the_newest_ledger_and_the_word_that_trusts_less_count() -> None:
    draining, upgrading = ({"phase": phase, "safe": PHASES[phase]} for phase in ("draining", "upgrading"))
    assert entry_of("web1", {"lb1": ledger(3, web1=draining), "lb2": ledger(3, web1=upgrading)}) == upgrading
    assert entry_of("web1", {"lb1": ledger(4, web1=draining), "lb2": ledger(3, web1=upgrading)}) == draining
    assert entry_of("web1", {"lb1": None, "lb2": ledger(3)}) == {}


def test_a_member_as_it_was_found() -> None:
    entry = {"phase": "upgrading", "safe": False, "release_before": "1.0", "release": "2.0"}
    info = {"release": "2.0", "healthy": False, "reason": "status 503"}
    left = of_member("web1", True, info, {"lb1": ledger(3, web1=entry)})
    assert left == Left("web1", True, "upgrading", "2.0", "1.0", "2.0", False, "status 503")


def test_what_people_are_told() -> None:
    decisions = {
        "web1": Decision(Repair.PUT_BACK, "1.0", "is healthy on 1.0"),
        "web2": Decision(Repair.NOTHING),
        "web3": Decision(Repair.LEAVE_OUT, None, "web3 cannot be reached"),
        "web4": Decision(Repair.INSTALL, "2.0", "gets 2.0, since it is not healthy on 2.0"),
    }
    assert plan(decisions) == ["web1", "web4"]
    assert len(words(decisions)) == 3
    assert words(decisions)[0] == "web1 is healthy on 1.0: it is put back"


SETTINGS = {
    "rollout_service": "shop",
    "rollout_hosts": "shop",
    "rollout_balancers": "lb",
    "rollout_pool": "shop",
    "rollout_health_url": "http://127.0.0.1/health",
    "rollout_upgrade_tasks": "deploy.yml",
}


def test_the_settings_of_a_recovery() -> None:
    assert Recovery.from_vars(SETTINGS).recover_half == "leave"
    assert Recovery.from_vars({**SETTINGS, "rollout_version": "2.0"}).version == ""
    with pytest.raises(BadInput, match="rollout_recover_half"):
        Recovery.from_vars({**SETTINGS, "rollout_recover_half": "guess"})
