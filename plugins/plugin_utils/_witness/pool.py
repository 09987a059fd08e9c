# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The keep-alive clients: connections that are kept open and used in turn."""

from __future__ import annotations

from collections import deque

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.wire import Wire


class Pool:
    """Plays a number of keep-alive clients.

    New connections are opened until there are ``limit``; then the one longest idle is used, which
    is the one most likely to have been forgotten by the server. When none is idle another one is
    opened, so that a stalled server never holds back a request. No more than ``limit`` stay idle.

    A kind client drops a connection that it has seen closing (``idle_closed_seen``); a dumb one
    keeps it and finds out when it writes.
    """

    def __init__(self, limit: int, *, dumb: bool) -> None:
        self._limit = limit
        self._dumb = dumb
        self._idle: deque[Wire] = deque()
        self._busy = 0
        self.idle_closed_seen = 0

    def take(self) -> Wire | None:
        """An idle connection, or ``None`` when the caller must open one. Either counts as busy."""
        wire = None
        if self._idle and self._busy + len(self._idle) >= self._limit:
            wire = self._idle.popleft()
        self._busy += 1
        return wire

    def give(self, wire: Wire) -> None:
        """Put back a connection after a complete answer."""
        self._busy -= 1
        if wire.closed is not None and not self._dumb:
            # The end came with the answer.
            self.idle_closed_seen += 1
            wire.close()
        elif len(self._idle) >= self._limit:
            wire.close()
        else:
            self._idle.append(wire)

    def drop(self) -> None:
        """A busy connection is no more."""
        self._busy -= 1

    def idle_closed(self, wire: Wire) -> None:
        """The other side ended a connection of the pool while it was idle."""
        if wire not in self._idle:
            return
        if not self._dumb:
            self._idle.remove(wire)
            self.idle_closed_seen += 1

    def close(self) -> None:
        while self._idle:
            self._idle.popleft().close()
