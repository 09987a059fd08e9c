# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A log is read to its end and no line twice, whatever becomes of the file meanwhile."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.module_utils._access_log.read import access_log_read
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    BadInput,
    InvalidConfiguration,
    PermissionDenied,
    RolloutError,
    Unreachable,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._operations import operation


def lines(first: int, last: int) -> str:
    """Requests, each with a number of its own."""
    return "".join(
        f"10.0.0.9:1 [24/Nov/2026:14:00:32.193] web shop/s1 0/0/0/1/1 200 51 - - ---- 1/1/0/0/0 0/0 "
        f'"GET /{number} HTTP/1.1"\n'
        for number in range(first, last)
    )


class Follower:
    """Reads again and again, with places that went through JSON as they do between two runs."""

    def __init__(self, *paths: Path) -> None:
        self.params: dict[str, Any] = {"driver": "haproxy", "pool": "shop", "logs": [str(path) for path in paths]}
        self.total = 0
        self.last = self.read()

    def read(self) -> dict[str, Any]:
        found = access_log_read(self.params, False)
        self.params["positions"] = json.loads(json.dumps(found["positions"]))
        self.total += found["members"].get("s1", {}).get("requests", 0)
        self.last = found
        return found


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "haproxy.log"
    path.write_text(lines(0, 50))
    return path


def add(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_it_is_an_operation() -> None:
    assert operation("access_log_read") is access_log_read


def test_it_counts_from_the_first_read_on(log: Path) -> None:
    follower = Follower(log)
    assert follower.total == 0
    add(log, lines(50, 60))
    follower.read()
    follower.read()
    assert follower.total == 10
    assert follower.last["changed"] is False


def test_a_line_that_is_not_whole_is_left_for_the_next_read(log: Path) -> None:
    follower = Follower(log)
    text = lines(50, 53)
    add(log, text[:-30])
    follower.read()
    assert follower.total == 2
    add(log, text[-30:])
    follower.read()
    assert follower.total == 3


def test_rotation_by_rename(log: Path) -> None:
    follower = Follower(log)
    add(log, lines(50, 60))
    old = log.with_name("haproxy.log.1")
    log.rename(old)
    log.write_text(lines(60, 65))
    follower.read()
    assert follower.total == 15
    add(old, lines(65, 67))  # the balancer has not been told yet
    add(log, lines(67, 70))
    follower.read()
    assert follower.total == 20
    assert follower.last["lost"] == []


def test_two_rotations_between_two_reads(log: Path) -> None:
    follower = Follower(log)
    add(log, lines(50, 60))
    for number, name in enumerate(("haproxy.log.2", "haproxy.log.1")):
        log.rename(log.with_name(name))
        os.utime(log.with_name(name), (1000 + number, 1000 + number))
        log.write_text(lines(0, 5))
    follower.read()
    assert follower.total == 20


def test_rotation_by_copy(log: Path) -> None:
    follower = Follower(log)
    add(log, lines(50, 60))
    shutil.copy(log, log.with_name("haproxy.log.1"))
    os.truncate(log, 0)
    add(log, lines(60, 62))
    follower.read()
    assert follower.total == 12


def test_rotation_by_copy_and_a_log_that_is_longer_again(log: Path) -> None:
    follower = Follower(log)
    add(log, lines(50, 60))
    shutil.copy(log, log.with_name("haproxy.log.1"))
    os.truncate(log, 0)
    add(log, lines(100, 300))
    follower.read()
    assert follower.total == 210


def test_packed_files_are_not_read_and_what_is_in_them_is_lost(log: Path) -> None:
    follower = Follower(log)
    add(log, lines(50, 60))
    with gzip.open(log.with_name("haproxy.log.1.gz"), "wb") as packed:
        packed.write(log.read_bytes())
    log.unlink()
    log.write_text(lines(60, 63))
    follower.read()
    assert follower.total == 3
    assert follower.last["lost"] == [str(log)]


def test_several_logs(tmp_path: Path) -> None:
    paths = [tmp_path / "a.log", tmp_path / "b.log"]
    for path in paths:
        path.touch()
    follower = Follower(*paths)
    for number, path in enumerate(paths):
        add(path, lines(0, 3 + number))
    follower.read()
    assert follower.total == 7


@given(st.lists(st.sampled_from(["write", "part", "read", "rename", "copy"]), max_size=14))
def test_any_order_of_events(tmp_path_factory: pytest.TempPathFactory, events: list[str]) -> None:
    """Read at least once between two rotations, every whole line is counted once."""
    path = tmp_path_factory.mktemp("log") / "haproxy.log"
    path.write_text(lines(0, 3))
    follower, written, rest, old = Follower(path), 0, "", path.with_name("haproxy.log.1")
    for number, event in enumerate(events):
        if event == "read":
            follower.read()
        elif rest:
            add(path, rest)
            rest, written = "", written + 1
        text = lines(10 * number + 10, 10 * number + 12)
        if event == "write":
            add(path, text)
            written += 2
        elif event == "part":
            add(path, text[:-20])
            rest, written = text[-20:], written + 1
        elif event in ("rename", "copy"):
            follower.read()
            old.unlink(missing_ok=True)
            add(path, text)
            written += 2
            if event == "rename":
                path.rename(old)
                path.touch()
            else:
                shutil.copy(path, old)
                os.truncate(path, 0)
            add(
                path, lines(10 * number + 12, 10 * number + 13)
            )  # a log that is empty at a read looks the same after a copy
            written += 1
            follower.read()
    if rest:
        add(path, rest)
        written += 1
    follower.read()
    assert follower.total == written


@pytest.mark.parametrize(
    ("change", "words", "kind"),
    [
        ({"logs": []}, "at least one access log", BadInput),
        ({"logs": ["haproxy.log"]}, "absolute paths, got 'haproxy.log'", BadInput),
        ({"logs": ["/a\n/b"]}, "absolute paths", BadInput),
        ({"logs": ["/a", "/a"]}, "twice", BadInput),
        ({"logs": "/a"}, "logs must be a list", BadInput),
        ({"logs": ["/nowhere/x.log"]}, "There is no log /nowhere/x.log", Unreachable),
        ({"logs": ["/dev/null"]}, "is no plain file", BadInput),
        ({"positions": 3}, "positions must be", BadInput),
        ({"positions": {"LOG": {"files": []}}}, "must be what an earlier read returned", BadInput),
        ({"positions": {"LOG": {"files": [{"inode": 1}]}}}, "must be what an earlier read returned", BadInput),
        ({"driver": "apache"}, "no reader of access logs for the driver 'apache'", BadInput),
        ({"driver": "nginx"}, "members must name each member and the address", BadInput),
        ({"driver": "nginx", "members": {"web1": "10.0.0.1:80"}, "log_format": "$status"}, "has no .upstream_addr", BadInput),
        ({"pool": ""}, "pool", BadInput),
        ({"buckets": [5, 5]}, "buckets must rise", BadInput),
        ({"buckets": ["fast"]}, "buckets must be a number", BadInput),
    ],
)  # fmt: skip
def test_refusals(log: Path, change: dict[str, Any], words: str, kind: type[RolloutError]) -> None:
    text = json.dumps({"driver": "haproxy", "pool": "shop", "logs": [str(log)], **change})
    with pytest.raises(kind, match=words):
        access_log_read(json.loads(text.replace('"LOG"', json.dumps(str(log)))), False)


def test_another_format_is_refused_with_what_was_found_and_what_was_expected(log: Path) -> None:
    log.write_text('127.0.0.1:5 [24/Nov/2026:14:00:32.193] GET / 200 "shop"\n')
    with pytest.raises(
        InvalidConfiguration, match=r"Found: .*GET / 200.* Expected: lines of HAProxy's 'option httplog'"
    ):
        Follower(log)
    log.write_text('10.0.0.9 - - [24/Nov/2026:14:00:32 +0000] "GET / HTTP/1.1" 200 2\n')
    params = {"driver": "nginx", "logs": [str(log)], "members": {"web1": "10.0.0.1:80"}}
    with pytest.raises(InvalidConfiguration, match=r"Expected: lines of the log format '\$upstream_addr"):
        access_log_read(params, False)


def test_a_format_that_changes_later_is_refused_too(log: Path) -> None:
    follower = Follower(log)
    add(log, '127.0.0.1:5 [24/Nov/2026:14:00:32.193] GET / 200 "shop"\n')
    with pytest.raises(InvalidConfiguration):
        follower.read()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_log_that_may_not_be_read(log: Path) -> None:
    log.chmod(0)
    with pytest.raises(PermissionDenied, match="may not be read"):
        Follower(log)


def test_counts_and_nothing_else_leave_the_host(log: Path) -> None:
    follower = Follower(log)
    add(log, lines(50, 60))
    found = follower.read()
    assert "GET" not in json.dumps(found)
    assert set(found) == {"changed", "members", "buckets", "lines", "unread", "lost", "positions"}
