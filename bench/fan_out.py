"""What a batch of 16 costs against a batch of 1, by the phases that our own record names."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

MEMBERS = 32
SMALL, LARGE = 1, 16


def settings(number: int) -> dict[str, Any]:
    """For our playbook in round ``number``: one rollout has both sizes, and which comes first changes from round to round.

    The look at the members under traffic lasts until each has served some requests, whatever the size of the batch: left
    out, so that it does not even out what is compared.
    """
    first, second = (SMALL, LARGE) if number % 2 else (LARGE, SMALL)
    return {"rollout_batches": [first, second, "100%"], "rollout_look_requests": 0}


# The upgrade is the members' own restart. The gate waits for it too, so it is shown apart.
PUT_AND_TAKE = ("drain", "put back")
PHASES = (*PUT_AND_TAKE, "gate")


@dataclass(frozen=True)
class FanOut:
    """Median seconds of each phase, for the small and for the large batch."""

    rounds: int
    small: dict[str, float]
    large: dict[str, float]
    ratio: float  # drain and put back together
    with_gate: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def record(reports: Path) -> dict[str, Any]:
    """The record of the one rollout that reported there."""
    (path,) = reports.glob("*/record.json")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def phases(found: Mapping[str, Any], size: int) -> dict[str, float]:
    """Seconds of each phase of the batch of this size."""
    return {
        event["phase"]: float(event["seconds"])
        for event in found["events"]
        if len(event["members"]) == size and event["phase"] in PHASES
    }


def complete(found: Mapping[str, Any]) -> bool:
    """Whether both sizes ran as planned: a member that is down before makes batches smaller, to keep the floor."""
    return all(set(phases(found, size)) == set(PHASES) for size in (SMALL, LARGE))


def compare(small_in: Sequence[Mapping[str, Any]], large_in: Sequence[Mapping[str, Any]]) -> FanOut:
    """Over all rounds: the small batches of some records against the large ones of others, or of the same."""
    pairs = list(zip(small_in, large_in, strict=False))
    small = [phases(each, SMALL) for each, _other in pairs]
    large = [phases(each, LARGE) for _other, each in pairs]
    return FanOut(
        rounds=len(pairs),
        small={phase: round(median(each[phase] for each in small), 3) for phase in PHASES},
        large={phase: round(median(each[phase] for each in large), 3) for phase in PHASES},
        ratio=_ratio(small, large, PUT_AND_TAKE),
        with_gate=_ratio(small, large, PHASES),
    )


def _ratio(small: Sequence[Mapping[str, float]], large: Sequence[Mapping[str, float]], names: Sequence[str]) -> float:
    pairs = zip(small, large, strict=True)
    ratios = [sum(b[name] for name in names) / sum(a[name] for name in names) for a, b in pairs]
    return round(median(ratios), 2)
