# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""nginx's language: every byte in one token, the words that nginx itself would see, everything else refused."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import InvalidConfiguration
from ansible_collections.zerodrop.rollout.plugins.module_utils._nginx.tokens import (
    LUA,
    Directive,
    Source,
    decode,
    encode,
    statements,
)

BITS = st.sampled_from(
    ["a", "server", "upstream", "http", "{", "}", ";", " ", "\n", "\r\n", "\t", '"', "'", "\\", "$", "${", "#", ")"]
    + ["x_by_lua_block", "--", "[[", "]]", "[=[", "]=]", "é", "\udcff", "\\n", "include"]
)  # fmt: skip
# Whole statements among the bits, so that many of the texts are valid.
STATEMENTS = st.sampled_from(
    ["a b;", "c 'd;' { e; }", "# f }\n", "#g {\r\n\t", "\n", "\r\n", " ", "h {}", 'i "\\"" ${j}\\;;', "k", "'l'{m n#o;}"]
    + ["x_by_lua_block { '}' }", "y_by_lua_block {{} --}\n}", "# é\udcff"]
)  # fmt: skip
TEXTS = st.one_of(
    st.lists(STATEMENTS, max_size=12).map("".join),
    st.lists(BITS, max_size=12).map("".join),
    st.tuples(st.lists(STATEMENTS, max_size=6), BITS, st.lists(STATEMENTS, max_size=6)).map(
        lambda parts: "".join([*parts[0], parts[1], *parts[2]])
    ),
)


def said(text: str) -> list[list[str]]:
    """The words of each directive at the top of a text."""
    return [[word.value for word in directive.words] for directive in Source("t", text).directives]


def by_characters(text: str) -> list[str] | None:
    """nginx's reader written a second time, one character after the other. None when it refuses the text."""
    found: list[str] = []
    raw, in_word, quote, escape, after_variable, comment, must_end = "", False, "", False, False, False, False
    words = depth = 0
    for char in text:
        if comment:
            comment = char != "\n"
            continue
        if in_word:
            if escape:
                escape = False
            elif char == "{" and after_variable:
                pass
            else:
                after_variable = char == "$"
                escape = char == "\\"
                if not after_variable and not escape and (char == quote if quote else char in " \t\r\n;{"):
                    found.append("=" + unescaped(raw))
                    words += 1
                    in_word, must_end = False, bool(quote)
                    if quote:
                        continue
            if in_word:
                raw += char
                continue
        if must_end and char not in " \t\r\n;{)":
            return None
        must_end = False
        if char in " \t\r\n":
            continue
        if char in ";{":
            if not words:
                return None
            depth += char == "{"
        if char == "}":
            if words or not depth:
                return None
            depth -= 1
        if char in ";{}":
            found.append(char)
            words = 0
        elif char == "#":
            comment = True
        else:
            in_word, quote = True, char if char in "\"'" else ""
            raw, escape, after_variable = "" if quote else char, char == "\\", char == "$"
    return None if in_word or words or depth else found


def unescaped(raw: str) -> str:
    out, place = "", 0
    while place < len(raw):
        pair = raw[place : place + 2]
        known = {'\\"': '"', "\\'": "'", "\\\\": "\\", "\\t": "\t", "\\r": "\r", "\\n": "\n"}.get(pair)
        out += known or raw[place]
        place += 2 if known else 1
    return out


@given(st.binary(max_size=300))
@example(b"\xff\xfe\r\n\xc3")
def test_a_file_keeps_its_bytes(content: bytes) -> None:
    assert encode(decode(content)) == content


@given(TEXTS)
def test_every_byte_is_in_exactly_one_token(text: str) -> None:
    try:
        source = Source("t", text)
    except InvalidConfiguration:
        return
    place, parts = 0, []
    for token in source.tokens():
        assert token.start == place < token.end
        parts.append(text[token.start : token.end])
        place = token.end
    assert "".join(parts) == text


@given(TEXTS.filter(lambda text: "lua" not in text))
@example('a "b"); c \\;d;')
@example("a ${b}${{c {}")
def test_it_reads_what_nginx_reads(text: str) -> None:
    try:
        found: list[str] | None = [word for _start, word in statements(Source("t", text))]
    except InvalidConfiguration:
        found = None
    assert found == by_characters(text)


@given(st.one_of(TEXTS, st.text(max_size=80), st.binary(max_size=120).map(decode)))
def test_what_is_no_configuration_is_refused_with_its_line(text: str) -> None:
    refused = None
    try:
        Source("conf.d/x.conf", text)
    except InvalidConfiguration as error:
        refused = error
    if refused:
        assert 1 <= refused.facts["line"] <= text.count("\n") + 1
        assert refused.message.startswith(f"conf.d/x.conf:{refused.facts['line']}: ")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a b;", [["a", "b"]]),
        ("a\r\n\tb # c;\r\n ;", [["a", "b"]]),
        ("a b#c;", [["a", "b#c"]]),
        ("a 'b \" ;{' \"c ' }\";", [["a", 'b " ;{', "c ' }"]]),
        (r'a "b\"c" "\\" d\ e \;;', [["a", 'b"c', "\\", r"d\ e", r"\;"]]),
        (r'a "\t\r\n\x";', [["a", "\t\r\n\\x"]]),
        ("a ${b}c $d{}", [["a", "${b}c", "$d"]]),
        ('a "b" ;c"d" e"f;', [["a", "b"], ['c"d"', 'e"f']]),
        ("a b};", [["a", "b}"]]),
        ('a "b");', [["a", "b", ")"]]),
        ("a ''; # no line end", [["a", ""]]),
        ("#a;", []),
        ("#a\rb;\nc;", [["c"]]),
        ("", []),
    ],
)
def test_words(text: str, words: list[list[str]]) -> None:
    assert said(text) == words


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("a;\nb 'c;\n", 2, "no closing"),
        ("a {\n b;\n", 1, "never closed"),
        ("a;\n}\n", 2, 'unexpected "}"'),
        ("a b }", 1, 'unexpected "}"'),
        ("a {\n b }", 2, 'unexpected "}"'),
        ("\n\n;", 3, 'unexpected ";"'),
        ("{ }", 1, 'unexpected "{"'),
        ("a b\n", 2, "unexpected end"),
        ("a \\", 1, "backslash"),
        ('a "b"c;', 1, "behind a quoted word"),
        ("a\n\0;", 2, "NUL"),
        ("content_by_lua_block { '}' ", 1, "never closed"),
        ("\ncontent_by_lua_block { --[==[ }]] }", 2, "]==]"),
    ],
)
def test_refusals(text: str, line: int, what: str) -> None:
    with pytest.raises(InvalidConfiguration) as caught:
        Source("nginx.conf", text)
    assert what in caught.value.message
    assert caught.value.message.startswith(f"nginx.conf:{line}: ")


@pytest.mark.parametrize(
    "code",
    [
        "",
        " ngx.say('}') ",
        ' ngx.say("{{{", "\\"}") ',
        " -- }}} it's\n ",
        " --[[ } \n { ]] ",
        " x = [==[ } ]] } ]==] ",
        " t = { a = { 1 } } ",
        "\n it's = 1 -- no string on this line\n ",
        " # = 1 ; ",
        ' s = "a -- b" ',
    ],
)
def test_lua_blocks_end_where_their_module_sees_the_end(code: str) -> None:
    source = Source("t", "a; set_by_lua_block $x {" + code + "} b { c; }")
    assert [directive.name for directive in source.directives] == ["a", "set_by_lua_block", "b"]
    lua = source.directives[1]
    assert lua.block == []
    text = "".join(source.text[token.start : token.end] for token in source.tokens() if token.kind == LUA)
    assert text == code


def test_only_directives_of_lua_hold_lua() -> None:
    source = Source("t", 'a content_by_lua_block { b "}"; }')
    assert [inner.words[1].value for inner in source.directives[0].block or []] == ["}"]


def test_all_directives_and_their_lines() -> None:
    source = Source("t", "a;\nb {\n c {\r\n d; }\n}\ne;")

    def place(directive: Directive) -> tuple[str, int]:
        return directive.name, source.line(directive.start)

    assert [place(one) for one in source.all_directives()] == [("a", 1), ("b", 2), ("c", 3), ("d", 4), ("e", 6)]


def test_depth_is_no_matter() -> None:
    source = Source("t", "a {" * 20_000 + "}" * 20_000)
    assert sum(1 for _one in source.all_directives()) == 20_000
