"""The benchmark on the command line: python -m bench, or make bench."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lab
from lab.signals import ending

from . import fan_out, fleet, machine, peers, scenario, table
from .figures import Round, figures
from .measure import Measured, measure
from .scenario import Scenario
from .ways import WAYS

RESULTS = peers.ROOT / ".build" / "bench"


def parser() -> argparse.ArgumentParser:
    """What can be asked for; all of it when nothing is."""
    top = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    top.add_argument(
        "--scenario",
        default=",".join((*scenario.TABLE, scenario.FAN_OUT, scenario.FAN_OUT_4LB)),
        help="MEMBERSxBATCH[-BALANCERSlb][-slow], fan-out or fan-out-4lb, several with commas (%(default)s)",
    )
    top.add_argument("--ways", default=",".join(WAYS), help="which ways, with commas (%(default)s)")
    top.add_argument("--rounds", type=int, default=3, help="runs of each way in each scenario (%(default)s)")
    top.add_argument("--minutes", type=float, default=40, help="begin no round after this long (%(default)s)")
    top.add_argument(
        "--patience", type=float, default=20, help="seconds to wait before a run for a calm machine (%(default)s)"
    )
    top.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting (rollout_*) for our own way"
    )
    top.add_argument("--out", type=Path, default=RESULTS, help="where results.json and every run's output go")
    return top


class Bench:
    """One invocation."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        names = arguments.ways.split(",")
        unknown = [name for name in names if name not in WAYS]
        if unknown:
            raise scenario.ScenarioError(f"{unknown[0]!r} is no way: {', '.join(WAYS)}")
        self.ways = [WAYS[name] for name in names]
        self.names = arguments.scenario.split(",")
        fans = (scenario.FAN_OUT, scenario.FAN_OUT_4LB)
        self.scenarios = {name: scenario.parse(name) for name in self.names if name not in fans}
        self.rounds = max(1, arguments.rounds)
        self.ends = time.monotonic() + arguments.minutes * 60
        self.patience: float = arguments.patience
        self.out: Path = arguments.out.resolve()
        self.settings = dict(each.split("=", 1) for each in arguments.set)
        self.results: dict[str, Any] = {"rounds_asked": self.rounds, "scenarios": {}}

    def run(self) -> None:
        """Everything, one scenario after the other; what there is is written after each."""
        self.peers = peers.environment()
        for name in self.names:
            if time.monotonic() > self.ends:
                say(f"{name}: left out, the time is over (--minutes)")
            elif name == scenario.FAN_OUT:
                self.results[name] = self.fan_out()
            elif name == scenario.FAN_OUT_4LB:
                self.results[name] = self.fan_out(4)
            else:
                self.results["scenarios"][name] = self.scenario(self.scenarios[name])
            self.out.mkdir(parents=True, exist_ok=True)
            path = self.out / "results.json"
            path.write_text(json.dumps(self.results, indent=1) + "\n", encoding="utf-8")
        say(f"all of it: {self.out / 'results.json'}")

    def scenario(self, chosen: Scenario) -> dict[str, Any]:
        """All ways in turn, round after round, in one fresh lab."""
        say(chosen.words)
        rounds: list[Round] = []
        with lab.running(fleet.description(chosen)) as up:
            releases = fleet.stage(up)
            for number in range(1, self.rounds + 1):
                if rounds and time.monotonic() > self.ends:
                    say("  no more rounds: the time is over (--minutes)")
                    break
                each: dict[str, Measured] = {}
                for way in self.ways:
                    directory = self.out / chosen.name / f"{number}-{way.name}"
                    found = each[way.name] = measure(
                        way, up, chosen, releases, directory, self.peers, self.settings, self.patience
                    )
                    say(f"  round {number} {way.name}: {line(found)}")
                rounds.append(each)
        results = figures(rounds)
        print(f"\n{chosen.words}\n\n{table.scenario_table(results)}\n", flush=True)
        return {
            "words": chosen.words,
            "figures": [each.to_dict() for each in results],
            "runs": [{way: run.to_dict() for way, run in each.items()} for each in rounds],
        }

    def fan_out(self, balancers: int = 1) -> dict[str, Any]:
        """Ours alone: a batch of 1 on one balancer and a batch of 16, on one or on more, of the same rollouts."""
        say(
            f"a batch of {fan_out.LARGE} on {balancers} balancers against a batch of {fan_out.SMALL} on one, "
            f"of {fan_out.MEMBERS} members"
        )
        small = self.both_sizes(1)
        large = small if balancers == 1 else self.both_sizes(balancers)
        if not small or not large:
            say("  no run had both batches")
            return {"trouble": "no run had both batches"}
        result = fan_out.compare(small, large)
        rows = [[phase, f"{result.small[phase]:.2f}", f"{result.large[phase]:.2f}"] for phase in fan_out.PHASES] + [
            ["drain and put back: ratio", "1", f"{result.ratio:.2f}"]
        ]
        head = ("phase, seconds", f"batch of {fan_out.SMALL}", f"batch of {fan_out.LARGE}, {balancers} balancers")
        print(f"\n{table.render(head, rows)}\n", flush=True)
        return result.to_dict()

    def both_sizes(self, balancers: int) -> list[dict[str, Any]]:
        """The records of rollouts that had a batch of each size, in one fresh lab."""
        chosen = Scenario(fan_out.MEMBERS, fan_out.LARGE, balancers)
        records = []
        with lab.running(fleet.description(chosen)) as up:
            releases = fleet.stage(up)
            for number in range(1, self.rounds + 1):
                directory = self.out / scenario.FAN_OUT / f"{balancers}lb" / str(number)
                found = measure(
                    WAYS["ours"],
                    up,
                    chosen,
                    releases,
                    directory,
                    self.peers,
                    {**fan_out.settings(number), **self.settings},
                    self.patience,
                )
                say(f"  {balancers} balancers, round {number}: {line(found)}")
                if found.ok:
                    records.append(fan_out.record(directory / "reports"))
        return [each for each in records if fan_out.complete(each)]


def line(found: Measured) -> str:
    """One run in a line."""
    words = f"{found.seconds:.2f} s, {found.failed} of {found.requests} failed, {found.closed_idle} closed idle"
    if found.idle_before < machine.CALM:
        words += f"; the machine was busy with other work ({found.idle_before:.0%} idle)"
    return words + (f"; {found.trouble}" if found.trouble else "")


def say(text: str) -> None:
    """Progress; standard output is kept for the tables."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is asked for."""
    try:
        with ending():
            Bench(parser().parse_args(argv)).run()
    except (lab.LabError, scenario.ScenarioError, peers.PeersError, fleet.NotRestored) as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


if __name__ == "__main__":
    sys.exit(main())
