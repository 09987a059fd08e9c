# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rollout that is cancelled at any moment: nothing that is safe to serve stays out, and nothing else serves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import LeaseHeld, Unhealthy
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._processes import alive, stopped
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.cancel import Fate, cancel, fate
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.ending import outcome
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import LeaseRecord, Record
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import Settings

from .test_batch import (  # pylint: disable=unused-import  # fixtures
    LOST,
    FakeRemote,
    phases,
    record,  # noqa: F401
    remote,  # noqa: F401
    settings,  # noqa: F401
    states,
)


@pytest.mark.parametrize("ours", [True, False])
def test_only_a_member_that_nobody_works_on_is_put_back(ours: bool) -> None:
    assert fate("untouched", ours) is Fate.UNDO
    assert fate("finished", ours) is Fate.UNDO
    assert fate("drained", ours) is (Fate.UNDO if ours else Fate.STAY_OUT)
    assert fate("upgraded", ours) is Fate.GATE
    assert fate("healthy", ours) is Fate.GATE
    for state in ("failed", "lost", "left_out"):
        assert fate(state, ours) is Fate.STAY_OUT


def test_in_the_drain(settings: Settings, remote: FakeRemote, record: Record) -> None:  # noqa: F811
    batch = phases(settings, remote, record, "web1", "web2")
    batch.drain()
    for member in batch.members():  # as if it had been cancelled before the answers came
        member.state = "untouched"
        member.before = {}
    cancel(settings, remote, record, "told to")  # type: ignore[arg-type]
    assert all(remote.in_service(name) for name in ("web1", "web2"))
    assert states(record) == dict.fromkeys(record.members, "untouched")
    assert all(member.out_at is None for member in record.members.values())
    assert (record.stop.code if record.stop else "", outcome(record)) == ("cancelled", "rolled_back")


def test_after_the_switch_of_the_release(settings: Settings, remote: FakeRemote, record: Record) -> None:  # noqa: F811
    batch = phases(settings, remote, record, "web1", "web2")
    batch.drain()
    batch.upgrade()
    remote.errors["web2", "member_gate"] = Unhealthy("not yet")
    cancel(settings, remote, record, "told to")  # type: ignore[arg-type]
    assert states(record) == {"web1": "finished", "web2": "failed", "web3": "untouched"}
    assert remote.in_service("web1")
    assert not remote.in_service("web2")


def test_a_switch_that_nobody_heard_the_end_of_is_done_before_the_gate(
    settings: Settings,  # noqa: F811
    remote: FakeRemote,  # noqa: F811
    record: Record,  # noqa: F811
) -> None:
    phases(settings, remote, record, "web1", "web2").drain()
    for host in ("web1", "web2"):
        record.members[host].state = "upgraded"  # and then the step was told to end
    cancel(settings, remote, record, "told to")  # type: ignore[arg-type]
    assert remote.ran("release_switch") == ["web1", "web2"]
    names = [call.operation for _host, call in remote.calls]
    assert names.index("release_switch") < names.index("member_gate") < names.index("pool_put_back")
    assert states(record) == {"web1": "finished", "web2": "finished", "web3": "untouched"}


def have_lease(record: Record) -> list[str]:  # noqa: F811
    """Number 4, of these balancers."""
    hosts = {balancer: balancer for balancer in record.balancers}
    request = {"service": "shop", "holder": "r1", "seconds": 60.0}
    record.lease = LeaseRecord(4, "r1", request, 2, hosts, time.clock_gettime(time.CLOCK_BOOTTIME))
    return list(hosts)


def number(record: Record) -> int:  # noqa: F811
    return record.lease.number if record.lease else 0


def test_what_its_own_steps_left_at_work_changes_nothing_more(
    settings: Settings,  # noqa: F811
    remote: FakeRemote,  # noqa: F811
    record: Record,  # noqa: F811
) -> None:
    """A drain may take its turn on a balancer when its controller is gone: the lease has another number then."""
    hosts = have_lease(record)
    phases(settings, remote, record, "web1").drain()
    before = len(remote.calls)
    record.members["web1"].state = "untouched"
    cancel(settings, remote, record, "told to")  # type: ignore[arg-type]
    asked = remote.calls[before:]
    assert [call.operation for _host, call in asked[: len(hosts)]] == ["lease_acquire"] * len(hosts)
    assert {(call.params["number"], call.params["instead_of"]) for _host, call in asked[: len(hosts)]} == {(5, 4)}
    assert {call.params["lease"]["number"] for _host, call in asked if call.operation == "pool_put_back"} == {5}
    assert number(record) == 5


def test_who_has_lost_the_lease_gets_no_other_one(
    settings: Settings,  # noqa: F811
    remote: FakeRemote,  # noqa: F811
    record: Record,  # noqa: F811
) -> None:
    hosts = have_lease(record)
    record.members["web1"].out_at = 0.0
    remote.errors.update({(balancer, "lease_acquire"): LeaseHeld("kim has it") for balancer in hosts})
    cancel(settings, remote, record, "told to")  # type: ignore[arg-type]
    assert number(record) == 4


def test_in_tasks_of_the_users(settings: Settings, remote: FakeRemote, record: Record) -> None:  # noqa: F811
    own = Settings.from_vars(
        {
            "rollout_service": "shop",
            "rollout_hosts": "shop",
            "rollout_balancers": "lb",
            "rollout_pool": "shop",
            "rollout_version": "2.0",
            "rollout_health_url": "http://127.0.0.1/health",
            "rollout_upgrade_tasks": "deploy.yml",
        }
    )
    phases(own, remote, record, "web1").drain()
    cancel(own, remote, record, "told to")  # type: ignore[arg-type]
    assert not remote.in_service("web1")
    assert record.members["web1"].state == "left_out"
    assert "tasks of yours" in record.members["web1"].trouble


def test_a_member_that_was_on_its_way_back(settings: Settings, remote: FakeRemote, record: Record) -> None:  # noqa: F811
    for phase in (batch := phases(settings, remote, record, "web1", "web2")).drain, batch.upgrade, batch.gate:
        phase()
    batch.put_back()
    record.halt("gate", Unhealthy("web3 is ill"), ["web3"])
    record.back_batches = [["web2"], ["web1"]]
    phases(settings, remote, record, "web2", back=True).drain()
    cancel(settings, remote, record, "told to")  # type: ignore[arg-type]
    assert remote.in_service("web2")
    assert states(record) == {"web1": "finished", "web2": "finished", "web3": "untouched"}
    assert record.stop is not None
    assert record.stop.message == "web3 is ill"
    assert any("cancelled" in note for note in record.notes)


def test_a_member_that_cannot_be_reached_stays_out(settings: Settings, remote: FakeRemote, record: Record) -> None:  # noqa: F811
    batch = phases(settings, remote, record, "web1", "web2")
    batch.drain()
    batch.upgrade()
    remote.errors["web1", "member_gate"] = LOST
    cancel(settings, remote, record, "told to")  # type: ignore[arg-type]
    assert not remote.in_service("web1")
    assert remote.in_service("web2")
    assert outcome(record) == "failed"


# --- the keeper ---

KEEPER = """\
import os, sys, time
from ansible import constants as C
from ansible_collections.zerodrop.rollout.plugins.plugin_utils import _keeper
C.DEFAULT_LOCAL_TMP = sys.argv[1]
pipe = os.pipe()
playbook = os.getpid()
keeper = _keeper.start(playbook, lambda why: f"I did, since {why}")
print(keeper, flush=True)
what = sys.argv[2]
if what == "told":
    print(_keeper.act_now(20), flush=True)
elif what == "ended":
    _keeper.end(keeper)
    print(_keeper.act_now(20), flush=True)
    _pid, status = os.waitpid(keeper, 0)
    print(status, flush=True)
"""


def keep(folder: Path, what: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", KEEPER, str(folder), what],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    return done.stdout.split("\n")


def test_a_keeper_that_is_told_acts_and_is_waited_for(tmp_path: Path) -> None:
    _keeper, said, _end = keep(tmp_path, "told")
    assert said == "I did, since the playbook was told to end"


def test_a_keeper_acts_when_its_playbook_is_gone(tmp_path: Path) -> None:
    (keeper, _end) = keep(tmp_path, "dies")  # its output ends with it: it holds nothing that was open
    while alive(int(keeper)):
        pass
    said = (tmp_path / "zerodrop-keeper.said").read_text(encoding="utf-8")
    assert said == "I did, since the playbook ended before its rollout did"


def test_a_keeper_that_is_not_needed_any_more_does_nothing(tmp_path: Path) -> None:
    _keeper, said, status, _end = keep(tmp_path, "ended")
    assert (said, status) == ("None", "0")
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_was_not_waited_for_is_gone() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        assert alive(process.pid)
        process.send_signal(signal.SIGSTOP)
        while not stopped(process.pid):
            pass
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not alive(process.pid)
    assert not alive(process.pid)
    assert json.dumps(alive(os.getpid())) == "true"
