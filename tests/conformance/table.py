# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``python -m tests.conformance.table``: write docs/conformance.md from the ``case`` markers of the tests."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tests.conformance.conftest import KINDS
from tests.conformance.generations import VERSIONS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "conformance.md"
NAMES = {"apache": "Apache", "haproxy": "HAProxy", "nginx": "nginx", "nginx-links": "nginx by links"}

# What must happen, by the number that the marker `case` names. Where no test shows it yet, LATER says why.
CASES: Mapping[int, str] = {
    1: "A name that a pool has not, or that one balancer alone has otherwise, is refused before anything is touched.",
    2: "Servers that track another one follow it: what they serve is waited for, and what cannot be changed on them is said.",
    3: "A socket or a user without the rights for a change is refused; an answer that is no success is never taken for one.",
    4: "A change that reached a process on its leave, during somebody's reload, is made again in the one that stays.",
    5: "A reload by somebody else in mid-drain is seen at the next look, mended and named; no drained member is let in.",
    6: "A restart finds who is out. A state file that is stale, or that wins over the configuration, is named before a rollout.",
    7: "What older processes still serve counts as in flight.",
    8: "Clients that are tied to a member are given their time, and then moved; who is left at a limit is listed.",
    9: "WebSockets, downloads and TCP sessions have limits of their own; what is not cut leads back to the state before.",
    10: "Empty once is not drained: requests that wait for the member count too, several looks in a row.",
    11: "A queue is not thrown upon the member that goes out, beyond its maxconn.",
    12: "A member that an operator holds out is upgraded, and returns to where the operator had it.",
    13: "An agent check cancels no drain and resets no weight; it is heard again afterwards, also after a failure.",
    14: "No request reaches a member that was put back before it serves.",
    15: "States are read from what was asked and what is, never from a status text.",
    16: "The floor is of members that serve: not of backups, of weight 0, or of those that are down.",
    17: "Two rollouts of one service at once: the second is refused and told whose it is, and a lost lease changes nothing more.",
    18: "A controller that dies: the next run, or the balancer itself, knows what members are to return to.",
    19: "One balancer of several that cannot be reached stops the batch on all of them.",
    20: "A standby balancer gets every change like the active one. (Who has the virtual address is not looked at.)",
    21: "A reload that was accepted and did not come about is seen, and undone.",
    22: "A configuration that was broken before is found before anything is changed.",
    23: "A member may be killed the moment it counts as drained.",
    24: "An upload that an older nginx worker still reads may yet choose the member: it is waited for.",
    25: "keepalive_min_timeout lets older nginx workers take one more request: then only their end counts.",
    26: "Idle connections that newer nginx keeps to members do not count as work once the member is out.",
    27: "One reload of nginx for a batch, and none where nothing changes.",
    28: "A server's line is changed, never removed: removing it would move other clients' sessions.",
    29: "The last server of an nginx upstream is not taken out.",
    30: "A name elsewhere in the configuration that does not resolve gives a clear message and no half state.",
    31: "One address in two pools, two balancers on one host, one member under two names: told apart, or refused.",
    32: "A request that was executed and whose answer was lost is not repeated: each POST is executed once.",
    33: "A balancer's own counters are not trusted alone: a client from outside counts too.",
    34: "In a flip the new side is up before the old one goes.",
    35: "A flip to a pool that is not there, or has no healthy member, is refused.",
    36: "What is on disk and what runs agree; where they do not, nothing is changed.",
    37: "A weight that an algorithm would ignore, or a share that it cannot give, is refused.",
    38: "A client stays on one side: of a canary, or of a preview.",
    39: "Members at UNIX sockets and IPv6 addresses, of templates, with odd but legal names: found by name, else by address.",
    40: "Many members at once never make a command too long for the socket.",
    41: "A runtime socket over TCP is refused: it is never encrypted.",
    42: "A server without a check that a state file keeps down is brought up.",
    43: "A limit that is hit in a later batch leaves the fleet in a known state, and says which.",
    44: "A clock that jumps changes nothing.",
    45: "An upgrade that succeeded and a balancer that then fails: it is tried once more, named, and nothing is rolled back blindly.",
    46: "An interface that says yes and does nothing is found out: every change is read back.",
}
LATER: Mapping[int, str] = {}


@dataclass(frozen=True)
class Shown:
    """A test that shows a case."""

    file: str
    name: str
    on: tuple[str, ...]  # such as "HAProxy 2.6, 2.8"


class Test(ast.NodeVisitor):
    """The marked tests of a file."""

    _WITHOUT: ClassVar[str] = "no balancer"

    def __init__(self, path: Path) -> None:
        self.found: list[tuple[int, Shown]] = []
        self._file = str(path.relative_to(ROOT))
        self._tree = ast.parse(path.read_text(encoding="utf-8"))
        self._functions = {node.name: node for node in self._tree.body if isinstance(node, ast.FunctionDef)}
        for function in self._functions.values():
            for number in _cases(function):
                self.found.append((number, Shown(self._file, function.name, self._on(function))))

    def _on(self, function: ast.FunctionDef) -> tuple[str, ...]:
        if self._file.startswith("tests/integration"):
            return ("the lab",)
        fixtures, needed = self._asked(function, set())
        for kind in KINDS:
            if kind.replace("-", "_") in fixtures:
                return (_versions(kind),)
        if "balancer" not in fixtures:
            return (self._WITHOUT,)
        return tuple(_versions(kind) for kind in sorted(KINDS) if not needed & set(KINDS[kind].lacks))

    def _asked(self, function: ast.FunctionDef, seen: set[str]) -> tuple[set[str], set[str]]:
        """The fixtures that a test takes, those of its own file followed, and the features that it needs."""
        fixtures = {argument.arg for argument in function.args.args}
        needed = {
            str(call.args[1].value)
            for call in ast.walk(function)
            if isinstance(call, ast.Call)
            and isinstance(call.func, ast.Name)
            and call.func.id == "needs"
            and isinstance(call.args[1], ast.Constant)
        }
        # `for feature in ("tcp", "work"): needs(balancer, feature)`
        for loop in ast.walk(function):
            if isinstance(loop, ast.For) and isinstance(loop.iter, ast.Tuple) and "needs" in ast.dump(loop):
                needed |= {str(each.value) for each in loop.iter.elts if isinstance(each, ast.Constant)}
        for name in fixtures & set(self._functions) - seen:
            more, also = self._asked(self._functions[name], seen | {name})
            fixtures, needed = fixtures | more, needed | also
        return fixtures, needed


def _cases(function: ast.FunctionDef) -> Iterator[int]:
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.case":
            yield from (int(ast.literal_eval(argument)) for argument in decorator.args)


def _versions(kind: str) -> str:
    return f"{NAMES.get(kind, kind)} {', '.join(VERSIONS[kind])}"


def shown() -> dict[int, list[Shown]]:
    """The tests of every case."""
    found: dict[int, list[Shown]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for number, one in Test(path).found:
            found.setdefault(number, []).append(one)
    return found


def page() -> str:
    """The text of docs/conformance.md."""
    tests = shown()
    rows = []
    for number, text in CASES.items():
        on = sorted(
            {each for one in tests.get(number, []) for each in one.on}, key=lambda each: (each[0].islower(), each)
        )
        by = [
            f"`{Path(one.file).name}` {one.name.removeprefix('test_').replace('_', ' ')}"
            for one in tests.get(number, [])
        ]
        where = "<br>".join(on) if on else f"**not yet**: {LATER[number]}"
        rows.append(f"| {number} | {text} | {where} | {'<br>'.join(by) or '-'} |")
    return HEAD.format(count=len(CASES)) + "\n".join(rows) + "\n"


HEAD = """# What was tried on real balancers

<!-- Written by `make tables` from the markers of the tests; changes by hand are lost. -->

{count} cases in which a deployment behind a balancer goes wrong easily, what must happen in each, and the tests that show it.
Tests in `tests/conformance` run against real balancers, in each of the versions named (`make conformance`; a shorter part of
them in `make test`). *The lab* means whole rollouts on real hosts under load (`make integration`), behind HAProxy 2.6 unless
the test says otherwise. *No balancer* means that a decision or a parser is tested by itself.

| | what must happen | shown on | by |
|---|---|---|---|
"""


def main() -> int:
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
