# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""docs/conformance.md says what the tests show, and every case is shown or said to be missing."""

from __future__ import annotations

from tests.conformance.table import CASES, LATER, PAGE, page, shown


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: make tables"


def test_every_case_is_shown_or_said_to_come_later() -> None:
    tests = shown()
    assert list(CASES) == list(range(1, 47))
    assert set(tests) == set(CASES) - set(LATER)
    assert all(one.on for each in tests.values() for one in each)


def test_a_case_is_shown_where_a_test_needs_no_feature_that_is_missing() -> None:
    (tcp,) = (one for one in shown()[9] if one.name == "test_tcp_sessions_are_long_lived")
    assert [each.split()[0] for each in tcp.on] == ["HAProxy"]
    (kinds,) = (one for one in shown()[9] if one.name.startswith("test_websockets_and_a_download"))
    assert [each.split()[0] for each in kinds.on] == ["HAProxy"]
    (typing_error,) = (one for one in shown()[1] if one.name.startswith("test_all_names"))
    assert {"Apache", "HAProxy", "nginx"} <= {each.split()[0] for each in typing_error.on}
