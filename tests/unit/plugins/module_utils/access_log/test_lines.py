# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What lines of real balancers count as."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.module_utils._access_log.counts import BUCKETS, Counts
from ansible_collections.zerodrop.rollout.plugins.module_utils._access_log.haproxy import HAProxyLog, kind_of
from ansible_collections.zerodrop.rollout.plugins.module_utils._access_log.nginx import FORMAT, NginxLog
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput

# HAProxy 2.6 and 3.2, as they came; what stands before the client's address differs with how they were carried.
SYSLOG = "Nov 24 14:00:32 lb1 haproxy[16913]: "
CLIENT = "127.0.0.1:49810 [24/Nov/2026:14:00:32.193] web "
HAPROXY = [
    ('shop/s1 0/0/0/6/6 200 51 - - ---- 1/1/0/0/0 0/0 "GET /ok HTTP/1.1"', ""),
    ('shop/s1 0/0/0/0/0 500 50 - - ---- 1/1/0/0/0 0/0 "GET /500 HTTP/1.1"', "status_5xx"),
    ('shop/s1 0/0/0/1/101 200 152 - - SD-- 1/1/0/0/0 0/0 "GET /half HTTP/1.1"', "cut"),
    ('shop/s1 0/0/0/-1/1 502 209 - - SH-- 1/1/0/0/0 0/0 "GET /none HTTP/1.1"', "response"),
    ('shop/s1 0/0/0/-1/0 502 209 - - PH-- 1/1/0/0/0 0/0 "GET /garb HTTP/1.1"', "response"),
    ('shop/s1 0/0/0/-1/2001 504 198 - - sH-- 1/1/0/0/0 0/0 "GET /slow3 HTTP/1.1"', "timeout"),
    ('shop/s1 0/0/0/35/430 200 200055 - - CD-- 2/2/0/0/0 0/0 "GET /drip HTTP/1.1"', "client_aborts"),
    ('shop/s1 0/0/-1/-1/1001 503 217 - - SC-- 1/1/0/0/1 0/0 "GET /dead/ HTTP/1.1"', "connect"),
    ('shop/s1 0/0/0/1/1 200 51 - - ---- 1/1/0/0/+1 0/0 "GET /retry/ok HTTP/1.1"', ""),
    ('shop/s1 0/0/0/-1/+0 502 +209 - - SH-- 1/1/0/0/0 0/0 "GET /none HTTP/1.1"', "response"),  # option logasap
    ('shop/s1 0/0/0/3/9 200 51 - - --VN 1/1/0/0/0 0/0 {shop.example|Mozilla 5.0} {} "GET / HTTP/1.1"', ""),
]


def counted(lines: list[str], pool: str = "shop") -> tuple[dict[str, Any], Counts]:
    found = Counts([])
    HAProxyLog(pool).count("".join(line + "\n" for line in lines), found)
    return found.to_dict()["members"], found


@pytest.mark.parametrize("prefix", [SYSLOG + CLIENT, "<134>Nov 24 14:00:32 haproxy[1]: " + CLIENT, CLIENT])
@pytest.mark.parametrize(("line", "kind"), HAPROXY)
def test_haproxy(prefix: str, line: str, kind: str) -> None:
    members, found = counted([prefix + line])
    assert found.lines == 1
    assert found.unread == 0
    one = members["s1"]
    assert one["requests"] == 1
    assert one["errors"] == int(kind not in ("", "client_aborts"))
    assert one["client_aborts"] == int(kind == "client_aborts")
    assert [name for name, count in one["kinds"].items() if count] == ([kind] if one["errors"] else [])


def test_haproxy_other_pools_and_requests_of_no_member() -> None:
    other = SYSLOG + CLIENT + 'api/s1 0/0/0/6/6 500 51 - - ---- 1/1/0/0/0 0/0 "GET /ok HTTP/1.1"'
    nobody = SYSLOG + CLIENT + 'shop/<NOSRV> 0/-1/-1/-1/0 503 217 - - SC-- 1/1/0/0/0 0/0 "GET / HTTP/1.1"'
    bad = SYSLOG + CLIENT + 'web/<NOSRV> -1/-1/-1/-1/0 400 187 - - PR-- 1/1/0/0/0 0/0 "<BADREQ>"'
    members, found = counted([other, nobody, bad])
    assert (members, found.lines, found.unread) == ({}, 3, 0)


def test_haproxy_lines_that_are_no_requests_are_no_trouble() -> None:
    members, found = counted(
        [
            SYSLOG + "Server shop/s1 is DOWN, reason: Layer4 connection problem, check duration: 0ms.",
            SYSLOG + "127.0.0.1:5 [24/Nov/2026:14:00:32.193] web/1: SSL handshake failure",
        ]
    )
    assert (members, found.lines, found.unread) == ({}, 0, 0)


def test_haproxy_json() -> None:
    line = (
        '{"pool":"shop","member":"s2","status":200,"state":"----","queue":5,"connect":1,"response":44,"retries":"+1"}'
    )
    members, found = counted([SYSLOG + line, line.replace("----", "SH--").replace("200", "502")])
    assert (found.lines, found.unread) == (2, 0)
    assert members["s2"]["kinds"]["response"] == 1
    assert members["s2"]["retries"] == 2
    assert members["s2"]["latency"][BUCKETS.index(50)] == 2


def test_haproxy_in_a_format_of_its_own_is_unread() -> None:
    _members, found = counted([CLIENT.replace("web", "shop/s1") + '200 GET "/x"'])
    assert (found.lines, found.unread) == (0, 1)


def test_every_state_is_one_kind() -> None:
    assert kind_of("--", 503) == "status_5xx"
    assert kind_of("SH", 502) == "response"
    assert kind_of("sC", 503) == "connect"
    assert kind_of("sD", 200) == "timeout"
    assert kind_of("cD", 200) == kind_of("CH", -1) == "client_aborts"
    assert kind_of("KD", 200) == kind_of("RC", 500) == "balancer"
    assert kind_of("LR", 200) == ""


# nginx 1.22 and 1.30, as they came.
A, B = "127.0.0.1:36021", "127.0.0.1:42305"
NGINX = [
    (f"{A}|200|0.001|0.002|200|0.000|0.001|2|2|OK|GET", {"s1": ""}),
    (f"{A}|500|0.001|0.001|500|0.000|0.001|2|2|OK|GET", {"s1": "status_5xx"}),
    (f"{A}|502|0.000|0.001|502|0.000|0.000|2|2|OK|GET", {"s1": "status_5xx"}),  # the member's own
    (f"{A}|200|0.101|0.102|200|0.000|0.001|100|1000|OK|GET", {"s1": "cut"}),
    (f"{A}|200|0.501|0.501|200|0.000|0.000|250000|1000000||GET", {"s1": "client_aborts"}),
    (f"{A}|200|0.002|0.001|200|0.000|0.001|10|-||GET", {"s1": ""}),  # chunked: nobody knows its length
    (f"{A}|200|0.002|0.001|200|0.000|0.001|0|1000|OK|HEAD", {"s1": ""}),
    (f"{A}|502|0.001|0.000|502|0.000|-|0|-|OK|GET", {"s1": "response"}),
    (f"{A}|504|2.002|2.002|504|0.000|-|0|-|OK|GET", {"s1": "timeout"}),
    (f"{B}|502|0.000|0.001|502|-|-|0|-|OK|GET", {"s2": "connect"}),
    (f"{A}|-|0.200|0.200|499|0.000|-|0|-||GET", {"s1": "client_aborts"}),
    (f"{B}, {A}|502, 200|0.000, 0.001|0.001|200|-, 0.001|-, 0.001|0, 2|2|OK|GET", {"s1": "", "s2": "connect"}),
    # A kept connection that the member had closed: nginx tried the same one again, and that is one request.
    (f"{A}, {A}|502, 502|0.000, 0.000|0.001|502|0.000, 0.000|-, -|0, 0|-|OK|GET", {"s1": "response"}),
    (f"{A}, {A}|502, 200|0.000, 0.001|0.001|200|0.000, 0.000|-, 0.001|0, 2|2|OK|GET", {"s1": ""}),
    ("shop|502|0.000|0.000|502|-|-|0|-|OK|GET", {}),  # no member was left to try
    ("-|-|-|0.000|200|-|-|-|-|OK|GET", {}),
]


def nginx_counted(line: str, log_format: str = FORMAT) -> tuple[dict[str, Any], Counts]:
    found = Counts([])
    NginxLog(log_format, {A: "s1", B: "s2"}).count(line + "\n", found)
    return found.to_dict()["members"], found


@pytest.mark.parametrize(("line", "expected"), NGINX)
def test_nginx(line: str, expected: dict[str, str]) -> None:
    members, found = nginx_counted(line)
    assert (found.lines, found.unread) == (1, 0)
    assert set(members) == set(expected)
    for name, kind in expected.items():
        one = members[name]
        assert one["requests"] == 1
        assert one["client_aborts"] == int(kind == "client_aborts")
        assert [each for each, count in one["kinds"].items() if count] == ([kind] if one["errors"] else [])
        assert bool(one["errors"]) == (kind not in ("", "client_aborts"))


COMBINED = (
    '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" '
    '"$http_user_agent" $upstream_addr $upstream_status $upstream_response_time ${request_time}'
)


def test_nginx_in_a_format_of_its_own() -> None:
    head = '10.9.8.7 - - [24/Nov/2026:14:00:32 +0000] "GET /a b?c=|d HTTP/1.1" '
    members, found = nginx_counted(f'{head}502 157 "-" "Mozilla (X11)" {A} 502 0.030 0.031', COMBINED)
    assert (found.lines, found.unread) == (1, 0)
    assert members["s1"]["kinds"]["status_5xx"] == 1
    members, found = nginx_counted(f'{head}200 2 "-" "x" {B}, {A} 502, 200 0.000, 0.020 0.021', COMBINED)
    assert found.lines == 1
    assert members["s2"]["errors"] == 1
    assert members["s1"]["errors"] == 0
    assert members["s1"]["latency"][BUCKETS.index(20)] == 1


@pytest.mark.parametrize("missing", ["$upstream_addr", "$upstream_status", "$request_time", "$status"])
def test_a_format_without_what_is_needed_is_refused(missing: str) -> None:
    with pytest.raises(BadInput, match=rf"has no \{missing}"):
        NginxLog("|".join(part for part in FORMAT.split("|") if part != missing), {})


def test_nginx_lines_of_another_format_are_unread() -> None:
    _members, found = nginx_counted('10.9.8.7 - - [24/Nov/2026:14:00:32 +0000] "GET / HTTP/1.1" 200 2')
    assert (found.lines, found.unread) == (0, 1)


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=200))
def test_any_text_is_counted_or_left(text: str) -> None:
    found = Counts([])
    for log in (HAProxyLog("shop"), NginxLog(FORMAT, {A: "s1"}), NginxLog(COMBINED, {A: "s1"})):
        log.count(text + "\n", found)
    assert all(count["errors"] <= count["requests"] for count in found.to_dict()["members"].values())


@pytest.mark.parametrize(("line", "_expected"), NGINX)
@given(data=st.data())
def test_a_line_that_was_tampered_with_does_no_harm(line: str, _expected: object, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(line) - 1))
    nginx_counted(line[:place] + data.draw(st.text(max_size=3)).replace("\n", "") + line[place + 1 :])
