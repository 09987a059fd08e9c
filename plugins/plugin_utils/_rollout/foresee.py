# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a canary can show, said before the first member changes: from the live traffic, and the errors of the past."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._canary.steps import Target
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.fleet import Fleet
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.observe import Observer
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import Canary
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.planner import plan
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.polls import BASELINE, CANARY

SECONDS = 5.0  # of live traffic that are looked at, at most
ENOUGH = 500  # requests that tell the rate well; a busy service is looked at for a second or two
_FEW = 20  # requests that tell no rate


@dataclass(frozen=True)
class Measured:
    """What members did in a while, all together."""

    requests: int = 0
    errors: int = 0
    seconds: float = 0.0

    def __add__(self, other: Measured) -> Measured:
        return Measured(self.requests + other.requests, self.errors + other.errors, self.seconds + other.seconds)


def measured(polls: Sequence[Mapping[str, Any]], first: float = 0.0) -> Measured:
    """What polls tell of traffic, those that do not count left out; ``first`` is how long the first one took."""
    found = Measured()
    before: float | None = None
    for poll in polls:
        seconds = float(poll["at"]) - before if before is not None else first
        before = float(poll["at"])
        if not poll.get("skip") and seconds > 0:
            members = poll["members"]
            found += Measured(sum(m["requests"] for m in members), sum(m["errors"] for m in members), seconds)
    return found


def look_at_traffic(
    observer: Observer,
    seconds: float = SECONDS,
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.monotonic,
) -> tuple[Measured, tuple[str, ...]]:
    """The live rate, over a few seconds, and what its sources cannot see. Raises what ``begin`` raises."""
    cursor = observer.begin()
    since = now()
    while True:
        sleep(1.0)
        at = now() - since
        seen = observer.poll(at, cursor)  # from the same place each time: it tells the same and more
        found = measured([seen.poll], first=at)
        if at >= seconds or found.requests >= ENOUGH:
            return found, seen.notes


def foresee(
    live: Measured, history: Sequence[Mapping[str, Any]], share: float, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """``plan`` for this traffic and ``share`` percent of it; ``warning`` is set where it cannot tell in the time it has.

    ``settings`` are the verdict's. The rate is the live one, the errors those of the history and of now together.
    """
    if live.requests < _FEW:
        sentence = (
            f"There were {live.requests} requests in {live.seconds:.0f} s: without traffic a canary shows nothing, and it is "
            "never promoted for want of it."
        )
        return {"seconds": None, "promote_seconds": None, "enough": False, "sentence": sentence, "warning": sentence}
    past = measured(history)
    both = past + live
    errors = round(100.0 * both.errors / both.requests, 4) if both.requests else 0.0
    rate = float(f"{live.requests / live.seconds:.3g}")
    allowed = {name: value for name, value in settings.items() if name != "share"}
    found = plan({**allowed, "rate": rate, "errors": min(errors, 99.0), "share": share, "history": past.seconds})
    found.pop("by_share", None)
    enough = bool(found["enough"])
    return {**found, "warning": "" if enough else found["sentence"]}


def beforehand(
    fleet: Fleet,
    settings: Canary,
    order: Sequence[str],
    first: Target,
    since: Mapping[str, float],
) -> tuple[dict[str, Any], list[dict[str, Any]], list[str]]:
    """What the first step can show, the members' own past, and what the user is told of both.

    ``order`` is that in which members get the version. Raises what keeps the traffic from being seen, before anything is
    touched. What comes of it is in no way binding: it changes no decision but the margin that the past sets.
    """
    members = [each.host for each in fleet.record.members.values() if each.in_service_before or each.host in order]
    canaries = order[: first.count]
    arms = {host: CANARY if host in canaries else BASELINE for host in members}
    observer = Observer(fleet, settings, arms)
    live, blind = look_at_traffic(observer)
    history, unknown = observer.past(settings.canary_history, since)
    share = first.share if first.share is not None else 100.0 * len(canaries) / len(members)
    found = foresee(live, history, round(share, 1), settings.verdict(None))
    head = "what the canary cannot show" if found["warning"] else "what the canary can show"
    notes = [f"{head}: {found['sentence'].rstrip('.')}", *blind, *unknown]
    if history:
        past = measured(history)
        notes.append(
            f"how much worse the canary's own members were before is not held against it: {past.requests:,} requests of "
            f"{past.seconds / 60:.0f} min were read back"
        )
    return found, history, notes
