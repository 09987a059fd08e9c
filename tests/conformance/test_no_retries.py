# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""With retries on, nothing is retried: what a drain loses must not be hidden by the balancer's second try."""

from __future__ import annotations

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils import _pool_operations as operations
from tests.conformance.haproxy import HAProxy
from tests.conformance.harness import App, Balancer, Load, PoolSpec, wait_for
from tests.conformance.nginx import Nginx

pytestmark = pytest.mark.balancer

NAMES = ("s1", "s2", "s3", "s4")


def walk_through(balancer: Balancer, apps: dict[str, App]) -> None:
    """Every member is drained, killed, started anew and put back, two at a time."""
    for names in (("s1", "s2"), ("s3", "s4")):
        params = {**balancer.params("shop"), "members": list(names)}
        before = operations.pool_drain(params, False)["before"]
        for name in names:
            apps[name].kill()
        for name in names:
            apps[name].start()
        health = {name: {"url": f"http://127.0.0.1:{apps[name].port}/health"} for name in names}
        operations.pool_return({**params, "view": {"health": health}}, False)
        operations.pool_put_back({**params, "settings": before}, False)


def test_haproxy_retries_nothing(haproxy: HAProxy, apps: dict[str, App]) -> None:
    pool = PoolSpec("shop", [(name, apps[name].port) for name in NAMES])
    haproxy.start([pool], extra="  retries 3\n  option redispatch 1\n  retry-on all-retryable-errors\n")

    def tried_again() -> int:
        found = haproxy.driver().read("shop")
        counters = [found.counters, *(member.counters for member in found.members)]
        return sum(each.retries + each.redispatches for each in counters)

    with Load(pool.port).running(clients=12, pause=0.005) as load:
        walk_through(haproxy, apps)
        assert not load.failures
        assert tried_again() == 0
        # The counters do tell: a member that dies while it serves is tried again.
        apps["s1"].kill()
        wait_for(lambda: tried_again() > 0)
    assert sum(load.answers.values()) > 200


def test_nginx_retries_nothing(nginx: Nginx, apps: dict[str, App]) -> None:
    pool = PoolSpec("shop", [(name, apps[name].port) for name in NAMES])
    kept = "keepalive_min_timeout 2s;" if "idle" not in nginx.lacks else ""
    nginx.write(
        [pool],
        next_upstream="error timeout http_502 http_503 non_idempotent",
        keepalive=f"{kept} log_format tried $upstream_addr;",
    )
    log, file = nginx.folder / "access.log", nginx.folder / "conf.d" / "shop.conf"
    file.write_text(file.read_text().replace("  location /", f"  access_log {log} tried;\n  location /"))
    nginx.run()

    def tried_again() -> int:
        return sum("," in line for line in log.read_text().splitlines())

    with Load(pool.port).running(clients=12, pause=0.005) as load:
        walk_through(nginx, apps)
        assert not load.failures
        assert tried_again() == 0
        apps["s1"].kill()
        wait_for(lambda: tried_again() > 0)
    assert len(log.read_text().splitlines()) > 200
