# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a member was out, as the balancers themselves say."""

from __future__ import annotations

from bench.outage import Sample, most_out, out_of_service, seconds_out

ANSWER = """1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight
3 shop 1 web1 198.18.0.21 2 0 100
3 shop 2 web2 198.18.0.22 2 1 100
3 shop 3 web3 198.18.0.23 0 0 100
3 shop 4 web4 198.18.0.24 2 8 100

"""


def test_out_is_who_is_not_running_or_not_ready() -> None:
    assert out_of_service(ANSWER) == {"web2", "web3", "web4"}


def test_an_empty_answer_names_nobody() -> None:
    assert out_of_service("\n") == set()


def test_the_earlier_of_two_samples_holds() -> None:
    samples = [
        Sample(0.0, frozenset()),
        Sample(1.0, frozenset({"a", "b"})),
        Sample(1.5, frozenset({"b"})),
        Sample(3.0, frozenset()),
        Sample(9.0, frozenset()),
    ]
    assert seconds_out(samples, ["a", "b", "c"]) == {"a": 0.5, "b": 2.0, "c": 0.0}
    assert most_out(samples) == 2


def test_no_samples_no_outage() -> None:
    assert seconds_out([], ["a"]) == {"a": 0.0}
    assert most_out([]) == 0
