# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wrong settings are refused in one line that names the setting."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness import Kind, SettingsError, WitnessSettings
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.settings import parse_url

GOOD: dict[str, Any] = {"url": "http://shop.example.com/", "rate": 5}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"url": ""}, "url: must be given"),
        ({"url": None}, "url: must be given"),
        ({"url": 5}, "url: must be given"),
        ({"url": "shop.example.com/"}, "url: must start with http:// or https://"),
        ({"url": "ftp://shop.example.com/"}, "url: must start with http:// or https://"),
        ({"url": "file:///etc/passwd"}, "url: must start with http:// or https://"),
        ({"url": "http://"}, "url: '' is not a host name"),
        ({"url": "http:///path"}, "url: '' is not a host name"),
        ({"url": "http://a\n/"}, "url: has a space, a newline"),
        ({"url": "http://a/b c"}, "url: has a space, a newline"),
        ({"url": "http://a/\r\nX: y"}, "url: has a space, a newline"),
        ({"url": "http://shöp.example/"}, "url: has a space, a newline or another"),
        ({"url": "http://a:0/"}, "url: port must be 1 to 65535"),
        ({"url": "http://a:99999/"}, "url: its host or its port is none"),
        ({"url": "http://a:http/"}, "url: its host or its port is none"),
        ({"url": "http://user:pass@a/"}, "url: must not hold a user or password"),
        ({"url": "http://a/#top"}, "url: must not have a fragment"),
        ({"url": "http://[::1/"}, "url: "),
        ({"url": "http://[fe80::1%25eth0]/"}, "url: "),
        ({"url": "http://1.2.3.400/"}, "url: '1.2.3.400' is not a host name or an address"),
        ({"url": "http://a_$b/"}, "url: 'a_$b' is not a host name"),
        ({"rate": None}, "rate: must be given"),
        ({"rate": 0}, "rate: must be greater than 0, got 0"),
        ({"rate": -1}, "rate: must be greater than 0, got -1"),
        ({"rate": "fast"}, "rate: must be a number, got 'fast'"),
        ({"rate": True}, "rate: must be a number, got True"),
        ({"rate": float("nan")}, "rate: must be a number"),
        ({"rate": float("inf")}, "rate: must be a number"),
        ({"rate": 1e6}, "rate: must be at most 10000"),
        ({"duration": 0}, "duration: must be greater than 0"),
        ({"duration": 1e9}, "duration: must be at most 86400"),
        ({"timeout": -5}, "timeout: must be greater than 0"),
        ({"late_after": 0}, "late_after: must be greater than 0"),
        ({"grace": -1}, "grace: must be at least 0"),
        ({"max_requests": 0}, "max_requests: must be 1 to"),
        ({"max_requests": 1.5}, "max_requests: must be a whole number"),
        ({"max_in_flight": 0}, "max_in_flight: must be 1 to"),
        ({"keepalive_connections": True}, "keepalive_connections: must be a whole number"),
        ({"sessions": 0}, "sessions: must be 1 to"),
        ({"mix": {}}, "mix: must map kinds to shares"),
        ({"mix": ["close"]}, "mix: must map kinds to shares"),
        ({"mix": {"browser": 1}}, "mix: 'browser' is not a kind; the kinds are keepalive, close"),
        ({"mix": {"close": 0}}, "mix: share of close: must be greater than 0"),
        ({"mix": {"close": -1}}, "mix: share of close: must be greater than 0"),
        ({"mix": {"close": "half"}}, "mix: share of close: must be a number"),
        ({"headers": {"X-A": "b\r\nX-C: d"}}, "headers: the value of X-A must be text without newlines"),
        ({"headers": {"X A": "b"}}, "headers: 'X A' is not a header name"),
        ({"headers": {"X-A\n": "b"}}, "headers: 'X-A\\n' is not a header name"),
        ({"headers": {"X-A": 5}}, "headers: the value of X-A must be text"),
        ({"headers": {"Content-Length": "5"}}, "headers: Content-Length is set by the witness itself"),
        ({"headers": ["X-A: b"]}, "headers: must map names to values"),
        ({"version_header": "X Version"}, "version_header: must be a plain name"),
        ({"host_header": ""}, "host_header: must be a plain name"),
        ({"session_cookie": "a;b"}, "session_cookie: must be a plain name"),
        ({"slow_path": "slow/3"}, "slow_path: must be a path that starts with /"),
        ({"post_path": "/a b"}, "post_path: must be a path that starts with /"),
        ({"websocket_path": "/ws\n"}, "websocket_path: must be a path that starts with /"),
        ({"dumb": "yes"}, "dumb: must be true or false"),
        ({"insecure": True}, "insecure: is for https only"),
        ({"ca_file": "/etc/hostname"}, "ca_file: is for https only"),
        ({"url": "https://a/", "ca_file": "/nowhere"}, "ca_file: '/nowhere' is not a file"),
        ({"url": "https://a/", "ca_file": "/etc/hostname", "insecure": True}, "insecure: checks no certificate"),
        ({"log": "/nowhere/log.tsv"}, "log: cannot write in the directory of '/nowhere/log.tsv'"),
        ({"summary": "/"}, "summary: '/' is a directory"),
        ({"status": ""}, "status: must be the path of a file"),
        ({"log": "/tmp/same", "status": "/tmp/../tmp/same"}, "status: is the same file as log"),
        ({"die_with_parent": 0}, "die_with_parent: must be 1 to"),
        ({"speed": 5}, "settings: 'speed' is not a setting of the witness"),
    ],
)
def test_wrong_settings(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        WitnessSettings.from_mapping({**GOOD, **change})
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_refused_header_value_is_not_repeated() -> None:
    with pytest.raises(SettingsError) as caught:
        WitnessSettings.from_mapping({**GOOD, "headers": {"Authorization": "Bearer secret\n"}})
    assert "secret" not in str(caught.value)
    settings = WitnessSettings.from_mapping({**GOOD, "headers": {"Authorization": "Bearer secret"}})
    assert "secret" not in repr(settings)


def test_only_url_and_rate_are_needed() -> None:
    settings = WitnessSettings.from_mapping(GOOD)
    assert settings.duration == 3600
    assert set(settings.mix) == {Kind.KEEPALIVE, Kind.CLOSE}


@pytest.mark.parametrize(
    ("url", "authority", "path", "port"),
    [
        ("http://a", "a", "/", 80),
        ("https://a", "a", "/", 443),
        ("HTTP://a:8080/b?c=d", "a:8080", "/b?c=d", 8080),
        ("https://a:80/", "a:80", "/", 80),
        ("http://[::1]:8080/x", "[::1]:8080", "/x", 8080),
        ("http://[2001:db8::1]", "[2001:db8::1]", "/", 80),
        ("http://10.0.0.1/", "10.0.0.1", "/", 80),
        ("http://my_shop.example.com./", "my_shop.example.com.", "/", 80),
        ("http://a?x=1", "a", "/?x=1", 80),
    ],
)
def test_urls(url: str, authority: str, path: str, port: int) -> None:
    target = parse_url(url)
    assert (target.authority, target.path, target.port) == (authority, path, port)


@pytest.mark.parametrize(
    ("change", "slow", "size"),
    [
        ({}, 3.0, 262144),
        ({"slow_path": "/slow/0.5", "stream_path": "/stream/10/2"}, 0.5, 10),
        ({"slow_path": "/report", "stream_path": "/file"}, 0.0, None),
        ({"slow_path": "/report", "slow_seconds": 7, "stream_path": "/file", "stream_bytes": 5}, 7, 5),
        ({"stream_path": "/v2/1000x"}, 3.0, None),
    ],
)
def test_what_is_expected_follows_from_the_paths(change: dict[str, Any], slow: float, size: int | None) -> None:
    settings = WitnessSettings.from_mapping({**GOOD, **change})
    assert (settings.expected(Kind.SLOW), settings.expected_stream_bytes) == (slow, size)


@given(st.text())
def test_no_text_is_more_than_refused(text: str) -> None:
    try:
        target = parse_url(text)
    except SettingsError:
        return
    assert all(" " < char < "\x7f" for char in target.authority + target.path)


@given(st.dictionaries(st.text(max_size=8), st.none() | st.integers() | st.text(max_size=5) | st.floats()))
def test_no_settings_are_more_than_refused(data: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        WitnessSettings.from_mapping({**data, "url": "x"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "settings: must be a JSON object"),
        (json.dumps({"url": "http://a/"}), "rate: must be given"),
    ],
)
def test_settings_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "settings.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=message):
        WitnessSettings.from_file(str(path))


def test_a_settings_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cannot read .*: No such file"):
        WitnessSettings.from_file(str(tmp_path / "none.json"))
    path = tmp_path / "settings.json"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="not UTF-8"):
        WitnessSettings.from_file(str(path))
    path.write_text(json.dumps(GOOD), encoding="utf-8")
    assert WitnessSettings.from_file(str(path)).rate == 5
