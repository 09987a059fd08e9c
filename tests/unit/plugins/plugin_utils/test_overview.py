# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the playbook status says, and what it takes for something that needs a look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Admin, Health, Member, Pool
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.migration import Migration, Step
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.overview import Seen, overview, text

HOSTS = ("web1", "web2")


def pool(**admin: Admin) -> Pool:
    members = [
        Member(name, "10.0.0.1", 80, admin.get(name, Admin.READY), Health.UP, 7, in_flight=0, queued=0)
        for name in HOSTS
    ]
    return Pool("shop", "p", tuple(members))


def info(release: str = "2.0", **more: Any) -> dict[str, Any]:
    return {"release": release, "installed": release, "runs": release, "healthy": True, **more}


def ledger(
    number: int = 3, left: float = 0.0, ended: bool = True, held: Any = (), stop: str | None = None, **phases: str
) -> dict[str, Any]:
    rollout = {
        "id": "r1",
        "strategy": "rolling",
        "owner": "kim on desk",
        "from_version": "1.0",
        "to_version": "2.0",
        "started": 0.0,
        "ended": 9.0 if ended else None,
        "outcome": "succeeded" if ended else None,
        "sentence": "done",
        "seconds": {"total": 8.25},
    }
    return {
        "lease": {"number": number, "left": left, "owner": "kim on desk", "reason": "rolling to 2.0", "started": 0.0},
        "interrupted": None if ended else rollout,
        "members": {host: {"phase": phase} for host, phase in phases.items()},
        "held": list(held),
        "rollouts": [rollout],
        "events": [{"at": 60.0 * minute, "message": f"event {minute}"} for minute in range(9)],
        "stop": stop,
    }


GOOD = Seen(
    "shop",
    {"lb1": 0, "lb2": 0},
    {"lb1": pool(), "lb2": pool()},
    {"lb1": ledger(web1="finished", web2="finished"), "lb2": ledger(web1="finished", web2="finished")},
    {host: info() for host in HOSTS},
    {host: {"lb1": host, "lb2": host} for host in HOSTS},
)


def migrating(state: str) -> dict[str, Any]:
    found = Migration("2.0", "1.0", ("2.0",), 3, {"expand": Step(state, "r1", "db1")})
    return {**ledger(), "migration": {"revision": 3, "told": found.to_dict(), "age": None}}


def test_a_step_whose_end_nobody_knows_needs_a_look() -> None:
    data = overview(seen(ledgers={"lb1": migrating("running"), "lb2": ledger()}))
    assert any("the expand of the migration 2.0 was running on db1" in each for each in data["drift"])
    data = overview(seen(ledgers={"lb1": migrating("done"), "lb2": migrating("done")}))
    assert not any("migration" in each for each in data["drift"])


def seen(**changes: Any) -> Seen:
    return replace(GOOD, **changes)


def test_all_is_well() -> None:
    data = overview(GOOD)
    assert data["drift"] == []
    assert not data["attention"]
    assert data["versions"] == ["2.0"]
    said = text(data)
    assert said.startswith("shop: 2.0. Nobody works on it.")
    assert "web1    2.0   2.0      yes      finished  ready up 7  ready up 7" in said
    assert "1970-01-01 00:00:00 UTC  rolling   1.0 to 2.0  kim on desk  succeeded  8.2" in said
    assert said.splitlines()[-6:-4] == ["What happened last:", "  1970-01-01 00:04:00 UTC: event 4"]
    assert said.endswith("  1970-01-01 00:08:00 UTC: event 8")


def test_nothing_was_ever_rolled_out() -> None:
    data = overview(seen(ledgers={"lb1": None, "lb2": None}))
    assert data["drift"] == []
    assert data["lease"] is None


HELD = {"member": "web1", "host": "web1", "held_by": "rollout"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"infos": {"web1": info(), "web2": info("1.0")}}, "2 versions serve: 1.0, 2.0"),
        (
            {"infos": {"web1": info(runs="1.0"), "web2": info()}},
            "web1: 2.0 is installed, and the service answers as 1.0",
        ),
        ({"infos": {"web1": info(healthy=False), "web2": info()}}, "web1: it is not healthy"),
        ({"pools": {"lb1": pool(web1=Admin.OUT), "lb2": pool()}}, "web1: its balancers differ: out at weight 7 on lb1"),
        (
            {"pools": {"lb1": pool(web1=Admin.OUT), "lb2": pool()}},
            "web1: out of service on lb1, and no run holds it out",
        ),
        (
            {
                "pools": {"lb1": pool(web1=Admin.OUT), "lb2": pool()},
                "ledgers": {"lb1": ledger(held=[HELD]), "lb2": ledger()},
            },
            "left so by a run; the same playbook takes it up",
        ),
        ({"ledgers": {"lb1": ledger(), "lb2": None}}, "lb2: has no ledger, and others have"),
        ({"ledgers": {"lb1": ledger(), "lb2": ledger(2)}}, "lb2: its ledger misses the last run"),
        ({"ledgers": {"lb1": ledger(ended=False), "lb2": ledger(ended=False)}}, "kim on desk began at 1970"),
        ({"ledgers": {"lb1": ledger(web2="upgrading"), "lb2": None}}, "web2: left by halves: upgrading"),
        ({"troubles": {"lb2": "cannot be reached"}}, "lb2: cannot be reached"),
    ],
)
def test_what_does_not_fit_is_said(changes: Mapping[str, Any], words: str) -> None:
    data = overview(seen(**changes))
    assert data["attention"]
    assert any(words in each for each in data["drift"]), data["drift"]
    assert words in text(data)


def test_what_a_run_does_while_it_lives_is_no_drift() -> None:
    live = ledger(left=42.0, ended=False, web1="upgrading", held=[HELD], stop="pat on laptop")
    pools = {"lb1": pool(web1=Admin.OUT), "lb2": pool()}
    data = overview(seen(ledgers={"lb1": live, "lb2": live}, pools=pools, infos={"web1": info(), "web2": info("1.0")}))
    assert data["drift"] == []
    said = text(data)
    assert "kim on desk works on it (rolling to 2.0)" in said
    assert "ends in 42 s unless it is renewed. pat on laptop has asked it to stop" in said


def test_members_that_are_out_by_hand_are_as_they_should_be() -> None:
    held = [{**HELD, "held_by": "hand", "host": ""}]
    out = pool(web1=Admin.OUT)
    data = overview(seen(pools={"lb1": out, "lb2": out}, ledgers={"lb1": ledger(held=held), "lb2": ledger(held=held)}))
    assert data["drift"] == []
