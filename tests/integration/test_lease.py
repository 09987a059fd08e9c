# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One run for a service at a time, whoever hangs, dies or is cut off; behind three balancers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import lab
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import LeaseHeld, Unreachable, from_dict
from ansible_collections.zerodrop.rollout.plugins.plugin_utils import _program
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Call, Reply
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.lease import Acquisition, Balancers, Request
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._session import Session
from lab.inventory import SSH_OPTIONS

from .conftest import PATIENT
from .controllers import beside, kill, ledger, ledger_file, processes, signal_all
from .rig import FIRST, Rig, Run, wait_for

pytestmark = pytest.mark.lab

ALL = pytest.mark.skipif(not os.environ.get("ZERODROP_KILLS"), reason="make kills runs it")
ALL_ROUNDS = bool(os.environ.get("ZERODROP_KILLS"))
ROUNDS = int(os.environ.get("ZERODROP_ROUNDS") or (50 if ALL_ROUNDS else 10))


@pytest.fixture(scope="module")
def three_balancers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lab.Lab]:
    description = lab.Description(
        prefix=f"i{os.getpid()}-l3", members=4, balancers=3, sticky="cookie", pool_lines=PATIENT
    )
    with lab.running(description, tmp_path_factory.mktemp("lab") / "three") as up:
        yield up


@pytest.fixture
def three(three_balancers: lab.Lab, tmp_path: Path) -> Iterator[Rig]:
    found = Rig(three_balancers, tmp_path)
    found.reset()
    yield found
    found.heal()


def settings(rig: Rig, **more: Any) -> dict[str, Any]:
    return {
        **rig.archive("2.0", start_delay=0.5),
        "rollout_batches": [1],
        "rollout_look_timeout": 0.5,
        "rollout_lease_seconds": 4,
        "rollout_health_version_key": "version",
        **more,
    }


def test_every_ledger_tells_of_the_rollout(three: Rig) -> None:
    run = three.rollout(settings(three))
    assert run.rc == 0, str(run)
    again = three.rollout(settings(three))
    assert again.rc == 0, str(again)
    assert set(again.changed.values()) == {0}, str(again)
    for host in ("lb1", "lb2", "lb3"):
        found = ledger(three, host)
        assert stat.S_IMODE(ledger_file(three, host).stat().st_mode) == 0o640
        assert found["lease"][0]["released"] == 1
        assert "rolling to 2.0" in found["lease"][0]["reason"]
        assert [(each["outcome"], each["from_version"], each["to_version"]) for each in found["rollouts"]] == [
            ("succeeded", FIRST, "2.0")
        ]
        assert found["rollouts"][0]["sentence"] == run.report["sentence"]
        took = json.loads(found["rollouts"][0]["seconds"])
        assert {"drain", "upgrade", "gate", "put back", "total"} <= {name for name, value in took.items() if value > 0}
        assert {each["host"]: each["phase"] for each in found["members"]} == dict.fromkeys(three.hosts, "finished")
        assert found["held"] == []


# So many rounds at a time, and whether one of the balancers is cut off. In make kills 50 and 10 rounds.
AT_ONCE = [pytest.param(number, "", id=f"{number}-{number + 4}", marks=ALL) for number in range(6, 50, 5)]
AT_ONCE += [pytest.param(number, "lb3", id=f"cut off, {number}-{number + 4}", marks=ALL) for number in (51, 56)]


@pytest.mark.parametrize(("first", "cut"), [pytest.param(1, "", id="1-5"), *AT_ONCE])
def test_two_controllers_at_once(three: Rig, first: int, cut: str) -> None:
    """One goes through; the other is told whose the lease is, and touches nothing."""
    rigs = [beside(three, name) for name in ("a", "b")]
    if cut:
        three.cut(cut)
    with three.watch() as watch:
        for number in range(first, first + 5) if ALL_ROUNDS else [first]:
            version = f"{2 + number % 2}.{number}"
            own = {**three.archive(version, start_delay=0.5), "rollout_batches": [2], "rollout_dead_balancer": "skip"}
            chosen = {**settings(three), **own}
            with ThreadPoolExecutor(2) as pool:
                runs = list(pool.map(lambda rig, chosen=chosen: rig.rollout(chosen), rigs))
            good = [run for run in runs if run.rc == 0]
            bad = [run for run in runs if run.rc != 0]
            assert len(good) == len(bad) == 1, "\n".join(map(str, runs))
            assert bad[0].report["stop"]["code"] == "lease_held"
            assert "Another run has the lease on this service: root on" in bad[0].report["sentence"]
            assert good[0].report["outcome"] == "succeeded"
            assert three.current() == three.all_on(version)
    assert watch.least >= 2


@contextmanager
def stopped_in_a_drain(three: Rig, name: str, **more: Any) -> Iterator[tuple[Rig, list[Run]]]:
    """A controller that stands still, with all its processes, while it has a member out; after the block it goes on.

    Requests that take seconds are in flight on every member all the time, so that a drain lasts.
    """
    rig, runs = beside(three, name), list[Run]()
    chosen = settings(rig, rollout_switch_after=0, **more)  # it would put back what another run is to find
    thread = threading.Thread(target=lambda: runs.append(rig.rollout(chosen)))
    thread.start()
    try:
        wait_for(rig.member_is("web2", "untouched"), 60)
        signal_all(rig, signal.SIGSTOP)
        assert rig.member_is("web2", "untouched")(), "it was stopped too late"
        yield rig, runs
        signal_all(rig, signal.SIGCONT)
        thread.join(120)
        assert runs, "it did not end:\n" + "\n".join(map(look_at, processes(rig)))
    finally:
        kill(rig)
        thread.join(60)


def look_at(process: int) -> str:
    """What a process is, and what it waits for."""
    folder = Path("/proc") / str(process)
    command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:200]
    return f"{process} {(folder / 'stat').read_text().split()[2]} {(folder / 'wchan').read_text()} {command}"


SLOW = {"keepalive": 0.5, "slow": 0.2, "post": 0.2, "session": 0.1}


@ALL
def test_another_one_takes_over_from_a_controller_that_hangs(three: Rig) -> None:
    with three.watch() as watch, three.load(rate=60, mix=SLOW) as load:
        with stopped_in_a_drain(three, "a") as (_hanging, late):
            run = beside(three, "b").rollout(settings(three))
            assert run.rc == 0, str(run)
            before = three.snapshot()
            done = ledger(three)
        assert three.snapshot() == before
    assert late[0].rc != 0, str(late[0])
    assert late[0].report["stop"]["code"] == "lease_lost", late[0].report["sentence"]
    assert three.current() == three.all_on("2.0")
    assert three.in_service() == set(three.hosts)
    assert ledger(three) == done
    assert any("took over the lease" in each["message"] for each in done["events"])
    load.assert_nothing_lost()
    assert watch.least >= 2


@ALL
def test_who_stood_still_for_too_long_changes_nothing_more(three: Rig) -> None:
    with three.watch() as watch, three.load(rate=60, mix=SLOW) as load:
        with stopped_in_a_drain(three, "a") as (_hanging, late):
            wait_for(lambda: left(three) <= 0, 30)
            before = three.snapshot()
        assert late[0].rc != 0, str(late[0])
        assert late[0].report["stop"]["code"] == "lease_lost", late[0].report["sentence"]
        assert three.snapshot() == before
        # The next run takes it up.
        run = three.rollout(settings(three))
    assert run.rc == 0, str(run)
    assert three.in_service() == set(three.hosts)
    assert three.current() == three.all_on("2.0")
    load.assert_nothing_lost()
    assert watch.least >= 2


def left(rig: Rig) -> float:
    """For how long the lease lasts on any balancer; the lab has this machine's kernel, and so its clock."""
    ends = [float(ledger(rig, host.name)["lease"][0]["expires"]) for host in rig.lab.balancers]
    return max(ends) - time.clock_gettime(time.CLOCK_BOOTTIME)


@ALL
def test_a_majority_is_enough_and_less_is_not(three: Rig) -> None:
    three.cut("lb3")
    run = three.rollout(settings(three, rollout_dead_balancer="skip"))
    assert run.rc == 0, str(run)
    # Nobody waits for the one that is silent, batch after batch.
    assert max(each["seconds"] for each in run.report["events"] if each["phase"] == "drain") < 5
    three.cut("lb2")
    before = three.snapshot()
    run = three.rollout({**settings(three), **three.archive(FIRST), "rollout_dead_balancer": "skip"})
    assert run.rc != 0, str(run)
    assert "needs 2 of its balancers, and 1 can be reached" in run.text
    assert three.snapshot() == before


@ALL
def test_a_silent_balancer_that_comes_back_is_brought_in_line(three: Rig) -> None:
    three.cut("lb3")
    with three.when(three.member_is("web2", "upgraded"), three.heal) as struck:
        run = three.rollout({**settings(three), **three.archive("2.0", start_delay=3)}, rollout_dead_balancer="skip")
    assert struck
    assert run.rc == 0, str(run)
    assert "lb3 came back, and was brought in line before it counted" in run.report["notes"]
    assert three.in_service() == set(three.hosts)
    assert {row["host"]: row["phase"] for row in ledger(three, "lb3")["members"]} == dict.fromkeys(
        three.hosts, "finished"
    )


class OverSsh:
    """A controller that has nothing but the lease to ask for."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._sessions: dict[str, Session] = {}

    def run(self, calls: Mapping[str, Call], check: bool = False) -> dict[str, Reply]:
        with ThreadPoolExecutor(4) as pool:
            return dict(pool.map(lambda item: (item[0], self._ask(item[1])), calls.items()))

    def _ask(self, call: Call) -> Reply:
        if call.host not in self._sessions:
            address = self._rig.lab.host(call.host).address
            command = ["ssh", *" ".join(SSH_OPTIONS).split(), "-i", str(self._rig.lab.key), f"root@{address}"]
            self._sessions[call.host] = Session(
                [*command, f'python3 -I -S -c "{_program.BOOT}"'], call.operation, call.params
            )
        try:
            data = self._sessions[call.host].ask(call.operation, call.params, False)
        except Unreachable as error:
            return Reply(call.host, error=error)
        return Reply(call.host, error=from_dict(data["error"])) if "error" in data else Reply(call.host, data["result"])

    def close(self) -> None:
        for session in self._sessions.values():
            session.close()


def test_rounds_of_two_controllers_that_begin_at_once(three: Rig) -> None:
    """Over real connections to real hosts; each asks in an order of its own in every second round."""
    controllers = [OverSsh(three), OverSsh(three)]
    orders = ({"lb1": "lb1", "lb2": "lb2", "lb3": "lb3"}, {"lb1": "lb3", "lb2": "lb1", "lb3": "lb2"})
    won: Counter[int] = Counter()
    for number in range(ROUNDS):
        barrier = threading.Barrier(2)

        def begin(which: int, number: int = number, barrier: threading.Barrier = barrier) -> int | None:
            request = Request("shop", f"{which}-{number}", f"controller {which}", "a round", 60.0)
            hosts = orders[which if number % 2 else 0]
            balancers = Balancers(controllers[which], request, hosts)  # type: ignore[arg-type]
            barrier.wait()
            try:
                return Acquisition(balancers, 3, 2, sleep=Impatience()).run(0).number
            except (LeaseHeld, ImpatienceError):
                return None

        with ThreadPoolExecutor(2) as pool:
            numbers = list(pool.map(begin, range(2)))
        owners = [which for which, given in enumerate(numbers) if given is not None]
        assert len(owners) == 1, f"round {number}: {numbers}"
        won[owners[0]] += 1
        holders = {host: ledger(three, host)["lease"][0]["holder"] for host in ("lb1", "lb2", "lb3")}
        assert list(holders.values()).count(f"{owners[0]}-{number}") == 3, holders
        lease = {"number": numbers[owners[0]], "holder": f"{owners[0]}-{number}"}
        note = {"service": "shop", "lease": lease, "release": True}
        controllers[0].run({host: Call("ledger_note", note, 5, host) for host in holders})
    for each in controllers:
        each.close()


class ImpatienceError(Exception):
    pass


class Impatience:
    """Nobody renews the other's lease here, so who waits for its end would have it one day."""

    def __init__(self) -> None:
        self._waits = 0

    def __call__(self, seconds: float) -> None:
        self._waits += seconds >= 0.5
        if self._waits > 8:
            raise ImpatienceError
        time.sleep(min(seconds, 0.1))


# --- ledgers that cannot be used ---


def part(rig: Rig, members: tuple[str, ...], balancers: tuple[str, ...]) -> Path:
    """A part of the inventory, as a slice of a job has it."""
    kept, group = [], ""
    for line in rig.lab.inventory.read_text(encoding="utf-8").splitlines():
        group = line.strip() if line.strip() in ("shop:", "lb:") else group
        name = line.split(":")[0].strip()
        if "ansible_host" not in line or name in (members if group == "shop:" else balancers):
            kept.append(line)
    path = rig.folder / f"part-{members[0]}.yml"
    path.write_text("\n".join(kept) + "\n", encoding="utf-8")
    return path


def test_slices_of_a_job_are_refused(three: Rig) -> None:
    """With a part of the balancers, on which the lease could be had twice; and with a part of the members."""
    first = three.rollout(settings(three, rollout_batches=[2], rollout_lease_seconds=30))
    assert first.rc == 0, str(first)
    back = {**settings(three), **three.archive(FIRST)}
    everyone, everywhere = ("web1", "web2", "web3", "web4"), ("lb1", "lb2", "lb3")
    before = three.snapshot()
    for members, balancers, words in (
        (everyone, ("lb1", "lb3"), "The last rollout had lb2 among its balancers"),
        (("web3", "web4"), everywhere, "members that the inventory does not know: web1, web2"),
    ):
        run = three.rollout(back, inventory=part(three, members, balancers))
        assert run.rc != 0, str(run)
        assert run.report["outcome"] == "refused"
        assert words in run.report["sentence"]
        assert three.snapshot() == before


@ALL
def test_it_is_taken_over_where_the_user_says_so(three: Rig) -> None:
    with three.load(rate=60, mix=SLOW) as load:
        with stopped_in_a_drain(three, "a", rollout_lease_seconds=300) as (_hanging, late):
            run = beside(three, "b").rollout(settings(three), rollout_take_over=True)
            assert run.rc == 0, str(run)
            assert run.seconds < 120
            done = ledger(three)
        assert ledger(three) == done
    assert late[0].report["stop"]["code"] == "lease_lost", late[0].report["sentence"]
    (said,) = [each["message"] for each in done["events"] if "took over the lease" in each["message"]]
    assert "that of root on" in said, said
    assert three.current() == three.all_on("2.0")
    load.assert_nothing_lost()


def _in(rig: Rig, host: str, *command: str) -> None:
    """Run a command of this machine's among a host's mounts."""
    pid = rig.root(host).parent.name
    subprocess.run(["nsenter", "-m", "-t", pid, *command], check=True, capture_output=True)


def test_a_ledger_that_cannot_be_used_is_refused_and_left(three: Rig) -> None:
    assert three.rollout(settings(three)).rc == 0
    path = ledger_file(three, "lb2")
    whole, before = path.read_bytes(), three.snapshot()
    newer = bytearray(whole)
    newer[60:64] = (99).to_bytes(4, "big")  # PRAGMA user_version, by SQLite's file format
    back = {**settings(three), **three.archive(FIRST)}
    for damaged, words in (
        (b"", "was cut off"),
        (whole[: len(whole) // 2], "is damaged"),
        (b"\0" * 5000, "is damaged"),
        (bytes(newer), "a newer zerodrop.rollout has written it"),
    ):
        path.write_bytes(damaged)
        run = three.rollout(back)
        assert run.rc != 0, str(run)
        assert run.report["stop"]["code"] == "ledger", run.report["sentence"]
        assert words in run.report["sentence"]
        assert "lb1 has it whole" in run.report["sentence"]
        assert path.read_bytes() == damaged
        assert three.snapshot() == before
    # The way out that the message and the documentation give.
    shutil.copy(ledger_file(three, "lb1"), path)
    assert three.rollout(settings(three)).rc == 0


def test_a_full_or_read_only_disk_is_refused(three: Rig) -> None:
    before = three.snapshot()
    folder = "/var/lib/zerodrop"
    (three.root("lb2") / "var/lib/zerodrop").mkdir(exist_ok=True)
    for options in ("size=40k", "ro"):
        _in(three, "lb2", "mount", "-t", "tmpfs", "-o", options, "none", folder)
        try:
            run = three.rollout(settings(three))
        finally:
            _in(three, "lb2", "umount", folder)
        assert run.rc != 0, str(run)
        assert run.report["stop"]["code"] == "ledger", run.report["sentence"]
        assert "cannot be" in run.report["sentence"]
        assert three.snapshot() == before
        assert ledger(three, "lb1")["lease"][0]["released"] == 1
        assert ledger(three, "lb1")["rollouts"] == []
    assert three.rollout(settings(three)).rc == 0
