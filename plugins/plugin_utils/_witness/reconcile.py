# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of the POSTs: what the clients saw against what the service did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.classify import (
    ANSWERED_OK,
    UNCOUNTED,
    Outcome,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.record import read_log
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.schedule import Kind


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """Ids in the order in which they were sent; each list tells another story."""

    sent: int
    executed: int
    """How many of the sent ids were executed, once or more often."""
    lost: list[str]
    """Answered ok, never executed."""
    failed_but_executed: list[str]
    """The client was told it failed, and the service did it."""
    executed_twice: list[str]
    """Executed more than once."""
    unknown: int
    """Executed ids that this run did not send; another client's."""

    @property
    def clean(self) -> bool:
        return not (self.lost or self.failed_but_executed or self.executed_twice)

    def to_dict(self) -> dict[str, object]:
        counts = {f"{name}_count": len(getattr(self, name)) for name in _STORIES}
        return {**asdict(self), **counts}


_STORIES = ("lost", "failed_but_executed", "executed_twice")


def reconcile(sent: Mapping[str, Outcome], executed: Iterable[str]) -> Reconciliation:
    """Compare the outcome of each sent id with the ids that the service has executed.

    An interrupted POST has no known fate, so it can be executed twice but neither lost nor failed.
    """
    times = Counter(executed)
    return Reconciliation(
        sent=len(sent),
        executed=sum(1 for ident in sent if times[ident]),
        lost=[i for i, outcome in sent.items() if outcome in ANSWERED_OK and not times[i]],
        failed_but_executed=[
            i for i, outcome in sent.items() if outcome not in ANSWERED_OK and outcome not in UNCOUNTED and times[i]
        ],
        executed_twice=[i for i in sent if times[i] > 1],
        unknown=sum(count for ident, count in times.items() if ident not in sent),
    )


def sent_posts(log: str) -> dict[str, Outcome]:
    """The outcome of each POST in a log, by id. Those that were never sent are left out."""
    return {
        record.id: record.outcome
        for record in read_log(log)
        if record.kind is Kind.POST and record.id and record.outcome is not Outcome.NOT_SENT
    }
