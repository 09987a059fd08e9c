# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger's file: whole or not at all, refused when it is damaged, and one owner among many processes."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils import _ledger_operations as operations
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    BadInput,
    LeaseHeld,
    LeaseLost,
    LedgerBroken,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._ledger import (
    BY_HAND,
    BY_ROLLOUT,
    KEPT_EVENTS,
    KEPT_ROLLOUTS,
    Held,
    Ledger,
    MemberEntry,
    RolloutEntry,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Admin, Setting

READY = Setting(Admin.READY, 7)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger("shop", str(tmp_path / "zerodrop"))


def run(name: str, ledger: Ledger, check: bool = False, **params: Any) -> dict[str, Any]:
    folder = str(Path(ledger.folder).parent)
    result: dict[str, Any] = getattr(operations, name)({"service": "shop", "marks": folder, **params}, check)
    return result


def have(ledger: Ledger, holder: str = "a", **more: Any) -> dict[str, Any]:
    return run("lease_acquire", ledger, holder=holder, owner=f"{holder}@here", reason="rolling", **more)


def rollout(number: int) -> RolloutEntry:
    return RolloutEntry(f"r{number}", number, "rolling", "a@here", "1.0", "2.0", {"batches": [["web1"]]}, float(number))


# --- the file ---


def test_looking_makes_nothing(ledger: Ledger, tmp_path: Path) -> None:
    with ledger.look() as tables:
        assert tables is None
    assert run("ledger_read", ledger) == {"changed": False, "ledger": None}
    assert list(tmp_path.iterdir()) == []


def test_it_is_readable_for_its_group_alone_and_nothing_lies_beside_it(ledger: Ledger) -> None:
    with ledger.change():
        pass
    assert stat.S_IMODE(os.stat(ledger.path).st_mode) == 0o640
    assert os.listdir(ledger.folder) == ["ledger.db"]


def test_what_raises_in_a_change_undoes_it(ledger: Ledger) -> None:
    with ledger.change() as tables:
        tables.set_flag("a", "1", 0.0)

    def fail() -> None:
        with ledger.change() as tables:
            tables.set_flag("b", "1", 0.0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with ledger.look() as found:
        assert found is not None
        assert (found.flag("a"), found.flag("b")) == ("1", None)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def text(path: Path) -> None:
    path.write_text("not a database at all\n" * 100)


def middle(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096 : 4096 + 2000] = os.urandom(2000)
    path.write_bytes(bytes(data))


def foreign(path: Path) -> None:
    path.unlink()
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE x (y)")
    database.commit()
    database.close()


def newer(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.close()


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (empty, "was cut off"),
        (half, "is damaged"),
        (text, "is damaged"),
        (middle, "is damaged"),
        (foreign, "is not a ledger"),
        (newer, "version 99.*newer"),
        (folder, "cannot be read"),
    ],
)
def test_a_damaged_ledger_is_refused_and_left(ledger: Ledger, damage: Callable[[Path], None], words: str) -> None:
    have(ledger)
    path = Path(ledger.path)
    damage(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(LedgerBroken, match=words):
        have(ledger, "b")
    with pytest.raises(LedgerBroken, match=words):
        run("ledger_read", ledger)
    assert (path.read_bytes() if path.is_file() else None) == before


def test_a_disk_that_takes_nothing_is_refused(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object, **_more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.mkstemp", full)
    with pytest.raises(LedgerBroken, match=r"No space left.*Make room"):
        have(ledger)


def test_it_stays_small(ledger: Ledger) -> None:
    with ledger.change() as tables:
        for number in range(1, KEPT_ROLLOUTS + 20):
            tables.add_rollout(rollout(number))
        for number in range(KEPT_EVENTS + 500):
            tables.event(0.0, number, "r1", f"event {number}")
        tables.add_rollout(rollout(1000))
    with ledger.look() as found:
        assert found is not None
        assert [each.number for each in found.rollouts()] == [1000, *range(KEPT_ROLLOUTS + 19, 20, -1)]
        assert len(found.events(10_000)) == KEPT_EVENTS
        assert found.events(1)[0]["message"] == f"event {KEPT_EVENTS + 499}"


def test_what_is_held_out_comes_back_as_it_was_written(ledger: Ledger) -> None:
    entries = [
        Held("shop", "web1", BY_ROLLOUT, READY, "web1.example", 1.0),
        Held("shop", "web1", BY_HAND, Setting(Admin.DRAIN, 3), "", 2.0),
        Held("other", "web1", BY_ROLLOUT, READY, "web1.example", 3.0),
    ]
    with ledger.change() as tables:
        tables.hold(entries)
        tables.hold([replace(entries[0], at=9.0)])
        assert tables.held("shop", BY_ROLLOUT) == [replace(entries[0], at=9.0)]
        tables.let_go("shop", ["web1"], BY_ROLLOUT)
        assert sorted(tables.held(), key=lambda each: each.at) == entries[1:]


# --- operations ---


def note(ledger: Ledger, number: int = 1, holder: str = "a", members: Any = (), **more: Any) -> dict[str, Any]:
    return run("ledger_note", ledger, lease={"number": number, "holder": holder, "members": list(members)}, **more)


BEGIN = {
    "strategy": "rolling",
    "from_version": "1.0",
    "to_version": "2.0",
    "plan": {"batches": [["web1", "web2"]]},
    "members": [{"host": host, "release_before": "1.0", "release": "2.0"} for host in ("web1", "web2")],
}


def test_a_rollout_from_its_beginning_to_its_end(ledger: Ledger) -> None:
    assert have(ledger)["lease"]["number"] == 1
    note(ledger, begin=BEGIN)
    found = run("ledger_read", ledger)["ledger"]
    assert found["interrupted"]["to_version"] == "2.0"
    assert {host: (each["phase"], each["safe"]) for host, each in found["members"].items()} == {
        "web1": ("planned", True),
        "web2": ("planned", True),
    }
    note(ledger, members=[{"host": "web1", "phase": "upgrading", "release_before": "1.0", "release": "2.0"}])
    found = run("ledger_read", ledger)["ledger"]
    assert (found["members"]["web1"]["phase"], found["members"]["web1"]["safe"]) == ("upgrading", False)
    note(ledger, end={"outcome": "succeeded", "sentence": "done", "seconds": {"drain": 0.5}}, release=True)
    found = run("ledger_read", ledger)["ledger"]
    assert found["interrupted"] is None
    assert found["lease"]["released"]
    assert found["lease"]["left"] == 0
    assert found["rollouts"][0]["outcome"] == "succeeded"
    assert found["rollouts"][0]["seconds"] == {"drain": 0.5}
    assert [each["message"] for each in found["events"]] == ["a@here has the lease (rolling)", "done"]
    with pytest.raises(LeaseLost):
        note(ledger)


def test_what_a_dead_run_left_by_halves_stays_known_when_the_next_one_begins(ledger: Ledger) -> None:
    have(ledger)
    note(ledger, begin=BEGIN)
    note(ledger, members=[{"host": "web1", "phase": "upgrading"}, {"host": "web2", "phase": "finished"}])
    have(ledger, "b", over="a")
    note(ledger, 2, "b", begin={**BEGIN, "members": BEGIN["members"][:1]})  # type: ignore[index]
    found = run("ledger_read", ledger)["ledger"]
    assert {host: each["phase"] for host, each in found["members"].items()} == {"web1": "upgrading"}
    assert [each["outcome"] for each in found["rollouts"]] == [None, "interrupted"]
    assert "took over the lease (rolling); that of a@here (rolling, since" in found["events"][-1]["message"]
    assert "had not ended" in found["events"][-1]["message"]


def test_how_far_a_migration_is_and_since_when_the_old_version_is_gone(ledger: Ledger) -> None:
    have(ledger)
    assert run("ledger_read", ledger)["ledger"]["migration"] is None
    word = {"revision": 3, "name": "2.0", "told": {"steps": {}}, "finished": False}
    note(ledger, migration=word)
    assert run("ledger_read", ledger)["ledger"]["migration"] == {"revision": 3, "told": {"steps": {}}, "age": None}
    note(ledger, migration={**word, "revision": 4, "finished": True})
    with ledger.look() as tables:
        assert tables is not None
        entry = tables.migration()
    assert entry is not None
    assert entry.finished is not None
    note(ledger, migration={**word, "revision": 5, "finished": True})
    note(ledger, migration={**word, "revision": 2, "finished": False})  # an older word
    with ledger.look() as tables:
        assert tables is not None
        assert tables.migration() == replace(entry, revision=5)
    assert run("ledger_read", ledger)["ledger"]["migration"]["age"] >= 0
    note(ledger, migration={**word, "revision": 6, "name": "3.0", "finished": True})
    with ledger.look() as tables:
        assert tables is not None
        other = tables.migration()
    assert other is not None
    assert other.finished is not None
    assert other.finished > entry.finished


def test_a_lease_that_is_lost_writes_nothing(ledger: Ledger) -> None:
    have(ledger)
    have(ledger, "b", over="a")
    before = Path(ledger.path).read_bytes()
    with pytest.raises(LeaseLost, match="b@here"):
        note(ledger, members=[{"host": "web1", "phase": "draining"}], event="x")
    assert Path(ledger.path).read_bytes() == before


def test_check_mode_writes_nothing(ledger: Ledger) -> None:
    assert have(ledger, check=True)["lease"]["number"] == 1
    assert not ledger.exists()
    have(ledger)
    with pytest.raises(LeaseHeld):
        have(ledger, "b", check=True)
    assert run("lease_stop", ledger, True, by="me")["changed"]
    assert run("ledger_read", ledger)["ledger"]["stop"] is None


def test_a_run_is_asked_to_stop_once_and_the_next_one_knows_nothing_of_it(ledger: Ledger) -> None:
    assert run("lease_stop", ledger, by="me") == {"changed": False, "lease": None, "runs": False}
    have(ledger)
    assert run("lease_stop", ledger, by="me")["changed"]
    assert not run("lease_stop", ledger, by="you")["changed"]
    assert note(ledger)["stop"] == "me"
    have(ledger, "b", over="a")
    assert note(ledger, 2, "b")["stop"] is None


@pytest.mark.parametrize("row", [{"host": "web1", "phase": "asleep"}, {"host": "web1"}])
def test_an_unknown_phase_is_refused(ledger: Ledger, row: dict[str, Any]) -> None:
    have(ledger)
    with pytest.raises(BadInput, match="phase"):
        note(ledger, members=[row])


@pytest.mark.parametrize("lease", ["x", {"number": "x", "holder": "a"}, {"number": 1}])
def test_a_wrong_lease_is_refused(ledger: Ledger, lease: Any) -> None:
    have(ledger)
    with pytest.raises(BadInput, match="lease"):
        run("ledger_note", ledger, lease=lease)


def test_entries_of_every_kind_come_back(ledger: Ledger) -> None:
    entry = MemberEntry("web1", "r1", "healthy", True, None, "2.0", {"lb1": {"admin": "ready", "weight": 3}}, 1.5)
    with ledger.change() as tables:
        tables.set_member(entry)
        assert tables.members() == {"web1": entry}
        tables.remove_member("web1")
        assert tables.members() == {}


# --- many processes, one file ---

_RACE = """\
import json, sys
from ansible_collections.zerodrop.rollout.plugins.module_utils._ledger_operations import lease_acquire, ledger_note
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import LeaseHeld, LeaseLost
folder, name = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
got = 0
for round in range(15):
    holder = "%s-%d" % (name, round)
    params = {"service": "shop", "marks": folder, "holder": holder, "owner": name, "reason": "race", "seconds": 60}
    try:
        number = lease_acquire(params, False)["lease"]["number"]
    except LeaseHeld:
        continue
    with open(folder + "/owners", "a") as file:  # nobody else may write between these two lines
        file.write("+%d\\n" % number)
        file.flush()
        file.write("-%d\\n" % number)
    ledger_note({"service": "shop", "marks": folder, "lease": {"number": number, "holder": holder}, "release": True}, False)
    got += 1
print(json.dumps(got))
"""


@pytest.mark.case(17)
def test_processes_that_race_for_the_lease_never_have_it_together(ledger: Ledger) -> None:
    base = Path(ledger.folder).parent
    base.mkdir(parents=True)
    command = [sys.executable, "-c", _RACE, str(base)]
    racers = [
        subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for name in "abcd"
    ]
    for each in racers:
        assert each.stdout is not None
        assert each.stdout.readline() == "ready\n"
    for each in racers:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    got = [json.loads(each.communicate(timeout=120)[0]) for each in racers]
    assert all(each.returncode == 0 for each in racers)
    lines = (base / "owners").read_text().split()
    assert len(lines) == 2 * sum(got)
    assert lines == [f"{sign}{number}" for number in range(1, sum(got) + 1) for sign in "+-"]
