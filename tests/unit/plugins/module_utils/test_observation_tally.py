# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A member's requests and failures from counters: whatever happens between two looks, each is told once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput
from ansible_collections.zerodrop.rollout.plugins.module_utils._observation.tally import Tally, Total
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Counters

# How a request may end, and what HAProxy counts then: (answer, error, 5xx, answered at all, in the log, failed).
ENDINGS = {
    "fine": (0, 0, True, True, False),
    "status_5xx": (0, 1, True, True, True),
    "logged_502": (1, 0, False, True, True),
    "closed_in_silence_2_6": (0, 0, False, False, True),
    "closed_in_silence": (1, 0, False, False, True),
}


@dataclass
class World:
    """One member of a HAProxy, and what truly happened."""

    counters: Counters = Counters()
    in_flight: int = 0
    ended: int = 0
    failed: int = 0
    logged: int = 0  # requests without an answer that the log has

    def begin(self, count: int) -> None:
        self.in_flight += count
        self.counters = replace(
            self.counters,
            requests=self.counters.requests + count,
            unanswered=self.counters.unanswered + count,
        )

    def end(self, how: str) -> None:
        if not self.in_flight:
            return
        errors, statuses, answered, in_log, failed = ENDINGS[how]
        self.in_flight -= 1
        self.ended += 1
        self.failed += failed
        self.logged += in_log and not answered
        self.counters = replace(
            self.counters,
            errors=self.counters.errors + errors,
            responses_5xx=self.counters.responses_5xx + statuses,
            unanswered=self.counters.unanswered - answered,
        )

    @property
    def total(self) -> Total:
        return Total.of(self.counters, self.in_flight)


steps = st.lists(st.one_of(st.integers(1, 20), st.sampled_from([*ENDINGS, "look"])), max_size=80)


def live(world: World, step: int | str) -> None:
    if isinstance(step, int):
        world.begin(step)
    else:
        world.end(step)


@given(steps)
def test_counters_tell_every_request_once_and_no_failure_that_was_none(happens: list[int | str]) -> None:
    world = World()
    tally = Tally.begin(world.total)
    requests = failed = 0
    for step in [*happens, "look", "look"]:
        if step != "look":
            live(world, step)
            continue
        tally = Tally.from_list(tally.to_list())  # another process goes on
        more, worse = tally.see(world.total)
        assert more >= worse >= 0
        requests, failed = requests + more, failed + worse
        assert failed <= world.failed
    assert requests == world.ended


@given(steps)
def test_beside_a_log_the_failures_that_it_has_not_are_told_once(happens: list[int | str]) -> None:
    world = World()
    tally = Tally.begin(world.total)
    attempts = hidden = 0
    for step in [*happens, "look", "look"]:
        if step != "look":
            live(world, step)
            continue
        tally = Tally.from_list(tally.to_list())
        more, unlogged = tally.see_beside(world.total, world.logged)
        attempts, hidden = attempts + more, hidden + unlogged
        assert hidden <= world.failed
    assert attempts == world.counters.requests
    silent = world.counters.unanswered - world.in_flight - world.logged
    assert hidden == silent  # after two looks with nothing in between


def test_what_failed_without_a_word_is_told_one_look_late() -> None:
    world = World()
    tally = Tally.begin(world.total)
    world.begin(2)
    world.end("closed_in_silence_2_6")
    assert tally.see(world.total) == (0, 0)
    world.end("fine")
    assert tally.see(world.total) == (2, 1)


def test_a_retry_is_no_request_of_its_own() -> None:
    begin = Tally.begin(Total.of(Counters(), 0))
    counters = Counters(requests=4, errors=1, retries=3, unanswered=4)  # one request, three attempts more
    assert begin.see(Total.of(counters, 0)) == (0, 0)
    assert begin.see(Total.of(counters, 0)) == (1, 1)


def test_counters_that_were_cleared_are_seen() -> None:
    tally = Tally.begin(Total.of(Counters(requests=10, errors=2), 0))
    assert tally.went_back(Total.of(Counters(requests=3), 0))
    assert not tally.went_back(Total.of(Counters(requests=11, errors=2), 1))


@pytest.mark.parametrize("data", [None, [], [1, 2, 3], "12345678", [1, 2, 3, 4, 5, 6, 7, "8"], [1.0] * 8])
def test_a_cursor_that_is_none_is_refused(data: object) -> None:
    with pytest.raises(BadInput, match="what an earlier look returned"):
        Tally.from_list(data)
