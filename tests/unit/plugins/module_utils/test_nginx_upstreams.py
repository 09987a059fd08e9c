# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The upstreams of an nginx configuration, wherever they stand and however they are written."""

from __future__ import annotations

import fnmatch
import posixpath
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    InvalidConfiguration,
    UnknownMember,
    UnknownPool,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._nginx import addresses
from ansible_collections.zerodrop.rollout.plugins.module_utils._nginx.upstreams import (
    Configuration,
    Upstream,
    load,
    of_text,
    read,
)


class Disk:
    """Files in memory, as a driver would show them."""

    def __init__(self, files: Mapping[str, str], links: Mapping[str, str] | None = None) -> None:
        self._files = files
        self._links = links or {}

    def read(self, path: str) -> bytes:
        try:
            return self._files[self.real(path)].encode()
        except KeyError:
            raise FileNotFoundError(2, "No such file or directory", path) from None

    def glob(self, pattern: str) -> Sequence[str]:
        folder, name = posixpath.split(pattern)
        names = [*self._files, *self._links]
        return sorted(
            p for p in names if posixpath.dirname(p) == folder and fnmatch.fnmatch(posixpath.basename(p), name)
        )

    def real(self, path: str) -> str:
        return self._links.get(path, path)


def nginx(files: Mapping[str, str], links: Mapping[str, str] | None = None) -> Configuration:
    return load("/etc/nginx/nginx.conf", Disk(files, links))


def one(body: str, context: str = "http") -> Upstream:
    (found,) = read(f"upstream u {{ {body} }}", context=context)
    return found


def addresses_of(upstream: Upstream) -> list[str]:
    return [server.address for server in upstream.servers]


def test_a_server_and_its_parameters() -> None:
    text = "http {\n  upstream shop {\n    server\n 10.0.0.1:8080 weight=5\tmax_fails=2 # one\n fail_timeout=3s\n backup;\n}}"
    (shop,) = read(text)
    assert (shop.name, shop.context, shop.source, shop.line) == ("shop", "http", "nginx.conf", 2)
    (server,) = shop.servers
    assert (server.host, server.port, server.socket, server.weight) == ("10.0.0.1", 8080, "", 5)
    assert (server.backup, server.down, server.drain, server.resolve) == (True, False, False, False)
    assert server.parameters == ("weight=5", "max_fails=2", "fail_timeout=3s", "backup")
    assert (server.parameter("max_fails"), server.parameter("slow_start")) == ("2", None)
    assert (server.line, server.position, server.settings) == (3, 1, (False, False, "5"))
    assert text[server.start : server.end].startswith("server\n 10")
    assert text[server.end - 1] == ";"


def test_what_an_operator_took_out_is_told_apart() -> None:
    down, drain, free = one("server a down; server b drain weight=07; server c;").servers
    assert [server.settings for server in (down, drain, free)] == [
        (True, False, ""),
        (False, True, "07"),
        (False, False, ""),
    ]
    assert [server.settings.in_service for server in (down, drain, free)] == [False, False, True]


@pytest.mark.parametrize(
    "body",
    [
        "#server a;\n server b;",
        "server b; # server a;\n",
        "  # }\n # upstream x {\n server b;",
        'hash "server a;"; server b;',
        "hash 'upstream x { server a; }'; server b;",
        "server # a;\n b;",
        '"server" "b";',
        "server\r\n\tb\r\n;\r\n",
        "zone server 64k; server b;",
        "balancer_by_lua_block { local s = '} server a;' --[[ } ]] } server b;",
    ],
)
def test_only_what_nginx_takes_for_a_server_is_one(body: str) -> None:
    assert addresses_of(one(body)) == ["b"]


def test_upstreams_are_found_in_http_and_stream_only() -> None:
    text = """
    events { } upstream main { server x; }
    http{upstream "a b"{server a;}
      server { location / { proxy_pass http://a; } upstream x { server no; } }
      map $a $b { upstream c; server d; default { } }
      types { text/html upstream; }
      upstream
        c # {
      { server b ; }
    }
    mail { upstream m { server a; } }
    stream { upstream c { server c:1; } }
    """
    assert [(u.name, u.context, addresses_of(u)) for u in read(text)] == [
        ("a b", "http", ["a"]),
        ("c", "http", ["b"]),
        ("c", "stream", ["c:1"]),
    ]
    configuration = of_text(text)
    assert configuration.upstream("c", "stream").context == "stream"
    with pytest.raises(UnknownPool, match="one in stream"):
        configuration.upstream("c")
    with pytest.raises(UnknownPool, match=r"has no upstream 'C'.*a b, c"):
        configuration.upstream("C")


@pytest.mark.parametrize(
    ("body", "method", "parameters"),
    [
        ("", "round_robin", ()),
        ("ip_hash;", "ip_hash", ()),
        ("hash $uri consistent;", "hash", ("$uri", "consistent")),
        ("least_conn; keepalive 5;", "least_conn", ()),
        ("random two least_conn;", "random", ("two", "least_conn")),
    ],
)
def test_the_method(body: str, method: str, parameters: tuple[str, ...]) -> None:
    found = one(f"server a; {body}")
    assert (found.method, found.method_parameters) == (method, parameters)


def test_what_else_an_upstream_has() -> None:
    found = one("zone shop 64k; sticky cookie id expires=1h; keepalive 32; state /var/lib/s; server a;")
    assert (found.zone, found.sticky, found.keepalive) == ("shop", ("cookie", "id", "expires=1h"), 32)
    assert found.state_file == "/var/lib/s"
    bare = one("server a;")
    assert (bare.zone, bare.sticky, bare.keepalive, bare.state_file) == ("", None, None, "")


@pytest.mark.parametrize(
    ("text", "host", "port", "socket"),
    [
        ("a.example:8080", "a.example", 8080, ""),
        ("a_b-1.example", "a_b-1.example", 80, ""),
        ("127.0.0.1", "127.0.0.1", 80, ""),
        ("[::1]:8080", "::1", 8080, ""),
        ("[2001:db8::1]", "2001:db8::1", 80, ""),
        ("[::ffff:10.0.0.1]:080", "::ffff:10.0.0.1", 80, ""),
        ("unix:/run/a:b c.sock", "", None, "/run/a:b c.sock"),
        ("UNIX:relative", "", None, "relative"),
        ("bücher.example:1", "bücher.example", 1, ""),
        ("*.odd+name@x", "*.odd+name@x", 80, ""),
    ],
)
def test_addresses(text: str, host: str, port: int | None, socket: str) -> None:
    (server,) = one(f'server "{text}";').servers
    assert (server.address, server.host, server.port, server.socket) == (text, host, port, socket)


@pytest.mark.parametrize(
    "text",
    ["", ":80", "a:", "a:0", "a:65536", "a:http", "a:1:2", "a:\uff11", "http://a", "a/b", "a?b", "$a", "a b", "{{ a }}:80"]
    + ["[::1", "[::1]80", "[::1]:", "[]:80", "[g::1]:80", "[::1%eth0]:80", "unix:", "unix:/" + "x" * 107, "a\\tb", "\x7f"],
)  # fmt: skip
def test_what_is_no_address_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(InvalidConfiguration, match=r"^nginx\.conf:3: the address ") as caught:
        read(f'upstream u {{\nserver a;\nserver "{text}"; }}', context="http")
    assert (caught.value.facts["file"], caught.value.facts["line"]) == ("nginx.conf", 3)


ADDRESS_BITS = st.sampled_from(["unix:", "/", "[", "]", "::1", ":", "a", ".", "0", "80", "99999", "$", " ", "\udcff"])


@given(st.one_of(st.text(max_size=40), st.lists(ADDRESS_BITS, max_size=6).map("".join)), st.sampled_from([80, None]))
def test_any_address_is_read_or_refused(text: str, port: int | None) -> None:
    try:
        found = addresses.parse(text, port)
    except ValueError:
        return
    assert bool(found.host) != bool(found.socket)
    assert found.port is None or 0 < found.port < 65536


def test_ports_in_stream_and_from_dns() -> None:
    assert one("server a:1;", "stream").servers[0].port == 1
    with pytest.raises(InvalidConfiguration, match="no port"):
        one("server a;", "stream")
    for context in ("http", "stream"):
        assert one("server a.example service=_x._tcp resolve;", context).servers[0].port is None
    assert one("server unix:/x;", "stream").servers[0].socket == "/x"


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("upstream u;", 1, "upstream"),
        ("upstream { server a; }", 1, "upstream"),
        ("upstream a b { server a; }", 1, "upstream"),
        ("upstream '' { server a; }", 1, "no name"),
        ("upstream u {\nserver; }", 2, "one address"),
        ("upstream u {\nserver a { } }", 2, "one address"),
        ("upstream u {\nserver a weight=0; }", 2, "'weight=0'"),
        ("upstream u {\nserver a weight=; }", 2, "'weight='"),
        ("upstream u {\nserver a weight=x; }", 2, "'weight=x'"),
        ("upstream u {\nserver a weight=-1; }", 2, "'weight=-1'"),
        ("upstream u {\nserver a weight=\uff11; }", 2, "is no weight"),
        ("upstream u {\nserver a;\nkeepalive many; }", 3, "keepalive"),
        ("upstream u {\nzone; }", 2, "zone"),
        ("upstream u {\ninclude servers; }", 2, "'servers' are not known"),
        ("include;", 1, "include"),
        ("include a b;", 1, "include"),
        ("include a { }", 1, "include"),
        ("upstream u { server a; }\nupstream U { server b; }", 2, "second time; the first is at nginx.conf:1"),
    ],
)
def test_what_is_not_understood_is_refused_with_its_place(text: str, line: int, what: str) -> None:
    with pytest.raises(InvalidConfiguration) as caught:
        read(text, context="http")
    assert what in caught.value.message
    assert caught.value.message.startswith(f"nginx.conf:{line}: ")


def test_http_is_a_plain_block() -> None:
    for text in ("http;", "http x { }"):
        with pytest.raises(InvalidConfiguration, match="http is a block"):
            read(text)


def test_includes() -> None:
    configuration = nginx(
        {
            "/etc/nginx/nginx.conf": "http { include conf.d/*.conf; include /srv/more; include none/*; }",
            "/etc/nginx/conf.d/b.conf": "upstream b { server b1; include conf.d/servers; server b3; }",
            "/etc/nginx/conf.d/a.conf": "upstream a { server a; }",
            "/etc/nginx/conf.d/servers": "# b\nserver b2 down;",
            "/srv/more": "include 'more 2';",
            "/etc/nginx/more 2": "upstream c { server c; }",
        }
    )
    assert [upstream.name for upstream in configuration.upstreams] == ["a", "b", "c"]
    middle = configuration.upstream("b").servers[1]
    assert (middle.address, middle.position, middle.down) == ("b2", 2, True)
    assert (middle.source, middle.line) == ("/etc/nginx/conf.d/servers", 2)
    assert "/etc/nginx/more 2" in configuration.sources


def test_a_file_has_one_name() -> None:
    configuration = nginx(
        {"/etc/nginx/nginx.conf": "http { include enabled/*; }", "/available/x": "upstream x { server a; }"},
        links={"/etc/nginx/enabled/x": "/available/x"},
    )
    assert configuration.upstream("x").servers[0].source == "/available/x"


@pytest.mark.parametrize(
    ("files", "what"),
    [
        (
            {"nginx.conf": "http {\ninclude gone; }"},
            r"nginx\.conf:2: the included '/etc/nginx/gone' cannot be read: No",
        ),
        ({"nginx.conf": "a;\ninclude nginx.conf;"}, r"nginx\.conf:2: .* includes itself"),
        ({"nginx.conf": "include a;", "a": "include b*;", "b1": "\ninclude a;"}, "b1:2: .* includes itself"),
        ({"nginx.conf": "http { include a; }", "a": "\n}"}, 'a:2: unexpected "}"'),
        ({"nginx.conf": "include a[^b];"}, "pattern"),
        ({"nginx.conf": "include a\\*;"}, "pattern"),
        ({}, "cannot be read"),
        (
            {"nginx.conf": "http { include a; include b; }", "a": "upstream u { server a; }", "b": "upstream u { }"},
            "b:1: upstream 'u' stands a second time; the first is at /etc/nginx/a:1",
        ),
        ({"nginx.conf": "http { include a; include a; }", "a": "upstream u { server a; }"}, "second time"),
    ],
)
def test_includes_that_are_refused(files: Mapping[str, str], what: str) -> None:
    with pytest.raises(InvalidConfiguration, match=what):
        nginx({f"/etc/nginx/{name}": text for name, text in files.items()})


def test_includes_without_end_are_refused() -> None:
    files = {f"/etc/nginx/{i}": f"include {i + 1};" for i in range(100)}
    with pytest.raises(InvalidConfiguration, match="too many includes"):
        nginx({"/etc/nginx/nginx.conf": "include 0;", **files})
    doubled = {f"/etc/nginx/{i}": f"include {i + 1}; include {i + 1};" for i in range(40)}
    with pytest.raises(InvalidConfiguration, match="too many includes"):
        nginx({"/etc/nginx/nginx.conf": "include 0;", **doubled, "/etc/nginx/40": ""})


def test_includes_where_no_upstream_can_be_are_left_alone() -> None:
    nginx(
        {"/etc/nginx/nginx.conf": "http { server { include gone; } map $a $b { include gone; } } events { include x; }"}
    )


def test_a_server_is_chosen_by_its_address() -> None:
    found = one("server a; server b:80; server a weight=2; server B:80;")
    assert found.choose("b:80") == [found.servers[1]]
    assert found.choose("a", occurrence=2) == [found.servers[2]]
    assert found.choose("a", every=True) == [found.servers[0], found.servers[2]]
    for address, occurrence, what in [
        ("c", None, r"no server 'c'. It has a, b:80, a, B:80"),
        ("b", None, "no server 'b'"),
        ("a", None, r"has 2 servers 'a': nginx\.conf:1"),
        ("a", 3, "has 2 servers 'a', not 3"),
        ("a", 0, "not 0"),
        ("a; }", None, "no server"),
    ]:
        with pytest.raises(UnknownMember, match=what):
            found.choose(address, occurrence)
