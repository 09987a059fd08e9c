"""What is measured: how many members, how many at a time, how many balancers, which load."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NAME = re.compile(r"(?P<members>\d+)x(?P<batch>\d+)(?:-(?P<balancers>\d+)lb)?(?P<nginx>-nginx)?(?P<slow>-slow)?")

TABLE = ("4x1", "4x1-slow", "4x1-4lb", "16x4", "16x4-4lb", "4x1-nginx", "16x4-nginx")
FAN_OUT = "fan-out"
FAN_OUT_4LB = "fan-out-4lb"  # the large batch on four balancers, against the small one on one


class ScenarioError(ValueError):
    """A name that says no scenario."""


@dataclass(frozen=True)
class Scenario:
    """One row of the table; its name says all of it: 16x4-4lb-slow."""

    members: int
    batch: int
    balancers: int = 1
    slow: bool = False
    nginx: bool = False  # instead of HAProxy

    @property
    def name(self) -> str:
        balancers = f"-{self.balancers}lb" if self.balancers != 1 else ""
        return f"{self.members}x{self.batch}{balancers}{'-nginx' if self.nginx else ''}{'-slow' if self.slow else ''}"

    @property
    def words(self) -> str:
        """For people."""
        at_a_time = "one at a time" if self.batch == 1 else f"in batches of {self.batch}"
        kind = "nginx " if self.nginx else ""
        balancers = f"{self.balancers} {kind}balancer{'s' if self.balancers != 1 else ''}"
        return f"{self.members} members {at_a_time}, {balancers}" + (", 2 % of requests last 3 s" if self.slow else "")

    def batches(self, members: tuple[str, ...]) -> list[list[str]]:
        """The members in their batches."""
        return [list(members[start : start + self.batch]) for start in range(0, len(members), self.batch)]


def parse(name: str) -> Scenario:
    """The scenario of this name."""
    match = _NAME.fullmatch(name)
    if not match:
        raise ScenarioError(f"{name!r} is no scenario: use MEMBERSxBATCH[-BALANCERSlb][-nginx][-slow], e.g. 16x4-4lb")
    scenario = Scenario(
        int(match["members"]),
        int(match["batch"]),
        int(match["balancers"] or 1),
        bool(match["slow"]),
        bool(match["nginx"]),
    )
    if not 2 <= scenario.members <= 64 or not 1 <= scenario.balancers <= 9:
        raise ScenarioError(f"{name}: 2 to 64 members and 1 to 9 balancers")
    if not 1 <= scenario.batch <= scenario.members // 2:
        raise ScenarioError(f"{name}: a batch must leave half of the members in service")
    return scenario
