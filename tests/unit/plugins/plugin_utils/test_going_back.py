# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which release a fleet goes back to."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadArtefact, BadInput, Refused
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.going_back import (
    newest_first,
    refuse_without,
    target,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import Rollback

HOSTS = [f"web{number}" for number in range(1, 13)]


def infos(on_new: int, previous: str | None = None) -> dict[str, dict[str, Any]]:
    """So many of twelve members went from 1.0 to 2.0; the others had ``previous`` before their 1.0."""
    new = {"release": "2.0", "previous": "1.0", "releases": ["2.0", "1.0"]}
    old = {"release": "1.0", "previous": previous, "releases": ["2.0", "1.0"]}
    return {host: new if number < on_new else old for number, host in enumerate(HOSTS)}


def last(strategy: str = "rolling", before: str | None = "1.0", after: str = "2.0") -> dict[str, Any]:
    plan = {"batches": [HOSTS[:1], HOSTS[1:4], HOSTS[4:7]]}
    return {"strategy": strategy, "from_version": before, "to_version": after, "plan": plan, "number": 3}


@pytest.mark.parametrize("on_new", [12, 7])
@pytest.mark.parametrize("previous", [None, "0.9"])
def test_without_a_ledger_the_members_agree(on_new: int, previous: str | None) -> None:
    assert target(infos(on_new, previous), "", None) == "1.0"


def test_members_that_do_not_agree_are_asked_about() -> None:
    with pytest.raises(Refused, match="not clear which release") as error:
        target({**infos(7), "web1": {"release": "3.0", "previous": "2.0", "releases": ["3.0", "1.0"]}}, "", None)
    assert "Kept everywhere: 1.0" in error.value.hint
    with pytest.raises(Refused):
        target({host: {"release": "1.0", "previous": None} for host in HOSTS}, "", None)


def test_the_ledger_knows_best_and_a_name_better() -> None:
    assert target(infos(12), "", last()) == "1.0"
    assert target(infos(12), "0.8", last()) == "0.8"
    assert target(infos(7), "", last(before=None)) == "1.0"


def test_a_second_rollback_goes_where_the_first_one_went() -> None:
    there = {host: {"release": "1.0", "previous": "2.0", "releases": ["2.0", "1.0"]} for host in HOSTS}
    assert target(there, "", last("rollback", "2.0", "1.0")) == "1.0"


def test_a_release_that_is_not_kept_is_refused_before_anything() -> None:
    some = infos(12)
    refuse_without(some, HOSTS, "1.0")
    some["web3"] = {**some["web3"], "releases": ["2.0"]}
    with pytest.raises(BadArtefact, match=r"web3 cannot go back to 1\.0") as error:
        refuse_without(some, HOSTS, "1.0")
    assert "Kept everywhere: 2.0" in error.value.hint
    refuse_without(some, HOSTS[3:], "1.0")


def test_the_newest_go_back_first() -> None:
    assert newest_first(HOSTS, last())[:7] == ["web7", "web6", "web5", "web4", "web3", "web2", "web1"]
    assert newest_first(HOSTS, None) == HOSTS[::-1]


@given(st.permutations(HOSTS), st.integers(0, 12))
def test_nobody_is_left_behind(hosts: list[str], upgraded: int) -> None:
    order = newest_first(hosts, {"plan": {"batches": [hosts[:upgraded]]}})
    assert sorted(order) == sorted(HOSTS)
    assert order[:upgraded] == hosts[:upgraded][::-1]


SETTINGS = {
    "rollout_service": "shop",
    "rollout_hosts": "shop",
    "rollout_balancers": "lb",
    "rollout_pool": "shop",
    "rollout_health_url": "http://127.0.0.1/health",
    "rollout_upgrade_method": "archive",
    "rollout_batches": "1",
}


def test_the_settings_of_a_rollback() -> None:
    settings = Rollback.from_vars(SETTINGS)
    assert [str(each) for each in settings.batches] == ["1"]
    assert settings.on_failure == "freeze"
    assert [str(each) for each in Rollback.from_vars({**SETTINGS, "rollout_rollback_batches": "25%"}).batches] == [
        "25%"
    ]
    assert settings.to("1.0").version == "1.0"


@pytest.mark.parametrize(
    ("name", "value"),
    [("rollout_version", "1.0"), ("rollout_rollback_to", "../1.0"), ("rollout_rollback_batches", "0")],
)
def test_what_a_rollback_refuses(name: str, value: str) -> None:
    with pytest.raises(BadInput, match=name):
        Rollback.from_vars({**SETTINGS, name: value})
