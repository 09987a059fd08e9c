# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Members of nginx that are switched by links: what is generated, dealt and refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.module_utils._drivers.base import Clock
from ansible_collections.zerodrop.rollout.plugins.module_utils._drivers.nginx_links import NginxLinksDriver
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    BadInput,
    InvalidConfiguration,
    PermissionDenied,
    Refused,
    RolloutError,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._nginx import links, usage
from ansible_collections.zerodrop.rollout.plugins.module_utils._nginx.links import Wishes, deal, keys_for, quotas
from ansible_collections.zerodrop.rollout.plugins.module_utils._nginx.table import Table, Weights
from ansible_collections.zerodrop.rollout.plugins.module_utils._nginx.upstreams import Upstream, read
from ansible_collections.zerodrop.rollout.plugins.module_utils._nginx_links import nginx_links

weights = st.lists(st.integers(1, 300), min_size=2, max_size=64)


def upstream(body: str, name: str = "shop") -> Upstream:
    (found,) = read(f"upstream {name} {{ {body} }}", context="http")
    return found


def generate(
    body: str, name: str = "shop", version: tuple[int, int, int] = (1, 26, 3), **wishes: str
) -> links.Generated:
    found = upstream(body, name)
    literal = {server.address: server.address for server in found.servers}
    return links.generate(found, literal, "/t", Wishes(**wishes), version)


TWO = "server 10.0.0.1:80; server 10.0.0.2:80;"

# --- dealing ---


@given(weights, st.data())
def test_every_slot_is_dealt_by_weight_and_none_to_a_member_that_is_out(home: list[int], data: st.DataObject) -> None:
    out = data.draw(st.sets(st.integers(0, len(home) - 1), max_size=len(home) - 1))
    now = [0 if i in out else weight for i, weight in enumerate(home)]
    slots = links.slots_for(len(home))
    owners = deal(home, now, slots)
    assert len(owners) == slots
    assert set(owners) == {i for i, weight in enumerate(now) if weight}
    wanted = quotas(now, slots)
    assert [owners.count(i) for i in range(len(now))] == wanted
    exact = [slots * weight / sum(now) for weight in now]
    if all(share >= 1 for share in exact if share):
        assert all(abs(quota - share) < 1 for quota, share in zip(wanted, exact, strict=True))


@given(weights, st.data())
def test_only_slots_of_members_that_are_out_move(home: list[int], data: st.DataObject) -> None:
    out = data.draw(st.sets(st.integers(0, len(home) - 1), min_size=1, max_size=len(home) - 1))
    slots = links.slots_for(len(home))
    before = deal(home, home, slots)
    after = deal(home, [0 if i in out else weight for i, weight in enumerate(home)], slots)
    moved = sum(a != b for a, b in zip(before, after, strict=True))
    own = sum(before.count(i) for i in out)
    assert own <= moved <= own + len(home)  # a slot here and there by rounding


@given(st.lists(st.integers(1, 5), min_size=2, max_size=20), st.data())
def test_a_key_leads_to_its_owner_and_then_to_another_in_service(home: list[int], data: st.DataObject) -> None:
    out = data.draw(st.sets(st.integers(0, len(home) - 1), max_size=len(home) - 1))
    now = [0 if i in out else weight for i, weight in enumerate(home)]
    owners = deal(home, now, 200)
    for owner, key in zip(owners, keys_for(owners, tuple(home)), strict=True):
        first, second = links.picks(key, tuple(home))
        assert first == owner == links.owner_of(key, tuple(home))
        assert second not in out or len(home) - len(out) == 1 or len(out) > len(home) * 0.6


def test_the_hash_is_nginxs() -> None:
    """What nginx 1.22, 1.26, 1.30 and 1.31 did with these keys and weights, second choices included."""
    seen = [(2, 1), (2, 0), (2, 0), (2, 0), (2, 0), (3, 0), (2, 1), (0, 1)]
    assert [links.picks(f"k{number}", (3, 1, 2, 1)) for number in range(8)] == seen


@pytest.mark.parametrize("key", ["k0;", "../x", "k", "even", ""])
def test_what_is_no_key_has_no_owner(key: str) -> None:
    assert links.owner_of(key, (1, 1)) is None


def test_weights_too_far_apart_are_refused() -> None:
    with pytest.raises(Refused, match="too far apart"):
        keys_for([0, 1], (1, 60_000_000))


# --- what is generated ---


def test_what_is_written() -> None:
    found = generate("server 10.0.0.1:80 weight=3 max_fails=0; server 10.0.0.2:80 down; keepalive 8; zone z 64k;")
    assert found.even is True
    assert 'split_clients "$request_id" $zerodrop_shop_slot {' in found.http
    assert found.http.count("0.50% ") == 199
    assert "    server 10.0.0.1:80 weight=3 max_fails=0;\n    server 10.0.0.2:80;\n" in found.http
    assert "    keepalive 8;\n    zone zerodrop_shop 64k;\n    keepalive_timeout 20ms;\n" in found.http
    assert found.location.splitlines()[1:] == [
        f"root {found.folder}/live/$zerodrop_shop_slot;",
        "proxy_pass http://zerodrop_shop;",
    ]
    (own,) = read(found.http, context="http")
    assert links.is_generated(own)


def test_a_version_that_keeps_connections_by_default_is_given_a_short_time() -> None:
    assert "keepalive" not in generate(TWO, version=(1, 29, 6)).http
    assert "keepalive 32;\n    keepalive_timeout 20ms;" in generate(TWO, version=(1, 29, 7)).http
    assert "keepalive_timeout" not in generate(TWO + "keepalive 0;", version=(1, 29, 7)).http


@pytest.mark.parametrize(
    ("body", "key", "even"),
    [
        (TWO, "$request_id", True),
        (TWO + "random;", "$request_id", True),
        (TWO + "ip_hash;", "$remote_addr", False),
        (TWO + "hash $cookie_s consistent;", "$cookie_s", False),
        (TWO + "hash $host$uri;", "$host$uri", False),
    ],
)
def test_the_key_is_what_the_upstream_has(body: str, key: str, even: bool) -> None:
    found = generate(body)
    assert f'split_clients "{key}" ' in found.http
    assert found.even is even


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (TWO + "least_conn;", "least_conn"),
        (TWO + "random two least_conn;", "random two least_conn"),
        (TWO + "sticky cookie s;", "sticky"),
        (TWO + "hash $arg_a/x;", "hashes"),
        (TWO + "queue 5;", "queue"),
        (TWO + "zone shared;", "zone"),
        ("server 10.0.0.1:80; server 10.0.0.2:80 backup;", "backup"),
        ("server 10.0.0.1:80; server 10.0.0.2:80 slow_start=5s;", "slow_start"),
        ("server 10.0.0.1:80; server 10.0.0.1:80;", "twice"),
        ("server 10.0.0.1:80;", "has 1 servers"),
        ("".join(f"server 10.0.{i // 250}.{i % 250}:80;" for i in range(257)), "has 257 servers"),
    ],
)
def test_what_cannot_be_kept_is_refused(body: str, words: str) -> None:
    with pytest.raises(Refused, match=words):
        generate(body)


def test_connections_are_not_counted_where_that_is_agreed() -> None:
    assert "least_conn" not in generate(TWO + "least_conn;", key="$request_id").http


def test_names() -> None:
    assert links.names_of("a.b").variable != links.names_of("a_b").variable
    assert links.names_of("shop").key == "$zerodrop_shop_key"
    for name in ("a b", "", "x" * 64, "a/b", "a;b", "ä", "$a"):
        with pytest.raises(BadInput):
            links.names_of(name)


@pytest.mark.parametrize(
    ("key", "scheme", "time"),
    [
        ("request_id", "http", "1s"),
        ("$a; }", "http", "1s"),
        ('$a"', "http", "1s"),
        ("$a", "ftp", "1s"),
        ("$a", "http", "1 s"),
        ("$a", "http", "1s;"),
    ],
)
def test_words_that_come_to_stand_in_the_configuration_are_checked(key: str, scheme: str, time: str) -> None:
    with pytest.raises(BadInput):
        Wishes.checked(key, scheme, time)


@given(st.text(max_size=30), st.text(max_size=20), st.text(max_size=10))
def test_no_word_gets_in_that_is_more_than_a_word(key: str, scheme: str, time: str) -> None:
    try:
        wishes = Wishes.checked(key, scheme, time)
    except BadInput:
        return
    assert not set("".join(wishes)) & set(" \t\r\n;{}\"'\\#")


def test_an_address_must_be_one() -> None:
    (server,) = upstream("server app:80;").servers
    assert links.literal_of(server, ["10.0.0.1"]) == "10.0.0.1:80"
    assert links.literal_of(server, ["fe80::1"]) == "[fe80::1]:80"
    for several in ([], ["10.0.0.1", "10.0.0.2"]):
        with pytest.raises(Refused, match="addresses"):
            links.literal_of(server, several)


@pytest.mark.parametrize("params", [{"pool": "a b"}, {"pool": "shop", "http_file": "x.conf"}, {"pool": ""}])
def test_parameters_are_checked_before_anything(params: dict[str, str]) -> None:
    with pytest.raises(RolloutError):
        nginx_links(params, False)


def test_a_mode_that_is_none() -> None:
    with pytest.raises(BadInput, match="auto, reload, links"):
        NginxLinksDriver.from_params({"nginx_mode": "flags"}, Clock())


# --- who passes requests ---


def test_usage() -> None:
    location = "root /t/live/$zerodrop_shop_slot;\nproxy_pass http://zerodrop_shop;\n"
    dump = (
        "# configuration file /etc/nginx/nginx.conf:\nhttp { server {\nlocation / { include x; }\n"
        "location /a { proxy_pass http://shop/x; }\nlocation /b { grpc_pass SHOP; }\n"
        "location /c { proxy_pass https://zerodrop_shop; }\nlocation /d { proxy_pass http://shopping; } } }\n"
        f"# configuration file /etc/nginx/zerodrop/shop.conf:\n{location}"
    )
    found = usage.usage_of(dump, "shop", "/t")
    assert found.by_links == ("/etc/nginx/zerodrop/shop.conf:2",)
    assert found.besides == ("/etc/nginx/nginx.conf:3", "/etc/nginx/nginx.conf:4")
    assert found.astray == ("/etc/nginx/nginx.conf:5",)
    assert usage.usage_of(dump, "shop", "/other").by_links == ()


# --- the table ---

THREE = {"10.0.0.1:80": 1, "10.0.0.2:80": 1, "10.0.0.3:80": 2}


def rows(**out: bool) -> dict[str, Weights]:
    return {
        address: Weights(weight, weight, f"s{i}" not in out) for i, (address, weight) in enumerate(THREE.items(), 1)
    }


def test_a_table_says_what_was_written(tmp_path: Path) -> None:
    table = Table(str(tmp_path), "shop", THREE)
    assert not table.exists()
    for wanted in (rows(), rows(s1=True), rows(s1=True, s3=True), rows(s2=True), rows()):
        table.write(wanted, even=True)
        assert table.holds(wanted)
        assert Table(str(tmp_path), "shop", THREE).read() == wanted
    assert os.path.realpath(f"{table.folder}/live/17").endswith("/keys/even")
    lighter = {**rows(), "10.0.0.3:80": Weights(2, 1)}
    table.write(lighter)
    assert table.read() == lighter
    assert os.path.basename(os.path.realpath(f"{table.folder}/live/17")).startswith("k")


def test_a_key_of_clients_has_its_slots_always(tmp_path: Path) -> None:
    table = Table(str(tmp_path), "shop", THREE)
    table.write(rows(), even=False)
    assert os.readlink(f"{table.folder}/live") == "slots"
    assert table.read() == rows()


def test_other_servers_have_another_table(tmp_path: Path) -> None:
    folders = {
        Table(str(tmp_path), "shop", servers).folder
        for servers in (THREE, {**THREE, "10.0.0.3:80": 1}, dict(reversed(THREE.items())), {**THREE, "10.0.0.4:80": 1})
    }
    assert len(folders) == 4


def test_a_table_that_is_not_whole_is_said(tmp_path: Path) -> None:
    table = Table(str(tmp_path), "shop", THREE)
    table.write(rows(s1=True), even=True)
    (tmp_path / table.folder / "slots/3").unlink()
    with pytest.raises(InvalidConfiguration, match="slots/3"):
        Table(str(tmp_path), "shop", THREE).read()
    (tmp_path / table.folder / "slots/3").symlink_to("../keys/other")
    with pytest.raises(InvalidConfiguration, match="leads to no key"):
        Table(str(tmp_path), "shop", THREE).read()
    (tmp_path / table.folder / "live").unlink()
    with pytest.raises(InvalidConfiguration, match="leads nowhere"):
        Table(str(tmp_path), "shop", THREE).read()
    table.write(rows(s1=True), even=True)
    assert table.read() == rows(s1=True)


def test_workers_must_be_able_to_read_it(tmp_path: Path) -> None:
    table = Table(str(tmp_path), "shop", THREE)
    table.write(rows(), even=True)
    for path in (tmp_path, *tmp_path.parents):
        if not path.stat().st_mode & 1 and path != Path("/"):
            break
    else:
        table.check_rights([(65534, frozenset({65534}))])
    (tmp_path / "shop").chmod(0o700)
    with pytest.raises(PermissionDenied, match="may not pass"):
        table.check_rights([(65534, frozenset({65534}))])
    table.check_rights([(0, frozenset())])
