# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A sliding window: as soon as one member is back the next one goes, up to so many at a time.

Each member goes through the phases of a batch of its own, in a thread of its own. Only one of them thinks at a time:
whoever works on the record holds the turn, and gives it up while it waits for hosts. So every phase is what it is in a
batch, and the record is whole whenever somebody looks at it. What is decided before a member goes is decided for one
after the other: the next is not looked at before the one before it counts as out.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import Refused, RolloutError
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._plan import Plan
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Remote
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import Place, Record
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import ROLLBACK, ROLLING, Settings

Steps = Callable[[int, Callable[[str | None], bool]], bool]


def plan_window(settings: Settings, plan: Plan, places: Mapping[str, Place]) -> tuple[Plan, int, list[str]]:
    """The plan with a batch for each member, how many may be out at once (0: no window), and what to say of it.

    Raises ``Refused`` where members cannot go one by one.
    """
    if not settings.window or not plan.batches:
        return plan, 0, []
    if settings.strategy not in (ROLLING, ROLLBACK):
        return plan, 0, ["rollout_window makes no difference here: it is for the playbooks rolling and rollback"]
    if not settings.ready_method:
        raise Refused(
            "rollout_window is set, and the members are upgraded by tasks or a role of yours, which run batch by batch.",
            "Leave rollout_window out, or use a ready method (rollout_upgrade_method).",
        )
    reloading = [name for name, place in places.items() if place.by_reload]
    if reloading:
        raise Refused(
            f"rollout_window is set, and {', '.join(reloading)} is reloaded for every change: each member would cost two "
            "reloads.",
            "Leave rollout_window out, or switch nginx's members by links (rollout_nginx_mode).",
        )
    widths = [settings.window, max(1, plan.in_service - plan.floor)]
    alone = tuple((host,) for batch in plan.batches for host in batch)
    notes = [f"the first member goes alone, then up to {min(widths)} are out at a time"]
    if widths[1] < widths[0]:
        notes[0] += f" and not {settings.window}, to keep {plan.floor} in service"
    return replace(plan, batches=alone, shrunk=False), min(widths), notes


def may_begin(zone: str, zones_at_work: Sequence[str], width: int, is_second: bool) -> bool:
    """Whether the next member may be looked at: there is room, none of another zone is out, and the first one is over."""
    if is_second and zones_at_work:
        return False
    return len(zones_at_work) < width and all(each == zone for each in zones_at_work)


class Window:
    """The members of a rollout on their way, and whose turn it is."""

    def __init__(self, remote: Remote, record: Record) -> None:
        self._remote = remote
        self._record = record
        self._turn = threading.Condition(threading.Lock())
        self._at_work: dict[int, str] = {}  # hosts, by the number of their batch
        self._changed = False

    def slide(self, steps: Steps) -> bool:
        """Every batch of one member, by ``steps``; returns whether anything was changed.

        They are given the batch's number, and a question: whether a host, or with None any, is another one's work now.
        """
        record = self._record
        self._remote.aside = self._aside
        try:
            with self._turn:
                for number, (host,) in enumerate([tuple(each) for each in record.batches], 1):
                    zone = record.members[host].zone
                    self._turn.wait_for(lambda zone=zone, number=number: self._room(zone, number))  # type: ignore[misc]
                    if record.stop is not None:
                        break
                    self._begin(number, host, steps)
                self._turn.wait_for(lambda: not self._at_work)
        finally:
            self._remote.aside = self._remote.alone
        return self._changed

    def _room(self, zone: str, number: int) -> bool:
        if self._record.stop is not None:
            return True
        zones = [self._record.members[host].zone for host in self._at_work.values()]
        return may_begin(zone, zones, self._record.window, number == 2)

    def _begin(self, number: int, host: str, steps: Steps) -> None:
        """Let it go, and wait until it counts as out, or does not go at all."""
        self._at_work[number] = host
        threading.Thread(target=self._work, args=(number, host, steps), daemon=True).start()
        member = self._record.members[host]
        self._turn.wait_for(lambda: number not in self._at_work or member.out_at is not None)

    def _work(self, number: int, host: str, steps: Steps) -> None:
        with self._turn:
            try:
                changed = steps(number, lambda asked: self._elsewhere(number, asked))
                self._changed = self._changed or changed
            except Exception as error:  # whatever it is, the report must say where every member stands
                self._record.halt("roll", RolloutError(f"unexpected: {type(error).__name__}: {error}"), [host])
                self._changed = True
            del self._at_work[number]
            self._turn.notify_all()

    def _elsewhere(self, number: int, host: str | None) -> bool:
        others = [each for other, each in self._at_work.items() if other != number]
        return bool(others) if host is None else host in others

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """The turn is another one's while this one waits."""
        self._turn.notify_all()
        self._turn.release()
        try:
            yield
        finally:
            self._turn.acquire()
