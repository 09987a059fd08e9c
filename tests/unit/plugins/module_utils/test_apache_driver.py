# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the Apache driver refuses, and how it reads the manager's page."""

from __future__ import annotations

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils._apache import manager
from ansible_collections.zerodrop.rollout.plugins.module_utils._drivers.apache import ApacheDriver
from ansible_collections.zerodrop.rollout.plugins.module_utils._drivers.base import Clock
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput, BadReply, Refused
from tests.fuzz.targets import SEEDS

PAGE = (SEEDS / "apache_manager" / "page").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "url",
    ["http://10.0.0.1/balancer-manager", "https://127.0.0.1/b", "http://127.0.0.1.example/b", "/b", "http://a b/"],
)
def test_only_the_loopback_is_spoken_to(url: str) -> None:
    with pytest.raises(BadInput):
        ApacheDriver.from_params({"manager_url": url}, Clock())


@pytest.mark.parametrize("url", ["http://127.0.0.1:81/x", "http://[::1]/x", "http://localhost/x", None])
def test_the_loopback_is_taken(url: str | None) -> None:
    ApacheDriver.from_params({"manager_url": url}, Clock())


def test_a_cut_is_refused() -> None:
    with pytest.raises(Refused, match="cannot end"):
        ApacheDriver().cut("shop", ["s1"])


@pytest.mark.parametrize("weight", [0, 101])
def test_a_weight_that_apache_would_ignore_is_refused(weight: int) -> None:
    with pytest.raises(BadInput, match="1 to 100"):
        ApacheDriver().weigh("shop", {"s1": weight})


def test_members_are_named_by_their_route_or_else_their_address() -> None:
    (shop,) = manager.page(PAGE).balancers
    assert (shop.name, [worker.name for worker in shop.workers]) == ("shop", ["s1", "s2", "127.0.0.1:18813"])
    assert [worker.checked for worker in shop.workers] == [True, False, False]
    assert [worker.factor for worker in shop.workers] == [1.0, 1.5, 1.0]


def test_a_route_that_two_have_names_neither() -> None:
    (shop,) = manager.page(PAGE.replace("<td>s2</td>", "<td>s1</td>")).balancers
    assert [worker.port for worker in shop.workers] == [int(worker.name.split(":")[1]) for worker in shop.workers]


@pytest.mark.parametrize("text", ["", "<html>", PAGE.replace("<th>Busy</th>", "<th>Bees</th>")])
def test_another_page_is_refused(text: str) -> None:
    with pytest.raises(BadReply):
        manager.page(text)
