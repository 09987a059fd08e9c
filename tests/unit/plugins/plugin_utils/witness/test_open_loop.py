# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A slow or dead server changes what becomes of requests, never how many there are."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness import (
    Record,
    WitnessSettings,
    run_async,
)
from ansible_collections.zerodrop.rollout.tests.unit.plugins.plugin_utils.witness.server import (
    Peer,
    polite,
    serving,
    watch,
)


def stalled_until(seconds: float) -> Any:
    """A server that answers nothing before its time, then everything at once."""

    async def handler(peer: Peer) -> None:
        loop = asyncio.get_running_loop()
        begin = peer.server.state.setdefault("begin", loop.time())
        while await peer.request():
            await asyncio.sleep(begin + seconds - loop.time())
            await peer.answer(X_Version="1.0")

    return handler


def test_a_stall_shows_as_late_requests_and_not_as_fewer() -> None:
    stalled = watch(stalled_until(1.0), rate=50, duration=2, max_requests=None, late_after=0.5)
    healthy = watch(polite, rate=50, duration=2, max_requests=None, late_after=0.5)
    assert stalled.summary.scheduled == healthy.summary.scheduled == 100
    assert len(stalled.server.requests) == len(healthy.server.requests) == 100
    assert healthy.summary.late == healthy.summary.failed == stalled.summary.failed == 0
    # Due in the first half second: those had to wait for longer than allowed.
    assert 20 <= stalled.summary.late <= 50
    assert stalled.summary.latency_ms["total"]["max"] >= 900
    assert stalled.summary.latency_ms["total"]["p50"] < 500 <= stalled.summary.latency_ms["total"]["p90"]
    assert stalled.summary.rate_achieved == pytest.approx(50, rel=0.1)


def test_a_stall_beyond_the_timeout_shows_as_failed_requests() -> None:
    seen = watch(stalled_until(1.0), rate=50, duration=1, max_requests=None, timeout=0.3)
    assert seen.summary.scheduled == seen.summary.requests_total == 50
    assert 25 <= seen.summary.by_class["timed_out"] <= 50
    assert seen.summary.failed == seen.summary.by_class["timed_out"]


def test_a_stall_of_the_witness_itself_skips_nothing() -> None:
    held = False

    def hold(_record: Record) -> None:
        nonlocal held
        if not held:
            held = True
            time.sleep(0.6)

    async def both() -> Any:
        async with serving(polite) as server:
            settings = WitnessSettings.from_mapping(
                {"url": f"http://127.0.0.1:{server.port}/", "rate": 100, "duration": 1.0, "late_after": 0.3}
            )
            return await run_async(settings, on_record=hold)

    summary = asyncio.run(both())
    assert summary.requests_total == 100
    assert summary.late >= 20
    # It says that the delay was its own.
    assert summary.start_delay_ms["max"] >= 500
    assert "witness itself" in summary.sentence()


def test_requests_start_on_schedule() -> None:
    seen = watch(polite, rate=100, duration=1, max_requests=None)
    assert sorted(record.scheduled for record in seen.records) == [number / 100 for number in range(100)]
    assert all(record.started >= record.scheduled for record in seen.records)


def test_what_finds_no_room_is_counted_and_not_sent() -> None:
    seen = watch(stalled_until(1.5), rate=100, duration=0.4, max_requests=None, max_in_flight=5)
    assert seen.summary.scheduled == 40
    assert seen.summary.not_sent == 35
    assert seen.summary.requests_total == len(seen.server.requests) == 5
    assert seen.summary.failed == 0
    assert seen.summary.exit_code == 1
    assert "35 not sent (5 requests in flight already)" in seen.summary.sentence()


def test_websockets_are_bounded_too() -> None:
    async def handler(peer: Peer) -> None:
        await peer.forever()

    seen = watch(handler, mix={"websocket": 1}, rate=50, max_requests=10, max_websockets=3, timeout=0.5)
    assert seen.summary.not_sent == 7
    assert seen.summary.by_class["timed_out"] == 3
    assert seen.server.connections == 3


def test_the_latency_counts_from_the_schedule() -> None:
    record = watch(stalled_until(0.3)).first
    assert record.latency >= record.service_time >= 0.25
    assert record.latency == pytest.approx(record.ended - record.scheduled)
