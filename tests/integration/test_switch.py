# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The dead man's switch on a real balancer with a real systemd: armed by a run that is never heard of again."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.zerodrop.rollout.plugins.plugin_utils import _program
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.switch import program

from .controllers import kill
from .rig import Rig, wait_for

pytestmark = pytest.mark.lab

ALL = pytest.mark.skipif(not os.environ.get("ZERODROP_KILLS"), reason="make kills runs it")

SILENCE = 3.0
DEADLINE = 40.0  # the silence, the checks of the balancer, and a busy machine
POOL = {"driver": "haproxy", "pool": "shop", "service": "shop"}


class DeadRun:
    """A run on the first balancer that does what a test says and no more: it renews nothing."""

    def __init__(self, rig: Rig, holder: str = "r1") -> None:
        self.rig = rig
        self.host = rig.lab.balancers[0]
        self.holder = holder
        places = {"places": [POOL], "health_url": "http://127.0.0.1:8080/health", "health_status": [200]}
        switch = {"program": program(), "params": {"service": "shop", "after": SILENCE, **places}}
        lease = {"holder": holder, "owner": "a test", "reason": "rolling", "seconds": SILENCE, "switch": switch}
        found = self.ask("lease_acquire", {"service": "shop", "over": "*", **lease})
        assert found["no_switch"] == ""
        self.number = found["lease"]["number"]

    def ask(self, operation: str, params: dict[str, Any]) -> dict[str, Any]:
        command = ["podman", "exec", "-i", self.host.container, "/usr/bin/python3", "-I", "-S", "-c", _program.BOOT]
        sent = _program.standard_input(operation, params, False)
        done = subprocess.run(command, input=sent, capture_output=True, check=True, timeout=60)
        answer = _program.answer(done.stdout)
        assert "result" in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def hold_out(self, member: str, phase: str) -> None:
        row = {"host": member, "phase": phase, "release_before": "1.0", "release": "2.0"}
        lease = {"number": self.number, "holder": self.holder, "hosts": {member: member}, "members": [row]}
        self.ask("pool_drain", {**POOL, "members": [member], "lease": lease})

    def end(self) -> None:
        lease = {"number": self.number, "holder": self.holder}
        self.ask("ledger_note", {"service": "shop", "lease": lease, "release": True})

    def says(self, count: int = 10) -> list[str]:
        events = self.ask("ledger_read", {"service": "shop", "count": count})["ledger"]["events"]
        return [each["message"] for each in events]

    def units(self) -> str:
        listed = self.rig.lab.exec(
            self.host, ["systemctl", "list-units", "--all", "--plain", "--no-legend", "zerodrop-*"]
        )
        return listed.stdout.strip()

    def journal(self) -> str:
        unit = f"--unit=zerodrop-switch-shop-{self.number}.service"
        return self.rig.lab.exec(self.host, ["journalctl", unit, "--no-pager", "--output=cat"]).stdout

    def slept(self) -> None:
        """Wait until its time has come and gone."""
        wait_for(lambda: self.units() == "", DEADLINE)


def reload(rig: Rig) -> None:
    rig.lab.exec(rig.lab.balancers[0], ["systemctl", "reload", "haproxy.service"])


def restart(rig: Rig) -> None:
    rig.lab.exec(rig.lab.balancers[0], ["systemctl", "restart", "haproxy.service"])


def test_what_is_safe_is_put_back_and_the_rest_is_named(rig: Rig) -> None:
    run = DeadRun(rig)
    with rig.load() as load:
        run.hold_out("web1", "draining")
        run.hold_out("web2", "upgrading")
        run.hold_out("web3", "healthy")
        assert rig.in_service() == {"web4", "web5", "web6"}
        wait_for(lambda: rig.in_service() >= {"web1", "web3"}, DEADLINE)
        run.slept()
    load.assert_nothing_lost(at_least=50)
    assert rig.in_service() == set(rig.hosts) - {"web2"}
    weight = rig.lab.description.weight
    assert set(rig.servers()["lb1"].values()) >= {f"UP {weight}"}
    said = run.says()
    assert any("web1 was put back into shop" in line and "nothing had been done on it" in line for line in said)
    assert any("web2 stays out of shop, since its release may be touched by halves" in line for line in said)
    assert "web3 was put back into shop" in run.journal()
    found = run.ask("pool_read", POOL)
    assert set(found["held_out"]) == {"web2"}
    assert "web2 stays out" in found["ledger"]["switched"]
    # The next run begins by saying so.
    looked = rig.rollout(rig.archive("2.0"), options=["--check"])
    assert "lb1 by itself: " in looked.text, str(looked)
    assert looked.text.index("web1 was put back into shop") < looked.text.index("PLAY RECAP")


@ALL
@pytest.mark.parametrize("disturb", [reload, restart])
def test_it_survives_the_balancer(rig: Rig, disturb: Callable[[Rig], None]) -> None:
    run = DeadRun(rig)
    run.hold_out("web1", "draining")
    disturb(rig)
    run.slept()
    wait_for(lambda: rig.in_service() == set(rig.hosts))
    assert run.ask("pool_read", POOL)["held_out"] == {}


@ALL
def test_an_ill_member_stays_out(rig: Rig) -> None:
    run = DeadRun(rig)
    run.hold_out("web1", "draining")
    rig.lab.exec("web1", ["systemctl", "stop", "shop.service"])
    try:
        wait_for(lambda: any("web1 stays out" in line for line in run.says()), DEADLINE + 20)
        assert rig.in_service() == set(rig.hosts) - {"web1"}
        assert any("does not see it healthy" in line for line in run.says())
    finally:
        rig.lab.exec("web1", ["systemctl", "start", "shop.service"])


@ALL
def test_it_does_nothing_after_the_run_or_beside_another_one(rig: Rig) -> None:
    first = DeadRun(rig)
    first.hold_out("web1", "draining")
    second = DeadRun(rig, "r2")
    assert first.number < second.number
    second.hold_out("web2", "draining")
    second.end()
    assert f"switch-shop-{second.number}" not in second.units()
    first.slept()
    assert rig.in_service() == set(rig.hosts) - {"web1", "web2"}
    assert not any("put back" in line for line in first.says())
    folder = rig.root(first.host) / "var/lib/zerodrop/shop"
    assert [path.name for path in folder.glob("switch-*")] == []


WITHOUT = {
    # What all of systemd's own tools look at: whether the host was booted with it.
    "no systemd": ("/run/systemd/system", "it does not run systemd"),
    "no systemd-run": ("/usr/bin/systemd-run", "systemd-run"),
}


@pytest.mark.parametrize(("path", "why"), [pytest.param(*each, id=name) for name, each in WITHOUT.items()])
def test_without_systemd_it_is_said_and_the_rest_works(rig: Rig, path: str, why: str) -> None:
    """Said before any member is touched; what a dead run left is then found by the next one."""
    settings = {
        **rig.archive("2.0", start_delay=0.5),
        "rollout_batches": [2],
        "rollout_look_requests": 5,
        "rollout_health_version_key": "version",
        "rollout_lease_seconds": 4,
    }
    balancer = rig.lab.balancers[0]
    rig.lab.exec(balancer, ["mv", path, f"{path}.away"])
    try:
        with rig.watch() as watch, rig.load(slow=0.5) as load:
            with rig.when(rig.member_is("web1", "upgraded"), lambda: kill(rig)) as struck:
                rig.rollout(settings)
            assert struck
            assert rig.in_service() == set(rig.hosts) - {"web1", "web2"}
            run = rig.rollout(settings)
        load.assert_nothing_lost()
        assert run.rc == 0, str(run)
        warned = run.text.index("lb1 puts nothing back by itself if this run dies, since")
        assert why in run.text[warned:]
        assert warned < run.text.index("web1, web2 drained in")
        assert any("lb1 puts nothing back by itself" in note for note in run.report["notes"])
        assert watch.least >= 4
        assert rig.current() == rig.all_on("2.0")
        assert rig.in_service() == set(rig.hosts)
        again = rig.rollout(settings)
        assert again.rc == 0, str(again)
        assert set(again.changed.values()) == {0}, str(again)
    finally:
        rig.lab.exec(balancer, ["mv", f"{path}.away", path])
