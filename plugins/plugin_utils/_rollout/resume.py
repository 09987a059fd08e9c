# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What earlier runs left, by the ledgers of all balancers, and whether this run may go on from it. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import Refused
from ansible_collections.zerodrop.rollout.plugins.module_utils._ledger import ENDED, PHASES
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import MAINTAIN, PROMOTE, RECOVER, ROLLBACK


@dataclass(frozen=True)
class Earlier:
    """What the ledgers say of the last run."""

    number: int = 0  # of the last lease that was given
    active: bool = False  # it lasts still
    interrupted: Mapping[str, Any] = field(default_factory=dict)  # the last rollout, if it never came to its end
    unfinished: frozenset[str] = frozenset()  # members that were left by halves, by whatever run
    by_halves: frozenset[str] = frozenset()  # those of them whose release may have been touched
    finished: frozenset[str] = frozenset()  # members that the interrupted rollout is done with
    balancers: frozenset[str] = frozenset()  # all that the last rollout knew

    @property
    def touched(self) -> bool:
        """Whether the interrupted rollout came as far as any member."""
        return bool(self.interrupted and (self.unfinished or self.finished))


def read_ledgers(ledgers: Mapping[str, Mapping[str, Any] | None]) -> Earlier:
    """Put together what the balancers' ledgers say; one that missed the last run says nothing of it."""
    there = [each for each in ledgers.values() if each and each["lease"]]
    if not there:
        return Earlier()
    number = max(each["lease"]["number"] for each in there)
    newest = [each for each in there if each["lease"]["number"] == number]
    # Its end reached one of them before its controller died: it is over.
    ended = any(each["interrupted"] is None for each in newest)
    interrupted = {} if ended else newest[0]["interrupted"]
    members = [entry for each in newest for entry in each["members"].values()]
    unfinished = {entry["host"] for entry in members if entry["phase"] not in ENDED}
    finished = {
        entry["host"]
        for entry in members
        if interrupted and entry["rollout"] == interrupted["id"] and entry["phase"] in ("finished", "rolled_back")
    }
    active = any(each["lease"]["left"] > 0 for each in there)
    by_halves = {entry["host"] for entry in members if not PHASES.get(entry["phase"], False)}
    last = newest[0]["interrupted"] or newest[0].get("last") or {}
    return Earlier(
        number,
        active,
        interrupted,
        frozenset(unfinished),
        frozenset(by_halves),
        frozenset(finished - unfinished),
        frozenset((last.get("plan") or {}).get("balancers") or ()),
    )


def refuse_other_balancers(earlier: Earlier, balancers: Iterable[str], removed: Iterable[str]) -> None:
    """Raise ``Refused`` where the last rollout knew balancers that this run does not: on them another run might have the lease.

    Each slice of a job has a part of the inventory, and nothing tells it so.
    """
    missing = sorted(earlier.balancers - set(balancers) - set(removed))
    if missing:
        names = ", ".join(missing)
        raise Refused(
            f"The last rollout had {names} among its balancers, and this run's rollout_balancers do not: on such a part of "
            "them two runs could work at once.",
            "Is this a slice of a job? Then run it as one job. Where they are gone for good, or have another name now, say so "
            f"once: rollout_balancers_removed={','.join(missing)}.",
        )


def check_resume(earlier: Earlier, strategy: str, version: str) -> None:
    """Raise ``Refused`` for another rollout than the one that was interrupted.

    While its lease lasts it may be alive: then the lease decides, and this is asked again.
    """
    before = earlier.interrupted
    if not earlier.touched or earlier.active:
        return
    if strategy in (ROLLBACK, RECOVER, PROMOTE) or (strategy == before["strategy"] == MAINTAIN):
        return
    if MAINTAIN not in (strategy, before["strategy"]) and before["to_version"] == version:
        return
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(before["started"]))
    what = "The maintenance" if before["strategy"] == MAINTAIN else f"The rollout of {before['to_version']}"
    left = f"; left by halves: {', '.join(sorted(earlier.unfinished))}" if earlier.unfinished else ""
    raise Refused(
        f"{what} that {before['owner']} began at {since} never came to its end{left}.",
        "There are three ways out: finish it, by running it again"
        + ("" if before["strategy"] == MAINTAIN else f" with rollout_version={before['to_version']}")
        + "; go back, with the playbook zerodrop.rollout.rollback; or put right what it left and no more, with "
        "zerodrop.rollout.recover.",
        interrupted=before["id"],
    )


def done_before(earlier: Earlier, strategy: str, tasks: str) -> frozenset[str]:
    """Members that the maintenance which was interrupted need not be done on again."""
    before = earlier.interrupted
    if strategy != MAINTAIN or not before or before["strategy"] != MAINTAIN:
        return frozenset()
    return earlier.finished if (before["plan"] or {}).get("upgrade") == tasks else frozenset()
