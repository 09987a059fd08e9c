# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What goes wrong in a rollout, one thing at a time: how it is brought about, how it is mended, what must hold."""

from __future__ import annotations

import itertools
import json
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .rig import Rig

BALANCER = "lb1"  # the one that it happens to
_WEIGHT = 37


# --- when ---


@dataclass(frozen=True)
class Step:
    """So long after a member came into a state, in service or out of it, by the run's own record."""

    member: str
    state: str
    out: bool
    after: float

    def __str__(self) -> str:
        return f"{self.member} {'out' if self.out else 'in'}, {self.state} +{self.after:.2f} s"


Seen = tuple[float, str, bool]  # when a member was first seen so: its state, and whether it was out


class Recorder:
    """Notes when each member changes in the record of a run, while the block lasts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.seen: dict[str, list[Seen]] = {}
        self.ended = 0.0

    def __enter__(self) -> Recorder:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._end.set()
        self._thread.join()
        self.ended = time.monotonic()

    def _run(self) -> None:
        while not self._end.wait(0.01):
            for path in self._folder.glob("run*/reports/*/record.json"):
                with suppress(OSError, ValueError):
                    for host, member in json.loads(path.read_text(encoding="utf-8"))["members"].items():
                        now = (member["state"], member["out_at"] is not None)
                        own = self.seen.setdefault(host, [])
                        if not own or own[-1][1:] != now:
                            own.append((time.monotonic(), *now))


def steps(seen: Mapping[str, Sequence[Seen]], hosts: Sequence[str], ended: float) -> list[Step]:
    """Every change of these members, and two moments before the next one; what passes in a blink is left out."""
    found = []
    for host in hosts:
        own = [*seen[host], (ended, "", False)]
        for (since, state, out), (until, *_next) in itertools.pairwise(own):
            whole = min(until - since, 1.5)
            if whole >= 0.1:
                found += [Step(host, state, out, round(whole * share, 2)) for share in (0.0, 1 / 3, 2 / 3)]
    return found


# --- what ---


Happening = Callable[[Rig, str, str], None]  # to the rig, the member at hand, and another one


def _nothing(_rig: Rig, _member: str, _other: str) -> None:
    pass


def _heal(rig: Rig, _member: str, _other: str) -> None:
    rig.heal()


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong; ``member`` is in the batch in hand, ``other`` is not."""

    name: str
    strike: Happening = _nothing
    mend: Happening = _heal
    cuts: bool = False  # what was in flight on a process that it ends is cut
    names: str = ""  # what a run that stops must name: "balancer" or "member"
    kinds: tuple[str, ...] = ("haproxy", "nginx")
    theirs: Callable[[Rig, str, str], bool] = lambda _rig, _member, _other: True  # what others did is still so
    takes: str = ""  # whose service it takes away by itself: "member" or "other"
    prepare: Happening = _nothing  # before the run
    clear: Happening = _nothing  # when all is over
    release: Mapping[str, Any] | None = None  # how the new release misbehaves; then there is no moment


def _exec(rig: Rig, host: str, *command: str) -> None:
    rig.lab.exec(host, list(command))


def _cut(host: str, direction: str = "both") -> Happening:
    """Between the controller's SSH and a balancer, all of them, or the member."""

    def strike(rig: Rig, member: str, _other: str) -> None:
        found = [each.name for each in rig.lab.balancers] if host == "all" else [member if host == "member" else host]
        for name in found:
            rig.expect_loss(name)
            rig.lab.cut(name, from_="controller", port=22, direction=direction)

    return strike


def _cut_from_balancer(rig: Rig, member: str, _other: str) -> None:
    rig.expect_loss(member)
    rig.lab.cut(member, from_=BALANCER, port=8080)


def _of_balancer(verb: str) -> Happening:
    def strike(rig: Rig, _member: str, _other: str) -> None:
        unit = rig.lab.generation(BALANCER).name.partition("-")[0]
        _exec(rig, BALANCER, "systemctl", verb, f"{unit}.service")

    return strike


def _kill_balancer(rig: Rig, _member: str, _other: str) -> None:
    _exec(rig, BALANCER, "pkill", "-KILL", "-x", rig.lab.generation(BALANCER).name.partition("-")[0])


def _start_balancer(rig: Rig, member: str, other: str) -> None:
    unit = rig.lab.generation(BALANCER).name.partition("-")[0]
    _exec(rig, BALANCER, "systemctl", "reset-failed", f"{unit}.service")
    _of_balancer("start")(rig, member, other)


def _move(path: str, back: bool = False) -> Happening:
    pair = (f"{path}.away", path) if back else (path, f"{path}.away")

    def move(rig: Rig, member: str, _other: str) -> None:
        _exec(rig, BALANCER if path.startswith("/run/haproxy") else member, "mv", *pair)

    return move


_STATE = "/var/lib/zerodrop"  # where balancers have their ledgers, and members the record of their release


def _among_mounts(rig: Rig, host: str, *command: str) -> None:
    """A command of this machine's; hosts may not mount by themselves."""
    pid = rig.root(host).parent.name
    subprocess.run(["nsenter", "-m", "-t", pid, *command], check=True, capture_output=True)


def _disk(who: str, what: str) -> Happening:
    """A small disk of its own for what a rollout keeps on a host: give it, fill it, empty it, take it away."""

    def act(rig: Rig, member: str, _other: str) -> None:
        host = member if who == "member" else BALANCER
        folder = rig.root(host) / _STATE.lstrip("/")
        if what == "give":
            folder.mkdir(exist_ok=True)
            _among_mounts(rig, host, "mount", "-t", "tmpfs", "-o", "size=4m", "none", _STATE)
        elif what == "take":
            _among_mounts(rig, host, "umount", "-l", _STATE)
        elif what == "read-only":
            _among_mounts(rig, host, "mount", "-o", "remount,ro", _STATE)
        elif what == "writable":
            _among_mounts(rig, host, "mount", "-o", "remount,rw", _STATE)
        elif what == "fill":
            _exec(rig, host, "sh", "-c", f"cat /dev/zero > {_STATE}/filling 2>/dev/null || true")
        else:
            (folder / "filling").unlink(missing_ok=True)

    return act


def _reboot(rig: Rig, member: str, _other: str) -> None:
    rig.lab.reboot(member, hard=True)


def _by_hand(command: str) -> Happening:
    def strike(rig: Rig, _member: str, other: str) -> None:
        for balancer in rig.lab.balancers:
            rig.lab.ask(balancer, f"set server shop/{other} {command}")

    return strike


def _is(state: str) -> Callable[[Rig, str, str], bool]:
    return lambda rig, _member, other: all(each[other].startswith(state) for each in rig.servers().values())


FAULTS = [
    Fault("controller to balancer cut", _cut(BALANCER), names="balancer"),
    Fault("controller to balancer cut, one way", _cut(BALANCER, "in"), names="balancer"),
    Fault("balancer to controller cut, one way", _cut(BALANCER, "out"), names="balancer"),
    Fault("controller to all balancers cut", _cut("all"), names="balancer"),
    Fault("controller to member cut", _cut("member"), names="member"),
    Fault("balancer to member cut", _cut_from_balancer, cuts=True, takes="member"),
    Fault("SSH of the member gone", lambda rig, member, _other: rig.lose(member), names="member"),
    Fault("balancer reloaded", _of_balancer("reload")),
    Fault("balancer restarted", _of_balancer("restart"), cuts=True),
    Fault("balancer's processes killed", _kill_balancer, _start_balancer, cuts=True),
    Fault(
        "balancer's socket gone",
        _move("/run/haproxy/admin.sock"),
        _move("/run/haproxy/admin.sock", back=True),
        kinds=("haproxy",),
        names="balancer",
    ),
    *(
        Fault(
            f"{who}'s disk {words}",
            _disk(who, strike),
            _disk(who, mend),
            names=who,
            prepare=_disk(who, "give"),
            clear=_disk(who, "take"),
        )
        for who in ("balancer", "member")
        for words, strike, mend in (("full", "fill", "empty"), ("read-only", "read-only", "writable"))
    ),
    Fault("member rebooted", _reboot, cuts=True, takes="member"),
    Fault(
        "member killed",
        lambda rig, member, _other: rig.lab.kill(member),
        lambda rig, member, _other: rig.lab.start(member),
        cuts=True,
        takes="member",
        names="member",
    ),
    Fault(
        "member's Python gone",
        _move("/usr/bin/python3"),
        _move("/usr/bin/python3", back=True),
        names="member",
    ),
    Fault(
        "somebody drains another member",
        _by_hand("state drain"),
        _by_hand("state ready"),
        kinds=("haproxy",),
        theirs=_is("DRAIN"),
        takes="other",
    ),
    Fault(
        "somebody weighs another member",
        _by_hand(f"weight {_WEIGHT}"),
        _by_hand("weight 100"),
        kinds=("haproxy",),
        theirs=_is(f"UP {_WEIGHT}"),
    ),
    Fault("the release never gets healthy", release={"never_healthy": True}),
    Fault("the release dies after 2 s", cuts=True, release={"crash_after": 2.0}),
    Fault("half of the release's answers are errors", cuts=True, release={"error_share": 0.5}),
    Fault("the release is healthy on its own host alone", release={"loopback_only": True}),
]
