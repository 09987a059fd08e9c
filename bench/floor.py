"""The floor: the same rolling upgrade by a script of its own, with nothing that is not needed for it.

Warm SSH (one shared connection per host, opened here), the runtime socket, and no Ansible. It is as
safe as what it is compared with: in flight is measured on every balancer and seen empty three times
in a row, a member passes the same gate on its own host, and it is put back only when the balancer's
own checks have seen it healthy since it was restarted. Every write is read back.

It runs as a program: python3 -S -E -s floor.py PLAN.json. Standard library only.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

COMMON = """
import json, socket, sys, time
P = json.loads(sys.argv[1])
def ask(line):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(5)
        s.connect(P["socket"])
        s.sendall(line.encode() + b"\\n")
        parts = []
        while True:
            part = s.recv(65536)
            if not part:
                return b"".join(parts).decode()
            parts.append(part)
def tell(line):
    said = ask(line).strip()
    if said:
        sys.exit(line + ": " + said)
def states():
    rows = [row.split(" ") for row in ask("show servers state " + P["pool"]).splitlines()]
    return {row[3]: (int(row[5]), int(row[6])) for row in rows if len(row) > 6 and row[0].isdigit()}
def limit(since, what):
    if time.monotonic() - since > P["limit"]:
        sys.exit(what)
"""

# Held out, and nothing in flight any more.
DRAIN = """
for m in P["members"]:
    tell("set server %s/%s state maint" % (P["pool"], m))
if not all(states()[m][1] & 1 for m in P["members"]):
    sys.exit("not in maintenance")
since, row = time.monotonic(), 0
while row < 3:
    lines = ask("show stat %s 4 -1" % P["pool"]).splitlines()
    names = lines[0].lstrip("# ").split(",")
    name, now, queue = names.index("svname"), names.index("scur"), names.index("qcur")
    rows = [line.split(",") for line in lines[1:] if line]
    busy = sum(int(r[now]) + int(r[queue]) for r in rows if r[name] in P["members"])
    row = 0 if busy else row + 1
    limit(since, "still busy")
    if row < 3:
        time.sleep(0.02)
"""

# Judged afresh by the balancer's own checks, and then, when told so, back in service.
RETURN = """
for m in P["members"]:
    tell("set server %s/%s state drain" % (P["pool"], m))
    tell("set server %s/%s health down" % (P["pool"], m))
since = time.monotonic()
while True:
    found = states()
    if all(found[m][0] == 2 for m in P["members"]):
        break
    limit(since, "not healthy in the balancer's eyes")
    time.sleep(0.02)
if sys.stdin.readline() != "go\\n":
    sys.exit("not told to go on")
for m in P["members"]:
    tell("set server %s/%s state ready" % (P["pool"], m))
found = states()
if any(found[m] != (2, 0) for m in P["members"]):
    sys.exit("not ready")
"""

# The other release, restarted, and healthy three times in a row.
UPGRADE = """
import os
link = P["base"] + "/.next"
try:
    os.unlink(link)
except FileNotFoundError:
    pass
os.symlink("releases/" + P["version"], link)
os.replace(link, P["base"] + "/current")
if os.system("systemctl restart " + P["unit"]):
    sys.exit("not restarted")
print("restarted", flush=True)
def healthy():
    try:
        with socket.create_connection(("127.0.0.1", P["port"]), 2) as s:
            s.sendall(b"GET /health HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n")
            return b" 200 " in s.recv(65536).split(b"\\r\\n")[0]
    except OSError:
        return False
since, row = time.monotonic(), 0
while True:
    begun = time.monotonic()
    row = row + 1 if healthy() else 0
    if row >= P["successes"]:
        break
    limit(since, "not healthy")
    time.sleep(max(0, begun + P["interval"] - time.monotonic()))
"""


class StepFailed(Exception):
    """A host said why it could not go on."""


def at_once(calls: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """Call all of them at once and wait for all; raise the first failure."""
    results: dict[str, Any] = {}
    failures: list[BaseException] = []

    def one(name: str, call: Callable[[], Any]) -> None:
        try:
            results[name] = call()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=one, args=item) for item in calls.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return results


class Floor:
    """The upgrade of one fleet."""

    def __init__(self, plan: Mapping[str, Any]) -> None:
        self.plan = plan
        self.addresses: dict[str, str] = {**plan["balancers"], **plan["members"]}
        self.programs: Mapping[str, str] = plan["programs"] or {"drain": COMMON + DRAIN, "return": COMMON + RETURN}

    def start(self, host: str, program: str, parameters: Mapping[str, Any]) -> subprocess.Popen[str]:
        remote = shlex.join(["/usr/bin/python3", "-S", "-E", "-s", "-c", program, json.dumps(parameters)])
        return subprocess.Popen(
            ["ssh", *self.plan["ssh"], self.addresses[host], remote],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, host: str, process: subprocess.Popen[str], last_words: str | None = None) -> None:
        _out, err = process.communicate(last_words)
        if process.returncode:
            raise StepFailed(f"{host}: {err.strip() or process.returncode}")

    def run(self) -> None:
        """Open the connections, then batch after batch."""
        at_once({host: lambda h=host: self.open(h) for host in self.addresses})  # type: ignore[misc]
        for batch in self.plan["batches"]:
            self.drain(batch)
            self.upgrade_and_return(batch)

    def open(self, host: str) -> None:
        self.finish(host, self.start(host, "", {}))

    def balancer(self, batch: Iterable[str]) -> dict[str, Any]:
        if self.plan["nginx_config"]:
            return {
                "config": self.plan["nginx_config"],
                "addresses": [f"{self.plan['members'][name]}:{self.plan['port']}" for name in batch],
                "limit": self.plan["limit"],
            }
        return {
            "socket": self.plan["socket"],
            "pool": self.plan["pool"],
            "members": list(batch),
            "limit": self.plan["limit"],
        }

    def drain(self, batch: Iterable[str]) -> None:
        parameters = self.balancer(batch)

        def one(host: str) -> None:
            self.finish(host, self.start(host, self.programs["drain"], parameters))

        at_once({host: lambda h=host: one(h) for host in self.plan["balancers"]})  # type: ignore[misc]

    def upgrade_and_return(self, batch: Iterable[str]) -> None:
        """The balancers judge while the members still pass their own gate, but never before the restart is over."""
        gate = {name: self.plan[name] for name in ("base", "version", "unit", "port", "successes", "interval", "limit")}
        members = {host: self.start(host, COMMON + UPGRADE, gate) for host in batch}
        for host, process in members.items():
            assert process.stdout is not None
            if process.stdout.readline() != "restarted\n":
                self.finish(host, process)
                raise StepFailed(f"{host}: said nothing")
        parameters = self.balancer(batch)
        balancers = {host: self.start(host, self.programs["return"], parameters) for host in self.plan["balancers"]}
        try:
            for host, process in members.items():
                self.finish(host, process)
        except StepFailed:
            at_once({host: balancers[host].kill for host in balancers})
            raise
        at_once({host: lambda h=host: self.finish(h, balancers[h], "go\n") for host in balancers})  # type: ignore[misc]


def main() -> int:
    """Run the plan; the exit code tells."""
    with open(sys.argv[1], encoding="utf-8") as file:
        plan = json.load(file)
    try:
        Floor(plan).run()
    except StepFailed as error:
        print(f"floor: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
