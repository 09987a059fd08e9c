# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What must hold for the repository as a whole."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PYTHON = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("plugins/**/*.py"))
# Written so that this file does not find itself.
MACHINE = re.compile("|".join(("/work" + "/", r"\.pyenv" + "/versions/[0-9]", "/home" + "/[a-z]")))
UNFINISHED = re.compile("|".join((r"\bTO" + r"DO\b", r"\bFIX" + r"ME\b", r"\bXX" + r"X\b")))


def load(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def tracked_text() -> list[tuple[str, str]]:
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    texts = []
    for name in filter(None, names):
        try:
            texts.append((name, (ROOT / name).read_text(encoding="utf-8")))
        except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
            continue  # not text, or deleted and not yet committed
    return texts


def found(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{name}:{number}: {line.strip()}"
        for name, text in tracked_text()
        if not name.startswith("LICENSES/") and name != "COPYING"
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def test_the_changelog_knows_the_version() -> None:
    version = load("galaxy.yml")["version"]
    released = load("changelogs/changelog.yaml")["releases"]
    assert version in released or (ROOT / f"changelogs/fragments/{version}.yml").exists()


def test_it_depends_on_no_collection_and_says_what_core_it_needs() -> None:
    assert load("galaxy.yml")["dependencies"] == {}
    assert load("meta/runtime.yml")["requires_ansible"] == ">=2.19.0"


def test_no_tracked_file_names_a_path_of_somebodys_machine() -> None:
    assert found(MACHINE) == []


def test_nothing_is_left_to_do() -> None:
    assert found(UNFINISHED) == []


@pytest.mark.parametrize("path", PYTHON)
def test_every_plugin_file_says_its_licence(path: str) -> None:
    text = (ROOT / path).read_text(encoding="utf-8")
    if text:  # ansible-test wants the __init__.py empty
        assert "SPDX-License-Identifier" + ": GPL-3.0-or-later" in "\n".join(text.splitlines()[:6])


@pytest.mark.parametrize(
    "path", [p for p in PYTHON if p.startswith(("plugins/module_utils/", "plugins/plugin_utils/"))]
)
def test_every_helper_is_private(path: str) -> None:
    assert Path(path).parts[2].startswith("_")
