# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a look makes of the balancer's counters and of its log."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Admin, Counters, Health, Member, Pool
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work.logged import Logged
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work.look import Watch
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_work.wanted import LookOrder

LOOK = LookOrder(requests=10, seconds=0.0, timeout=5.0, max_errors=0)
MEMBER = Member("web1", "10.0.0.1", 80, Admin.READY, Health.UP, 1, 0, 0)
POOL = Pool("shop", "1", (MEMBER,))


def after(requests: int = 0, in_flight: int = 0, **counters: int) -> Member:
    return replace(MEMBER, in_flight=in_flight, counters=Counters(requests=requests, **counters))


def seen(member: Member, logged: tuple[int, int] | None = None, trouble: str = "", first: Member = MEMBER) -> str:
    watch = Watch(first)
    watch.see(member, LOOK, 1.0, logged, trouble)
    return watch.verdict


def test_the_larger_of_counters_and_log_counts() -> None:
    assert seen(after(20)) == "pass"
    assert seen(after(20), (15, 0)) == "pass"
    assert seen(after(20), (15, 1)) == "fail"
    assert seen(after(20, errors=1), (20, 0)) == "fail"
    assert seen(after(), (9, 0)) == ""
    assert seen(after(), (10, 0)) == "pass"  # a balancer that counts nothing itself


def test_requests_without_an_answer_are_failures_but_for_those_in_flight() -> None:
    assert seen(after(20, in_flight=3, unanswered=3)) == "pass"
    watch = Watch(MEMBER)
    watch.see(after(20, in_flight=2, unanswered=3), LOOK, 1.0)
    assert watch.verdict == ""  # it may have begun between two counters
    watch.see(after(20, in_flight=2, unanswered=3), LOOK, 1.1)
    assert watch.verdict == "fail"


def test_what_was_in_flight_at_the_start_may_have_its_answer_already() -> None:
    """A download has its status counted long before it ends; then a request in flight is no failure."""
    watch = Watch(after(50, in_flight=1, unanswered=0))
    for _look in range(2):
        watch.see(after(55, in_flight=1, unanswered=1), LOOK, 1.0)
    watch.see(after(70, in_flight=0, unanswered=0), LOOK, 2.0)
    assert watch.verdict == "pass"


def test_a_log_that_cannot_be_read_is_no_pass_but_a_failure_stays_one() -> None:
    assert seen(after(20), (0, 0), "it is gone") == "inconclusive"
    assert seen(after(20, responses_5xx=1), (0, 0), "it is gone") == "fail"


def test_what_the_log_says_does_not_count_twice_over_a_reload() -> None:
    watch = Watch(MEMBER)
    watch.see(after(6), LOOK, 1.0, (6, 0))
    watch.restart()
    watch.see(after(3), LOOK, 2.0, (9, 0))
    assert watch.to_dict()["requests"] == 9
    assert watch.verdict == ""


def line(status: int) -> str:
    return f"10.0.0.1:80|{status}|0.001|0.001|{status}|0.000|0.001|2|2|OK|GET\n"


def test_the_log_counts_from_the_latest_beginning(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.write_text(line(500) * 5)
    log = Logged.from_params({"driver": "nginx", "pool": "shop", "access_log": [str(path)]})
    assert log is not None
    log.begin(POOL)
    with path.open("a") as file:
        file.write(line(200) * 3 + line(500))
    log.read()
    assert log.of("web1") == (4, 1)
    log.begin(POOL)
    assert log.of("web1") == (0, 0)
    with path.open("a") as file:
        file.write(line(200))
    log.read()
    assert log.of("web1") == (1, 0)
    path.unlink()
    log.read()
    assert "There is no log" in log.trouble


@pytest.mark.parametrize("given", [None, "", [], ()])
def test_no_log_is_none(given: object) -> None:
    assert Logged.from_params({"access_log": given}) is None


def test_an_address_of_ipv6_is_written_as_nginx_does(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.touch()
    log = Logged({"driver": "nginx", "pool": "shop", "access_log": [str(path)]})
    log.begin(Pool("shop", "1", (replace(MEMBER, address="fd00::1"),)))
    path.write_text(line(200).replace("10.0.0.1:80", "[fd00::1]:80"))
    log.read()
    assert log.of("web1") == (1, 0)
