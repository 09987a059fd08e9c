# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Changes of servers in nginx's upstreams: what was meant, and not one byte more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    BadInput,
    InvalidConfiguration,
    UnknownMember,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._nginx.edits import edit, leaves_none_in_service
from ansible_collections.zerodrop.rollout.plugins.module_utils._nginx.tokens import decode
from ansible_collections.zerodrop.rollout.plugins.module_utils._nginx.upstreams import (
    Configuration,
    Server,
    Settings,
    Upstream,
    load,
    of_text,
)

GAPS = st.sampled_from([" ", " ", "  ", "\t", "\n    ", "\r\n", " # server b down; }\n ", "\n#x\r\n\t", " #'\n#\"\n"])
ENDS = st.one_of(st.just(""), GAPS)
BETWEEN = st.sampled_from(
    [
        "",
        "\n",
        " ",
        "\r\n\t",
        "# server c;\n",
        "#}\n",
        "keepalive 8;",
        "zone z 1m;",
        "x_by_lua_block { '}' }",
        "y 'server d;';",
    ]
)
ADDRESSES = st.sampled_from(["a", "a:81", "10.0.0.1:8080", "[::1]:80", "unix:/run/a.sock", "b.example", "B.example:1"])
PARAMETERS = st.lists(
    st.sampled_from(
        ["max_fails=3", "fail_timeout=3s", "backup", "resolve", "route=down", "slow_start=9s", "id=weight=4", "odd${x}"]
    ),
    max_size=3,
)
WEIGHTS = st.sampled_from(["1", "5", "010", "999999999999"])


@st.composite
def words(draw: st.DrawFn, value: str) -> str:
    return draw(st.sampled_from([value, value, f'"{value}"', f"'{value}'"]))


@st.composite
def lines(draw: st.DrawFn) -> str:
    """A server line, with whatever an operator may have set on it."""
    parameters = draw(PARAMETERS)
    for extra in (["down"], [f"weight={draw(WEIGHTS)}"]):
        if draw(st.booleans()):
            parameters.insert(draw(st.integers(0, len(parameters))), *extra)
    if draw(st.booleans()):
        parameters.insert(0, "drain")
    line = draw(words("server"))
    for value in [draw(ADDRESSES), *parameters]:
        line += draw(GAPS) + draw(words(value))
    return line + draw(ENDS) + ";"


@st.composite
def configurations(draw: st.DrawFn) -> str:
    text = draw(st.sampled_from(["", "user é;", "# http {\n"])) + "\nhttp {"
    for number in range(draw(st.integers(1, 3))):
        text += draw(GAPS) + "upstream" + draw(GAPS) + f"u{number}" + draw(ENDS) + "{"
        for _server in range(draw(st.integers(1, 4))):
            text += draw(BETWEEN) + draw(lines()) + draw(BETWEEN)
        text += "}"
    return text + draw(st.sampled_from(["}", "}\n", "} # end", "server { listen 80; }}\r\n"]))


SETTINGS = st.builds(Settings, st.booleans(), st.booleans(), st.one_of(st.just(""), WEIGHTS, st.integers(1, 99)))


def servers(configuration: Configuration) -> list[Server]:
    return [server for upstream in configuration.upstreams for server in upstream.servers]


def changed(text: str, wanted: Mapping[int, Mapping[str, Any]]) -> str:
    """The text with other settings for the servers of these numbers, over all upstreams."""
    configuration = of_text(text)
    every = servers(configuration)
    chosen = {every[number]: every[number].settings._replace(**settings) for number, settings in wanted.items()}
    return edit(configuration, chosen).get("nginx.conf", text)


def settings_of(text: str) -> list[Settings]:
    return [server.settings for server in servers(of_text(text))]


def http(line: str) -> str:
    return f"http {{ upstream u {{ {line} }} }}"


def line(text: str, **settings: Any) -> str:
    """A server line after a change."""
    return changed(http(text), {0: settings})[len("http { upstream u { ") : -len(" } }")]


def pick(data: st.DataObject, text: str) -> int:
    return data.draw(st.integers(0, len(settings_of(text)) - 1))


@given(configurations(), SETTINGS, st.data())
def test_only_the_line_of_the_chosen_server_changes(text: str, settings: Settings, data: st.DataObject) -> None:
    number = pick(data, text)
    before = servers(of_text(text))
    new = changed(text, {number: settings._asdict()})
    after = servers(of_text(new))
    start, behind = before[number].start, len(text) - before[number].end
    assert new[:start] == text[:start]
    assert new[len(new) - behind :] == text[len(text) - behind :]
    assert new[after[number].end :] == text[before[number].end :]
    for old, now in zip(before, after, strict=True):
        assert (now.upstream, now.address, now.position, now.backup) == (
            old.upstream,
            old.address,
            old.position,
            old.backup,
        )
        if old.position != before[number].position or old.upstream != before[number].upstream:
            assert now.parameters == old.parameters
    assert after[number].settings[:2] == settings[:2]
    assert after[number].weight == int(settings.weight or 1)


@given(configurations(), st.sampled_from(["down", "drain"]), st.data())
def test_a_flag_that_was_set_and_cleared_leaves_no_trace(text: str, flag: str, data: st.DataObject) -> None:
    number = pick(data, text)
    new = changed(text, {number: {flag: True}})
    if getattr(settings_of(text)[number], flag):
        assert new == text  # it was there, and stays as it was written
    else:
        assert new != text
        assert changed(new, {number: {flag: True}}) == new
        assert changed(new, {number: {flag: False}}) == text


@given(configurations(), st.one_of(WEIGHTS, st.integers(1, 99)), st.data())
def test_a_weight_that_was_set_and_restored_leaves_no_trace(text: str, weight: int | str, data: st.DataObject) -> None:
    number = pick(data, text)
    new = changed(text, {number: {"weight": weight}})
    assert changed(new, {number: {"weight": weight}}) == new
    assert changed(new, {number: {"weight": settings_of(text)[number].weight}}) == text


@given(configurations(), SETTINGS, st.data())
def test_settings_from_before_give_the_text_from_before(text: str, settings: Settings, data: st.DataObject) -> None:
    number = pick(data, text)
    before = settings_of(text)[number]
    wanted = Settings(settings.down or before.down, settings.drain or before.drain, settings.weight or before.weight)
    new = changed(text, {number: wanted._asdict()})
    assert changed(new, {number: before._asdict()}) == text


@given(configurations(), st.lists(SETTINGS, min_size=2, max_size=2), st.data())
def test_the_order_of_changes_is_no_matter(text: str, settings: list[Settings], data: st.DataObject) -> None:
    one, other = pick(data, text), pick(data, text)
    first, second = settings[0]._asdict(), settings[1]._asdict()
    if one != other:
        both = changed(text, {one: first, other: second})
        assert both == changed(changed(text, {one: first}), {other: second})
        assert both == changed(changed(text, {other: second}), {one: first})


@given(
    configurations(),
    st.lists(st.tuples(st.integers(0, 400), st.sampled_from("{};\"'\\# \n$ax")), max_size=4),
    st.data(),
)
def test_broken_configurations_are_refused_or_changed_right(
    text: str, insertions: list[tuple[int, str]], data: st.DataObject
) -> None:
    for place, char in insertions:
        place %= len(text)
        text = text[:place] + char + text[place + data.draw(st.integers(0, 1)) :]
    change_all(text, "main")


PIECES = st.sampled_from(
    [b"server a:1;", b"server [::1]:8 down;", b"server b:2 weight=7\r\n;", b"server c:3 drain # }\n down;", b"server 'd:4';"]
    + [b"}upstream v {", b"server e:5", b" weight=", b"7", b" down", b";", b"}", b" # }\n", b"\xff", b"'", b"\\", b"\r\n"]
)  # fmt: skip
BLOCK = st.lists(PIECES, max_size=5).map(lambda pieces: b"upstream u{" + b"".join(pieces) + b"}")


@given(
    st.one_of(st.binary(max_size=200), st.text(max_size=100).map(str.encode), BLOCK, BLOCK),
    st.sampled_from(["main", "http", "stream"]),
)
def test_any_bytes_are_refused_or_changed_right(content: bytes, context: str) -> None:
    change_all(decode(content), context)


def change_all(text: str, context: str) -> None:
    try:
        configuration = of_text(text, context=context)
        new = edit(configuration, {server: Settings(True, False, 7) for server in servers(configuration)})
    except InvalidConfiguration:
        return
    after = servers(of_text(new.get("nginx.conf", text), context=context))
    assert [(server.address, server.settings) for server in after] == [
        (server.address, (True, False, server.parameter("weight") if server.weight == 7 else "7"))
        for server in servers(configuration)
    ]


@pytest.mark.parametrize(
    ("before", "settings", "after"),
    [
        ("server a;", {"down": True}, "server a down;"),
        ("server a ;", {"down": True}, "server a down ;"),
        ("server a # spare\n ;", {"down": True}, "server a down # spare\n ;"),
        ("server # which\n a\r\n\tweight=2;", {"down": True}, "server # which\n a\r\n\tweight=2 down;"),
        ("'server' \"a\";", {"down": True}, "'server' \"a\" down;"),
        ("server a down;", {"down": True}, "server a down;"),
        ("server a \"down\" weight=2;", {"down": False}, "server a weight=2;"),
        ("server a down down;", {"down": False}, "server a;"),
        ("server a\n  down\n  weight=2;", {"down": False}, "server a\n  weight=2;"),
        ("server a # why\n down # then\n ;", {"down": False}, "server a # why\n  # then\n ;"),
        ("server a downs route=down;", {"down": False}, "server a downs route=down;"),
        ("server down;", {"down": True}, "server down down;"),
        ("server down;", {"down": False}, "server down;"),
        ("server a weight=2;", {"drain": True}, "server a drain weight=2;"),
        ("server a down;", {"drain": True}, "server a drain down;"),
        ("server a;", {"drain": True, "down": True, "weight": 3}, "server a drain down weight=3;"),
        ("server a down;", {"down": False, "drain": True, "weight": 3}, "server a drain weight=3;"),
        ("server a drain backup;", {"drain": False}, "server a backup;"),
        ("server a;", {"weight": 5}, "server a weight=5;"),
        ("server a;", {"weight": 1}, "server a;"),
        ("server a;", {"weight": "1"}, "server a weight=1;"),
        ("server a weight=10 backup;", {"weight": 5}, "server a weight=5 backup;"),
        ("server a 'weight=10' backup;", {"weight": 5}, "server a 'weight=5' backup;"),
        ("server a weight=010;", {"weight": 10}, "server a weight=010;"),
        ("server a weight=010;", {"weight": "10"}, "server a weight=10;"),
        ("server a weight=2 weight=3;", {"weight": 5}, "server a weight=2 weight=5;"),
        ("server a weight=2 backup weight=3;", {"weight": ""}, "server a backup;"),
        ("server weight=2;", {"weight": 3}, "server weight=2 weight=3;"),
        ("server unix:/a\\ weight=1 b;", {"weight": 3}, "server unix:/a\\ weight=1 b weight=3;"),
        ("#server a;\nserver b;", {"down": True}, "#server a;\nserver b down;"),
        ("hash 'server a;'; server b;", {"down": True}, "hash 'server a;'; server b down;"),
    ],
)  # fmt: skip
def test_lines(before: str, settings: dict[str, Any], after: str) -> None:
    assert line(before, **settings) == after


def test_what_an_operator_set_is_known_and_comes_back() -> None:
    text = http("server a down; server b weight=3; server c;")
    before = settings_of(text)
    new = changed(text, {0: {"weight": 2}, 1: {"down": True, "weight": 1}, 2: {"drain": True}})
    assert new == http("server a down weight=2; server b weight=1 down; server c drain;")
    kept: list[Any] = [list(settings) for settings in before]  # as JSON brings them
    assert changed(new, {number: Settings(*kept[number])._asdict() for number in range(3)}) == text


def test_a_drain_that_undoes_a_down_is_refused() -> None:
    text = http("server a;\nserver b down drain;")
    assert changed(text, {1: {"down": True, "drain": True}}) == text
    with pytest.raises(InvalidConfiguration, match=r"^nginx\.conf:2: .*first down and then drain"):
        changed(text, {1: {"weight": 2}})


@pytest.mark.parametrize(
    "weight", ["5; } evil", "5\n", " 5", "0", "-1", "5 down", "\uff15", "1e3", "1" * 19, 0, -1, True, None, 1.5, ["5"]]
)
def test_only_a_number_is_written(weight: Any) -> None:
    with pytest.raises(BadInput, match="must be a whole number"):
        line("server a;", weight=weight)


@pytest.mark.parametrize("flag", ["yes", 1, None, "down; server evil"])
def test_only_yes_and_no_are_settings(flag: Any) -> None:
    for name in ("down", "drain"):
        with pytest.raises(BadInput, match="must be true or false"):
            line("server a;", **{name: flag})


def test_a_server_from_elsewhere_is_refused() -> None:
    configuration = of_text(http("server a;"))
    stranger = replace(servers(configuration)[0], address="b")
    with pytest.raises(UnknownMember, match="'b' is not there"):
        edit(configuration, {stranger: Settings(True, False, "")})


class Disk:
    def __init__(self, **files: str) -> None:
        self._files = {f"/n/{name}": text for name, text in files.items()}

    def read(self, path: str) -> bytes:
        return self._files[path].encode()

    def glob(self, pattern: str) -> list[str]:
        return []

    def real(self, path: str) -> str:
        return path


def test_files_that_do_not_change_are_not_named() -> None:
    configuration = load(
        "/n/main", Disk(main="http { include a; include b; }", a="upstream a { server x; }", b="upstream b { include c; }",
                        c="server y; server z;\r\n")
    )  # fmt: skip
    x, y, z = servers(configuration)
    down = Settings(True, False, "")
    assert edit(configuration, {y: down}) == {"/n/c": "server y down; server z;\r\n"}
    assert edit(configuration, {x: down, z: down}) == {
        "/n/a": "upstream a { server x down; }",
        "/n/c": "server y; server z down;\r\n",
    }
    assert edit(configuration, {y: y.settings}) == {}
    assert edit(configuration, {}) == {}


def test_a_line_of_two_upstreams_changes_for_both_or_not_at_all() -> None:
    disk = Disk(main="http { upstream a { include c; } upstream b { include c; } }", c="server x;\nserver y;")
    configuration = load("/n/main", disk)
    down = Settings(True, False, "")
    (of_a, of_b) = (configuration.upstream(name).choose("y")[0] for name in "ab")
    with pytest.raises(InvalidConfiguration, match=r"^/n/c:2: .*'y' of upstream 'a' is also number 2 of upstream 'b'"):
        edit(configuration, {of_a: down})
    assert edit(configuration, {of_a: of_a.settings}) == {}
    with pytest.raises(InvalidConfiguration, match="also number"):
        edit(configuration, {of_a: down, of_b: Settings(True, True, "")})
    assert edit(configuration, {of_a: down, of_b: down}) == {"/n/c": "server x;\nserver y down;"}


def test_a_line_twice_in_one_upstream_changes_twice_or_not_at_all() -> None:
    configuration = load("/n/main", Disk(main="http { upstream a { include c; include c; } }", c="server x;"))
    upstream = configuration.upstream("a")
    with pytest.raises(InvalidConfiguration, match="also number 2"):
        edit(configuration, {upstream.choose("x", occurrence=1)[0]: Settings(True, False, "")})
    chosen = dict.fromkeys(upstream.choose("x", every=True), Settings(True, False, ""))
    assert edit(configuration, chosen) == {"/n/c": "server x down;"}


def none_left(text: str, *down: str) -> bool:
    upstream: Upstream = of_text(http(text)).upstreams[0]
    wanted = {upstream.choose(address)[0]: Settings(True, False, "") for address in down}
    return leaves_none_in_service(upstream, wanted)


def test_whether_none_is_left_in_service() -> None:
    assert not none_left("server a; server b;", "a")
    assert none_left("server a; server b;", "a", "b")
    assert none_left("server a; server b down; server c drain;", "a")
    assert not none_left("server a; server b backup;", "a")
    assert none_left("server a down;")
    upstream = of_text(http("server a down;")).upstreams[0]
    assert not leaves_none_in_service(upstream, {upstream.servers[0]: Settings(False, False, "")})
    assert leaves_none_in_service(upstream, {upstream.servers[0]: Settings(False, True, "")})
