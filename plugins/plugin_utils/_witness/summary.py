# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The result of a run, as an object, a JSON file and one sentence.

The JSON file is one object. Times called ``..._seconds`` in lists and under ``versions`` count
from ``started``; latencies are milliseconds.

==========================  ======================================================================
``schema``                  1
``url``                     where it sent; a query is shown as ``?...``
``started``                 ISO 8601, UTC
``duration_seconds``        from the start to the last answer
``rate_asked``              requests per second of the schedule
``rate_achieved``           requests sent per second of the time in which it was sending
``interrupted``             true when it was told to stop before the end of its schedule
``stopped_by``              what told it (``SIGTERM``, ``SIGINT``, ``parent gone``), or ``""``
``scheduled``               requests that fell due: ``requests_total + not_sent + unfinished``
``requests_total``          requests that were sent and have a known fate
``failed``                  all but ``ok``, ``late`` and ``closed_idle``
``closed_idle``             a reused connection ended before the first byte of the answer
``late``                    answered well, but later than allowed
``not_sent``                not sent for want of room in the witness; ``not_sent_because`` says why
``unfinished``              still open when an interrupted run gave up waiting
``by_class``                class to count; every class is there
``by_kind``                 kind to class to count
``by_version``              version to class to count; ``-`` where no answer named one
``by_host``                 host to class to count; ``-`` likewise
``versions``                version to ``first_seconds``, ``last_seconds``, ``requests``
``mixed_versions_seconds``  time during which at least two versions answered
``mixed_versions``          list of ``older``, ``newer``, ``seconds``
``latency_ms``              ``total``, ``by_version``, ``by_kind``: ``p50 p90 p99 max count``, from
                            the schedule to the end of the answer (of a WebSocket: its opening)
``service_ms``              the same from the actual start, total only
``start_delay_ms``          how late the witness itself was in starting requests
``sessions_lost``           sessions that the service forgot
``websockets``              ``opened most_open closed closed_by_server cut``
``posts``                   POSTs sent
``idle_closed_seen``        idle connections whose end was seen in time and that were not used
``connect_fallbacks``       connections that only a further address of the name accepted
``seconds``                 for pictures: ``step`` in seconds, and for each step what ended in it: ``versions``
                            (to counts), ``failed closed_idle hosts``, ``p50 p99`` in ms (null without any)
``failures``                the first 20 failed: ``at_seconds kind class status host version id
                            detail``
``idle_closes``             the first 20 ``closed_idle``, likewise
``log``                     path of the log or null; ``log_error`` says if it is not complete
==========================  ======================================================================
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.classify import (
    FAILED,
    UNCOUNTED,
    Outcome,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.record import Record, clean
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.tally import (
    Tally,
    mixed_pairs,
    mixed_seconds,
)

SCHEMA = 1
Counts = dict[str, int]
Times = dict[str, float]


class SummaryError(ValueError):
    """A file that is not a summary of the witness."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The result of one run. The fields are the keys of the JSON file."""

    schema: int
    url: str
    started: str
    duration_seconds: float
    rate_asked: float
    rate_achieved: float
    interrupted: bool
    stopped_by: str
    scheduled: int
    requests_total: int
    failed: int
    closed_idle: int
    late: int
    not_sent: int
    not_sent_because: str
    unfinished: int
    by_class: Counts
    by_kind: dict[str, Counts]
    by_version: dict[str, Counts]
    by_host: dict[str, Counts]
    versions: dict[str, Times]
    mixed_versions_seconds: float
    mixed_versions: list[dict[str, Any]]
    latency_ms: dict[str, Any]
    service_ms: Times
    start_delay_ms: Times
    sessions_lost: int
    websockets: Counts
    posts: int
    idle_closed_seen: int
    connect_fallbacks: int
    seconds: dict[str, Any]
    failures: list[dict[str, Any]]
    idle_closes: list[dict[str, Any]]
    log: str | None
    log_error: str | None

    def sentence(self) -> str:
        """What happened, in one sentence."""
        parts = [
            f"{self.requests_total:,} requests at {self.rate_asked:g}/s",
            self._failed_part(),
            f"{self.closed_idle:,} closed while idle",
            f"{self.late:,} late",
        ]
        if self.not_sent:
            parts.append(f"{self.not_sent:,} not sent ({self.not_sent_because})")
        if self.start_delay_ms["max"] >= 250:
            # Then late answers may be no fault of the service.
            delay = self.start_delay_ms["max"] / 1000
            parts.append(f"the witness itself was up to {delay:.1f} s late")
        if self.sessions_lost:
            parts.append(f"{self.sessions_lost:,} sessions lost")
        if self.interrupted:
            parts.append(
                f"stopped by {self.stopped_by} after {self.duration_seconds:.1f} s with {self.unfinished:,} unfinished"
            )
        return ", ".join(parts)

    def _failed_part(self) -> str:
        words = [
            f"{count:,} {name}"
            for name, count in sorted(self.by_class.items(), key=lambda item: -item[1])
            if count and Outcome(name) in FAILED
        ]
        return f"{self.failed:,} failed" + (f" ({', '.join(words)})" if words else "")

    @property
    def exit_code(self) -> int:
        """0 when nothing failed; what could not be sent was not seen to work, so it is not 0."""
        return 1 if self.failed or self.not_sent else 0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def write(self, path: str) -> None:
        write_json(path, self.to_dict())

    @classmethod
    def from_dict(cls, data: object) -> Summary:
        """Check and take a parsed summary; keys of a later version are left out."""
        if not isinstance(data, dict):
            raise SummaryError("not a summary of the witness: not a JSON object")
        if data.get("schema") != SCHEMA:
            raise SummaryError(f"not a summary of the witness: schema is {data.get('schema')!r}")
        values = {}
        for item in fields(cls):
            if item.name not in data:
                raise SummaryError(f"not a summary of the witness: {item.name} is missing")
            if not _fits(data[item.name], str(item.type)):
                raise SummaryError(f"not a summary of the witness: {item.name} is not {item.type}")
            values[item.name] = data[item.name]
        # The loop above has seen to every field.
        return cls(**values)  # pylint: disable=missing-kwoa

    @classmethod
    def from_file(cls, path: str) -> Summary:
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeError) as exc:
            raise SummaryError(f"not a summary of the witness: {exc}") from None
        return cls.from_dict(data)


def _fits(value: object, kind: str) -> bool:
    if kind.endswith("| None"):
        return value is None or _fits(value, kind.removesuffix("| None").strip())
    if kind == "int":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "float":
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind in ("str", "bool"):
        return isinstance(value, {"str": str, "bool": bool}[kind])
    return isinstance(value, list if kind.startswith("list") else dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What the totals do not know about a run."""

    url: str
    started: str
    duration: float
    sending: float
    """Seconds in which requests were being sent."""
    rate: float
    stopped_by: str
    sessions_lost: int
    websockets: Counts
    idle_closed_seen: int
    connect_fallbacks: int
    log: str | None
    log_error: str | None


def summarise(tally: Tally, facts: RunFacts) -> Summary:
    """The summary of a finished run."""
    total = tally.requests_total
    not_sent = tally.uncounted[Outcome.NOT_SENT]
    unfinished = tally.uncounted[Outcome.INTERRUPTED]
    sent = total + unfinished
    return Summary(
        schema=SCHEMA,
        url=facts.url,
        started=facts.started,
        duration_seconds=round(facts.duration, 3),
        rate_asked=facts.rate,
        rate_achieved=round(sent / facts.sending, 2) if facts.sending > 0 else 0.0,
        interrupted=bool(facts.stopped_by),
        stopped_by=facts.stopped_by,
        scheduled=sent + not_sent,
        requests_total=total,
        failed=tally.failed,
        closed_idle=tally.by_class[Outcome.CLOSED_IDLE],
        late=tally.by_class[Outcome.LATE],
        not_sent=not_sent,
        not_sent_because=tally.not_sent_because,
        unfinished=unfinished,
        by_class={o.value: tally.by_class[o] for o in Outcome if o not in UNCOUNTED},
        by_kind=_plain(tally.by_kind),
        by_version=_plain(tally.by_version),
        by_host=_plain(tally.by_host),
        versions={
            version: {
                "first_seconds": round(seen.first, 3),
                "last_seconds": round(seen.last, 3),
                "requests": seen.requests,
            }
            for version, seen in tally.versions.items()
        },
        mixed_versions_seconds=round(mixed_seconds((seen.first, seen.last) for seen in tally.versions.values()), 3),
        mixed_versions=mixed_pairs(tally.versions),
        latency_ms={
            "total": tally.latency.to_dict(),
            "by_version": {name: times.to_dict() for name, times in tally.latency_by_version.items()},
            "by_kind": {str(kind): times.to_dict() for kind, times in tally.latency_by_kind.items()},
        },
        service_ms=tally.service_time.to_dict(),
        start_delay_ms=tally.start_delay.to_dict(),
        sessions_lost=facts.sessions_lost,
        websockets=facts.websockets,
        posts=tally.posts,
        idle_closed_seen=facts.idle_closed_seen,
        connect_fallbacks=facts.connect_fallbacks,
        seconds=tally.seconds.to_dict(),
        failures=[failure(record) for record in tally.failures],
        idle_closes=[failure(record) for record in tally.idle_closes],
        log=facts.log,
        log_error=facts.log_error,
    )


def failure(record: Record) -> dict[str, Any]:
    """One request that went wrong, as summaries and status files show it."""
    return {
        "at_seconds": round(record.started, 3),
        "kind": str(record.kind),
        "class": str(record.outcome),
        "status": record.status,
        "host": record.host,
        "version": record.version,
        "id": record.id,
        "detail": clean(record.detail),
    }


def _plain(table: Any) -> dict[str, Counts]:
    return {str(key): {str(o): n for o, n in counts.items()} for key, counts in table.items()}


def write_json(path: str, data: object) -> None:
    """Write a JSON file so that a reader sees the old or the new one, never a part."""
    directory = os.path.dirname(os.path.abspath(path))
    handle, name = tempfile.mkstemp(prefix=f".{os.path.basename(path)}.", dir=directory)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(data, file, indent=1)
            file.write("\n")
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
