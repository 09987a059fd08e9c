# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The view from outside: what is a good answer, and when one decides nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import Unhealthy
from ansible_collections.zerodrop.rollout.plugins.module_utils._health import Answer
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout import outside
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import MemberRecord, Record
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import Settings

URL = "https://user:secret@shop.example.com/"


class Fakes:
    def __init__(self, *answers: tuple[str, str | None]) -> None:
        self.answers = list(answers)
        self.asked = 0

    def __call__(self, limit: float) -> Answer:
        reason, version = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        return Answer(200, version, 0.0, reason)


@pytest.fixture
def settings() -> Settings:
    return Settings.from_vars(
        {
            "rollout_service": "shop",
            "rollout_hosts": "shop",
            "rollout_balancers": "lb",
            "rollout_pool": "shop",
            "rollout_version": "2.0-1",
            "rollout_health_url": "http://127.0.0.1/health",
            "rollout_upgrade_role": "x",
            "rollout_outside_url": URL,
            "rollout_outside_timeout": 0.3,
        }
    )


@pytest.fixture
def record() -> Record:
    found = Record.refused({"rollout_version": "2.0-1"}, Unhealthy("x"))
    found.members = {"web1": MemberRecord("web1", {}, True, "1.0", "1.0")}
    found.outside_well = True
    return found


@pytest.mark.parametrize("version", ["1.0", "2.0-1", "2.0", None])
def test_either_version_is_good_and_a_page_need_not_name_one(
    settings: Settings, record: Record, version: str | None
) -> None:
    probe = Fakes(("", version))
    assert outside.now(settings, record, probe) == ""
    assert probe.asked == 3


def test_a_third_version_is_not(settings: Settings, record: Record) -> None:
    assert "version 3.0, which is none of 1.0, 2.0, 2.0-1" in outside.now(settings, record, Fakes(("", "3.0")))


def test_a_bad_answer_starts_the_row_anew(settings: Settings, record: Record) -> None:
    probe = Fakes(("", None), ("", None), ("status 503, not 200", None), ("", None))
    assert outside.now(settings, record, probe) == ""
    assert probe.asked == 6


def test_the_reason_has_no_password(settings: Settings, record: Record) -> None:
    reason = outside.now(settings, record, Fakes(("connection refused", None)))
    assert reason == "https://shop.example.com/ does not answer well from outside: connection refused."


def test_what_is_not_asked_says_nothing(settings: Settings, record: Record) -> None:
    record.outside_well = None
    probe = Fakes(("connection refused", None))
    assert outside.now(settings, record, probe) == ""
    assert outside.before(replace(settings, outside_url=""), ["web1"], [], probe) is None
    assert probe.asked == 0


def test_a_url_that_is_ill_while_members_serve_is_refused(settings: Settings) -> None:
    with pytest.raises(Unhealthy, match="web1 are healthy"):
        outside.before(settings, ["web1"], [], Fakes(("connection refused", None)))


def test_where_nothing_serves_or_only_the_witness_asks_it_is_a_note(settings: Settings) -> None:
    for each, serving in ((settings, []), (replace(settings, outside_url="", witness_url=URL), ["web1"])):
        notes: list[str] = []
        assert outside.before(each, serving, notes, Fakes(("connection refused", None))) is False
        assert "decides nothing" in notes[0]
