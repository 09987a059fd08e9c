# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A canary under load: a good version goes on, a bad one goes back, and whoever is asked may answer from outside."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import lab
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness import Outcome, read_log

from .conftest import PATIENT
from .controllers import beside, kill
from .fleets import nginx_description
from .rig import FIRST, Load, Rig, Run, wait_for
from .test_look_by_log import LOG
from .test_unreachable import TASKS

pytestmark = pytest.mark.lab

# How many good versions in a row; `make canaries` runs all of these.
CANARIES = int(os.environ.get("ZERODROP_CANARIES") or 0)
ALL = pytest.mark.skipif(not CANARIES, reason="make canaries runs it")
MIX = {"keepalive": 0.7, "close": 0.3}

# A judgement of seconds, for what is not about the judgement.
SHORT: dict[str, Any] = {
    "rollout_health_version_key": "version",
    "rollout_lease_seconds": 5,
    "rollout_batches": ["50%"],
    "rollout_canary_poll_seconds": 1,
    "rollout_canary_breaker_seconds": 0.5,
    "rollout_canary_warmup": 2,
    "rollout_canary_burst": 0,
    "rollout_canary_min_requests": 50,
    "rollout_canary_min_duration": 3,
    "rollout_canary_max_duration": 6,
    "rollout_canary_on_inconclusive": "promote",
}
# As it comes, but for a service that needs no minute to get warm.
DEFAULTS: dict[str, Any] = {"rollout_health_version_key": "version", "rollout_canary_warmup": 20}
ARCHIVE = ("rollout_version", "rollout_archive_src", "rollout_archive_checksum")


def canary(rig: Rig, *settings: dict[str, Any], **more: Any) -> Run:
    return rig.rollout(*(settings or (SHORT,)), playbook="canary", **more)


def decisions(run: Run) -> list[str]:
    return [look["decision"] for look in run.report["canary"]["looks"]]


def test_a_job_ends_with_the_canary_and_promote_goes_on_from_it(rig: Rig) -> None:
    release = rig.archive("2.0")
    with rig.watch() as watch, rig.load(mix=MIX) as load:
        held = canary(rig, {**SHORT, **release}, rollout_canary_end="hold")
        assert held.rc == 0, str(held)
        assert held.report["outcome"] == "held"
        assert rig.current() == {**rig.all_on(FIRST), "web1": "2.0"}
        third = rig.rollout(SHORT, {**rig.archive("3.0")}, playbook="canary")
        assert third.report["outcome"] == "refused"
        assert "third version" in third.report["sentence"]
        back = {name: value for name, value in {**SHORT, **release}.items() if name not in ARCHIVE}
        run = rig.rollout(back, playbook="promote")
    load.assert_nothing_lost()
    assert run.rc == 0, str(run)
    assert watch.least >= 3
    assert rig.current() == rig.all_on("2.0")
    assert rig.in_service() == set(rig.hosts)
    assert run.report["strategy"] == "promote"
    assert [len(batch) for batch in run.report["batches"]] == [3, 2]
    assert run.report["canary"]["id"] == held.report["rollout_id"]
    assert run.report["canary"]["looks"][: len(decisions(held))] == held.report["canary"]["looks"]


@ALL
def test_tasks_of_the_user_s_and_a_share_of_the_traffic(rig: Rig) -> None:
    """Two ways that differ from the ready methods: a play with a batch each, and weights."""
    rig.lay_out("2.0")
    path = rig.folder / "deploy.yml"
    path.write_text(TASKS, encoding="utf-8")
    settings = {
        **SHORT,
        "rollout_version": "2.0",
        "rollout_upgrade_tasks": str(path),
        "rollout_canary_steps": [{"share": 5}, {"share": 30}],
    }
    weights: set[str] = set()
    end = threading.Event()

    def watch() -> None:
        while not end.wait(0.2):
            weights.add(rig.states(rig.lab.balancers[0])["web1"])

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        with rig.load(mix=MIX) as load:
            run = canary(rig, settings)
    finally:
        end.set()
        thread.join()
    load.assert_nothing_lost()
    assert run.rc == 0, str(run)
    assert rig.current() == rig.all_on("2.0")
    assert rig.in_service() == set(rig.hosts)
    assert run.report["canary"]["steps_over"] == 2
    assert {"UP 26", "UP 214", "UP 100"} <= weights


def test_a_version_that_fails_outright_is_gone_in_seconds(rig: Rig) -> None:
    with rig.load(mix=MIX) as load:
        run = canary(rig, DEFAULTS, rig.archive("2.0", error_share=1.0))
    assert run.rc != 0, str(run)
    assert run.report["outcome"] == "rolled_back"
    assert run.report["stop"]["code"] == "verdict"
    assert "circuit breaker" in run.report["sentence"]
    assert rig.current() == rig.all_on(FIRST)
    assert rig.in_service() == set(rig.hosts)
    assert run.report["canary"]["looks"][-1]["at"] < 10
    assert run.report["mixed_versions_seconds"] < 15
    assert set(failures(load)) == {"web1"}


def failures(load: Load) -> dict[str, int]:
    """Requests without a good answer by the member that gave it."""
    records = (record for log in load.logs for record in read_log(str(log)) if record.outcome is Outcome.HTTP_5XX)
    return dict(Counter(record.host for record in records))


@ALL
def test_a_killed_controller_s_canary_goes_on_from_its_polls(rig: Rig) -> None:
    settings = {**SHORT, **rig.archive("2.0"), "rollout_canary_max_duration": 12, "rollout_canary_min_duration": 6}
    controller = beside(rig, "killed")
    runs: list[Run] = []
    with rig.load(mix=MIX) as load:
        thread = threading.Thread(target=lambda: runs.append(canary(controller, settings)))
        thread.start()
        wait_for(lambda: polls(controller) >= 3, 120)
        kill(controller)
        thread.join(60)
        run = canary(rig, settings)
    load.assert_nothing_lost()
    assert run.rc == 0, f"{runs}\n{run}"
    assert rig.current() == rig.all_on("2.0")
    looks = run.report["canary"]["looks"]
    assert run.report["canary"]["polls"] >= 5
    assert [look["at"] for look in looks] == sorted(look["at"] for look in looks)
    assert looks[0]["at"] < 3  # of the run that was killed


def polls(rig: Rig) -> int:
    """How many a run has taken so far."""
    found = 0
    for path in rig.folder.glob("run*/reports/*/canary.json"):
        try:
            found = max(found, len(json.loads(path.read_text(encoding="utf-8"))["polls"]))
        except (OSError, ValueError):
            continue
    return found


def has_polled(rig: Rig, count: int) -> bool:
    return polls(rig) >= count


@ALL
def test_an_operator_takes_it_back_while_it_is_judged(rig: Rig) -> None:
    settings = {**SHORT, **rig.archive("2.0"), "rollout_canary_steps": [{"members": 1, "ask": True}]}
    said: list[Run] = []
    back = {name: value for name, value in settings.items() if name not in ARCHIVE}

    def ask() -> None:
        said.append(rig.rollout(back, playbook="rollback"))

    controller = beside(rig, "judging")
    with rig.load(mix=MIX) as load, rig.when(lambda: polls(controller) >= 7, ask):
        run = canary(controller, settings)
    load.assert_nothing_lost()
    assert said[0].rc == 0, str(said[0])
    assert "was asked to take its canary back" in said[0].text
    assert run.report["outcome"] == "rolled_back"
    assert rig.current() == rig.all_on(FIRST)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"rollout_canary_steps": [{"share": 101}]}, "above 0 and below 100, got 101"),
        ({"rollout_canary_steps": [{"members": 3}, {"members": 2}]}, "steps must rise"),
        ({"rollout_canary_false_alarm": 0.6}, "rollout_canary_false_alarm must be a probability"),
    ],
)
@ALL
def test_refusals(rig: Rig, wrong: dict[str, Any], words: str) -> None:
    before = rig.snapshot()
    run = canary(rig, SHORT, rig.archive("2.0"), wrong)
    assert run.report["outcome"] == "refused"
    assert words in run.report["sentence"]
    assert rig.snapshot() == before


# -- the whole, on both balancers: make canaries --------------------------------

DESCRIPTIONS = {
    "haproxy": lambda: lab.Description(
        prefix=f"i{os.getpid()}-c",
        members=6,
        log_requests=True,
        pool_lines=PATIENT,
        global_lines=("log 127.0.0.1:5514 local0",),
    ),
    "nginx": lambda: nginx_description("1.22", members=6, log_requests=True),
}
LOGS: dict[str, dict[str, Any]] = {
    "haproxy": {"rollout_access_log": "/var/log/haproxy.log"},
    "nginx": {name: LOG[name] for name in ("rollout_access_log", "rollout_access_log_format")},
}
# What rsyslog does with HAProxy's messages: a line each, in a file.
SYSLOG = """
import socket
messages = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
messages.bind(("127.0.0.1", 5514))
with open("/var/log/haproxy.log", "a", buffering=1) as file:
    while True:
        text = messages.recv(65536).decode().partition(">")[2]
        file.write(text.replace("haproxy[", "lb1 haproxy[", 1).rstrip() + chr(10))
"""
OLD = 0.002  # the share of errors of the version that runs


@pytest.fixture(scope="module", params=["haproxy", "nginx"])
def logged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, lab.Lab]]:
    with lab.running(DESCRIPTIONS[request.param](), tmp_path_factory.mktemp("lab") / request.param) as up:
        if request.param == "haproxy":
            (Rig(up, tmp_path_factory.mktemp("rig")).root("lb1") / "root/syslog.py").write_text(
                SYSLOG, encoding="utf-8"
            )
            up.exec("lb1", ["systemd-run", "--unit=syslog-file", "/usr/bin/python3", "/root/syslog.py"])
        yield request.param, up


@pytest.fixture
def fleet(logged: tuple[str, lab.Lab], tmp_path: Path) -> Iterator[tuple[Rig, dict[str, Any]]]:
    kind, up = logged
    found = Rig(up, tmp_path)
    found.reset()
    yield found, LOGS[kind]
    found.heal()


def on_old(rig: Rig) -> None:
    """The version that runs fails now and then, as versions do."""
    run = rig.rollout(rig.archive("1.1", error_share=OLD), rollout_batches=["50%"], rollout_look_requests=0)
    assert run.rc == 0, str(run)


@ALL
def test_five_percent_of_errors_go_back_in_time(fleet: tuple[Rig, dict[str, Any]]) -> None:
    rig, log = fleet
    on_old(rig)
    with rig.load(rate=300, mix=MIX) as load:
        run = canary(rig, DEFAULTS, log, rig.archive("2.0", error_share=0.05))
    assert run.report["outcome"] == "rolled_back", str(run)
    assert "ROLL BACK" in run.report["sentence"]
    assert run.report["mixed_versions_seconds"] < 180
    assert rig.current() == rig.all_on("1.1")
    bad = failures(load)
    print(f"\n5 %: {run.report['mixed_versions_seconds']:.0f} s, failed by member {bad}")
    assert bad["web1"] > 2 * max((count for host, count in bad.items() if host != "web1"), default=0)


@ALL
def test_slower_goes_back_by_the_log(fleet: tuple[Rig, dict[str, Any]]) -> None:
    rig, log = fleet
    run = rig.rollout(rig.archive("1.1", extra_latency=0.04), rollout_batches=["50%"], rollout_look_requests=0)
    assert run.rc == 0, str(run)
    with rig.load(rate=300, mix=MIX) as load:
        run = canary(rig, DEFAULTS, log, rig.archive("2.0", extra_latency=0.06))
    load.assert_nothing_lost(closed_idle=50)
    assert run.report["outcome"] == "rolled_back", str(run)
    assert "slow" in run.report["sentence"]
    print(f"\n1.5 times slower: {run.report['mixed_versions_seconds']:.0f} s")


@ALL
def test_good_versions_in_a_row(fleet: tuple[Rig, dict[str, Any]]) -> None:
    rig, log = fleet
    on_old(rig)
    with rig.load(rate=300, mix=MIX):
        for number in range(CANARIES):
            run = canary(rig, SHORT, log, rig.archive(f"2.{number}", error_share=OLD), rollout_canary_min_requests=100)
            assert run.rc == 0, f"canary {number}\n{run}"
            assert "roll_back" not in decisions(run)
            assert rig.current() == rig.all_on(f"2.{number}")


@ALL
def test_without_traffic_nothing_is_promoted(fleet: tuple[Rig, dict[str, Any]]) -> None:
    rig, log = fleet
    run = canary(rig, SHORT, log, rig.archive("2.0"))
    assert run.report["outcome"] == "rolled_back", str(run)
    assert "promote" not in decisions(run)
    assert "0 requests" in run.report["sentence"]


@ALL
def test_a_silent_balancer_promotes_nothing(fleet: tuple[Rig, dict[str, Any]]) -> None:
    rig, log = fleet
    settings = {**SHORT, **log, "rollout_canary_max_duration": 20, "rollout_canary_min_duration": 10}
    with rig.load(mix=MIX), rig.when(lambda: polls(rig) >= 3, lambda: rig.lose("lb1")):
        run = canary(rig, settings, rig.archive("2.0"))
    assert run.rc != 0, str(run)
    assert rig.current()["web6"] == FIRST
    assert "lb1" in run.report["sentence"]


@ALL
def test_a_log_that_stands_still_promotes_nothing(fleet: tuple[Rig, dict[str, Any]]) -> None:
    """HAProxy serves on and whoever writes its log does not; nginx's log is moved away for good."""
    rig, log = fleet
    settings = {**SHORT, **log, "rollout_canary_max_duration": 20, "rollout_canary_min_duration": 10}
    behind_haproxy = log == LOGS["haproxy"]

    def freeze() -> None:
        stop = ["systemctl", "kill", "--signal=STOP", "syslog-file"]
        copy = ["sh", "-c", "cp /var/log/nginx/access.log /tmp/log && mv /tmp/log /var/log/nginx/access.log"]
        rig.lab.exec("lb1", stop if behind_haproxy else copy)

    try:
        with rig.load(mix=MIX), rig.when(lambda: polls(rig) >= 3, freeze):
            run = canary(rig, settings, rig.archive("2.0"))
    finally:
        thaw = ["systemctl", "kill", "--signal=CONT", "syslog-file"]
        rig.lab.exec("lb1", thaw if behind_haproxy else ["nginx", "-s", "reopen"])
    assert run.rc != 0, str(run)
    assert "promote" not in decisions(run)
    assert rig.current()["web6"] == FIRST
    print(f"\n{run.report['sentence']}")


# -- two balancers ------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_balancers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lab.Lab]:
    description = lab.Description(prefix=f"i{os.getpid()}-c2", members=4, balancers=2, pool_lines=PATIENT)
    with lab.running(description, tmp_path_factory.mktemp("lab") / "two") as up:
        yield up


@ALL
@pytest.mark.parametrize("policy", ["fail", "skip"])
def test_one_of_two_balancers_falls_silent(two_balancers: lab.Lab, tmp_path: Path, policy: str) -> None:
    """It promotes nothing, unless it is to be left out; then the report says what was not seen."""
    rig = Rig(two_balancers, tmp_path)
    rig.reset()
    settings = {**SHORT, "rollout_canary_max_duration": 25, "rollout_canary_min_duration": 12}
    release = rig.archive("2.0", error_share=OLD)
    try:
        with rig.load(mix=MIX), rig.when(lambda: polls(rig) >= 3, lambda: rig.lose("lb2")):
            run = canary(rig, settings, release, rollout_dead_balancer=policy, rollout_health_timeout=20)
    finally:
        rig.heal()
    print(f"\n{policy}: {run.report['sentence']}")
    if policy == "fail":
        assert run.rc != 0, str(run)
        assert rig.current()["web4"] == FIRST
        assert "lb2" in run.report["sentence"]
        assert not {"promote", "pass"} & {look["action"] for look in run.report["canary"]["looks"]}
    else:
        assert run.rc == 0, str(run)
        assert rig.current() == rig.all_on("2.0")
        assert any("lb2 is left out: what it still serves is not seen" in note for note in run.report["notes"])


@ALL
@pytest.mark.parametrize("moments", [range(1, 6), range(6, 11)], ids=["early", "late"])
def test_killed_at_ten_moments_of_the_bake_it_goes_on_to_the_same_verdict(rig: Rig, moments: range) -> None:
    """A poll each second; the first twelve do not count, and the eleventh is the last after which it is killed."""
    settings = {**SHORT, **rig.archive("2.0", error_share=0.12), "rollout_canary_warmup": 12}
    settings.update(rollout_canary_min_duration=20, rollout_canary_max_duration=60)
    for moment in moments:
        rig.reset()
        controller = beside(rig, f"killed{moment}")
        with rig.load(mix=MIX):
            thread = threading.Thread(target=canary, args=(controller, settings))
            thread.start()
            wait_for(partial(has_polled, controller, moment), 60)
            kill(controller)
            thread.join(60)
            run = canary(rig, settings)
        assert run.report["outcome"] == "rolled_back", f"{moment}\n{run}"
        looks = run.report["canary"]["looks"]
        assert (looks[-1]["decision"], looks[-1]["rule"]) == ("roll_back", "evidence")
        assert looks[0]["at"] < 3  # of the run that was killed
        assert run.report["canary"]["polls"] > moment
        assert rig.current() == rig.all_on(FIRST)
        assert rig.in_service() == set(rig.hosts)
        print(f"killed after {moment} polls: {looks[-1]['at']:.0f} s, {looks[-1]['sentence']}")
