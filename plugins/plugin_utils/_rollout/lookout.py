# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether balancers that were left out answer again, looked for by the keeper beside the batches.

To find that a host is silent takes as long as a connection is waited for. A batch must not wait for that again and
again: it asks only balancers that the keeper has heard from.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Call, Remote
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import Record

_EVERY = 3.0
_LIMIT = 5.0


class Lookout:
    """What the keeper does meanwhile: it looks for the balancers that the rollout with this record has left out.

    In a thread, since the lease has to be renewed however long that takes.
    """

    def __init__(self, path: str, open_remote: Callable[[float], Remote], now: Callable[[], float] = time.monotonic):
        self._path = path
        self._open = open_remote
        self._now = now
        self._remote: Remote | None = None
        self._due = 0.0
        self.thread: threading.Thread | None = None

    def __call__(self) -> None:
        if self._now() < self._due or (self.thread is not None and self.thread.is_alive()):
            return
        record = Record.load(self._path)
        if record.dead:
            self._remote = self._remote or self._open(_LIMIT)
            params = {"service": record.service, "count": 1}
            hosts = {place: record.place(place).host for place in sorted(record.dead)}
            self._remote.prepare(hosts.values())
            calls = {place: Call("ledger_read", params, _LIMIT, host) for place, host in hosts.items()}
            self.thread = threading.Thread(target=self._look, args=(self._remote, calls), daemon=True)
            self.thread.start()
        self._due = self._now() + _EVERY

    def _look(self, remote: Remote, calls: Mapping[str, Call]) -> None:
        _write(self._path, [place for place, reply in remote.run(calls).items() if reply.ok])


def heard_from(record: Record) -> list[str]:
    """The places left out that are worth asking: those that answer the keeper; without one, all."""
    if not record.keeper:
        return list(record.dead)
    try:
        answering = json.loads(_file(record.path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [place for place in record.dead if place in answering]


def _file(path: str) -> Path:
    return Path(path).with_name("answering")


def _write(path: str, places: list[str]) -> None:
    temporary = _file(path).with_suffix(".new")
    temporary.write_text(json.dumps(places), encoding="utf-8")
    os.replace(temporary, _file(path))
