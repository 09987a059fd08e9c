# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fleet of two and of four balancers, with clients on each of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import lab

from .conftest import PATIENT
from .rig import FIRST, Rig

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module", params=[2, 4], ids=["two balancers", "four balancers"])
def fleet(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[lab.Lab]:
    description = lab.Description(
        prefix=f"i{os.getpid()}-b{request.param}",
        members=4,
        balancers=request.param,
        sticky="cookie",
        pool_lines=PATIENT,
    )
    with lab.running(description, tmp_path_factory.mktemp("lab") / f"fleet{request.param}") as up:
        yield up


@pytest.fixture
def many(fleet: lab.Lab, tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(fleet, tmp_path)
    rig.reset()
    yield rig
    rig.heal()


@pytest.mark.case(20)
def test_a_rollout_behind_many_balancers(many: Rig) -> None:
    with many.watch() as watch, many.load(rate=160) as load:
        run = many.rollout(many.archive("2.0"), rollout_batches=[2], rollout_look_requests=5)
    load.assert_nothing_lost()
    assert len(load.summaries) == len(many.lab.balancers)
    assert run.rc == 0, str(run)
    assert many.current() == many.all_on("2.0")
    assert many.in_service() == set(many.hosts)
    assert watch.least >= 2
    assert {name for _at, name, _serving in watch.samples} == {host.name for host in many.lab.balancers}
    assert run.report["balancers"]["not_counted"] == []


@pytest.mark.case(19)
def test_one_balancer_is_unreachable(many: Rig) -> None:
    before = many.snapshot()
    many.lose("lb2")
    run = many.rollout(many.archive("2.0"))
    assert run.rc != 0, str(run)
    assert run.report["outcome"] == "refused"
    assert "lb2 cannot be reached" in run.report["sentence"]
    assert many.snapshot() == before


@pytest.mark.case(19)
def test_one_balancer_is_lost_while_a_batch_drains(many: Rig) -> None:
    """Nobody knows what it still sends where: the batch returns to service on all the others."""
    with (
        many.watch() as watch,
        many.load(rate=120, slow=3.0) as load,
        many.when(many.is_out("web3"), lambda: many.lose("lb2")) as struck,
    ):
        run = many.rollout(many.archive("2.0"), rollout_batches=[2], rollout_look_requests=5)
    assert struck
    load.assert_nothing_lost()
    assert watch.least >= 2
    assert run.rc != 0, str(run)
    assert "lb2" in run.report["sentence"]
    # Nothing was switched that a balancer could still be sending to.
    assert {many.current()[host] for host in ("web3", "web4")} == {FIRST}
    for name, servers in many.servers().items():
        if name != "lb2":
            assert all(status.startswith("UP ") for status in servers.values()), (name, servers)


@pytest.mark.case(1)
def test_pools_that_differ_are_refused(many: Rig) -> None:
    other = many.lab.balancers[1]
    config = many.root(other) / "etc/haproxy/haproxy.cfg"
    text = config.read_text(encoding="utf-8")
    kept = "".join(line for line in text.splitlines(keepends=True) if "server web4 " not in line)
    assert kept != text
    config.write_text(kept, encoding="utf-8")
    try:
        many.lab.exec(other, ["systemctl", "restart", "haproxy.service"])
        before = many.current()
        run = many.rollout(many.archive("2.0"))
        assert run.rc != 0, str(run)
        assert run.report["outcome"] == "refused"
        rows = [line.split() for line in run.report["sentence"].splitlines()]
        (row,) = [row for row in rows if row[:1] == ["web4"]]
        where = [word.rstrip(".") == "missing" for word in row[1 : 1 + len(many.lab.balancers)]]
        assert where == [host == other for host in many.lab.balancers], row
        assert many.current() == before
    finally:
        config.write_text(text, encoding="utf-8")
        many.lab.exec(other, ["systemctl", "restart", "haproxy.service"])
        many.reset()


def test_a_balancer_that_is_down_can_be_skipped(many: Rig) -> None:
    """It goes on serving here, so nothing is driven through it: who skips it says that it gets no traffic."""
    many.lose("lb2")
    run = many.rollout(many.archive("2.0"), rollout_batches=[2], rollout_dead_balancer="skip", rollout_look_timeout=1)
    assert run.rc == 0, str(run)
    assert many.current() == many.all_on("2.0")
    assert run.report["skipped_balancers"] == ["lb2"]
    assert run.report["balancers"]["not_counted"] == ["lb2"]
    assert "run the same playbook again when it can" in run.report["sentence"]


def test_a_balancer_that_comes_back_is_brought_in_line(many: Rig) -> None:
    """It is lost with a batch held out on it, and back before the last batch."""
    with (
        many.when(many.is_out("web3"), lambda: many.lose("lb2")) as struck,
        many.when(lambda: many.current()["web3"] == "2.0", many.heal) as healed,
    ):
        run = many.rollout(
            many.archive("2.0", start_delay=1.0),
            rollout_batches=[1],
            rollout_dead_balancer="skip",
            rollout_look_timeout=1,
        )
    assert struck
    assert healed
    assert run.rc == 0, str(run)
    assert many.current() == many.all_on("2.0")
    assert many.in_service() == set(many.hosts)


@pytest.fixture(scope="module")
def layered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lab.Lab]:
    description = lab.Description(prefix=f"i{os.getpid()}-layers", members=4, extra_pools=("api",), pool_lines=PATIENT)
    with lab.running(description, tmp_path_factory.mktemp("lab") / "layers") as up:
        yield up


def test_members_of_two_pools_of_one_balancer(layered: lab.Lab, tmp_path: Path) -> None:
    rig = Rig(layered, tmp_path)
    rig.reset()
    pools = [{"balancers": "lb", "pool": "shop"}, {"balancers": "lb", "pool": "api"}]
    where = {"rollout_pools": pools, "rollout_pool": None, "rollout_balancers": None, "rollout_look_timeout": 1}
    with rig.load(rate=120) as load:
        run = rig.rollout(rig.archive("2.0"), where, rollout_batches=[2])
    load.assert_nothing_lost()
    assert run.rc == 0, str(run)
    assert rig.current() == rig.all_on("2.0")
    assert run.report["balancers"]["not_counted"] == []
    for pool in ("shop", "api"):
        state = layered.ask(layered.balancers[0], f"show servers state {pool}")
        bits = [line.split()[6] for line in state.splitlines() if len(line.split()) > 7 and line[0].isdigit()]
        assert bits == ["0"] * 4
    again = rig.rollout(rig.archive("2.0"), where)
    assert again.changed["localhost"] == 0


def test_a_member_that_the_second_pool_has_not_is_refused(layered: lab.Lab, tmp_path: Path) -> None:
    rig = Rig(layered, tmp_path)
    pools = [{"balancers": "lb", "pool": "shop"}, {"balancers": "lb", "pool": "nope"}]
    run = rig.rollout(rig.archive("2.0"), rollout_pools=pools, rollout_pool=None, rollout_balancers=None)
    assert run.rc != 0, str(run)
    assert run.report["outcome"] == "refused"
    assert "lb1 (nope)" in run.report["sentence"]


def test_a_reload_by_someone_else_is_seen_and_named(layered: lab.Lab, tmp_path: Path) -> None:
    """With a member out on it: the reload brings it back by its configuration, and the rollout takes it in hand again."""
    rig = Rig(layered, tmp_path)
    rig.reset()

    def reload() -> None:
        layered.exec(layered.balancers[0], ["systemctl", "reload", "haproxy.service"])

    with rig.when(lambda: rig.current()["web2"] == "2.0", reload) as reloaded:
        run = rig.rollout(rig.archive("2.0", start_delay=1.0), rollout_batches=[1], rollout_look_timeout=1)
    assert reloaded
    assert run.rc == 0, str(run)
    assert rig.in_service() == set(rig.hosts)
    named = [note for note in run.report["notes"] if "lb1 was reloaded or restarted by someone else" in note]
    assert named, run.report["notes"]
