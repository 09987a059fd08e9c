# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HAProxy's answers: recorded ones, and whatever else may come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadReply, RolloutError, UnknownPool
from ansible_collections.zerodrop.rollout.plugins.module_utils._haproxy import replies

STATE = (
    "1\n"
    "# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight "
    "srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state "
    "bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr "
    "srv_agent_addr srv_agent_port\n"
    "3 be 1 s1 127.0.0.1 0 8 7 1 1 8 2 0 6 0 0 0 - 18081 - 0 0 - - 0\n"
    "3 be 3 s3 ::1 2 0 1 1 1 1 0 2 0 22 0 0 web.example 18083 - 0 0 - - 9\n"
    "3 be 4 s4 - 2 0 1 1 1 1 0 2 0 18 0 0 - 0 - 0 0 - - 0\n"
)
STAT = (
    "# pxname,svname,qcur,scur,stot,status,check_desc,\n"
    "be,s1,2,3,40,UP,Layer7 check passed,\n"
    'be,s2,0,0,4,DOWN,"said ""no"", twice",\n'
    "be,BACKEND,5,3,44,UP,,\n"
)
PROC = (
    "#<PID>          <type>          <reloads>       <uptime>        <version>      \n"
    "22219           master          1 [failed: 0]   0d00h04m49s     2.6.12-1+deb12u4\n"
    "# workers\n"
    "24662           worker          0               0d00h00m01s     2.6.12-1+deb12u4\n"
    "# old workers\n"
    "22220           worker          1               0d00h04m49s     2.6.12-1+deb12u4\n"
    "# programs\n"
    "777             program         0               0d00h04m49s     -\n\n"
)
INFO = "Name: HAProxy\nVersion: 2.6.12\nPid: 22\nStopping: 1\nStart_time_sec: 17\nCurrConns: 3\n"
SESS = (
    "0x7f61: proto=unix_stream src=unix:1 fe=GLOBAL be=<NONE> srv=<none> ts=00 epoch=0 age=0s calls=1 rate=1\n"
    "0x7f62: proto=tcpv4 src=192.0.2.1:53 fe=in be=shop srv=s1 ts=00 epoch=0 age=4s calls=2 rate=0 cpu=0 lat=0\n"
)


def test_the_state_of_servers() -> None:
    first, third, fourth = replies.servers_state(STATE, "be")
    assert (first.name, first.pool_id, first.server_id, first.operation, first.admin_bits) == ("s1", 3, 1, 0, 8)
    assert (first.weight, first.port, first.checked, first.has_agent) == (7, 18081, True, False)
    assert (third.address, third.domain, third.checked, third.agent_enabled) == ("::1", "web.example", False, True)
    assert (fourth.address, fourth.has_agent, fourth.agent_enabled) == ("unix", True, False)


def test_columns_may_move() -> None:
    moved = "1\n# be_id srv_admin_state srv_id srv_name srv_addr srv_op_state srv_uweight srv_check_state "
    moved += "srv_agent_state srv_port srv_fqdn\n3 1 1 s1 127.0.0.1 2 9 6 0 80 -\n"
    assert replies.servers_state(moved, "be")[0].admin_bits == 1


def test_statistics() -> None:
    statistics = replies.Statistics(STAT)
    assert statistics.busy("s1") == (3, 2)
    assert statistics.busy("gone") == (0, 0)
    assert statistics.text(statistics.rows["s2"], "check_desc") == 'said "no", twice'
    assert statistics.number(statistics.rows["BACKEND"], "qcur") == 5
    assert statistics.number(statistics.rows["s1"], "no such column") == 0


def test_statistics_with_a_broken_quote() -> None:
    with pytest.raises(BadReply):
        replies.Statistics('# pxname,svname,\n\r"')


@pytest.mark.parametrize("scur", ["", "x", "-1"])
def test_how_busy_a_server_is_must_be_there(scur: str) -> None:
    statistics = replies.Statistics(f"# pxname,svname,qcur,scur,\nbe,s1,0,{scur},\n")
    with pytest.raises(BadReply):
        statistics.busy("s1")


def test_workers_and_leaving_workers_but_no_programs() -> None:
    assert replies.processes(PROC) == replies.Processes(current=(24662,), leaving=(22220,))


def test_the_process_that_answers() -> None:
    process = replies.process(INFO)
    assert process == replies.Process(pid=22, start="17", version="2.6.12", stopping=True)
    assert process.identity == "22@17"
    assert replies.current_connections(INFO) == 3


def test_sessions_of_clients() -> None:
    assert replies.sessions(SESS) == [replies.Session("0x7f62", "shop", "s1", "192.0.2.1:53", "in", "4s")]


def test_pools_of_its_own_are_left_out() -> None:
    assert replies.pools("# name\nshop\n<HTTPCLIENT>\nb.2\n\n") == ["shop", "b.2"]


def test_an_unknown_pool() -> None:
    with pytest.raises(UnknownPool):
        replies.servers_state("Can't find backend.\n\n", "be")


@pytest.mark.case(3, 46)
def test_only_an_empty_line_is_success() -> None:
    assert replies.refusal("x", "\n") is None
    assert replies.refusal("x", "\n\n") is None
    for answer in ("Done.\n", "ready\n", "0\n", "No such server.\n"):
        assert isinstance(replies.refusal("x", answer), RolloutError)


PARSERS: list[Callable[[str], Any]] = [
    lambda text: replies.servers_state(text, "be"),
    lambda text: replies.Statistics(text).busy("s1"),
    replies.processes,
    replies.process,
    replies.level,
    replies.pools,
    replies.sessions,
    replies.split,
    lambda text: replies.refusal("x", text),
    replies.current_connections,
]


@pytest.mark.parametrize("parser", PARSERS)
@given(
    st.one_of(
        st.text(),
        st.tuples(st.sampled_from([STATE, STAT, PROC, INFO, SESS]), st.integers(0, 900), st.text(max_size=9)).map(
            lambda mangled: mangled[0][: mangled[1]] + mangled[2] + mangled[0][mangled[1] :]
        ),
        st.tuples(st.sampled_from([STATE, STAT, PROC, INFO, SESS]), st.integers(0, 900)).map(
            lambda cut: cut[0][: cut[1]]
        ),
    )
)
def test_no_answer_ends_in_anything_but_an_error_of_ours(parser: Callable[[str], Any], text: str) -> None:
    try:
        parser(text)
    except RolloutError:
        pass
