# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What preflight makes of the pools it reads: which member a host is, what differs, what would not last."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput, Refused, UnknownMember
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Admin, Health, Member, Pool
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._members import find_members
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Reply
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout import preflight
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import Place
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import Settings


def member(name: str, address: str = "10.0.0.1", port: int = 80, weight: int = 1) -> Member:
    return Member(name, address, port, Admin.READY, Health.UP, weight, 0, 0)


def pool(*members: Member) -> Pool:
    return Pool("shop", "1@2", members)


def settings(**more: Any) -> Settings:
    needed = {
        "rollout_service": "shop",
        "rollout_hosts": "shop",
        "rollout_balancers": "lb",
        "rollout_pool": "shop",
        "rollout_version": "2.0",
        "rollout_health_url": "http://127.0.0.1/",
        "rollout_upgrade_tasks": "up.yml",
    }
    return Settings.from_vars({**needed, **more})


def found(variables: dict[str, Any], *members: Member) -> str:
    names = find_members(["web1"], {"web1": variables}, {"lb1": pool(*members)})
    return names["web1"]["lb1"]


def test_a_host_is_the_member_of_its_name_before_that_of_its_address() -> None:
    assert found({"ansible_host": "10.0.0.2"}, member("web1"), member("b", "10.0.0.2")) == "web1"
    assert found({"ansible_host": "10.0.0.2"}, member("a"), member("b", "10.0.0.2")) == "b"


def test_an_address_with_several_members_needs_the_port() -> None:
    members = member("a", port=80), member("b", port=81)
    with pytest.raises(UnknownMember, match=r"web1 is more than one member \(a, b\).*a \(10.0.0.1:80\)"):
        found({"ansible_host": "10.0.0.1"}, *members)
    assert found({"ansible_host": "10.0.0.1", "rollout_member_port": "81"}, *members) == "b"


@pytest.mark.case(39)
@pytest.mark.parametrize(
    ("given", "name"),
    [("b", "b"), ("10.0.0.1:81", "b"), ("[2001:db8::1]:80", "six"), ("2001:db8::1", "six"), ("10.0.0.9", "nine")],
)
def test_a_member_may_be_given_by_its_name_or_by_its_address(given: str, name: str) -> None:
    members = (member("a"), member("b", port=81), member("six", "2001:db8:0::1"), member("nine", "10.0.0.9"))
    assert found({"rollout_member": given}, *members) == name


@pytest.mark.case(1)
def test_what_is_there_is_named_when_nothing_fits() -> None:
    with pytest.raises(UnknownMember, match=r"webb1 is not a member .* on lb1, which has a \(10.0.0.1:80\)"):
        found({"rollout_member": "webb1"}, member("a"))
    with pytest.raises(UnknownMember, match=r"web1 is not a member .* which has nothing"):
        found({})
    with pytest.raises(BadInput, match="rollout_member_port of web1"):
        found({"rollout_member_port": "http"}, member("a"))


@pytest.mark.case(31)
def test_one_member_under_two_names_is_refused() -> None:
    with pytest.raises(Refused, match=r"a and b of the pool 'shop' on lb1 are both 10.0.0.1:80"):
        preflight._refuse_twins("lb1", pool(member("a"), member("b")))
    preflight._refuse_twins(
        "lb1", pool(member("a"), member("b", port=81), member("u", "unix", 0), member("v", "unix", 0))
    )


def read(one: Pool, lasting: str = "") -> Reply:
    return Reply("lb", {"pools": [one.to_dict()], "lasting": {"shop": lasting}, "held_out": {}})


PLACES = {"lb1": Place("lb1", 0), "lb2": Place("lb2", 0)}


@pytest.mark.case(1)
def test_pools_that_differ_are_shown_and_refused() -> None:
    replies = {
        "lb1": read(pool(member("a"), member("b", port=81))),
        "lb2": read(pool(member("a"), member("b", port=8))),
    }
    with pytest.raises(Refused, match=r"not the same on every balancer:\nmember +lb1 +lb2\nb +10.0.0.1:81 +10.0.0.1:8"):
        preflight.pools_of(settings(), PLACES, replies)


def test_weights_that_differ_are_said() -> None:
    pools = {"lb1": pool(member("a"), member("b", weight=7)), "lb2": pool(member("a"), member("b", weight=9))}
    assert preflight._weights_that_differ(pools, PLACES) == [
        "the weight of b differs (7 on lb1, 9 on lb2), and stays so"
    ]


def test_what_would_not_last_is_refused_or_said() -> None:
    replies = {"lb1": read(pool(member("a"))), "lb2": read(pool(member("a")), "A reload undoes it.")}
    with pytest.raises(Refused, match=r"lb2: A reload undoes it\..*rollout_lasting is require"):
        preflight._lasting(settings(), PLACES, replies)
    assert preflight._lasting(settings(rollout_lasting="accept"), PLACES, replies) == ["lb2: A reload undoes it"]
    assert preflight._lasting(settings(), PLACES, {name: read(pool(member("a"))) for name in PLACES}) == []


def layers(*pools: dict[str, str]) -> Settings:
    return settings(
        rollout_pools=[{"balancers": "lb", **each} for each in pools], rollout_pool="", rollout_balancers=""
    )


def test_a_server_that_follows_one_of_the_same_rollout_is_refused() -> None:
    tracking = replace(member("t1"), detail={"tracked_by": "shop/web1"})
    pools = {"lb (shop)": pool(member("web1")), "lb (api)": Pool("api", "1@2", (tracking,))}
    places = {"lb (shop)": Place("lb", 0), "lb (api)": Place("lb", 1)}
    names = {"web1": {"lb (shop)": "web1", "lb (api)": "t1"}}
    with pytest.raises(BadInput, match=r"t1 of the pool 'api' on lb tracks shop/web1 .*Leave api out of rollout_pools"):
        preflight._refuse_trackers(places, pools, names)
    preflight._refuse_trackers({**places, "lb (shop)": Place("other", 0)}, pools, names)


def test_one_host_may_have_two_haproxys_with_a_pool_of_one_name() -> None:
    places = preflight.find_places(
        layers({"pool": "shop", "socket": "/run/a.sock"}, {"pool": "shop", "socket": "/run/b.sock"}), [["lb"], ["lb"]]
    )
    assert list(places) == ["lb (shop)", "lb (shop, /run/b.sock)"]
    with pytest.raises(BadInput, match="names the pool 'shop' on lb twice"):
        preflight.find_places(layers({"pool": "shop"}, {"pool": "shop"}), [["lb"], ["lb"]])
