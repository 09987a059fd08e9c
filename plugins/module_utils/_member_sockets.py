# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Who still has a connection to a member, as the member's own host tells it.

The balancers say what their pool has in flight. What else comes from their hosts to the same port (another pool,
another process), and who comes without any balancer, only the member's host can see. A connection may also lie idle
in a balancer's pool: the balancer says how many of its connections do.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable

from ansible_collections.zerodrop.rollout.plugins.module_utils import _params
from ansible_collections.zerodrop.rollout.plugins.module_utils._addresses import is_loopback, local_addresses
from ansible_collections.zerodrop.rollout.plugins.module_utils._nginx.sockets import (
    ESTABLISHED,
    LISTEN,
    Connection,
    read,
)

_PAUSE = 0.02
_LONGEST_PAUSE = 0.25
_LISTED = 20  # addresses that are named one by one


@dataclass(frozen=True)
class Seen:
    """What one look found."""

    listens: bool  # else the service is not on this host, as far as it can be told
    busy: Mapping[str, int]  # connections in use, by balancer
    strangers: Mapping[str, int]  # connections by address, of those that come without any balancer


def judge(
    connections: Iterable[Connection],
    port: int,
    balancers: Mapping[str, Sequence[str]],
    pooled: Mapping[str, int],
    own: Iterable[str] = (),
) -> Seen:
    """Tell busy connections from idle ones: ``balancers`` are their addresses, ``pooled`` how many idle ones each has."""
    owner = {address: name for name, addresses in balancers.items() for address in addresses}
    here = set(own)
    listens = False
    count: Counter[str] = Counter()
    strangers: Counter[str] = Counter()
    for one in connections:
        if one.local_port != port:
            continue
        if one.state == LISTEN:
            listens = True
        if one.state != ESTABLISHED:
            continue  # one that the other side has closed carries nothing that anybody waits for
        if one.remote in owner:
            count[owner[one.remote]] += 1
        elif one.remote not in here and not is_loopback(one.remote):
            strangers[one.remote] += 1
    busy = {name: count[name] - pooled.get(name, 0) for name in count}
    return Seen(listens, {name: number for name, number in busy.items() if number > 0}, dict(strangers))


def member_sockets(
    params: Mapping[str, Any],
    check: bool,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    look: Callable[[int], list[Connection]] = read,
) -> dict[str, Any]:
    """Wait until no balancer has a busy connection to the service's port here, at most for ``limit`` seconds.

    ``params``: ``port``; ``balancers`` (by name, ``addresses`` and ``pooled``, how many of its connections are idle);
    ``limit``. Changes nothing, and fails with nothing: what is still ``busy`` at the limit is in the result.
    """
    port = _params.whole(params, "port", 0, 1, 65535)
    limit = 0.0 if check else _params.number(params, "limit", 0.0, 0.0, 86400.0)
    balancers: Mapping[str, Mapping[str, Any]] = params.get("balancers") or {}
    addresses = {name: list(each["addresses"]) for name, each in balancers.items()}
    pooled = {name: int(each.get("pooled", 0)) for name, each in balancers.items()}
    own = local_addresses()
    started = clock()
    pause = _PAUSE
    while True:
        seen = judge(look(os.getpid()), port, addresses, pooled, own)
        waited = clock() - started
        if not seen.busy or waited >= limit:
            break
        sleep(min(pause, max(0.001, limit - waited)))
        pause = min(2 * pause, _LONGEST_PAUSE)
    return {
        "changed": False,
        "listens": seen.listens,
        "busy": dict(seen.busy),
        "strangers": dict(sorted(seen.strangers.items())[:_LISTED]),
        "waited": round(waited, 4),
    }
