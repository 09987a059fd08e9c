# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils._haproxy import persist

GLOBAL = "global\n  server-state-file /s/all # here\n"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (GLOBAL + "defaults\n load-server-state-from-file global\nbackend shop\n", "/s/all"),
        (GLOBAL + "backend shop\n load-server-state-from-file global\n", "/s/all"),
        ("defaults\n load-server-state-from-file global\nbackend shop\n" + GLOBAL, "/s/all"),
        ("global\n server-state-base /s\n server-state-file all\nlisten shop\n load-server-state-from-file global", "/s/all"),
        ("global\n server-state-base /s\nbackend shop\n load-server-state-from-file local\n", "/s/shop"),
        (GLOBAL + "defaults a\n load-server-state-from-file global\ndefaults\nbackend shop from a\n", "/s/all"),
    ],
)  # fmt: skip
def test_the_file_that_haproxy_reads_is_found(text: str, path: str) -> None:
    assert persist.state_file([text], "shop").path == path


@pytest.mark.parametrize(
    "text",
    [
        "",
        GLOBAL + "backend shop\n",
        "defaults\n load-server-state-from-file global\nbackend shop\n",
        GLOBAL + "defaults\n load-server-state-from-file global\ndefaults\nbackend shop\n",
        GLOBAL + "defaults\n load-server-state-from-file global\nbackend shop\n load-server-state-from-file none\n",
        GLOBAL + "# load-server-state-from-file global\nbackend other\n load-server-state-from-file global\n",
        'global\n server-state-file "$X/all"\nbackend shop\n load-server-state-from-file global\n',
    ],
)
def test_a_file_that_is_not_read_is_not_taken_for_one(text: str) -> None:
    with pytest.raises(persist.NotKept):
        persist.state_file([text], "shop")


def test_another_programs_command_line_is_not_believed() -> None:
    with pytest.raises(persist.NotKept, match="command line"):
        persist.configurations(["/usr/bin/tail", "-f", "/etc/passwd"], "/")
    with pytest.raises(persist.NotKept, match="relative"):
        persist.configurations(["haproxy", "-f", "haproxy.cfg"], "")
    assert persist.configurations(["haproxy", "-f", "haproxy.cfg"], "/etc") == ["/etc/haproxy.cfg"]
    assert persist.configurations(["haproxy", "-f", "/a", "-W", "--", "/b", "/c", ""], "/") == ["/a", "/b", "/c"]


def test_a_file_keeps_its_rights(tmp_path: Path) -> None:
    path = tmp_path / "state"
    file = persist.StateFile(str(path), whole=True)
    file.write("1\n")
    path.chmod(0o600)
    file.write("2\n")
    assert path.read_text() == "2\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["state"]


def test_another_program_is_not_taken_for_haproxy() -> None:
    with pytest.raises(persist.NotKept, match="command line"):
        persist.launch_of(os.getpid())


def test_files_of_another_file_system_are_not_taken_for_its_own(tmp_path: Path) -> None:
    own = tmp_path / "haproxy.cfg"
    own.write_text("global\n")
    persist.Launch(os.getpid(), (), (str(own),)).refuse_other_files()
    with pytest.raises(persist.NotKept, match="in a container or chroot"):
        persist.Launch(2**22 + 1, (), (str(own),)).refuse_other_files()


def test_a_candidate_is_tested_beside_the_file_and_nothing_is_left(tmp_path: Path) -> None:
    """The program of this process stands for HAProxy: it takes no `-c -f`, and says so."""
    own = tmp_path / "haproxy.cfg"
    own.write_text("global\n")
    launch = persist.Launch(os.getpid(), ("haproxy", "-L", "me"), (str(own),))
    assert "exit code" in launch.complaint({str(own): "global\n# new\n"})
    assert [path.name for path in tmp_path.iterdir()] == ["haproxy.cfg"]
    assert own.read_text() == "global\n"
