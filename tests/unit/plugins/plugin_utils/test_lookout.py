# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A balancer that was left out costs the batches nothing while it is silent, and is found when it answers again."""

from __future__ import annotations

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import Unreachable
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.fleet import Fleet
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.lookout import Lookout, heard_from
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import Record
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import Settings
from tests.unit.plugins.plugin_utils.test_batch import FakeRemote, record, remote, settings

__all__ = ("record", "remote", "settings")  # fixtures


@pytest.fixture
def lacking(record: Record) -> Record:
    """A run with a keeper that has left lb2 out."""
    record.keeper = 4711
    record.balancers.remove("lb2")
    record.dead.append("lb2")
    record.save()
    return record


def look(record: Record, remote: FakeRemote, *times: float) -> None:
    """What the keeper does at these times."""
    now = [0.0]
    keeper = Lookout(record.path, lambda _grace: remote, lambda: now[0])  # type: ignore[arg-type, return-value]
    for now[0] in times:
        keeper()
        if keeper.thread is not None:
            keeper.thread.join()


def test_nobody_asks_one_that_is_silent_but_the_keeper(settings: Settings, lacking: Record, remote: FakeRemote) -> None:
    remote.errors["lb2", "ledger_read"] = Unreachable("lb2 cannot be reached.", lost=True)
    look(lacking, remote, 0.0, 1.0, 2.0, 3.1)
    assert remote.ran("ledger_read") == ["lb2"] * 2
    Fleet(settings, remote, lacking, False).revive()  # type: ignore[arg-type]
    assert remote.ran("pool_read") == []
    assert lacking.dead == ["lb2"]


def test_one_that_answers_again_is_asked_and_counts(settings: Settings, lacking: Record, remote: FakeRemote) -> None:
    look(lacking, remote, 0.0)
    assert heard_from(lacking) == ["lb2"]
    Fleet(settings, remote, lacking, False).revive()  # type: ignore[arg-type]
    assert (lacking.balancers, lacking.dead) == (["lb1", "lb2"], [])


def test_where_all_answer_there_is_nothing_to_look_for(record: Record, remote: FakeRemote) -> None:
    record.keeper = 4711
    record.save()
    look(record, remote, 0.0)
    assert remote.calls == []
    assert heard_from(record) == []


def test_a_run_without_a_keeper_asks_all(lacking: Record) -> None:
    lacking.keeper = 0
    assert heard_from(lacking) == ["lb2"]
