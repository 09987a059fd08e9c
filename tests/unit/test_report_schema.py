# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A report has the fields that its schema promises, for every outcome, and a sentence that can be read."""

from __future__ import annotations

import copy
import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from jsonschema import Draft202012Validator, FormatChecker  # type: ignore[import-untyped]  # its stubs are no part of it

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    BadInput,
    TimedOut,
    Unhealthy,
    Unreachable,
    UpgradeFailed,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Admin, Counters, Health, Member, Pool
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work.look import NO_COUNTERS
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Call, Remote, Reply
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout import ending
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import MemberRecord, Record, new_id
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import Settings

ROOT = Path(__file__).parents[2]
SCHEMA: dict[str, Any] = json.loads((ROOT / "docs" / "report.schema.json").read_text(encoding="utf-8"))
VALIDATOR = Draft202012Validator(SCHEMA, format_checker=FormatChecker())
REAL_RUNS = sorted((Path(__file__).parent / "reports").glob("*.json"))

BALANCERS = {"lb1": (1000, 0), "lb2": (500, 2)}  # requests and errors while the rollout ran
WITNESS = {
    "requests_total": 12345,
    "failed": 0,
    "closed_idle": 0,
    "late": 3,
    "not_sent": 0,
    "by_class": {"ok": 12342, "late": 3},
}


def read(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((Path(__file__).parent / "reports" / name).read_text(encoding="utf-8"))
    return loaded


def problems(report: Mapping[str, Any]) -> list[str]:
    return [f"{'/'.join(map(str, error.absolute_path))}: {error.message}" for error in VALIDATOR.iter_errors(report)]


def settings() -> Settings:
    return Settings.from_vars(
        {
            "rollout_service": "shop",
            "rollout_hosts": "shop",
            "rollout_balancers": "lb",
            "rollout_pool": "shop",
            "rollout_version": "2.0",
            "rollout_health_url": "http://127.0.0.1:8080/health",
            "rollout_upgrade_tasks": "upgrade.yml",
        }
    )


class Balancers:
    """Balancers that have counted something since the record was made."""

    def __init__(self, silent: tuple[str, ...] = (), reloaded: tuple[str, ...] = ()) -> None:
        self.silent = silent
        self.reloaded = reloaded

    def run(self, calls: Mapping[str, Call], check: bool = False) -> dict[str, Reply]:
        return {name: self._answer(name) for name in calls}

    def _answer(self, name: str) -> Reply:
        if name in self.silent:
            return Reply(name, error=Unreachable(f"{name} cannot be reached."))
        requests, errors = BALANCERS[name]
        counters = Counters(requests=requests, errors=errors)
        member = Member("web1", "192.0.2.1", 80, Admin.READY, Health.UP, 100, 0, 0)
        identity = "another" if name in self.reloaded else "process 1"
        return Reply(name, result={"pools": [Pool("shop", identity, (member,), counters=counters).to_dict()]})


def record(**states: str) -> Record:
    """A rollout of 2.0 in batches of two, 12 seconds ago, whose members ended in these states."""
    now = time.time()
    members = {
        host: MemberRecord(
            host=host,
            names=dict.fromkeys(BALANCERS, host),
            in_service_before=True,
            release_before="1.0",
            release="2.0" if state == "finished" else "1.0",
            state=state,
            seconds={} if state == "untouched" else {"drain": 0.51, "upgrade": 1.2, "gate": 0.4, "look": 0.3},
            out_seconds=0.0 if state == "untouched" else 2.4,
            look="pass" if state == "finished" else "",
            trouble="it did not start" if state in ("failed", "lost", "left_out") else "",
        )
        for host, state in states.items()
    }
    hosts = list(members)
    return Record(
        rollout_id=new_id(now),
        service="shop",
        strategy="rolling",
        pool="shop",
        from_version="1.0",
        to_version="2.0",
        started_at=now - 12,
        check=False,
        method="tasks",
        upgrade="upgrade.yml",
        floor=len(hosts) // 2,
        balancers=list(BALANCERS),
        batches=[hosts[start : start + 2] for start in range(0, len(hosts), 2)],
        members=members,
        counters={
            name: {"identity": "process 1", "requests": 0, "errors": 0, "responses_5xx": 0} for name in BALANCERS
        },
        first_new_at=3.0,
        last_old_at=8.0,
    )


def made(given: Record, seen: bool = True, balancers: Balancers | None = None, closed_idle: int = 0) -> dict[str, Any]:
    remote = cast(Remote, balancers or Balancers())
    witness = {**WITNESS, "closed_idle": closed_idle} if seen else None
    report: dict[str, Any] = json.loads(json.dumps(ending.report(settings(), given, remote, witness)))  # as written
    assert problems(report) == []
    readable(report["sentence"])
    return report


def readable(sentence: str) -> None:
    assert "  " not in sentence
    assert "None" not in sentence
    assert "\n" not in sentence
    assert not re.search(r"\s[,.;:]|\.\.|[,;:]$", sentence), sentence
    assert sentence.endswith(".")


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", REAL_RUNS, ids=lambda path: path.stem)
def test_reports_of_real_runs(path: Path) -> None:
    report = read(path.name)
    assert problems(report) == []
    readable(report["sentence"])
    assert ending.sentence(report) == report["sentence"]


def test_there_are_real_runs() -> None:
    assert {read(path.name)["outcome"] for path in REAL_RUNS} >= {"succeeded", "rolled_back", "refused"}


def test_the_outcomes_are_those_of_the_schema() -> None:
    assert set(SCHEMA["properties"]["outcome"]["enum"]) == set(ending.OUTCOMES)


def test_the_manual_names_every_field() -> None:
    manual = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
    parts = [
        SCHEMA,
        *(SCHEMA["$defs"][name] for name in ("witness", "balancers", "member", "stop", "told", "series", "event")),
    ]
    lacking = [name for part in parts for name in part["properties"] if f"`{name}`" not in manual]
    assert lacking == []


def test_the_sample_in_the_manual_is_a_report() -> None:
    manual = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
    sample = re.search(r"```json\n(.+?)```", manual, re.DOTALL)
    assert sample is not None
    assert problems(json.loads(sample[1])) == []


def test_succeeded() -> None:
    report = made(record(web1="finished", web2="finished", web3="finished"))
    assert report["outcome"] == "succeeded"
    assert report["requests_total"] == 12345
    assert report["mixed_versions_seconds"] == 5.0
    for words in ("shop went from 1.0 to 2.0", "3 members", "2 batches", "12,345 requests", "0 failed", "witness"):
        assert words in report["sentence"]
    assert "5.0 s" in report["sentence"]


def test_succeeded_without_a_witness() -> None:
    report = made(record(web1="finished", web2="finished"), seen=False)
    assert report["requests_source"] == "balancers"
    assert report["requests_total"] == 1500
    assert report["requests_failed"] == 2
    assert "1,500 requests" in report["sentence"]
    assert "2 failed" in report["sentence"]
    assert "counters" in report["sentence"]


def test_balancers_that_cannot_be_counted_are_named() -> None:
    report = made(record(web1="finished"), seen=False, balancers=Balancers(silent=("lb1",)))
    assert report["balancers"]["not_counted"] == ["lb1"]
    report = made(record(web1="finished"), seen=False, balancers=Balancers(reloaded=("lb1", "lb2")))
    assert report["balancers"]["not_counted"] == ["lb1", "lb2"]


def test_reloads_and_what_they_cost_are_said() -> None:
    given = record(web1="finished", web2="finished")
    given.reloads = {"lb1": 4, "lb2": 4}
    report = made(given, closed_idle=9)
    assert report["balancers"]["reloads"] == {"lb1": 4, "lb2": 4}
    assert "9 closed while idle in 8 reloads of a balancer" in report["sentence"]


def test_what_nobody_counted_is_not_given_as_zero() -> None:
    given = record(web1="finished", web2="finished")
    given.reloads = {"lb1": 4}
    for member in given.members.values():
        member.look, member.look_reason = "inconclusive", NO_COUNTERS
    report = made(given, seen=False, balancers=Balancers(reloaded=("lb1", "lb2")))
    assert "0 failed" not in report["sentence"]
    assert "nobody counted: no witness ran, and lb1, lb2 cannot tell; 4 reloads" in report["sentence"]
    assert (
        "Not judged under traffic, since the balancer counts no requests by member: web1, web2." in report["sentence"]
    )


def test_nothing_to_do() -> None:
    given = record(web1="untouched", web2="untouched")
    given.batches, given.first_new_at, given.last_old_at = [], None, None
    report = made(given, seen=False)
    assert report["outcome"] == "succeeded"
    assert "nothing was changed" in report["sentence"]


def test_dry_run() -> None:
    given = record(web1="untouched", web2="untouched")
    given.check, given.first_new_at, given.last_old_at = True, None, None
    report = made(given, seen=False)
    assert "would go from 1.0 to 2.0" in report["sentence"]
    assert "requests" not in report["sentence"]


def test_rolled_back() -> None:
    given = record(web1="rolled_back", web2="rolled_back", web3="untouched")
    given.halt("gate", Unhealthy("web1 did not become healthy within 8 s.", "Look at the service's log."), ["web1"])
    given.back_batches = [["web1", "web2"]]
    given.first_new_at = None
    report = made(given)
    assert report["outcome"] == "rolled_back"
    assert report["stop"]["code"] == "unhealthy"
    for words in ("shop is on 1.0 as before", "2.0 stopped", "gate", "web1", "0 failed", "Look at the service's log."):
        assert words in report["sentence"]
    assert "side by side" not in report["sentence"]
    assert "run the same playbook again" in report["sentence"]


def test_frozen() -> None:
    given = record(web1="finished", web2="finished", web3="rolled_back", web4="untouched")
    given.halt("look", Unhealthy("web3 does not do well under traffic."), ["web3"])
    report = made(given)
    assert report["outcome"] == "frozen"
    for words in ("frozen on two versions", "web1, web2 on 2.0", "web3, web4 on 1.0", "go on", "go back"):
        assert words in report["sentence"]


def test_failed() -> None:
    given = record(web1="finished", web2="lost", web3="untouched")
    given.halt("upgrade", Unreachable("web2 was lost while it was upgraded.", lost=True), ["web2"])
    report = made(given)
    assert report["outcome"] == "failed"
    for words in ("stopped after", "web2 was lost", "Out of service: web2", "run the same playbook again"):
        assert words in report["sentence"]


def test_maintenance_that_went_well() -> None:
    given = record(web1="finished", web2="finished", web3="finished")
    given.strategy, given.to_version = "maintain", ""
    report = made(given)
    assert report["to_version"] is None
    assert report["mixed_versions_seconds"] == 0
    assert report["sentence"].startswith("shop: 3 members were maintained in 2 batches in 12")
    assert "version" not in report["sentence"]


def test_maintenance_in_check_mode() -> None:
    given = record(web1="upgraded", web2="untouched")
    given.strategy, given.to_version, given.check = "maintain", "", True
    report = made(given)
    assert report["sentence"] == "shop: 2 members would be maintained in 1 batch; nothing was changed."


def test_maintenance_that_stopped() -> None:
    given = record(web1="finished", web2="failed", web3="untouched", web4="untouched")
    given.strategy, given.to_version = "maintain", ""
    given.halt("maintenance", UpgradeFailed("The maintenance failed on web2: no space left"), ["web2"])
    report = made(given)
    assert report["outcome"] == "failed"
    for words in ("1 of 4 members", "in phase maintenance", "no space left", "Out of service: web2", "left out"):
        assert words in report["sentence"]


@pytest.mark.parametrize("state", ["untouched", "finished"])
def test_maintenance_has_no_way_back(state: str) -> None:
    """Also where every member is in service it did not succeed, and nothing went back."""
    given = record(web1=state, web2="untouched")
    given.strategy = "maintain"
    given.halt("drain", TimedOut("web2 is still busy."), ["web2"])
    assert made(given)["outcome"] == "failed"


def test_maintenance_that_was_refused() -> None:
    given = Record.refused({"rollout_service": "shop"}, BadInput("rollout_tasks is not set."), "maintain")
    report = json.loads(json.dumps(ending.refusal_report(given)))
    assert problems(report) == []
    readable(report["sentence"])
    assert "the maintenance was refused and nothing was touched: rollout_tasks is not set." in report["sentence"]


def test_refused() -> None:
    given = Record.refused({"rollout_service": "shop"}, BadInput("rollout_pool is not set.", "Set it for all hosts."))
    report = json.loads(json.dumps(ending.refusal_report(given)))
    assert problems(report) == []
    readable(report["sentence"])
    assert report["outcome"] == "refused"
    for words in ("shop", "refused", "nothing was touched", "rollout_pool is not set.", "Set it for all hosts."):
        assert words in report["sentence"]


@pytest.mark.parametrize(
    ("field", "value"),
    [("outcome", "done"), ("duration_seconds", "12"), ("requests_failed", -1), ("extra", 1), ("stop", {"code": "x"})],
)
def test_the_schema_refuses_what_is_wrong(field: str, value: Any) -> None:
    report = copy.deepcopy(made(record(web1="finished")))
    report[field] = value
    assert problems(report)


@pytest.mark.parametrize("field", SCHEMA["required"])
def test_the_schema_misses_what_is_lacking(field: str) -> None:
    report = made(record(web1="finished"))
    del report[field]
    assert problems(report)
