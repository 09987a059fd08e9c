# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The text of routes, and what is refused in them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput
from ansible_collections.zerodrop.rollout.plugins.module_utils._route import FLAGS, RELOAD, Preview, Slots, entries
from ansible_collections.zerodrop.rollout.plugins.module_utils._route_operations import decided

PARAMS = {"service": "shop", "blue_pool": "shop_blue", "green_pool": "shop_green"}


def slots(**more: Any) -> Slots:
    return Slots.from_params({**PARAMS, **more})


def test_what_haproxy_needs() -> None:
    one = slots(preview="header:X-Preview=s3cret")
    assert one.file == "/etc/haproxy/zerodrop/shop.map"
    assert entries(one.map_text("shop_green")) == {"live": "shop_green", "idle": "shop_blue"}
    assert one.haproxy_lines == (
        "use_backend %[str(idle),map(/etc/haproxy/zerodrop/shop.map)] if { req.hdr(X-Preview) -m str s3cret }",
        "use_backend %[str(live),map(/etc/haproxy/zerodrop/shop.map)]",
    )


def test_what_nginx_needs() -> None:
    one = slots(driver="nginx", preview="cookie:preview=s3cret")
    text = one.nginx_text(FLAGS, "shop_blue")
    assert text == one.nginx_text(FLAGS, "shop_green")
    assert text.count("if (-f ") == 1, "one test alone decides"
    assert "if (-f /var/lib/zerodrop/nginx/routes/shop/shop_green) { set $zerodrop_route_shop shop_green;" in text
    assert 'if ($cookie_preview = "s3cret")' in text
    assert one.nginx_text(RELOAD, "shop_blue") != one.nginx_text(RELOAD, "shop_green")


@pytest.mark.parametrize(
    ("text", "haproxy", "nginx"),
    [
        ("header:X-Try=a", "req.hdr(X-Try) -m str a", '$http_x_try = "a"'),
        ("host:try.example.com", "req.hdr(host),field(1,:) -m str -i try.example.com", '$host = "try.example.com"'),
        ("port:8081", "dst_port 8081", '$server_port = "8081"'),
    ],
)
def test_previews(text: str, haproxy: str, nginx: str) -> None:
    found = Preview.parse(text, "preview")
    assert (found.haproxy, found.nginx) == (haproxy, nginx)


@pytest.mark.parametrize(
    "text",
    [
        "header",
        "header:X",
        "header:X=",
        'header:X=a"b',
        "header:X=a b",
        "cookie:a-b=c",
        "host:",
        "port:0",
        "port:70000",
        "x:y=z",
    ],
)
def test_previews_that_are_refused(text: str) -> None:
    with pytest.raises(BadInput, match="preview"):
        Preview.parse(text, "preview")


@given(st.text(max_size=40))
def test_no_preview_brings_anything_into_a_configuration(text: str) -> None:
    for kind in ("header:X=", "cookie:x=", "host:", "port:"):
        try:
            found = Preview.parse(kind + text, "preview")
        except BadInput:
            continue
        if found.kind:
            assert not set('";{}#\\$\n\r\t') & set(found.value)


@pytest.mark.parametrize(
    "more",
    [
        {"service": "a/b"},
        {"blue_pool": "a b"},
        {"green_pool": "shop_blue"},
        {"green_pool": ""},
        {"route_file": "relative"},
        {"route_file": "/etc/a b"},
        {"route_file": "/etc/a;b"},
        {"route_flags": "/etc/../x"},
    ],
)
def test_names_that_are_refused(more: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        slots(**more)


def note(live: str, to: str = "", number: int = 1) -> dict[str, Any]:
    return {"live": live, "to": to, "number": number}


@pytest.mark.parametrize(
    ("noted", "live"),
    [
        ([None, None], ""),
        ([note("blue"), note("blue")], "blue"),
        ([note("blue", "green"), note("blue", "green")], "blue"),
        ([note("blue", "green"), note("green")], "green"),
        ([note("blue", "green"), note("blue")], "blue"),
        ([note("blue", number=1), note("green", number=2)], "green"),
        ([note("blue", "green", 2), note("green", number=1)], "blue"),
        ([None, note("green")], "green"),
    ],
)
def test_what_the_ledgers_say(noted: list[dict[str, Any] | None], live: str) -> None:
    assert decided(noted) == live
    assert decided(noted[::-1]) == live
