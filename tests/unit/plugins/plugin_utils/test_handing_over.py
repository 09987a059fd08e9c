# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sessions of members that leave: in what order they are handed over, and what a failure leaves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput, Refused, RolloutError
from ansible_collections.zerodrop.rollout.plugins.module_utils._member_sessions import sessions_export, sessions_import
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Call, Reply
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.batch import Phases
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import MemberRecord, Record
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.step import Batch
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import Settings
from tests.unit.plugins.plugin_utils.lines import LINES

MEMBERS = ("web1", "web2", "web3")
BOTH = {"rollout_session_export": ["export"], "rollout_session_import": ["import"]}


class FakeRemote:
    """Two balancers, and three members with sessions; keeps every call."""

    def __init__(self) -> None:
        self.sessions = {"web1": {"a", "b"}, "web2": {"c"}, "web3": set[str]()}
        self.admin = {(place, name): "ready" for place in ("lb1", "lb2") for name in MEMBERS}
        self.said: list[str] = []
        self.errors: dict[tuple[str, str], RolloutError] = {}

    def run(self, calls: Mapping[str, Call], check: bool = False) -> dict[str, Reply]:
        return {name: self._answer(name, call) for name, call in calls.items()}

    def _answer(self, host: str, call: Call) -> Reply:
        params = call.params
        self.said.append(f"{call.operation} {'only new' if params.get('only_new') else host}")
        if (host, call.operation) in self.errors:
            return Reply(host, error=self.errors[host, call.operation])
        if call.operation == "pool_drain":
            before = {name: {"admin": self.admin[host, name], "weight": 7} for name in params["members"]}
            for name in params["members"]:
                self.admin[host, name] = "drain" if params["only_new"] else "out"
            return Reply(host, {"changed": True, "before": before, "return_to": before, "members": {}})
        if call.operation == "pool_put_back":
            for name, setting in params["settings"].items():
                self.admin[host, name] = setting["admin"]
        if call.operation == "sessions_export":
            own = self.sessions[host]
            return Reply(host, {"changed": False, "sessions": len(own), "packed": " ".join(sorted(own))})
        if call.operation == "sessions_import":
            self.sessions[host] |= set(params["packed"].split())
        return Reply(host, {"changed": True})


@pytest.fixture
def remote() -> FakeRemote:
    return FakeRemote()


def drained(remote: FakeRemote, tmp_path: Path, **settings: Any) -> tuple[Record, str]:
    places = ["lb1", "lb2"]
    record = Record(
        rollout_id="r1",
        service="shop",
        strategy="rolling",
        pool="shop",
        from_version="1.0",
        to_version="2.0",
        started_at=0.0,
        check=False,
        method="archive",
        upgrade="",
        floor=1,
        balancers=places,
        batches=[["web1"], ["web2"], ["web3"]],
        members={name: MemberRecord(name, dict.fromkeys(places, name), True, "1.0", "1.0") for name in MEMBERS},
        path=str(tmp_path / "record.json"),
    )
    found = Settings.from_vars({**LINES, **settings})
    phases = Phases(found, remote, record, Batch(("web1",), False), check=False)  # type: ignore[arg-type]
    return record, phases.drain().message


def test_what_stays_knows_every_session_before_the_member_goes(remote: FakeRemote, tmp_path: Path) -> None:
    record, message = drained(remote, tmp_path, rollout_sessions="hand_over", **BOTH)
    assert record.stop is None, message
    assert remote.sessions == {"web1": {"a", "b"}, "web2": {"a", "b", "c"}, "web3": {"a", "b"}}
    one = ["sessions_export web1", "sessions_import web2", "sessions_import web3"]
    own = [word for word in remote.said if "socket" not in word and "note" not in word]
    assert own == [*["pool_drain only new"] * 2, *one, "pool_drain lb1", "pool_drain lb2", *one]
    assert record.events[0]["message"] == "2 sessions of web1 are known to web2, web3"


def test_a_member_that_comes_back_knows_every_session(remote: FakeRemote, tmp_path: Path) -> None:
    record, _message = drained(remote, tmp_path, rollout_sessions="hand_over", **BOTH)
    remote.sessions["web1"] = set()
    record.members["web1"].state = "upgraded"
    settings = Settings.from_vars({**LINES, "rollout_sessions": "hand_over", **BOTH})
    phases = Phases(settings, remote, record, Batch(("web1",), False), check=False)  # type: ignore[arg-type]
    remote.said.clear()
    phases.gate()
    assert remote.sessions["web1"] == {"a", "b", "c"}
    assert remote.said.index("sessions_import web1") < remote.said.index("pool_return lb1")
    remote.errors["web1", "sessions_import"] = Refused("says no.")
    record.members["web1"].state = "upgraded"
    remote.said.clear()
    assert "says no" in phases.gate().message
    assert record.members["web1"].state == "failed"
    assert "pool_return lb1" not in remote.said


@pytest.mark.parametrize(
    ("host", "operation"), [("web1", "sessions_export"), ("web3", "sessions_import"), ("lb2", "pool_drain")]
)
def test_one_that_fails_leaves_the_member_in_service(
    remote: FakeRemote, tmp_path: Path, host: str, operation: str
) -> None:
    remote.errors[host, operation] = Refused("says no.")
    record, message = drained(remote, tmp_path, rollout_sessions="hand_over", **BOTH)
    assert "says no" in message
    assert record.stop is not None
    assert set(remote.admin.values()) == {"ready"}


def test_sessions_that_stay_behind_are_counted(remote: FakeRemote, tmp_path: Path) -> None:
    record, _message = drained(remote, tmp_path, **BOTH)
    assert "2 sessions end with web1" in record.notes
    assert remote.sessions["web2"] == {"c"}
    record, _message = drained(remote, tmp_path, rollout_sessions="shared", **BOTH)
    assert record.notes == []


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"rollout_session_import": ["x"]}, "rollout_session_export is not set"),
        ({"rollout_session_export": ["x"]}, "rollout_session_import is not set"),
        ({**BOTH, "rollout_join_batches": True}, "no time to hand anything over"),
        ({**BOTH, "rollout_sessions": "lose"}, "must be one of follow, hand_over, shared"),
    ],
)
def test_settings_that_are_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        Settings.from_vars({**LINES, "rollout_sessions": "hand_over", **wrong})


def test_the_programs_themselves(tmp_path: Path) -> None:
    file = tmp_path / "taken"
    out = sessions_export({"command": ["/bin/sh", "-c", "printf 'a 1\\nb 2\\n'"]}, False)
    assert out["sessions"] == 2
    sessions_import(
        {"command": ["/bin/sh", "-c", f"cat >{file}; echo $ROLLOUT_MEMBER >>{file}"], "member": "web2", **out}, False
    )
    assert file.read_text(encoding="ascii") == "a 1\nb 2\nweb2\n"
    assert sessions_export({"command": ["/bin/false"]}, True)["sessions"] == 0
    with pytest.raises(RolloutError, match="ended with 3: no room"):
        sessions_import({"command": ["/bin/sh", "-c", "echo no room >&2; exit 3"], **out}, False)
    with pytest.raises(RolloutError, match="did not end within"):
        sessions_export({"command": ["sleep", "9"], "timeout": 0.1}, False)
    with pytest.raises(RolloutError, match="cannot be run"):
        sessions_export({"command": ["/nowhere"]}, False)
    with pytest.raises(BadInput, match="not what sessions_export returns"):
        sessions_import({"command": ["cat"], "packed": "?"}, False)
