# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.apache import Apache
from tests.conformance.generations import VERSIONS, missing
from tests.conformance.haproxy import HAProxy
from tests.conformance.harness import App, Balancer, Load
from tests.conformance.nginx import Nginx
from tests.conformance.nginx_links import NginxByLinks

KINDS: dict[str, type[Balancer]] = {each.kind: each for each in (Apache, HAProxy, Nginx, NginxByLinks)}


def versions(kind: str) -> tuple[str, ...]:
    """The versions to run on: all, or with ZERODROP_GENERATIONS=share a fixed part of them.

    The part is the oldest and the newest of each kind; of nginx, whose cases take the longest, with the most telling.
    """
    known = VERSIONS[kind]
    return tuple(dict.fromkeys((known[0], known[-1]))) if _share() else known


def _share() -> bool:
    return os.environ.get("ZERODROP_GENERATIONS") == "share"


# What a reload, a file or a leaving worker can do wrong; a minute for both versions.
TELLING = {
    "test_a_drain_waits_for_the_request_in_flight",
    "test_killing_a_drained_member_at_once_loses_nothing",
    "test_what_an_older_process_still_serves_counts",
    "test_idle_clients_of_an_older_process_lose_nothing",
    "test_the_floor_is_held_on_the_live_state",
    "test_nothing_but_the_line_changes_and_it_comes_back",
    "test_one_reload_a_batch_and_none_for_nothing",
    "test_a_reload_that_does_not_come_about_is_seen_and_undone",
    "test_a_slow_upload_in_an_older_worker_is_waited_for",
    "test_two_pools_at_once_do_not_trample_each_other",
    "test_the_rate_is_what_clients_count",
}
# The same of links.
TELLING_OF_LINKS = {
    "test_what_an_older_process_still_serves_counts",
    "test_members_killed_as_soon_as_they_are_drained_lose_nothing",
    "test_a_slow_upload_never_goes_to_a_member_that_was_drained_meanwhile",
    "test_a_worker_that_may_still_act_on_an_old_link_is_waited_for",
    "test_requests_that_go_past_the_links_are_refused",
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With the share, nginx gets the telling cases only."""
    if not _share():
        return
    kinds = {Nginx.kind: TELLING, NginxByLinks.kind: TELLING_OF_LINKS}
    left_out = [
        item
        for kind, telling in kinds.items()
        for item in items
        if _is_of(item, kind) and getattr(item, "originalname", "") not in telling
    ]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def _is_of(item: pytest.Item, kind: str) -> bool:
    call = getattr(item, "callspec", None)
    return call is not None and any(isinstance(value, tuple) and value[:1] == (kind,) for value in call.params.values())


def _each(*kinds: str) -> list[object]:
    return [
        pytest.param((kind, version), id=f"{kind}-{version}") for kind in sorted(kinds) for version in versions(kind)
    ]


def _run(request: pytest.FixtureRequest) -> Iterator[Balancer]:
    kind, version = request.param
    if reason := missing(kind, version):
        pytest.skip(reason)
    # Not pytest's own folder: the path of a UNIX socket must be short.
    folder = Path(tempfile.mkdtemp(prefix="zd-", dir="/tmp"))
    balancer = KINDS[kind](folder, version)
    Load.forgives_closed_idle = "idle" in balancer.lacks
    try:
        yield balancer
    finally:
        balancer.stop()
        shutil.rmtree(folder)


@pytest.fixture(params=_each(*KINDS))
def balancer(request: pytest.FixtureRequest) -> Iterator[Balancer]:
    """A balancer of each kind and version; the case starts it with the pools it wants."""
    yield from _run(request)


@pytest.fixture(params=_each("haproxy"))
def haproxy(request: pytest.FixtureRequest) -> Iterator[HAProxy]:
    """For what only HAProxy has."""
    for one in _run(request):
        assert isinstance(one, HAProxy)
        yield one


@pytest.fixture(params=_each("nginx"))
def nginx(request: pytest.FixtureRequest) -> Iterator[Nginx]:
    """For what only nginx has."""
    for one in _run(request):
        assert isinstance(one, Nginx)
        yield one


@pytest.fixture(params=_each("nginx-links"))
def nginx_links(request: pytest.FixtureRequest) -> Iterator[NginxByLinks]:
    """For what only nginx with links has."""
    for one in _run(request):
        assert isinstance(one, NginxByLinks)
        yield one


@pytest.fixture
def apps() -> Iterator[dict[str, App]]:
    """Four running members, s1 to s4."""
    found = {name: App(name) for name in ("s1", "s2", "s3", "s4")}
    try:
        for app in found.values():
            app.start()
        yield found
    finally:
        for app in found.values():
            app.kill()
