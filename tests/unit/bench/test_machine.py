# SPDX-License-Identifier: GPL-3.0-or-later
"""How busy the machine is."""

from __future__ import annotations

from bench.machine import idle_share, ticks


def test_waiting_for_disks_is_idle_too() -> None:
    assert ticks("cpu  10 1 5 80 4 0 0 0 0 0\ncpu0 5 0 2 40 2 0 0 0 0 0\n") == (84, 100)


def test_the_share_between_two_looks() -> None:
    assert idle_share((84, 100), (109, 200)) == 0.25
    assert idle_share((84, 100), (84, 100)) == 1.0
