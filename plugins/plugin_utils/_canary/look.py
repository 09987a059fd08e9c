# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What follows from a look at a canary: go on, take it back, wait, or leave it to somebody. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

PROMOTE, ROLL_BACK, HOLD = "promote", "roll_back", "hold"
_UNSEEN = ("canary", "baseline", "data")  # rules of a verdict that has nothing to go by


class Action(Enum):
    WAIT = "wait"
    PASS = "pass"  # the step is over, the next one begins
    BACK = "back"  # the new version goes back
    ASK = "ask"  # wait for somebody, up to the deadline
    END = "end"  # the job ends, and the canary stays as it is


@dataclass(frozen=True)
class Policy:
    """What the user wants to happen."""

    end: str = PROMOTE  # or hold: the job ends where it would go on
    on_inconclusive: str = "ask"
    ask_timeout: float = 3600.0
    on_ask_timeout: str = ROLL_BACK


@dataclass(frozen=True)
class Seen:
    """One look."""

    decision: str
    rule: str
    dropped: str = ""  # why this look has nothing new to say
    order: str = ""  # of an operator
    in_step: float = 0.0  # seconds since the step began
    seconds: float = 0.0  # that the step must last
    ask: bool = False
    asked: float = 0.0  # seconds since somebody was first asked


@dataclass(frozen=True)
class Next:
    action: Action
    why: str = ""


def follow(seen: Seen, policy: Policy) -> Next:
    """What to do after a look."""
    if seen.order == "rollback":
        return Next(Action.BACK, "an operator asked for it")
    if seen.decision == "roll_back":
        return Next(Action.BACK, "the verdict")
    if seen.order == "promote":
        return Next(Action.PASS, "an operator promoted it")
    if seen.decision == "promote":
        if seen.dropped:
            return Next(Action.WAIT, seen.dropped)
        if seen.in_step < seen.seconds:
            return Next(Action.WAIT, f"the step lasts {seen.seconds:g} s")
        if seen.ask:
            return _ask(seen, policy, "the step asks for an approval")
        return _go_on(policy, "the verdict")
    if seen.decision == "inconclusive":
        unseen = bool(seen.dropped) or seen.rule in _UNSEEN
        if policy.on_inconclusive == PROMOTE and not unseen:
            return _go_on(policy, "rollout_canary_on_inconclusive is promote")
        if policy.on_inconclusive != "ask":
            return Next(
                Action.BACK,
                "rollout_canary_on_inconclusive is roll_back"
                if policy.on_inconclusive == ROLL_BACK
                else "nothing was seen, and what was not seen is not promoted",
            )
        return _ask(seen, policy, "it cannot be told")
    return Next(Action.WAIT)


def _go_on(policy: Policy, why: str) -> Next:
    return Next(Action.END, "rollout_canary_end is hold") if policy.end == HOLD else Next(Action.PASS, why)


def _ask(seen: Seen, policy: Policy, why: str) -> Next:
    if policy.end == HOLD:
        return Next(Action.END, "rollout_canary_end is hold")
    if seen.asked < policy.ask_timeout:
        return Next(Action.ASK, why)
    over = f"nobody answered in {policy.ask_timeout:g} s"
    if policy.on_ask_timeout == HOLD:
        return Next(Action.END, over)
    if policy.on_ask_timeout == PROMOTE and seen.decision == "inconclusive" and (seen.dropped or seen.rule in _UNSEEN):
        return Next(Action.BACK, f"{over}, and what was not seen is not promoted")
    return Next(Action.PASS if policy.on_ask_timeout == PROMOTE else Action.BACK, over)
