# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Warm-up: requests to a member that is healthy and has no users yet, so that the first of them need not wait.

They come from the member's own host, in the gate's call: each member is warmed once, however many balancers there
are, and at the cost of no round trip. They go to the host that the health URL names, at the port that the pool has.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Mapping
from typing import Any, Callable
from urllib.parse import urlsplit, urlunsplit

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput, Unhealthy
from ansible_collections.zerodrop.rollout.plugins.module_utils._health import Answer, Prober, health_gate
from ansible_collections.zerodrop.rollout.plugins.module_utils._names import url_path
from ansible_collections.zerodrop.rollout.plugins.module_utils._params import given, items, number, whole

_GOOD = list(range(200, 400))  # what a user would not take for an error


def warm_up(
    params: Mapping[str, Any], health: Mapping[str, Any], clock: Callable[[], float] = time.monotonic
) -> dict[str, Any]:
    """Send the requests; raises ``Unhealthy`` with the first that fails, or when they take longer than the limit.

    ``params``: ``paths``, ``port`` (the health URL's where it is not given), ``count`` (of each path),
    ``concurrency``, ``timeout`` (for all of them). ``health`` are the health gate's parameters.
    """
    paths = [url_path(path, "a path of the warm-up") for path in items(params, "paths")]
    if not paths:
        raise BadInput("The warm-up has no paths.")
    count = whole(params, "count", 1, 1, 10000)
    concurrency = whole(params, "concurrency", 1, 1, 64)
    limit = number(params, "timeout", 30.0, 0.01, 86400.0)
    port = whole(params, "port", 0, 1, 65535) if given(params, "port") else None
    probers = {
        path: Prober({"url": _url(health["url"], port, path), "status": _GOOD, **_tls(health)}, clock) for path in paths
    }
    started = clock()
    deadline = started + limit
    turns = itertools.chain.from_iterable(paths for _round in range(count))
    lock = threading.Lock()
    took: list[float] = []
    failed: list[tuple[str, Answer]] = []

    def client() -> None:
        while True:
            with lock:
                path = next(turns, None) if not failed else None
            if path is None:
                return
            left = deadline - clock()
            answer = probers[path](left) if left > 0 else Answer(None, None, 0.0, f"not done within {limit:g} s")
            with lock:
                took.append(answer.took)
                if not answer.healthy:
                    failed.append((path, answer))

    threads = [threading.Thread(target=client, daemon=True) for _unused in range(min(concurrency, count * len(paths)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        path, answer = failed[0]
        raise Unhealthy(
            f"The warm-up failed at {path}: {answer.reason} (request {len(took)} of {count * len(paths)}).",
            "It is healthy by its health URL, and yet does not serve this path. Look at its log, and whether "
            "rollout_warm_up names the right paths.",
            path=path,
            result="fail",
        )
    return {"requests": len(took), "seconds": round(clock() - started, 3), "slowest": round(max(took), 4)}


def gate_and_warm_up(params: Mapping[str, Any], check: bool) -> dict[str, Any]:
    """The health gate, and after it the warm-up where ``warm_up`` has paths; the rest of it in ``warm_up_...``."""
    paths = items(params, "warm_up")
    for path in paths:
        url_path(path, "a path of the warm-up")
    result = health_gate(params, check)
    if paths and not check:
        own = {name: params.get(f"warm_up_{name}") for name in ("port", "count", "concurrency", "timeout")}
        result["warm_up"] = warm_up({**own, "paths": paths}, params)
    return result


def _url(health_url: str, port: int | None, path: str) -> str:
    parts = urlsplit(health_url)
    host = parts.netloc
    if port is not None:
        before, at, named = parts.netloc.rpartition("@")
        name = named if named.endswith("]") else named.rpartition(":")[0] or named
        host = f"{before}{at}{name}:{port}"
    return urlunsplit((parts.scheme, host, "", "", "")) + path


def _tls(health: Mapping[str, Any]) -> dict[str, Any]:
    return {"validate_certs": health.get("validate_certs", True)}
