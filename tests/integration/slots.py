# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Labs whose members are in two slots, and what is measured of their flips."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import lab
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness import Outcome, read_log
from lab.balancers.haproxy_socket import ask

from .conftest import PATIENT
from .controllers import ledger
from .rig import ROOT, Load, Rig, Run, on_all, wait_for

PREVIEW = "header:X-Preview=s3cret"
RESULTS = ROOT / ".build" / "flips"
OTHER = {"blue": "green", "green": "blue"}
_MAP = "/etc/haproxy/zerodrop/shop.map"
_FLAGS = "var/lib/zerodrop/nginx/routes/shop"
_SETTLED = 0.75  # seconds after a flip in which nothing else flips


def description(kind: str = "haproxy", balancers: int = 1, **more: Any) -> lab.Description:
    """Two slots of two members behind such balancers; ``kind`` may be nginx too."""
    own: dict[str, Any] = {"nginx": "1.22"} if kind == "nginx" else {"pool_lines": PATIENT}
    return lab.Description(
        **{
            "prefix": f"i{os.getpid()}-b{kind[0]}{balancers}",
            "members": 4,
            "balancers": balancers,
            "slots": True,
            **own,
            **more,
        }
    )


class Slots:
    """A fleet whose members are in two slots."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        half = len(rig.hosts) // 2
        self.hosts = {"blue": rig.hosts[:half], "green": rig.hosts[half:]}
        self.driver = rig.seven_lines()["rollout_driver"]

    def run(self, playbook: str = "blue_green", *settings: Mapping[str, Any], **more: Any) -> Run:
        own = {
            "rollout_hosts": None,
            "rollout_blue": "blue",
            "rollout_green": "green",
            "rollout_preview": PREVIEW,
            "rollout_bake": 1,
        }
        return self.rig.rollout(own, *settings, playbook=playbook, **more)

    def play(self, name: str, tasks: Sequence[Mapping[str, Any]]) -> Run:
        """A playbook of the user's own."""
        path = self.rig.folder / f"{name}.yml"
        play = [{"name": name, "hosts": "localhost", "gather_facts": False, "tasks": list(tasks)}]
        path.write_text(json.dumps(play), encoding="utf-8")
        return self.rig.rollout(playbook=str(path))

    def pool_route(self, **arguments: Any) -> dict[str, Any]:
        """A task with this module."""
        own = {
            "balancers": "{{ groups.lb }}",
            "service": "shop",
            "blue_pool": "shop_blue",
            "green_pool": "shop_green",
            "preview": PREVIEW,
            "driver": self.driver,
        }
        return {"name": "Flip", "zerodrop.rollout.pool_route": {**own, **arguments}}

    def flips(self, slots: Sequence[str], pause: float = 0.0) -> list[dict[str, Any]]:
        """One flip after the other, by the module; what each said."""
        said = self.rig.folder / "flips.json"
        loop = {"loop": list(slots), "loop_control": {"pause": pause}, "register": "flips"}
        kept = {"content": "{{ flips.results | to_json }}", "dest": str(said), "mode": "0600"}
        run = self.play("flips", [self.pool_route(slot="{{ item }}") | loop, {"ansible.builtin.copy": kept}])
        assert run.rc == 0, run
        found: list[dict[str, Any]] = json.loads(said.read_text(encoding="utf-8"))
        return found

    def prepare(self, mode: str = "flags") -> None:
        """Have nginx's files made, and read."""
        run = self.play("prepare", [self.pool_route(prepare=True, mode=mode)])
        assert run.rc == 0, run
        for host in self.rig.lab.balancers:
            self.rig.lab.exec(host, ["systemctl", "reload", "nginx"])
        time.sleep(0.5)

    def slot_on(self, host: lab.Host) -> set[str]:
        """The slots that a balancer has as live, at run time where it tells, and on the disk."""
        root = self.rig.root(host)
        if self.rig.lab.generation(host).name.startswith("haproxy"):
            said = ask(root, f"show map {_MAP}")
            found = {line.split()[2] for line in said.splitlines() if " live " in line}
            text = (root / _MAP.lstrip("/")).read_text(encoding="utf-8")
            found |= {line.split()[1] for line in text.splitlines() if line.startswith("live ")}
        else:
            text = (root / "etc/nginx/zerodrop/shop.route").read_text(encoding="utf-8")
            if " -f " in text:
                found = {path.name for path in (root / _FLAGS).iterdir()}
            else:
                found = {text.partition("_shop ")[2].partition(";")[0]}
        return {name.removeprefix("shop_") for name in found}

    def live(self) -> set[str]:
        return {slot for host in self.rig.lab.balancers for slot in self.slot_on(host)}

    def noted(self) -> set[tuple[str, str]]:
        """By each ledger the slot that is live, and the one that a flip is under way to."""
        rows = [row for host in self.rig.lab.balancers for row in ledger(self.rig, host.name)["flags"]]
        said = [json.loads(row["value"]) for row in rows if row["name"] == "route:slot"]
        return {(each["live"], each["to"]) for each in said}

    def served_by(self, host: lab.Host) -> str:
        """The slot that answers a request to this balancer."""
        said = self.rig.lab.exec(host, ["curl", "-s", "http://127.0.0.1/"], check=False).stdout
        name = json.loads(said)["host"] if said.startswith("{") else ""
        return next((slot for slot, hosts in self.hosts.items() if name in hosts), said.strip())

    def current(self, slot: str) -> set[str]:
        return {release for host, release in self.rig.current().items() if host in self.hosts[slot]}

    def reset(self) -> None:
        """Blue is live, no slot is retired, and nothing is known of an earlier run."""
        on_all(self.rig.lab.members, self.rig.lab, "systemctl start shop.service")
        self.rig.reset()
        if self.driver == "nginx" and not (self.rig.root("lb1") / "etc/nginx/zerodrop").exists():
            self.prepare()
        for host in self.rig.lab.balancers:
            if self.slot_on(host) != {"blue"}:
                self._by_hand(host, "blue")
        wait_for(lambda: all(self.served_by(host) == "blue" for host in self.rig.lab.balancers))

    def _by_hand(self, host: lab.Host, slot: str) -> None:
        """As an operator does who knows the map, or the flags, or the file."""
        root, other = self.rig.root(host), OTHER[slot]
        if self.driver == "haproxy":
            (root / _MAP.lstrip("/")).write_text(f"live shop_{slot}\nidle shop_{other}\n", encoding="utf-8")
            ask(root, f"set map {_MAP} live shop_{slot}")
            ask(root, f"set map {_MAP} idle shop_{other}")
            return
        if (root / _FLAGS).exists():
            for path in (root / _FLAGS).iterdir():
                path.unlink()
            (root / _FLAGS / f"shop_{slot}").touch()
        route = root / "etc/nginx/zerodrop/shop.route"
        text = route.read_text(encoding="utf-8")
        if " -f " not in text:
            words = {"@": f"shop_{slot}", "%": f"shop_{other}"}
            text = text.replace(f"shop_{other};", "@;", 1).replace(f"shop_{slot};", "%;", 1)
            for mark, name in words.items():
                text = text.replace(f"{mark};", f"{name};", 1)
            route.write_text(text, encoding="utf-8")
        self.rig.lab.exec(host, ["systemctl", "reload", "nginx"])

    # -- what clients saw --

    def answers(self, load: Load) -> list[tuple[float, str]]:
        """When each request began, by the wall clock, and the slot that answered it; in that order."""
        slot_of = {host: slot for slot, hosts in self.hosts.items() for host in hosts}
        found = [
            (epoch + record.started, slot_of[record.host])
            for log in load.logs
            for epoch in [began(log)]
            for record in read_log(str(log))
            if record.outcome is Outcome.OK and record.host in slot_of
        ]
        return sorted(found)


def agreed(slots: Slots) -> str:
    """The slot that every balancer has, in what runs, on the disk and in its ledger; else what they have."""
    try:
        live, noted = slots.live(), slots.noted()
        served = {slots.served_by(host) for host in slots.rig.lab.balancers}
    except OSError as error:
        return str(error)
    if len(live) == 1 and live == served and noted == {(next(iter(live)), "")}:
        return next(iter(live))
    return f"live {live}, noted {noted}, served by {served}"


def began(log: Path) -> float:
    """When a witness began, by the wall clock."""
    with log.open(encoding="utf-8") as lines:
        return datetime.fromisoformat(next(lines).partition("started ")[2].partition(",")[0]).timestamp()


def windows(answers: Sequence[tuple[float, str]]) -> list[float]:
    """For each flip, from the first new request that the new slot answered to the last that the old one did.

    Below zero where no request fell between the two.
    """
    found: list[float] = []
    live, settled, last = answers[0][1], float("-inf"), answers[0][0]
    first = 0.0
    for at, slot in answers:
        if settled != float("-inf") and at > settled:
            found.append(last - first)
            live, settled = OTHER[live], float("-inf")
        if slot == live:
            last = at
        elif settled == float("-inf"):
            first, settled = at, at + _SETTLED
    if settled != float("-inf"):
        found.append(last - first)
    return found


def keep(name: str, row: Mapping[str, Any]) -> None:
    """For docs/blue-green.md, which is written from these."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(row) + "\n", encoding="utf-8")
