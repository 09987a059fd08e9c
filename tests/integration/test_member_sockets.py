# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The member's own word: what no balancer's pool knows of still holds up the upgrade, or is named."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from .rig import Rig, wait_for

pytestmark = pytest.mark.lab


@contextmanager
def from_the_balancer(rig: Rig, seconds: float) -> Iterator[None]:
    """A request to web1 from another program on the balancer's host; it must end well."""
    address = rig.lab.host("web1").address
    code = (
        "import http.client, sys; c = http.client.HTTPConnection(sys.argv[1], 8080, timeout=60); "
        "c.request('GET', '/slow/' + sys.argv[2]); print(c.getresponse().status)"
    )
    out = rig.folder / "answer"
    command = f'setsid python3 -c "{code}" {address} {seconds:g} > /tmp/answer 2>&1 &'
    root = rig.root(rig.lab.balancers[0])
    (root / "tmp/answer").unlink(missing_ok=True)
    rig.lab.exec(rig.lab.balancers[0], ["sh", "-c", command])
    time.sleep(0.5)
    yield
    wait_for(lambda: bool((root / "tmp/answer").read_text()))
    out.write_text((root / "tmp/answer").read_text())
    assert out.read_text().strip() == "200"


def test_another_program_on_the_balancer_holds_up_the_upgrade(rig: Rig) -> None:
    with from_the_balancer(rig, 10):
        run = rig.rollout(rig.archive("2.0"), rollout_batches=[6], rollout_floor=0, rollout_look_requests=0)
    assert run.rc == 0, str(run)
    assert run.report["members"]["web1"]["seconds"]["drain"] > 0.3
    assert rig.current() == rig.all_on("2.0")


def test_it_puts_the_batch_back_at_the_drains_limit(rig: Rig) -> None:
    with from_the_balancer(rig, 9):
        run = rig.rollout(
            rig.archive("2.0"), rollout_batches=[6], rollout_floor=0, rollout_look_requests=0, rollout_drain_timeout=1
        )
    assert run.rc != 0
    assert run.report["stop"]["phase"] == "drain", str(run)
    assert "web1 (1 from lb1)" in run.report["stop"]["message"]
    assert rig.in_service() == set(rig.hosts)
    assert rig.current() == rig.all_on("1.0")


def test_a_client_without_a_balancer_is_named(rig: Rig) -> None:
    with socket.create_connection((rig.lab.host("web2").address, 8080), 10) as client, rig.load(rate=120) as load:
        run = rig.rollout(rig.archive("2.0"), rollout_batches=[3])
        ours = client.getsockname()[0]
    assert run.rc == 0, str(run)
    load.assert_nothing_lost()
    (note,) = [each for each in run.report["notes"] if "without any balancer" in each]
    assert note.startswith("web2 ")
    assert note.endswith(f": {ours} (1)")
