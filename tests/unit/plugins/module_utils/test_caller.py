# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether anybody listens to what an operation says."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils import _caller
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import Unreachable


def test_a_pipe_whose_reader_is_gone() -> None:
    reader, writer = os.pipe()
    assert not _caller.is_gone(writer)
    os.close(reader)
    assert _caller.is_gone(writer)
    os.close(writer)


def test_a_socket_whose_peer_is_gone() -> None:  # sshd connects a command so
    ours, theirs = socket.socketpair()
    assert not _caller.is_gone(ours.fileno())
    theirs.close()
    assert _caller.is_gone(ours.fileno())
    ours.close()


def test_a_file_always_listens(tmp_path: Path) -> None:
    with open(tmp_path / "out", "w", encoding="utf-8") as file:
        assert not _caller.is_gone(file.fileno())


def test_work_ends_when_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_caller, "is_gone", lambda: True)
    with pytest.raises(Unreachable, match="connection to the controller ended"):
        _caller.require("drain")
