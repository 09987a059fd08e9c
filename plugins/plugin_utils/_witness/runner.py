# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a witness: fires each request when it is due, whatever became of those before it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from datetime import UTC, datetime

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._processes import alive
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.classify import Outcome
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.clients import Clients
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.connector import tls_context
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.libraries import (
    need_libraries,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.record import (
    Record,
    RequestLog,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.schedule import (
    Kind,
    Mixer,
    arrivals,
    due,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.settings import (
    WitnessSettings,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.summary import (
    RunFacts,
    Summary,
    failure,
    summarise,
    write_json,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.tally import Tally
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.wire import Result

TICK = 0.5
"""Seconds between two rewrites of the status file, flushes of the log and looks at the parent."""
# After a stall many are due at once; answers must be read in between or they look late.
_BURST = 50


class Witness:
    """One run. ``stop`` may be called at any time from within the event loop."""

    def __init__(self, settings: WitnessSettings, *, on_record: Callable[[Record], None] | None = None) -> None:
        need_libraries()
        self._settings = settings
        self._tls = tls_context(settings)
        self._on_record = on_record
        self._loop = asyncio.get_running_loop()
        self._clients = Clients(settings, self._tls)
        self._mixer = Mixer(settings.mix)
        self._count = arrivals(settings.rate, settings.duration, settings.max_requests)
        self._next = 0
        self._fired = 0
        self._tally = Tally()
        self._tasks: set[asyncio.Task[None]] = set()
        self._websockets = 0
        self._start = 0.0
        self._sending = 0.0
        self._started = ""
        self._stopped_by = ""
        self._timer: asyncio.TimerHandle | asyncio.Handle | None = None
        self._over = asyncio.Event()
        self._state = "running"
        self._log = RequestLog(None, "")

    async def run(self) -> Summary:
        """Send everything, wait for what is under way, and write what was asked for."""
        settings = self._settings
        shown = settings.target.shown
        self._started = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._log = RequestLog(settings.log, f"zerodrop.rollout witness log 1, started {self._started}, url {shown}")
        self._start = self._loop.time()
        upkeep = self._loop.create_task(self._upkeep())
        try:
            self._fire_due()
            await self._over.wait()
        finally:
            upkeep.cancel()
            await asyncio.gather(upkeep, return_exceptions=True)
            await self._cancel_all()
            self._clients.close()
            self._log.close()
        summary = self._summarise(shown)
        if settings.summary is not None:
            summary.write(settings.summary)
        self._state = "finished"
        self._write_status()
        return summary

    def stop(self, reason: str) -> None:
        """Schedule no more; give what is under way some time, then finish."""
        if self._stopped_by or self._over.is_set():
            return
        self._stopped_by = reason
        self._state = "stopping"
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._end_of_sending()
        self._loop.call_later(self._settings.grace, self._over.set)

    # sending

    def _fire_due(self) -> None:
        self._timer = None
        rate, count, now = self._settings.rate, self._count, self._loop.time() - self._start
        burst = 0
        while self._next < count and due(self._next, rate) <= now and burst < _BURST:
            self._fire(self._next, due(self._next, rate))
            self._next += 1
            burst += 1
        if self._next >= count:
            self._end_of_sending()
        elif burst == _BURST:
            self._timer = self._loop.call_soon(self._fire_due)
        else:
            self._timer = self._loop.call_at(self._start + due(self._next, rate), self._fire_due)

    def _fire(self, number: int, scheduled: float) -> None:
        kind = self._mixer.next()
        settings = self._settings
        full = ""
        if len(self._tasks) >= settings.max_in_flight:
            full = f"{settings.max_in_flight} requests in flight already"
        elif kind is Kind.WEBSOCKET and self._websockets >= settings.max_websockets:
            full = f"{settings.max_websockets} WebSockets open already"
        if full:
            now = self._loop.time() - self._start
            self._take(Record(kind, Outcome.NOT_SENT, scheduled, now, now, detail=full))
            return
        self._fired += 1
        if kind is Kind.WEBSOCKET:
            self._websockets += 1
        task = self._loop.create_task(self._one(number, kind, scheduled))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    async def _one(self, number: int, kind: Kind, scheduled: float) -> None:
        started = self._loop.time() - self._start
        try:
            result = await self._clients.perform(kind, number)
        except asyncio.CancelledError:
            result = Result(outcome=Outcome.INTERRUPTED, detail="still open at the end")
        except Exception as exc:
            # A mistake of our own must show in the counts, and never shrink them.
            result = Result(outcome=Outcome.BAD_ANSWER, detail=f"witness error: {exc!r}")
        finally:
            if kind is Kind.WEBSOCKET:
                self._websockets -= 1
        ended = self._loop.time() - self._start
        allowed = self._settings.late_after + self._settings.expected(kind)
        if result.outcome is Outcome.OK and ended - scheduled > allowed:
            result.outcome = Outcome.LATE
        self._take(
            Record(
                kind=kind,
                outcome=result.outcome,
                scheduled=scheduled,
                started=started,
                ended=ended,
                status=result.status,
                version=result.version,
                host=result.host,
                size=result.size,
                id=self._clients.ident(kind, number),
                detail=result.detail,
                answered=None if result.answered is None else result.answered - self._start,
            )
        )

    def _take(self, record: Record) -> None:
        self._tally.add(record)
        self._log.add(record)
        if self._on_record is not None:
            self._on_record(record)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._sending and not self._tasks:
            self._over.set()

    def _end_of_sending(self) -> None:
        # Its last slot belongs to the schedule: n requests at rate r take n / r seconds.
        now = self._loop.time() - self._start
        self._sending = max(now, 1e-6) if self._stopped_by else max(now, due(self._count, self._settings.rate))
        if not self._tasks:
            self._over.set()

    async def _cancel_all(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # upkeep

    async def _upkeep(self) -> None:
        while True:
            self._write_status()
            self._log.flush()
            pid = self._settings.die_with_parent
            if pid is not None and not alive(pid):
                self.stop("parent gone")
            await asyncio.sleep(TICK)

    def _write_status(self) -> None:
        path = self._settings.status
        if path is None:
            return
        tally = self._tally
        try:
            write_json(
                path,
                {
                    "schema": 1,
                    "state": self._state,
                    "pid": os.getpid(),
                    "updated": datetime.now(UTC).isoformat(timespec="milliseconds"),
                    "elapsed_seconds": round(self._loop.time() - self._start, 3),
                    "scheduled": self._next,
                    "requests_total": tally.requests_total,
                    "in_flight": len(self._tasks),
                    "failed": tally.failed,
                    "closed_idle": tally.by_class[Outcome.CLOSED_IDLE],
                    "late": tally.by_class[Outcome.LATE],
                    "not_sent": tally.uncounted[Outcome.NOT_SENT],
                    "sessions_lost": self._clients.sessions_lost,
                    "websockets_open": self._clients.sockets.open_now,
                    "by_class": {str(o): n for o, n in tally.by_class.items()},
                    "by_version": {name: n.total() for name, n in tally.by_version.items()},
                    "first_failure": failure(tally.failures[0]) if tally.failures else None,
                },
            )
        except OSError:
            # A full disk is no reason to stop counting; a reader sees that `updated` stands still.
            pass

    def _summarise(self, shown: str) -> Summary:
        settings, clients = self._settings, self._clients
        return summarise(
            self._tally,
            RunFacts(
                url=shown,
                started=self._started,
                duration=self._loop.time() - self._start,
                sending=self._sending,
                rate=settings.rate,
                stopped_by=self._stopped_by,
                sessions_lost=clients.sessions_lost,
                websockets=clients.sockets.to_dict(),
                idle_closed_seen=clients.idle_closed_seen,
                connect_fallbacks=clients.connect_fallbacks,
                log=settings.log,
                log_error=self._log.error,
            ),
        )


async def run_async(settings: WitnessSettings, *, on_record: Callable[[Record], None] | None = None) -> Summary:
    """Run a witness in the running event loop; cancelling it ends it without a summary."""
    return await Witness(settings, on_record=on_record).run()


def run(settings: WitnessSettings, *, on_record: Callable[[Record], None] | None = None) -> Summary:
    """Run a witness to its end."""
    return asyncio.run(run_async(settings, on_record=on_record))
