"""What the runs of a scenario come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from .measure import Measured

FLOOR, PEER = "floor", "community"


@dataclass(frozen=True)
class Figures:
    """One way in one scenario, over all rounds."""

    way: str
    rounds: int
    seconds: float  # median
    fastest: float
    slowest: float
    to_floor: float | None  # median of the ratios within each round
    to_peer: float | None
    requests: int
    failed: int
    closed_idle: int
    late: int
    out_median: float  # seconds that a member was out of service
    out_longest: float
    most_out: int
    trouble: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


Round = Mapping[str, Measured]  # by way


def figures(rounds: Sequence[Round]) -> list[Figures]:
    """One for each way, in the order they ran."""
    ways = list(dict.fromkeys(way for each in rounds for way in each))
    return [_figures(way, rounds) for way in ways]


def ratio(rounds: Sequence[Round], way: str, to: str) -> float | None:
    """The median of the ratios within each round: noise hits the neighbours alike."""
    pairs = [(each[way], each[to]) for each in rounds if way in each and to in each]
    good = [mine.seconds / other.seconds for mine, other in pairs if mine.ok and other.ok]
    return round(median(good), 3) if good else None


def _figures(way: str, rounds: Sequence[Round]) -> Figures:
    runs = [each[way] for each in rounds if way in each]
    good = [run for run in runs if run.ok] or runs
    seconds = [run.seconds for run in good]
    out = [value for run in good for value in run.out_seconds.values()] or [0.0]
    return Figures(
        way=way,
        rounds=len(runs),
        seconds=round(median(seconds), 2),
        fastest=round(min(seconds), 2),
        slowest=round(max(seconds), 2),
        to_floor=ratio(rounds, way, FLOOR),
        to_peer=ratio(rounds, way, PEER),
        requests=sum(run.requests for run in runs),
        failed=sum(run.failed for run in runs),
        closed_idle=sum(run.closed_idle for run in runs),
        late=sum(run.late for run in runs),
        out_median=round(median(out), 2),
        out_longest=round(max(out), 2),
        most_out=max(run.most_out for run in runs),
        trouble="; ".join(dict.fromkeys(run.trouble for run in runs if run.trouble)),
    )
