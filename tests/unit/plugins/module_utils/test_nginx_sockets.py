# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Connections as the kernel tells them: the same as /proc prints, and never too few in silence."""

from __future__ import annotations

import os
import socket
import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import PermissionDenied
from ansible_collections.zerodrop.rollout.plugins.module_utils._nginx import diag, sockets

HEADER = struct.Struct("=IHHII")


def message(kind: int, body: bytes, flags: int = 2) -> bytes:
    text = HEADER.pack(HEADER.size + len(body), kind, flags, 1, 0) + body
    return text + b"\0" * (-len(text) % 4)


def row(family: int, state: int, local_port: int, remote: bytes, remote_port: int, inode: int) -> bytes:
    ports = struct.pack("!HH", local_port, remote_port)
    start = struct.pack("=BBBB", family, state, 0, 0) + ports + bytes(16) + remote.ljust(16, b"\0")
    return start + bytes(12) + struct.pack("=IIIII", 0, 0, 0, 33, inode)


addresses = st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16))
rows = st.lists(
    st.builds(
        diag.Row,
        state=st.sampled_from((1, 2, 8, 10)),
        local_port=st.integers(0, 65535),
        remote=addresses,
        remote_port=st.integers(0, 65535),
        inode=st.integers(0, 2**32 - 1),
    ),
    max_size=20,
)


@given(rows, st.booleans())
def test_every_row_of_an_answer_is_read(told: list[diag.Row], ended: bool) -> None:
    data = b"".join(
        message(
            18,
            row(
                socket.AF_INET if len(one.remote) == 4 else socket.AF_INET6,
                one.state,
                one.local_port,
                one.remote,
                one.remote_port,
                one.inode,
            ),
        )
        for one in told
    )
    found: list[diag.Row] = []
    assert diag.parse(data + (message(3, bytes(4)) if ended else b""), found) is ended
    assert found == told


@given(st.binary(max_size=400))
def test_nonsense_is_no_crash(data: bytes) -> None:
    with suppress(diag.Unusable):
        diag.parse(data, [])


@pytest.mark.parametrize(
    "data",
    [message(2, struct.pack("=i", -2)), message(18, bytes(72), flags=2 | 0x10), message(18, bytes(72))[:40]],
    ids=["an error", "a dump that was disturbed", "cut off"],
)
def test_an_answer_that_is_none_is_not_taken_for_no_connection(data: bytes) -> None:
    with pytest.raises(diag.Unusable):
        diag.parse(data, [])


def test_the_kernel_and_proc_tell_the_same() -> None:
    """Of connections of our own, by IPv4 and by IPv6."""
    pid = os.getpid()
    with (
        socket.create_server(("127.0.0.1", 0)) as four,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as six,
    ):
        clients = [socket.create_connection(one.getsockname()[:2]) for one in (four, six)]
        ends = [one.accept()[0] for one in (four, six)]
        try:
            told = set(sockets.owned(pid, sockets.read(pid)))
            printed = set(sockets.owned(pid, sockets.printed(pid)))
        finally:
            for one in (*clients, *ends):
                one.close()
    assert told == printed
    assert len({one.local_port for one in told}) == 4
    assert {one.remote for one in told if one.is_open} == {"127.0.0.1", "::1"}


def test_open_files_that_are_not_shown_are_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for root without CAP_SYS_PTRACE: it may list them, and no more."""

    def denied(path: str) -> str:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "readlink", denied)
    with pytest.raises(PermissionDenied, match="what is in flight is not known"):
        sockets.owned(os.getpid(), [])


def test_a_process_that_is_gone_has_none() -> None:
    assert sockets.owned(2**22 + 1, []) == []
