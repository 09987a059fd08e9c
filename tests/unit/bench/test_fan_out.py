# SPDX-License-Identifier: GPL-3.0-or-later
"""A batch of 16 against a batch of 1, out of our own record."""

from __future__ import annotations

from typing import Any

from bench import fan_out


def batch(size: int, **seconds: float) -> list[dict[str, Any]]:
    members = [f"web{number}" for number in range(size)]
    return [{"phase": name.replace("_", " "), "members": members, "seconds": value} for name, value in seconds.items()]


def found(large: float) -> dict[str, Any]:
    return {
        "events": [
            *batch(1, drain=0.2, upgrade=9.0, gate=0.4, put_back=0.2),
            *batch(16, drain=large, upgrade=9.0, gate=0.8, put_back=0.2),
            *batch(15, drain=5.0, upgrade=9.0, gate=5.0, put_back=5.0),
        ]
    }


def test_only_drain_and_put_back_count() -> None:
    records = [found(0.2), found(0.4), found(1.0)]
    result = fan_out.compare(records, records)
    assert result.rounds == 3
    assert result.ratio == 1.5
    assert result.small == {"drain": 0.2, "put back": 0.2, "gate": 0.4}
    assert result.large["drain"] == 0.4
    assert result.with_gate == 1.75


def test_the_large_batch_may_be_of_another_fleet() -> None:
    result = fan_out.compare([found(9.0)], [found(0.4), found(0.2)])
    assert (result.rounds, result.ratio, result.large["drain"]) == (1, 1.5, 0.4)


def test_a_rollout_whose_batches_shrank_does_not_count() -> None:
    assert fan_out.complete(found(0.2))
    assert not fan_out.complete({"events": batch(1, drain=0.2, gate=0.1, put_back=0.1)})


def test_neither_size_is_always_first() -> None:
    assert fan_out.settings(1)["rollout_batches"][:2] == [1, 16]
    assert fan_out.settings(2)["rollout_batches"][:2] == [16, 1]
