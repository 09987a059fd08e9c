# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What held-out members return to: kept from before the drain until they are back, whoever was killed between."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput
from ansible_collections.zerodrop.rollout.plugins.module_utils._marks import BY_HAND, Marks
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Admin, Health, Member, Pool, Setting

READY = Setting(Admin.READY, 7)
OUT = Setting(Admin.OUT, 7)


def pool(**admin: Admin) -> Pool:
    members = tuple(Member(name, "192.0.2.1", 80, each, Health.UP, 7, 0, 0) for name, each in admin.items())
    return Pool("shop", "1@1", members)


@pytest.fixture
def marks(tmp_path: Path) -> Marks:
    return Marks("shop", "shop", str(tmp_path / "zerodrop"))


def test_a_mark_outlives_the_run_that_made_it(marks: Marks, tmp_path: Path) -> None:
    marks.add({"web1": READY})
    again = Marks("shop", "shop", str(tmp_path / "zerodrop"))
    assert again.read() == {"web1": READY}
    assert again.returning_to(pool(web1=Admin.OUT, web2=Admin.OUT), ["web1", "web2"]) == {"web1": READY, "web2": OUT}


def test_a_member_that_is_ready_again_has_outlived_its_mark(marks: Marks) -> None:
    marks.add({"web1": Setting(Admin.READY, 1)})
    assert marks.returning_to(pool(web1=Admin.READY), ["web1"]) == {"web1": READY}


def test_reading_leaves_nothing_behind(marks: Marks, tmp_path: Path) -> None:
    assert marks.read() == {}
    marks.remove(["web1"])
    assert list(tmp_path.iterdir()) == []


def test_marks_are_removed_one_by_one(marks: Marks) -> None:
    marks.add({"web1": READY, "web2": READY})
    marks.remove(["web1", "web9"])
    assert marks.read() == {"web2": READY}


def test_each_pool_and_each_hand_has_its_own(marks: Marks, tmp_path: Path) -> None:
    marks.add({"web1": READY})
    folder = str(tmp_path / "zerodrop")
    assert Marks("shop", "other", folder).read() == {}
    by_hand = Marks("shop", "shop", folder, BY_HAND)
    by_hand.add({"web2": OUT})
    assert (marks.read(), by_hand.read()) == ({"web1": READY}, {"web2": OUT})


@pytest.mark.parametrize(("service", "name"), [("../x", "shop"), ("shop", "a/b"), ("a b", "shop"), ("", "shop")])
def test_no_name_leads_out_of_the_folder(service: str, name: str) -> None:
    with pytest.raises(BadInput):
        Marks(service, name)
