# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a run that died left behind, member by member, and what is to be done about each. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._ledger import PHASES

LEAVE, FINISH, RETURN = "leave", "finish", "return"
HALVES = (LEAVE, FINISH, RETURN)


class Repair(Enum):
    """What is done about one member."""

    NOTHING = "nothing"
    PUT_BACK = "put back"  # it has a whole release: gate it, and let it serve
    INSTALL = "install"  # its release is installed first
    LEAVE_OUT = "leave out"


@dataclass(frozen=True)
class Left:
    """One member as it was found."""

    host: str
    held: bool  # out of service on a balancer, by a run
    phase: str  # where the run was with it, by the ledgers; empty where they do not say
    release: str | None  # what it has
    before: str | None  # what it had before the run, by the ledgers
    wanted: str | None  # what the run was to give it
    healthy: bool
    reason: str = ""  # why it is not healthy
    lost: str = ""  # why it cannot be reached
    whole: bool = True  # whether its installation was not broken off


@dataclass(frozen=True)
class Decision:
    """What is done, with which release, and why in words."""

    repair: Repair
    release: str | None = None
    words: str = ""


def decide(left: Left, half: str, ours: bool) -> Decision:
    """By what was found; ``half`` says what the user wants of members that were upgraded by halves.

    ``ours`` says that a ready method installs the release, and so sees by itself what is still to be done.
    """
    if not left.held:
        return Decision(Repair.NOTHING)
    if left.lost:
        return Decision(Repair.LEAVE_OUT, None, left.lost)
    safe = PHASES.get(left.phase, False)
    on = f" on {left.release}" if left.release else ""
    trouble = ""
    if not left.whole:
        trouble = "its installation was broken off"
    elif not safe and left.release is None:
        trouble = "its release is not known"
    elif not safe and not ours:
        trouble = "tasks of yours were broken off on it"
    elif not left.healthy:
        trouble = f"it is not healthy{on}" + (f" ({left.reason})" if left.reason else "")
    if not trouble:
        return Decision(Repair.PUT_BACK, left.release, f"is healthy{on}")
    if half == LEAVE:
        return Decision(Repair.LEAVE_OUT, None, f"{trouble}; rollout_recover_half says what to do about it")
    release = left.wanted if half == FINISH else left.before
    if release is None:
        return Decision(Repair.LEAVE_OUT, None, f"{trouble}, and the ledgers do not say which release it is to have")
    return Decision(Repair.INSTALL, release, f"gets {release}, since {trouble}")


def of_member(host: str, held: bool, info: Mapping[str, Any], ledgers: Mapping[str, Mapping[str, Any] | None]) -> Left:
    """A member as its host and the ledgers tell it; ``info`` is what ``member_info`` said, or ``lost``, why it did not."""
    entry = entry_of(host, ledgers)
    return Left(
        host=host,
        held=held,
        phase=str(entry.get("phase") or ""),
        release=info.get("release"),
        before=entry.get("release_before"),
        wanted=entry.get("release"),
        healthy=bool(info.get("healthy")),
        reason=str(info.get("reason") or ""),
        lost=str(info.get("lost") or ""),
        whole=bool(info.get("whole", True)),
    )


def entry_of(host: str, ledgers: Mapping[str, Mapping[str, Any] | None]) -> Mapping[str, Any]:
    """What the ledgers say of a member: the newest word, and of two as new the one that trusts it less."""
    found = [ledger["members"][host] for ledger in ledgers.values() if ledger and host in ledger["members"]]
    newest = max((ledger["lease"]["number"] for ledger in ledgers.values() if ledger and ledger["lease"]), default=0)
    fresh = [
        ledger["members"][host]
        for ledger in ledgers.values()
        if ledger and host in ledger["members"] and ledger["lease"] and ledger["lease"]["number"] == newest
    ]
    return min(fresh or found, key=lambda each: bool(each["safe"]), default={})


def plan(decisions: Mapping[str, Decision]) -> list[str]:
    """The members that something is done about; all at once, since none of them serves."""
    return [host for host, each in decisions.items() if each.repair in (Repair.PUT_BACK, Repair.INSTALL)]


def words(decisions: Mapping[str, Decision]) -> list[str]:
    """What was found and what is done about it, a line for each member that needs something."""
    lines = []
    for host, each in decisions.items():
        if each.repair is Repair.PUT_BACK:
            lines.append(f"{host} {each.words}: it is put back")
        elif each.repair is Repair.INSTALL:
            lines.append(f"{host} {each.words}, and is put back when it is healthy")
        elif each.repair is Repair.LEAVE_OUT:
            lines.append(f"{host} stays out of service: {each.words}")
    return lines
