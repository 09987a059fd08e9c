# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A flip of a whole fleet, or of none of it: prepare on all, set on all in one moment, settle; undone when one fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import RolloutError, RouteDiffers
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Reply

# Every balancer's answer to one of the operations; the parameters are each balancer's own.
Ask = Callable[[str, Mapping[str, Mapping[str, Any]]], Mapping[str, Reply]]

_SHORTEST_LEAD, _LONGEST_LEAD = 0.1, 2.0  # seconds from the order to the moment that is ordered


@dataclass(frozen=True)
class Flipped:
    """What a flip came to."""

    changed: bool = False
    spread: float = 0.0  # seconds between the first and the last balancer, by their own clocks
    at: float = 0.0  # when, by this machine's monotonic clock
    error: RolloutError | None = None
    undone: Mapping[str, bool] = field(default_factory=dict)  # by balancer, whether it is as it was
    reloads: int = 0


def flip_fleet(
    ask: Ask, places: Sequence[str], live: str, to: str, now: Callable[[], float] = time.monotonic, least: int = 1
) -> Flipped:
    """Have all balancers send new requests to the slot ``to``; on an error all are as they were, as far as they answer."""
    since = now()
    prepared = ask("route_prepare", {place: {"to": to, "expect": live, "least": least} for place in places})
    failed = {place: reply.error for place, reply in prepared.items() if reply.error is not None}
    if failed:
        good = [place for place in places if place not in failed]
        ask("route_settle", {place: {"to": live} for place in good})
        return Flipped(error=_together(failed))
    # Each balancer's clock against this one, by when its answer came: what the way back takes is all that is not known.
    ahead = {place: float(reply.result["now"]) - (since + reply.seconds) for place, reply in prepared.items()}
    lead = min(_LONGEST_LEAD, max(_SHORTEST_LEAD, 1.5 * max(reply.seconds for reply in prepared.values())))
    at = now() + lead
    done = ask("route_set", {place: {"to": to, "at": at + ahead[place]} for place in places})
    failed = {place: reply.error for place, reply in done.items() if reply.error is not None}
    if failed:
        return Flipped(changed=True, error=_together(failed), undone=undo(ask, places, live))
    late = [float(reply.result["late"]) for reply in done.values()]
    _settle(ask, places, to)
    return Flipped(
        changed=any(reply.changed for reply in done.values()),
        spread=max(late) - min(late),
        at=at + max(late),
        reloads=sum(int(reply.result.get("reloads_made", 0)) for reply in done.values()),
    )


def undo(ask: Ask, places: Sequence[str], live: str) -> dict[str, bool]:
    """All balancers send new requests to this slot again; by balancer, whether it does."""
    back = ask("route_set", {place: {"to": live} for place in places})
    well = {place: back[place].ok if place in back else False for place in places}
    _settle(ask, [place for place in places if well[place]], live)
    return well


def _settle(ask: Ask, places: Sequence[str], live: str) -> None:
    again = list(places)
    for _attempt in range(2):
        if again:
            replies = ask("route_settle", {place: {"to": live} for place in again})
            again = [place for place, reply in replies.items() if not reply.ok]


def _together(failed: Mapping[str, RolloutError]) -> RolloutError:
    """One error that names every balancer that failed."""
    first = next(iter(failed.values()))
    words = "; ".join(
        error.message if place in error.message else f"{place}: {error.message}" for place, error in failed.items()
    )
    return type(first)(words, first.hint, **{**first.facts, "undone": True})


def undone_words(undone: Mapping[str, bool]) -> str:
    bad = [place for place, well in undone.items() if not well]
    good = [place for place, well in undone.items() if well]
    words = f"Put back as it was on {', '.join(good)}." if good else ""
    if bad:
        words += (
            f" {', '.join(bad)} could not be asked: which slot is live there is not known. When it is back, run the playbook "
            "zerodrop.rollout.recover."
        )
    return words.strip()


def live_slot(service: str, routes: Mapping[str, Mapping[str, Any]]) -> str:
    """The slot that is live on every balancer, in what runs and on the disk; raises ``RouteDiffers``."""
    seen = {(each["live"], each["kept"]) for each in routes.values()}
    first = next(iter(seen))
    if len(seen) == 1 and first[0] == first[1] != "":
        return str(first[0])
    width = max(len(place) for place in routes)
    lines = "\n".join(
        f"  {place.ljust(width)}  live: {each['live'] or each['live_pool'] or 'unclear'}, on the disk: "
        f"{each['kept'] or each['kept_pool'] or 'nothing'}"
        for place, each in routes.items()
    )
    raise RouteDiffers(
        f"It is not the same slot of {service} that is live everywhere, or not the one that a reload would bring:\n{lines}\n",
        "The playbook zerodrop.rollout.recover sets on all of them what the ledger says.",
    )
