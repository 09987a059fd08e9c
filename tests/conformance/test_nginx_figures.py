# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What nginx costs: how soon an end is noticed, and a pool of thousands.

The limits are wide, for a machine that does other work; what was measured is in docs/benchmark.md. ``-rP`` shows it.
"""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils import _pool_operations as operations
from tests.conformance.harness import App, PoolSpec, Slow, wait_for
from tests.conformance.nginx import Nginx
from tests.conformance.nginx_links import NginxByLinks

pytestmark = pytest.mark.balancer

MANY = 2000


def test_the_end_of_the_last_request_is_noticed_soon_and_cheaply(
    nginx: Nginx, apps: dict[str, App], record_property: Callable[[str, object], None]
) -> None:
    """Counted from the answer to the end of the drain, with its three samples; the reload was over long before."""
    pool = _two(apps)
    nginx.start([pool], extra="zone shop 64k;", keepalive="")
    _how_soon(nginx, pool.port, record_property)


@pytest.mark.parametrize("kept", [False, True], ids=["closed", "kept"])
def test_by_links_the_end_is_noticed_as_soon(
    nginx_links: NginxByLinks, apps: dict[str, App], kept: bool, record_property: Callable[[str, object], None]
) -> None:
    """Also where nginx keeps idle connections to members, which cannot be told from those in use."""
    pool = _two(apps)
    nginx_links.start([pool], extra="zone shop 64k; keepalive 8;" if kept else "zone shop 64k;")
    _how_soon(nginx_links, pool.port, record_property)


def _two(apps: dict[str, App]) -> PoolSpec:
    return PoolSpec("shop", [("s1", apps["s1"].port), ("s2", apps["s2"].port)])


def _how_soon(nginx: Nginx, port: int, record_property: Callable[[str, object], None]) -> None:
    late, shares = [], []
    for number in range(7):
        slow = [Slow(port, 1.5 + 0.037 * number) for _unused in range(2)]
        wait_for(lambda: all(member.in_flight for member in nginx.driver().read("shop").members))
        begun, used = time.monotonic(), time.thread_time()
        operations.pool_drain({**nginx.params("shop"), "members": ["s1"]}, False)
        ended = time.monotonic()
        shares.append((time.thread_time() - used) / (ended - begun))
        for one in slow:
            assert one.wait() in ("s1", "s2")
        late.append(ended - next(one.ended for one in slow if one.outcome == "s1"))
        settings = {"s1": {"admin": "ready", "weight": 1}}
        operations.pool_put_back({**nginx.params("shop"), "settings": settings}, False)
    _tell(record_property, "noticed after, s", late)
    _tell(record_property, "share of a core", shares)
    assert min(late) >= 0
    assert statistics.median(late) <= 0.6
    assert statistics.median(shares) <= 0.15


def test_a_pool_of_thousands(
    nginx: Nginx, apps: dict[str, App], record_property: Callable[[str, object], None]
) -> None:
    """Against what nginx itself takes for its test and its reload."""
    names = [(f"m{number}", 20000 + number) for number in range(MANY - 2)]
    nginx.start([PoolSpec("shop", [("s1", apps["s1"].port), ("s2", apps["s2"].port), *names])], extra="zone shop 4m;")
    driver = nginx.driver()
    reads, theirs, ours = [], [], []
    for number in range(3):
        begun = time.monotonic()
        assert len(nginx.driver().read("shop").members) == MANY
        reads.append(time.monotonic() - begun)

        before, begun = driver.identity(), time.monotonic()
        subprocess.run([nginx.binary, "-t", "-q", "-c", str(nginx.config)], check=True, stderr=subprocess.DEVNULL)
        nginx.reload()
        wait_for(lambda before=before: nginx.driver().identity() != before)  # type: ignore[misc]
        theirs.append(time.monotonic() - begun)

        begun = time.monotonic()
        nginx.driver().hold_out("shop", [f"m{number}"])
        ours.append(time.monotonic() - begun)
    _tell(record_property, "read, s", reads)
    _tell(record_property, "nginx -t and reload, s", theirs)
    _tell(record_property, "edit, test, reload and read back, s", ours)
    assert min(reads) <= 1.5
    assert min(ours) <= min(theirs) + 1.5


def _tell(record_property: Callable[[str, object], None], what: str, values: list[float]) -> None:
    words = f"median {statistics.median(values):.3f}, {min(values):.3f} to {max(values):.3f}"
    record_property(what, words)
    print(f"{what}: {words}")
