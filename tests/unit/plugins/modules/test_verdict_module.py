# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module as a playbook runs it: its own examples, check mode, a refusal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.zerodrop.rollout.plugins.modules import verdict as module

ROOT = Path(__file__).parents[4]


def play(folder: Path, tasks: list[dict[str, Any]], *options: str) -> tuple[int, str]:
    (folder / "play.yml").write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]))
    done = subprocess.run(
        [str(Path(sys.executable).with_name("ansible-playbook")), str(folder / "play.yml"), *options],
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".build" / "collections")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize("options", [(), ("--check",)])
def test_the_examples_run(tmp_path: Path, options: tuple[str, ...]) -> None:
    rc, said = play(tmp_path, yaml.safe_load(module.EXAMPLES), *options)
    assert rc == 0, said
    assert "roll_back, ROLL BACK: the circuit breaker tripped" in said
    assert "changed=0" in said


def test_a_share_that_is_text_is_refused_before_anything(tmp_path: Path) -> None:
    task = {"zerodrop.rollout.verdict": {"polls": [], "share": "a lot"}}
    rc, said = play(tmp_path, [task])
    assert rc != 0
    assert "share must be a number" in said


def test_what_it_returns_is_documented(tmp_path: Path) -> None:
    example = yaml.safe_load(module.EXAMPLES)[0]
    path = tmp_path / "result.json"
    write = {"ansible.builtin.copy": {"content": "{{ judged | to_json }}", "dest": str(path)}}
    rc, said = play(tmp_path, [example, write])
    assert rc == 0, said
    returned = set(json.loads(path.read_text())) - {"changed", "failed", "msg"}
    assert returned == set(yaml.safe_load(module.RETURN))
