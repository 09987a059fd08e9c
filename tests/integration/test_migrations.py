# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps of a data migration around a rollout: once each, in order, and never blindly twice."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from .rig import FIRST, Rig, wait_for

pytestmark = pytest.mark.lab

MADE = "var/tmp/migrated"  # on the host that runs the steps: what they did, a line each
# Three at once: the steps are what is tested here.
QUICK = {"rollout_batches": ["50%"], "rollout_look_requests": 0, "rollout_health_version_key": "version"}


def note(word: str, then: str = "true") -> list[str]:
    """A command that leaves a line, with what it was told."""
    return ["/bin/sh", "-c", f"echo {word} $ROLLOUT_PREVIOUS_RELEASE $ROLLOUT_RELEASE >>/{MADE}; {then}"]


def steps(**more: Any) -> dict[str, Any]:
    """Commands for all of them; the contract comes when it is asked for."""
    own = {f"rollout_{name}": note(name) for name in ("expand", "compat", "contract", "expand_undo", "sync_back")}
    return {**QUICK, **own, **more}


def made(rig: Rig, host: str = "web1") -> list[str]:
    """What the steps did, in turn."""
    path = rig.root(host) / MADE
    return path.read_text(encoding="ascii").splitlines() if path.exists() else []


@pytest.fixture
def fresh(rig: Rig) -> Rig:
    for host in rig.hosts:
        (rig.root(host) / MADE).unlink(missing_ok=True)
    return rig


def test_each_step_once_and_no_way_back_over_the_contract(fresh: Rig) -> None:
    rig = fresh
    release = rig.archive("2.0")
    checked = rig.rollout(steps(), release, options=["--check"])
    assert checked.rc == 0, str(checked)
    assert "would run the expand on web1" in checked.text
    assert made(rig) == []
    run = rig.rollout(steps(), release)
    assert run.rc == 0, str(run)
    assert made(rig) == ["expand 1.0 2.0", "compat 1.0 2.0"]
    assert run.report["migration"]["steps"]["expand"]["state"] == "done"
    assert 0 < run.report["migration"]["contract_due_seconds"] <= 3600
    assert "The contract of the migration 2.0 is due in 3600 s" in run.report["sentence"]
    again = rig.rollout(steps(), release)
    assert again.rc == 0, str(again)
    assert set(again.changed.values()) == {0}, str(again)
    early = rig.rollout(steps(), playbook="contract", rollout_upgrade_method="archive", **_source(release))
    assert early.rc != 0
    assert "too early for the contract" in early.text
    assert early.report["outcome"] == "refused"
    assert made(rig) == ["expand 1.0 2.0", "compat 1.0 2.0"]
    # It takes longer than a lease that nobody renews.
    slow = {"rollout_contract": note("contract", "sleep 5"), "rollout_lease_seconds": 3, "rollout_contract_after": 0.5}
    late = rig.rollout(steps(**slow), release, rollout_version=None, playbook="contract")
    assert late.rc == 0, str(late)
    assert "there is no way back over it" in late.report["sentence"]
    assert made(rig)[2:] == ["contract 1.0 2.0"]
    twice = rig.rollout(steps(), release, rollout_contract_after=0, rollout_version=None, playbook="contract")
    assert twice.rc == 0, str(twice)
    assert set(twice.changed.values()) == {0}, str(twice)
    assert len(made(rig)) == 3
    for back in (
        rig.rollout(steps(), release, rollout_version=None, playbook="rollback"),
        rig.rollout(steps(), rig.archive(FIRST)),
    ):
        assert back.rc != 0
        assert "1.0 cannot serve any more" in back.text, str(back)
        assert back.report["outcome"] == "refused"
    assert rig.current() == rig.all_on("2.0")


FULL = pytest.mark.skipif(not os.environ.get("ZERODROP_MIGRATIONS"), reason="make migrations runs these")


def _source(release: dict[str, Any]) -> dict[str, Any]:
    return {name: release[name] for name in ("rollout_archive_src", "rollout_archive_checksum")}


@FULL
def test_a_failed_expand_or_check_leaves_the_old_version_serving(fresh: Rig) -> None:
    rig = fresh
    release, before = rig.archive("2.0"), rig.snapshot()["members"]["web3"]["current"]
    with rig.watch() as watch:
        run = rig.rollout(steps(rollout_expand=note("half", "echo no room >&2; exit 3")), release)
        assert run.rc != 0
        assert run.report["outcome"] == "rolled_back"
        assert "The expand failed on web1: non-zero return code no room" in run.report["stop"]["message"]
        assert "rollout_settle='expand ran'" in run.report["sentence"]
        assert made(rig) == ["half 1.0 2.0"]
        run = rig.rollout(steps(rollout_compat=note("compat", "exit 1")), release)
        assert run.rc != 0
        assert run.report["stop"]["phase"] == "compat"
        assert made(rig)[1:] == ["expand 1.0 2.0", "compat 1.0 2.0", "sync_back 1.0 2.0", "expand_undo 1.0 2.0"]
    assert watch.ever_out == set()
    assert rig.current() == rig.all_on(FIRST)
    assert before == "releases/1.0"


@FULL
def test_a_stop_goes_back_and_takes_the_expand_back(fresh: Rig) -> None:
    rig = fresh
    run = rig.rollout(steps(), rig.archive("2.0", never_healthy=True), rollout_health_timeout=2)
    assert run.rc != 0
    assert run.report["outcome"] == "rolled_back", str(run)
    assert made(rig) == [f"{word} 1.0 2.0" for word in ("expand", "compat", "sync_back", "expand_undo")]
    assert rig.in_service() == set(rig.hosts)


def test_a_run_that_dies_in_a_step_leaves_it_unknown(fresh: Rig) -> None:
    """The next run is refused until the operator says what became of it, and its word holds once."""
    rig = fresh
    release = rig.archive("2.0")
    (rig.folder / "expand.yml").write_text(
        "- name: Begin, and never end\n  ansible.builtin.shell: echo begun >>/" + MADE + "; sleep 600\n"
        "  changed_when: true\n",
        encoding="utf-8",
    )
    slow = {
        "rollout_expand": str(rig.folder / "expand.yml"),
        "rollout_migrate_host": "web3",
        "rollout_lease_seconds": 4,
    }
    with rig.when(lambda: made(rig, "web3") == ["begun"], lambda: rig.signal(signal.SIGKILL, group=True)):
        died = rig.rollout(steps(**slow), release)
    assert died.rc == -signal.SIGKILL
    rig.on_members("pkill -f 'sleep 600'; true")
    wait_for(lambda: not _alive(died.folder))
    refused = rig.rollout(steps(**slow), release)
    assert refused.rc != 0
    assert "The expand of the migration 2.0 was running on web3 when its run ended" in refused.text, str(refused)
    assert "rollout_settle='expand ran'" in refused.text
    assert made(rig, "web3") == ["begun"]
    assert rig.current() == rig.all_on(FIRST)
    run = rig.rollout(steps(**slow), release, rollout_settle="expand ran")
    assert run.rc == 0, str(run)
    assert made(rig, "web3") == ["begun", "compat 1.0 2.0"]
    assert rig.current() == rig.all_on("2.0")
    stale = rig.rollout(steps(**slow), rig.archive("2.0"), rollout_settle="expand ran")
    assert stale.rc != 0
    assert "it is known that the expand of the migration 2.0 ran" in stale.text


def _alive(folder: Path) -> bool:
    """Whether anything of a run that was killed still lives."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if str(folder).encode() in (entry / "cmdline").read_bytes() and int(entry.name) != os.getpid():
                return True
        except OSError:
            continue
    return False


def test_a_step_that_takes_too_long_is_unknown(fresh: Rig) -> None:
    rig = fresh
    release = rig.archive("2.0")
    slow = steps(rollout_expand=note("expand", "sleep 4"), rollout_step_timeout=1)
    run = rig.rollout(slow, release)
    assert run.rc != 0
    assert "The expand on web1 did not end within 1 s" in run.text, str(run)
    assert rig.current() == rig.all_on(FIRST)
    again = rig.rollout(slow, release)
    assert again.report["outcome"] == "refused"
    assert "rollout_settle='expand ran'" in again.text, str(again)
