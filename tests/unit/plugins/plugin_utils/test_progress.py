# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a terminal shows of a rollout that runs, and that the plugin which shows it hides nothing else."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.plugin_utils import _progress

ROOT = Path(__file__).parents[4]
PLAYBOOK = """
- hosts: localhost
  gather_facts: false
  tasks:
    - name: A rollout
      ansible.builtin.shell: '[ -z "$ZERODROP_ROLLOUT_PROGRESS" ] || printf %s "$RECORD" >"$ZERODROP_ROLLOUT_PROGRESS"; sleep 2'
    - ansible.builtin.fail:
        msg: the useful error
"""


def member(state: str = "untouched", out_at: float | None = None, trouble: str = "") -> dict[str, Any]:
    return {"state": state, "out_at": out_at, "trouble": trouble}


def record(**changes: Any) -> dict[str, Any]:
    return {
        "strategy": "rolling",
        "started_at": time.time() - 20,
        "batches": [["web1"], ["web2", "web3"], ["web4"]],
        "back_batches": [],
        "members": {
            "web1": member("finished"),
            "web2": member("upgraded", 10.0),
            "web3": member("drained", 10.0),
            "web4": member(),
        },
        "events": [
            {"phase": "put back", "members": ["web1"], "at": 5.0, "seconds": 1.0, "message": ""},
            {"phase": "drain", "members": ["web2", "web3"], "at": 10.0, "seconds": 2.0, "message": ""},
        ],
        "stop": None,
        "witness": {},
        **changes,
    }


def test_each_member_has_its_phase_and_for_how_long() -> None:
    shown = _progress.lines(record(), {"requests_total": 1234, "failed": 2}, 15.0, 80, 24)
    assert shown == [
        "  web1  done",
        "  web2  upgrade 3.0 s",
        "  web3  upgrade 3.0 s",
        "  web4  waits",
        "rolling [#########...............]  38% batch 2 of 3, 15 s",
        "1,234 requests, 2 failed",
    ]


def test_a_canary_shows_its_evidence() -> None:
    evidence = {
        "decision": "no_data",
        "odds": {"roll_back": 3.2111, "promote": 11.0},
        "needed": {"roll_back": 126.0, "promote": 26.0},
        "canary": [3, 470],
        "baseline": [8, 4230],
    }
    made = record(canary={"step": 0, "steps": [{}, {}], "evidence": evidence})
    shown = _progress.lines(made, {}, 15.0, 100, 24)
    assert "canary 1/2 no data: worse 3.21 of 126, fine 11 of 26 to 1; failed 3 of 470, baseline 8 of 4,230" in shown
    assert len(_progress.lines(record(canary={"step": 0, "steps": [{}]}), {}, 15.0, 80, 24)) == len(shown) - 1


def test_a_stop_and_what_is_wrong_with_a_member_are_said() -> None:
    made = record(stop={"phase": "gate", "message": "web2 is ill."}, back_batches=[["web2", "web3"]])
    made["members"]["web2"] = member("left_out", 10.0, "still out")
    shown = "\n".join(_progress.lines(made, {}, 15.0, 80, 24))
    assert "LEFT OUT: still out" in shown
    assert "STOPPED in phase gate: web2 is ill." in shown
    assert "way back" in shown


def test_a_large_fleet_shows_what_is_at_work() -> None:
    hosts = [f"web{number}" for number in range(1000)]
    made = record(batches=[hosts[:990], hosts[990:]], members={host: member("finished") for host in hosts}, events=[])
    made["members"] |= {host: member("untouched", 11.0) for host in hosts[990:993]}
    shown = _progress.lines(made, {}, 15.0, 80, 24)
    assert len(shown) <= 24
    assert "  web990  drain 4.0 s" in shown
    assert any("and 980 more" in line for line in shown)


@given(st.text(max_size=60), st.integers(5, 120), st.integers(1, 60))
def test_no_line_is_longer_than_the_terminal_or_obeyed_by_it(trouble: str, width: int, height: int) -> None:
    made = record(stop={"phase": "gate", "message": trouble})
    made["members"]["web2"]["trouble"] = trouble
    for line in _progress.lines(made, {}, 15.0, width, height):
        assert len(line) <= width
        assert line.isprintable()


def run(tmp_path: Path, terminal: bool) -> str:
    """The output of a playbook with the plugin, in a terminal or not."""
    (tmp_path / "play.yml").write_text(PLAYBOOK, encoding="utf-8")
    (tmp_path / "record.json").write_text(json.dumps(record()), encoding="utf-8")
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".build" / "collections"),
        "ANSIBLE_CALLBACKS_ENABLED": "zerodrop.rollout.progress",
        "ANSIBLE_LOCALHOST_WARNING": "0",
        "RECORD": str(tmp_path / "record.json"),
        "TERM": "xterm",
        "COLUMNS": "100",
        "LINES": "30",
    }
    program = str(Path(sys.executable).with_name("ansible-playbook"))
    ours, theirs = pty.openpty()
    output = theirs if terminal else subprocess.PIPE
    process = subprocess.Popen(
        [program, str(tmp_path / "play.yml")], stdout=output, stderr=subprocess.STDOUT, env=environment
    )
    os.close(theirs)
    text = b""
    if process.stdout is not None:
        text = process.stdout.read()
        process.stdout.close()
    else:
        while True:
            try:
                text += (found := os.read(ours, 65536))
            except OSError:  # how Linux says that the other end is closed
                break
            if not found:
                break
    os.close(ours)
    assert process.wait(60) == 2
    return text.decode()


def test_in_a_terminal_the_foot_is_drawn_and_everything_else_stays(tmp_path: Path) -> None:
    text = run(tmp_path, terminal=True)
    assert "web2  upgrade" in text
    assert "batch 2 of 3" in text
    for said in ("TASK [A rollout]", "the useful error", "PLAY RECAP"):
        assert said in text
    # What is printed while the foot is there stands where the foot was: it is taken away first.
    before = text[: text.index("the useful error")]
    assert (
        before.rindex("\x1b[J") > before.rindex("batch 2 of 3") or "batch 2 of 3" in before[before.rindex("\x1b[J") :]
    )
    assert text.rindex("\x1b[J") > text.rindex("batch 2 of 3")


def test_without_a_terminal_it_is_silent(tmp_path: Path) -> None:
    text = run(tmp_path, terminal=False)
    assert "\x1b" not in text
    assert "batch 2 of 3" not in text
    assert "the useful error" in text
