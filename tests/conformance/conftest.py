# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.haproxy import HAProxy
from tests.conformance.harness import App, Balancer

KINDS: dict[str, type[Balancer]] = {HAProxy.kind: HAProxy}


def _run(kind: type[Balancer]) -> Iterator[Balancer]:
    if reason := kind.missing():
        pytest.skip(reason)
    # Not pytest's own folder: the path of a UNIX socket must be short.
    folder = Path(tempfile.mkdtemp(prefix="zd-", dir="/tmp"))
    balancer = kind(folder)  # type: ignore[call-arg]
    try:
        yield balancer
    finally:
        balancer.stop()
        shutil.rmtree(folder)


@pytest.fixture(params=sorted(KINDS))
def balancer(request: pytest.FixtureRequest) -> Iterator[Balancer]:
    """One balancer of each kind; the case starts it with the pools it wants."""
    yield from _run(KINDS[request.param])


@pytest.fixture
def haproxy() -> Iterator[HAProxy]:
    """For what only HAProxy has."""
    for one in _run(HAProxy):
        assert isinstance(one, HAProxy)
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
