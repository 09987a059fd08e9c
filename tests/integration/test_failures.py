# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rollouts that stop: nothing is lost, the floor holds, the rest is untouched, and somebody says what to do."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from typing import Any

import pytest

from .rig import FIRST, Rig, Run

pytestmark = pytest.mark.lab

# A deployment of the user's own: the releases are on the members, the link and the restart are theirs.
TASKS = """\
- name: Fail where the test wants it
  ansible.builtin.fail:
    msg: "the deployment of {{ rollout_release }} broke its own way"
  when: inventory_hostname == "%(host)s" and rollout_release in %(releases)r
- name: Switch and restart
  ansible.builtin.command:
    argv:
      - /bin/sh
      - -c
      - "ln -sfn releases/{{ rollout_release }} /opt/shop/current && systemctl restart shop.service"
  changed_when: true
"""


def own_tasks(rig: Rig, host: str = "none", releases: tuple[str, ...] = ("2.0",)) -> dict[str, Any]:
    """Settings for tasks of the user's that fail on one member for these releases."""
    path = rig.folder / "deploy.yml"
    path.write_text(TASKS % {"host": host, "releases": list(releases)}, encoding="utf-8")
    return {
        "rollout_version": "2.0",
        "rollout_upgrade_tasks": str(path),
        "rollout_health_version_key": "version",
        "rollout_batches": [2],
        "rollout_look_requests": 5,
    }


def assert_stopped(run: Run, outcome: str, *words: str) -> None:
    """The run failed, its report says how, and its sentence says why and what to do."""
    assert run.rc != 0, str(run)
    assert run.report["outcome"] == outcome, run.report["sentence"]
    assert run.report["requests_failed"] == 0
    sentence = run.report["sentence"]
    assert sentence in run.text
    for word in words:
        assert word in sentence
    assert "run the same playbook again" in sentence.lower()


@pytest.mark.parametrize("on_failure", ["rollback", "freeze"])
def test_a_version_that_never_gets_healthy(rig: Rig, on_failure: str) -> None:
    """It breaks in the first batch, so that there is nothing to freeze: all is as before."""
    with rig.watch() as watch, rig.load() as load:
        run = rig.rollout(
            rig.archive("2.0", never_healthy=True),
            rollout_batches=[2],
            rollout_health_timeout=3,
            rollout_on_failure=on_failure,
            rollout_look_requests=5,
        )
    load.assert_nothing_lost()
    assert load.served("2.0") == 0
    assert watch.least >= 4
    assert watch.ever_out == {"web1", "web2"}
    assert rig.current() == rig.all_on(FIRST)
    assert rig.in_service() == set(rig.hosts)
    assert_stopped(run, "rolled_back", "web1", "503")
    assert run.report["stop"]["phase"] == "gate"
    states = run.states()
    assert {host for host, state in states.items() if state == "rolled_back"} == {"web1", "web2"}
    assert {host for host, state in states.items() if state == "untouched"} == set(rig.hosts) - {"web1", "web2"}


@pytest.mark.parametrize("on_failure", ["rollback", "freeze"])
def test_a_member_that_fails_in_the_second_batch(rig: Rig, on_failure: str) -> None:
    rig.lay_out("2.0")
    with rig.watch() as watch, rig.load() as load:
        run = rig.rollout(own_tasks(rig, host="web4"), rollout_on_failure=on_failure)
    load.assert_nothing_lost()
    assert watch.least >= 4
    assert watch.ever_out == {"web1", "web2", "web3", "web4"}
    assert rig.in_service() == set(rig.hosts)
    if on_failure == "rollback":
        assert rig.current() == rig.all_on(FIRST)
        assert_stopped(run, "rolled_back", "web4", "broke its own way")
    else:
        # The rest of the batch got through and stays; web4 is back on what it had.
        assert rig.current() == {**rig.all_on("2.0"), "web4": FIRST, "web5": FIRST, "web6": FIRST}
        assert_stopped(run, "frozen", "web4", "broke its own way", "web1, web2, web3 on 2.0", "to go back")
    assert run.states()["web4"] == "rolled_back"
    assert {run.states()[host] for host in ("web5", "web6")} == {"untouched"}


def test_a_frozen_rollout_goes_on_when_it_runs_again(rig: Rig) -> None:
    rig.lay_out("2.0")
    frozen = rig.rollout(own_tasks(rig, host="web4"), rollout_on_failure="freeze", rollout_look_timeout=1)
    assert frozen.report["outcome"] == "frozen", str(frozen)
    with rig.load() as load:
        run = rig.rollout(own_tasks(rig))
    load.assert_nothing_lost()
    assert run.rc == 0, str(run)
    assert run.report["batches"] == [["web4", "web5"], ["web6"]]
    assert rig.current() == rig.all_on("2.0")


def test_a_frozen_rollout_goes_back_when_the_old_version_is_asked_for(rig: Rig) -> None:
    rig.lay_out("2.0")
    frozen = rig.rollout(own_tasks(rig, host="web4"), rollout_on_failure="freeze", rollout_look_timeout=1)
    assert frozen.report["outcome"] == "frozen", str(frozen)
    with rig.load() as load:
        run = rig.rollout(own_tasks(rig), rollout_version=FIRST)
    load.assert_nothing_lost()
    assert run.rc == 0, str(run)
    assert rig.current() == rig.all_on(FIRST)


def test_a_member_that_cannot_be_rolled_back_is_left_out(rig: Rig) -> None:
    """Its own tasks fail both ways: it gets no traffic, the others go back, and the report names it."""
    rig.lay_out("2.0")
    with rig.watch() as watch, rig.load() as load:
        run = rig.rollout(own_tasks(rig, host="web4", releases=("2.0", FIRST)))
    load.assert_nothing_lost()
    assert watch.least >= 3  # web4 is out, and the others go back two at a time
    assert rig.in_service() == set(rig.hosts) - {"web4"}
    assert rig.current() == rig.all_on(FIRST)
    assert_stopped(run, "failed", "Out of service: web4")
    assert run.states()["web4"] == "left_out"


@pytest.mark.case(18)
def test_a_member_that_was_left_out_comes_back_with_the_next_rollout(rig: Rig) -> None:
    rig.lay_out("2.0")
    stopped = rig.rollout(own_tasks(rig, host="web4", releases=("2.0", FIRST)), rollout_look_timeout=1)
    assert stopped.states()["web4"] == "left_out", str(stopped)
    again = rig.rollout(own_tasks(rig), rollout_look_timeout=1)
    assert again.rc == 0, str(again)
    assert rig.in_service() == set(rig.hosts)


def test_a_third_version_is_refused(rig: Rig) -> None:
    rig.lay_out("2.0")
    frozen = rig.rollout(own_tasks(rig, host="web4"), rollout_on_failure="freeze", rollout_look_timeout=1)
    assert frozen.report["outcome"] == "frozen", str(frozen)
    rig.lay_out("3.0")
    before = rig.snapshot()
    run = rig.rollout(own_tasks(rig), rollout_version="3.0")
    assert run.rc != 0
    assert run.report["outcome"] == "refused"
    assert "third version" in run.report["sentence"]
    assert "2.0 on web1, web2, web3" in run.report["sentence"]
    assert rig.snapshot() == before


def test_a_release_that_crashes_when_it_serves(rig: Rig) -> None:
    """Healthy at the gate, dead two seconds later, and again after each restart: the look sees it."""
    with rig.watch() as watch, rig.load():
        run = rig.rollout(
            rig.archive("2.0", crash_after=2.0),
            rollout_batches=[1, 2],
            rollout_health_seconds=0.2,
            rollout_look_requests=1,
            rollout_look_seconds=4,
            rollout_look_timeout=8,
        )
    assert run.rc != 0, str(run)
    assert run.report["outcome"] == "rolled_back", str(run)
    assert run.report["stop"]["phase"] == "look"
    assert "web1" in run.report["sentence"]
    assert rig.current() == rig.all_on(FIRST)
    assert rig.in_service() == set(rig.hosts)
    assert watch.ever_out == {"web1"}


@pytest.mark.case(33)
def test_a_release_that_answers_with_errors(rig: Rig) -> None:
    """Health knows nothing of it; the clients do, and so does the look under their traffic."""
    with rig.watch() as watch, rig.load() as load:
        run = rig.rollout(
            rig.archive("2.0", error_share=0.5),
            rollout_batches=[1, 2],
            rollout_look_requests=20,
            rollout_look_timeout=10,
        )
    assert run.rc != 0, str(run)
    assert run.report["outcome"] == "rolled_back", str(run)
    assert run.report["stop"]["phase"] == "look"
    assert "web1 does not do well under traffic" in run.report["sentence"]
    assert run.report["balancers"]["responses_5xx"] > 0
    assert rig.current() == rig.all_on(FIRST)
    assert rig.in_service() == set(rig.hosts)
    assert watch.ever_out == {"web1"}
    # What was lost was lost on the member that was looked at, and nothing but by the release itself.
    assert set(load.summaries[0]["by_class"]) >= {"http_5xx"}
    assert load.total("failed") == load.summaries[0]["by_version"]["2.0"]["http_5xx"]


@pytest.mark.case(43)
def test_a_drain_that_hits_its_limit_gives_the_members_back(rig: Rig) -> None:
    # So many slow requests that the first batch has some, whatever member they chose.
    mix = {"keepalive": 0.9, "slow": 0.1}
    with rig.watch() as watch, rig.load(rate=80, mix=mix, slow=6.0) as load:
        run = rig.rollout(rig.archive("2.0"), rollout_batches=[2], rollout_drain_timeout=1.5)
    load.assert_nothing_lost()
    assert_stopped(run, "rolled_back", "Still in flight after 1.5 s")
    assert run.report["stop"]["phase"] == "drain"
    assert rig.current() == rig.all_on(FIRST)
    assert rig.in_service() == set(rig.hosts)
    assert watch.ever_out == {"web1", "web2"}
    assert set(run.states().values()) == {"untouched"}


def test_what_is_cut_at_the_limit_is_counted_and_said(rig: Rig) -> None:
    mix = {"keepalive": 0.9, "slow": 0.1}
    with rig.watch() as watch, rig.load(rate=60, mix=mix, slow=6.0) as load:
        run = rig.rollout(
            rig.archive("2.0"),
            rollout_batches=[3],
            rollout_drain_timeout=1.5,
            rollout_on_drain_timeout="cut",
            rollout_look_requests=5,
        )
    assert run.rc == 0, str(run)
    cut = sum(member["cut"] for member in run.report["members"].values())
    assert cut > 0
    # Only slow requests were hit, and each of them was counted.
    by_kind = load.summaries[0]["by_kind"]
    assert load.total("failed") + load.total("closed_idle") == cut
    assert sum(count for name, count in by_kind["slow"].items() if name not in ("ok", "late")) == cut
    assert f"{cut} cut at the drain's limit" in run.report["sentence"]
    assert rig.current() == rig.all_on("2.0")
    assert watch.least >= 3


def test_an_upgrade_that_fails_to_start_its_unit(rig: Rig) -> None:
    """The release lacks the program: systemd cannot start it."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        data = b"2.0\n"
        entry = tarfile.TarInfo("VERSION")
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    packed = gzip.compress(plain.getvalue())
    path = rig.folder / "shop-2.0.tar.gz"
    path.write_bytes(packed)
    with rig.watch() as watch, rig.load() as load:
        run = rig.rollout(
            rig.archive("2.0"),
            rollout_archive_src=str(path),
            rollout_archive_checksum=f"sha256:{hashlib.sha256(packed).hexdigest()}",
            rollout_batches=[2],
            rollout_health_timeout=3,
            rollout_look_requests=5,
        )
    load.assert_nothing_lost()
    assert_stopped(run, "rolled_back", "web")
    # systemd may take a unit that dies within milliseconds for started; then the gate sees it.
    assert run.report["stop"]["phase"] in ("upgrade", "gate")
    assert run.report["stop"]["members"] in (["web1"], ["web2"])
    assert rig.current() == rig.all_on(FIRST)
    assert rig.in_service() == set(rig.hosts)
    assert watch.least >= 4
