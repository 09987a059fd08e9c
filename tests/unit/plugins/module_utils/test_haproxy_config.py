# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The editor of HAProxy's configuration: what it finds, what it writes, and that it writes nothing else."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import InvalidConfiguration
from ansible_collections.zerodrop.rollout.plugins.module_utils._haproxy.config import (
    MARK,
    SECTIONS,
    decode,
    edit,
    encode,
    server_lines,
    words,
)

FILE = """\
# server s1 is not here
global
\tlog /dev/log local0
defaults shop
\tmode http
\tdefault-server disabled inter 1s
frontend shop
  bind :80
  default_backend shop
backend "shop" from shop
  balance roundrobin
\tserver\ts1  10.0.0.1:80 check # the first; was "s0"
  server s2 10.0.0.2:80 cookie disabled check
  server s3 "10.0.0.3:80" check disabled
  server 's4' 10.0.0.4:80 check\r
  server s\\ 5 10.0.0.5:80
  server-template t 1-3 10.0.0.6:80
backend other
  server s1 10.9.9.9:80 check
listen shop2
  server s1 10.9.9.9:80 check"""


def rewritten(text: str, out: dict[str, bool], pool: str = "shop") -> str:
    return edit({"f": text}, pool, out).get("f", text)


def test_servers_are_found_in_their_pool_alone() -> None:
    lines = server_lines({"f": FILE}, "shop")
    assert {name: [line.number for line in each] for name, each in lines.items()} == {
        "s1": [12],
        "s2": [13],
        "s3": [14],
        "s4": [15],
        "s 5": [16],
    }
    assert [name for name, each in lines.items() if each[0].disabled_by_hand] == ["s2", "s3"]
    assert lines["s3"][0].address == "10.0.0.3:80"
    assert lines["s1"][0].place == "f:12"


@pytest.mark.parametrize("name", ["s1", "s2", "s3", "s4", "s 5"])
def test_one_line_changes_and_comes_back(name: str) -> None:
    new = rewritten(FILE, {name: True})
    old_lines, new_lines = FILE.split("\n"), new.split("\n")
    changed = [number for number, (old, now) in enumerate(zip(old_lines, new_lines, strict=True)) if old != now]
    assert [number + 1 for number in changed] == [server_lines({"f": FILE}, "shop")[name][0].number]
    assert new_lines[changed[0]].replace(MARK, "") == old_lines[changed[0]]
    assert server_lines({"f": new}, "shop")[name][0].ours
    assert rewritten(new, {name: True}) == new
    assert rewritten(new, {name: False}) == FILE


def test_a_comment_and_a_carriage_return_stay_behind_the_mark() -> None:
    text = rewritten(FILE, {"s1": True, "s4": True})
    assert f'\tserver\ts1  10.0.0.1:80 check{MARK} # the first; was "s0"\n' in text
    assert f"  server 's4' 10.0.0.4:80 check{MARK}\r\n" in text


def test_a_word_that_somebody_wrote_stays() -> None:
    assert rewritten(FILE, {"s3": False, "s2": False}) == FILE
    held = rewritten(FILE, {"s3": True})
    assert "check disabled disabled #" in held
    assert rewritten(held, {"s3": False}) == FILE


def test_servers_without_a_line_and_other_pools_are_left_alone() -> None:
    assert edit({"f": FILE}, "shop", {"t1": True, "s9": True}) == {}
    assert edit({"f": FILE}, "nope", {"s1": True}) == {}


def test_both_branches_of_a_condition_change() -> None:
    text = "backend b\n.if streq(a,b)\n server s 1.1.1.1:1\n.else\n server s 1.1.1.2:1\n.endif\n"
    assert rewritten(text, {"s": True}, "b").count(MARK) == 2


def test_a_pool_may_go_over_several_files_and_none_goes_on_in_the_next() -> None:
    texts = {"a": "backend b\n server s 1.1.1.1:1\n", "b": " server s 1.1.1.1:1\nbackend b\n server r 1.1.1.1:2\n"}
    assert {name: line[0].file for name, line in server_lines(texts, "b").items()} == {"s": "a", "r": "b"}
    assert list(edit(texts, "b", {"r": True})) == ["b"]


def test_a_mark_that_somebody_changed_is_refused() -> None:
    held = rewritten(FILE, {"s1": True}).replace(" disabled # zero", " # zero")
    with pytest.raises(InvalidConfiguration, match=r"f:12: the mark .* was changed"):
        rewritten(held, {"s1": False})


@pytest.mark.parametrize("line", [' server s "1.1.1.1', " server s 1.1.1.1 \\", " server 's 1.1.1.1"])
def test_a_line_that_is_not_understood_is_refused(line: str) -> None:
    with pytest.raises(InvalidConfiguration, match="f:2: this line is not understood"):
        rewritten(f"backend b\n{line}\n server s 1.1.1.1\n", {"s": True}, "b")


def test_bytes_that_are_no_text_stay() -> None:
    raw = b"backend b\n # \xff\xfe\n server s 1.1.1.1:1 # \x80\n"
    assert encode(rewritten(rewritten(decode(raw), {"s": True}, "b"), {"s": False}, "b")) == raw


_PLAIN = st.text(alphabet="abs1. \t\\\"'#$\r\x0b\xa0é", max_size=12)


@given(st.lists(st.tuples(st.sampled_from(["server", "backend", "listen", "global", "x"]), _PLAIN), max_size=8), _PLAIN)
@example([("backend", " b"), ("server", " s a")], " # c")
@example([("backend", " b"), ("server", " s a")], ' "b\\"c"')
def test_nothing_but_the_mark_is_ever_written(rows: list[tuple[str, str]], tail: str) -> None:
    text = "backend b\n server s 10.0.0.1:80" + tail + "\n" + "\n".join(first + rest for first, rest in rows)
    try:
        lines = server_lines({"f": text}, "b")
        new = rewritten(text, {"s": True}, "b")
    except InvalidConfiguration:
        return
    assert new.replace(MARK, "") == text
    assert new.count(MARK) == len(lines.get("s", ()))
    for old, now in zip(text.split("\n"), new.split("\n"), strict=True):
        before, after = words(old), words(now)
        if old != now:
            assert before is not None
            assert after is not None
            assert [word.value for word in after] == [*(word.value for word in before), "disabled"]
    assert rewritten(new, {"s": True}, "b") == new
    assert rewritten(new, {"s": False}, "b") == text


@given(st.lists(st.text(alphabet="ab'\"\\ #", min_size=1, max_size=6), max_size=5))
def test_quoted_words_are_read_as_they_were_meant(values: list[str]) -> None:
    said = words(" ".join(shlex.quote(value) for value in values))
    assert said is not None
    assert [word.value for word in said] == values


def test_sections_are_no_servers() -> None:
    text = "backend b\n" + "".join(f"{section} b\n server s 1.1.1.1:1\n" for section in SECTIONS)
    found = server_lines({"f": text}, "b")["s"]
    assert len(found) == 2  # backend and listen
