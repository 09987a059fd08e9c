# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lease of a service: never two owners, whatever the order in which things happen."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import LeaseHeld, LeaseLost
from ansible_collections.zerodrop.rollout.plugins.module_utils._lease import (
    ANYBODY,
    Lease,
    Moment,
    Wish,
    acquire,
    release,
    renew,
)

START = Moment("boot-1", 1000.0, 1_700_000_000.0)


def later(seconds: float, since: Moment = START) -> Moment:
    return Moment(since.boot, since.up + seconds, since.wall + seconds)


def wish(holder: str = "a", number: int = 0, seconds: float = 60.0, over: str = "") -> Wish:
    return Wish(number, holder, f"{holder}@here", "rolling to 2.0", seconds, over=over)


def test_the_first_one_has_number_one() -> None:
    lease = acquire(None, wish(), START)
    assert (lease.number, lease.holder, lease.left(START)) == (1, "a", 60.0)


@pytest.mark.case(17)
def test_another_one_is_refused_while_it_lasts_and_told_whose_it_is() -> None:
    lease = acquire(None, wish("a"), START)
    with pytest.raises(LeaseHeld, match=r"a@here \(rolling to 2.0, since 2023-11-14 22:13:20 UTC\)") as refused:
        acquire(lease, wish("b"), later(59))
    assert refused.value.facts["number"] == 1
    assert acquire(lease, wish("b"), later(60)).number == 2


@pytest.mark.parametrize("over", ["a", ANYBODY])
def test_it_is_taken_over_by_who_says_so(over: str) -> None:
    lease = acquire(None, wish("a"), START)
    taken = acquire(lease, wish("b", over=over), later(1))
    assert (taken.number, taken.holder) == (2, "b")
    with pytest.raises(LeaseLost, match="b@here"):
        renew(taken, 1, "a", later(2))


def test_it_is_not_taken_over_from_somebody_else_than_was_meant() -> None:
    with pytest.raises(LeaseHeld):
        acquire(acquire(None, wish("c"), START), wish("b", over="a"), later(1))


def test_a_number_is_never_given_twice() -> None:
    lease = release(acquire(None, wish("a", number=7), START), START)
    with pytest.raises(LeaseHeld, match="older than 7"):
        acquire(lease, wish("b", number=7), later(1))
    assert acquire(lease, wish("b", number=8), later(1)).number == 8


def test_who_has_it_may_have_it_again_under_a_higher_number() -> None:
    lease = acquire(None, wish("a"), START)
    again = acquire(lease, wish("a", number=5), later(30))
    assert (again.number, again.started, again.left(later(30))) == (5, lease.started, 60.0)


def test_what_ended_or_was_given_back_is_lost() -> None:
    lease = acquire(None, wish("a"), START)
    assert renew(lease, 1, "a", later(59)).left(later(59)) == 60.0
    with pytest.raises(LeaseLost, match="ended, 60 s after"):
        renew(lease, 1, "a", later(60))
    with pytest.raises(LeaseLost, match="given back"):
        renew(release(lease, START), 1, "a", later(1))
    with pytest.raises(LeaseLost, match="no record"):
        renew(None, 1, "a", later(1))


@pytest.mark.case(44)
def test_a_reboot_counts_as_a_renewal_and_a_changed_date_as_nothing() -> None:
    lease = acquire(None, wish("a"), START)
    assert lease.left(Moment("boot-2", 5.0, START.wall)) == 55.0
    assert lease.left(Moment("boot-2", 60.0, START.wall)) == 0.0
    assert lease.left(replace(later(10), wall=0.0)) == 50.0


class Interleavings(RuleBasedStateMachine):
    """Controllers, one balancer, and every order of what they and time may do."""

    holders: Bundle[str] = Bundle("holders")

    @initialize()
    def begin(self) -> None:
        self.now = START
        self.lease: Lease | None = None
        self.given: dict[int, str] = {}  # who has ever had which number
        self.until: dict[tuple[int, str], float] = {}  # by the model: when each of them is over, by time alone
        self.last = 0

    @rule(target=holders, name=st.sampled_from("abcd"))
    def somebody(self, name: str) -> str:
        return name

    @rule(seconds=st.floats(0.0, 100.0))
    def time_goes_by(self, seconds: float) -> None:
        self.now = later(seconds, self.now)

    @rule(up=st.floats(0.0, 30.0))
    def reboot(self, up: float) -> None:
        self.now = Moment(self.now.boot + "+", up, self.now.wall + up)
        if self.lease is not None:
            self.until[(self.lease.number, self.lease.holder)] = up - up + self.lease.seconds

    @rule(holder=holders, number=st.integers(0, 12), seconds=st.floats(1.0, 60.0), forced=st.booleans())
    def wants(self, holder: str, number: int, seconds: float, forced: bool) -> None:
        before = self.lease
        try:
            self.lease = acquire(before, wish(holder, number, seconds, ANYBODY if forced else ""), self.now)
        except LeaseHeld:
            return
        assert self.lease.number >= self.last
        assert self.given.setdefault(self.lease.number, holder) == holder
        if before is not None and before.holder != holder and not forced:
            assert before.released or self.until[(before.number, before.holder)] <= self.now.up
        self.last = self.lease.number
        self.until[(self.lease.number, holder)] = self.now.up + seconds

    @rule(holder=holders, number=st.integers(0, 12))
    def goes_on(self, holder: str, number: int) -> None:
        """Whoever gets through is the last one who was given the lease, and in time."""
        try:
            renewed = renew(self.lease, number, holder, self.now)
        except LeaseLost:
            return
        assert self.lease is not None
        assert not self.lease.released
        assert (number, holder) == (self.last, self.given[self.last])
        assert self.until[(number, holder)] > self.now.up
        self.lease = renewed
        self.until[(number, holder)] = self.now.up + renewed.seconds

    @rule()
    def gives_it_back(self) -> None:
        if self.lease is not None:
            self.lease = release(self.lease, self.now)

    @invariant()
    def it_never_lasts_longer_than_from_one_renewal(self) -> None:
        lease = getattr(self, "lease", None)
        assert lease is None or 0 <= lease.left(self.now) <= lease.seconds


Interleavings.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestInterleavings = Interleavings.TestCase
