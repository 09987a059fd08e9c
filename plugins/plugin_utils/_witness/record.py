# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One finished request, and the log that holds one line for each.

The log is TSV. Lines that begin with ``#`` are comments; the last of them names the columns:

``scheduled_ms start_ms duration_ms kind class status version host bytes id detail``

Times count from the start of the run; ``duration_ms`` counts from ``start_ms``, so the latency a
user saw is ``start_ms + duration_ms - scheduled_ms``. ``-`` stands for nothing. The id is that of
a POST. A path that ends with ``.gz`` is compressed.
"""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, cast

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.classify import Outcome
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.schedule import Kind

COLUMNS = (
    "scheduled_ms",
    "start_ms",
    "duration_ms",
    "kind",
    "class",
    "status",
    "version",
    "host",
    "bytes",
    "id",
    "detail",
)
_TITLES = "\t".join(COLUMNS)
_LINES_HELD = 2000


@dataclass(slots=True)
class Record:
    """What became of one scheduled request. Times are seconds from the start of the run."""

    kind: Kind
    outcome: Outcome
    scheduled: float
    started: float
    ended: float
    status: int = 0
    version: str = ""
    host: str = ""
    size: int = 0
    id: str = ""
    detail: str = ""
    answered: float | None = None
    """When a WebSocket was open; its latency ends here, not with the end of its hold."""

    @property
    def latency(self) -> float:
        """Seconds from the schedule to the answer, so that a stall is not left out."""
        return (self.ended if self.answered is None else self.answered) - self.scheduled

    @property
    def service_time(self) -> float:
        """Seconds from the actual start to the answer."""
        return (self.ended if self.answered is None else self.answered) - self.started

    def line(self) -> str:
        return (
            f"{self.scheduled * 1000:.1f}\t{self.started * 1000:.1f}"
            f"\t{(self.ended - self.started) * 1000:.2f}\t{self.kind}\t{self.outcome}"
            f"\t{self.status or '-'}\t{self.version or '-'}\t{self.host or '-'}"
            f"\t{self.size}\t{self.id or '-'}\t{clean(self.detail) or '-'}\n"
        )

    @classmethod
    def from_line(cls, line: str) -> Record:
        cells = line.rstrip("\n").split("\t")
        if len(cells) != len(COLUMNS):
            raise ValueError(f"a witness log line has {len(COLUMNS)} columns, this one {len(cells)}")
        scheduled, started, duration = (float(cell) / 1000 for cell in cells[:3])
        status, version, host = ("" if cell == "-" else cell for cell in cells[5:8])
        ident, detail = ("" if cell == "-" else cell for cell in cells[9:])
        return cls(
            kind=Kind(cells[3]),
            outcome=Outcome(cells[4]),
            scheduled=scheduled,
            started=started,
            ended=started + duration,
            status=int(status or 0),
            version=version,
            host=host,
            size=int(cells[8]),
            id=ident,
            detail=detail,
        )


def clean(text: str, most: int = 200) -> str:
    """Text that fits in one cell: no tabs, newlines or other control characters, and bounded."""
    if text.isprintable() and len(text) <= most:
        return text
    return "".join(char if char.isprintable() else "?" for char in text[:most])


class RequestLog:
    """Buffered writer of the per-request log; ``None`` as the path writes nothing.

    A disk that fills up in mid-run must not end the run: the log stops and ``error`` says why.
    """

    def __init__(self, path: str | None, comment: str) -> None:
        self.error: str | None = None
        self._lines: list[str] = []
        self._file: IO[bytes] | None = None
        if path is not None:
            self._file = _open(path)
            self._lines.append(f"# {clean(comment, 500)}\n# {_TITLES}\n")
            self.flush()

    def add(self, record: Record) -> None:
        if self._file is not None:
            self._lines.append(record.line())
            if len(self._lines) >= _LINES_HELD:
                self.flush()

    def flush(self) -> None:
        if self._file is None:
            return
        try:
            if self._lines:
                self._file.write("".join(self._lines).encode("utf-8", "replace"))
                self._lines.clear()
            self._file.flush()
        except OSError as exc:
            self._give_up(exc)

    def close(self) -> None:
        self.flush()
        if self._file is not None:
            try:
                self._file.close()
            except OSError as exc:
                self._give_up(exc)
            self._file = None

    def _give_up(self, exc: OSError) -> None:
        self.error = f"the log stopped: {exc.strerror or exc}"
        file, self._file = self._file, None
        if file is not None:
            # What it still holds cannot be written either.
            with contextlib.suppress(OSError):
                file.close()
        self._lines.clear()


def _open(path: str) -> IO[bytes]:
    if path.endswith(".gz"):
        return cast(IO[bytes], gzip.open(path, "wb", compresslevel=1))
    return open(path, "wb")


def read_log(path: str) -> Iterator[Record]:
    """The records of a log, in the order in which the requests ended."""
    with gzip.open(path, "rt", encoding="utf-8") if path.endswith(".gz") else open(path, encoding="utf-8") as log:
        for line in log:
            if not line.startswith("#"):
                yield Record.from_line(line)
