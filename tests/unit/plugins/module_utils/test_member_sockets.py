# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The member's own connections: busy, idle in a balancer's pool, or without any balancer."""

from __future__ import annotations

import socket
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.module_utils import _addresses
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadReply
from ansible_collections.zerodrop.rollout.plugins.module_utils._haproxy import replies
from ansible_collections.zerodrop.rollout.plugins.module_utils._member_sockets import Seen, judge, member_sockets
from ansible_collections.zerodrop.rollout.plugins.module_utils._nginx.sockets import ESTABLISHED, LISTEN, Connection

BALANCERS = {"lb1": ["10.0.0.1", "10.0.0.2"], "lb2": ["10.0.0.3"]}


def conn(remote: str, port: int = 8080, state: int = ESTABLISHED) -> Connection:
    return Connection(port, remote, 40000, state, 1)


LISTENS = Connection(8080, "0.0.0.0", 0, LISTEN, 1)


def test_idle_ones_are_told_apart_by_what_the_balancer_says() -> None:
    found = judge([LISTENS, *[conn("10.0.0.1")] * 3, conn("10.0.0.2"), conn("10.0.0.3")], 8080, BALANCERS, {"lb1": 3})
    assert found == Seen(True, {"lb1": 1, "lb2": 1}, {})
    assert judge([conn("10.0.0.1")], 8080, BALANCERS, {"lb1": 5}) == Seen(False, {}, {})


def test_other_ports_and_what_the_other_side_has_closed_do_not_count() -> None:
    others = [conn("10.0.0.1", 22), conn("10.0.0.1", state=8), conn("10.0.0.9", state=8)]
    assert judge(others, 8080, BALANCERS, {}) == Seen(False, {}, {})


def test_who_comes_without_a_balancer_is_named_unless_it_is_this_host() -> None:
    found = judge(
        [conn("10.9.9.9")] * 2 + [conn("127.0.0.1"), conn("::1"), conn("10.0.0.50")], 8080, BALANCERS, {}, ["10.0.0.50"]
    )
    assert found.strangers == {"10.9.9.9": 2}
    assert found.busy == {}


def test_a_balancer_on_the_members_own_host() -> None:
    assert judge([conn("127.0.0.1")], 8080, {"lb": ["127.0.0.1"]}, {}, ["10.0.0.50"]).busy == {"lb": 1}


@given(st.lists(st.sampled_from(["10.0.0.1", "10.0.0.3", "10.9.9.9", "127.0.0.1"])), st.integers(0, 9))
def test_every_connection_of_another_host_is_busy_idle_or_a_strangers(remotes: list[str], pooled: int) -> None:
    count = Counter(remotes)
    found = judge([conn(each) for each in remotes], 8080, BALANCERS, {"lb1": pooled})
    assert found.busy.get("lb1", 0) == max(0, count["10.0.0.1"] - pooled)
    assert found.busy.get("lb2", 0) == count["10.0.0.3"]
    assert found.strangers.get("10.9.9.9", 0) == count["10.9.9.9"]


def test_it_waits_until_they_are_gone_and_no_longer_than_its_limit() -> None:
    now, until = 0.0, 3.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    def run(limit: float) -> dict[str, object]:
        nonlocal now
        now = 0.0
        params = {"port": 8080, "limit": limit, "balancers": {"lb1": {"addresses": ["10.0.0.1"], "pooled": 0}}}
        return member_sockets(params, False, lambda: now, sleep, lambda _pid: [conn("10.0.0.1")] if now < until else [])

    assert run(10)["busy"] == {}
    assert now == pytest.approx(3, abs=0.3)
    assert run(1)["busy"] == {"lb1": 1}
    assert now == pytest.approx(1, abs=0.01)
    assert run(0)["busy"] == {"lb1": 1}
    assert now == 0


def test_addresses() -> None:
    trie = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
           |-- 198.18.0.5
              /32 host LOCAL
           |-- 198.18.0.255
              /32 link BROADCAST
     |-- 127.0.0.1
        /32 host LOCAL
"""
    assert _addresses.parse_fib_trie(trie) == ["198.18.0.5", "127.0.0.1"]
    assert _addresses.parse_if_inet6("fe800000000000000000000000000001 02 40 20 80 eth0\nodd\n") == ["fe80::1"]
    assert not any(_addresses.is_loopback(each) for each in _addresses.local_addresses())


@given(st.text())
def test_odd_tables_are_no_addresses(text: str) -> None:
    for address in (*_addresses.parse_fib_trie(text), *_addresses.parse_if_inet6(text)):
        socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def test_the_address_towards_another_host() -> None:
    assert _addresses.address_towards("127.0.0.1", 9) == "127.0.0.1"
    assert _addresses.address_towards("no-such-host.invalid", 9) == ""


def test_idle_connections_in_haproxys_words() -> None:
    header = (
        "# bkname/svname bkid/svid addr port - purge_delay used_cur used_max need_est unsafe_nb safe_nb idle_lim "
        "idle_cur idle_per_thr[2]\n"
    )
    answer = (
        header
        + "shop/s1 3/1 10.0.0.1 8080 - 5000 0 1 1 0 2 -1 2 1 1\nother/s1 4/1 10.0.0.1 8080 - 5000 0 1 1 0 1 -1 1 1 0\n\n"
    )
    assert replies.idle_connections(answer) == [(("10.0.0.1", 8080), 2), (("10.0.0.1", 8080), 1)]
    for odd in ("", "Unknown command", header + "shop/s1 3/1\n", header.replace("idle_cur", "x")):
        with pytest.raises(BadReply):
            replies.idle_connections(odd)
