# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the upgrade method container asks of the members, on members that are made of answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadArtefact, BadInput, Refused
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._plan import Plan
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Call, Remote, Reply
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.methods import method_of
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import Record
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import Settings

ONE, TWO = (f"sha256:{digit * 64}" for digit in "12")
IMAGE = "registry.example.com/shop"
NO_PLAN = cast(Plan, None)


def settings(**more: str) -> Settings:
    lines = {
        "rollout_service": "shop",
        "rollout_hosts": "shop",
        "rollout_balancers": "lb",
        "rollout_pool": "shop",
        "rollout_health_url": "http://127.0.0.1/",
        "rollout_version": "2.0",
        "rollout_upgrade_method": "container",
        "rollout_container_image": IMAGE,
    }
    return Settings.from_vars({**lines, **more})


def member(*known: tuple[str, str], reads: bool = True) -> dict[str, Any]:
    staged = [{"version": version, "checksum": digest} for version, digest in known]
    return {"staged": staged, "reads_file": reads, "file": "/var/lib/x/image.env"}


class Members:
    """Answers every call, and remembers it."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Call]] = []
        self.lacks: set[str] = set()

    def run(self, calls: Mapping[str, Call], check: bool) -> dict[str, Reply]:
        self.calls += calls.items()
        result: dict[str, Any] = {"changed": not check, "digest": None if check else TWO}
        error = BadArtefact("podman could not pull it")
        return {host: Reply(host, {}, error) if host in self.lacks else Reply(host, result) for host in calls}


def record(artefact: str = "") -> Record:
    found = Record.refused({}, Refused("x"))
    found.stop, found.artefact, found.to_stage = None, artefact, ["web1", "web2"]
    found.save = lambda: None  # type: ignore[method-assign]
    return found


def stage(members: Members, found: Record, check: bool = False, **more: str) -> list[str]:
    given = settings(**more)
    return method_of(given).stage(given, cast(Remote, members), found, "", check)


def test_a_tag_is_asked_for_once_and_every_member_gets_its_digest() -> None:
    members, found = Members(), record()
    assert stage(members, found) == ["web1", "web2"]
    assert [(host, call.operation) for host, call in members.calls] == [
        ("web1", "container_resolve"),
        ("web1", "container_stage"),
        ("web2", "container_stage"),
    ]
    assert {call.params["digest"] for _host, call in members.calls[1:]} == {TWO}
    assert found.artefact == f"{IMAGE}@{TWO}"
    assert found.notes == [f"2.0 is {IMAGE}@{TWO}"]


def test_a_digest_that_is_known_asks_for_no_tag() -> None:
    members = Members()
    stage(members, record(f"{IMAGE}@{ONE}"))
    assert [call.operation for _host, call in members.calls] == ["container_stage"] * 2
    assert members.calls[0][1].params["digest"] == ONE


def test_check_mode_learns_no_digest_and_changes_nothing() -> None:
    members, found = Members(), record()
    assert stage(members, found, check=True) == []
    assert found.artefact == ""
    assert members.calls[-1][1].params["digest"] is None


@pytest.mark.parametrize("host", ["web1", "web2"])
def test_a_member_that_cannot_pull_it_is_named(host: str) -> None:
    members = Members()
    members.lacks = {host}
    with pytest.raises(BadArtefact, match=f"{host}: podman could not pull it"):
        stage(members, record())


def test_a_version_that_a_member_has_been_on_keeps_its_digest() -> None:
    given = settings()
    infos = {"web1": member(), "web2": member(("1.0", ONE), ("2.0", TWO))}
    method_of(given).refuse(given, NO_PLAN, infos)
    assert method_of(given).artefact(given, infos) == f"{IMAGE}@{TWO}"
    assert method_of(given).artefact(given, {"web1": member(("1.0", ONE))}) == ""
    exact = settings(rollout_container_digest=ONE)
    assert method_of(exact).artefact(exact, {"web1": member()}) == f"{IMAGE}@{ONE}"


@pytest.mark.parametrize(
    ("digest", "infos"),
    [
        ("", {"web1": member(("2.0", ONE)), "web2": member(("2.0", TWO))}),
        (ONE, {"web1": member(), "web2": member(("2.0", TWO))}),
    ],
)
def test_a_version_that_stands_for_two_images_is_refused(digest: str, infos: dict[str, Any]) -> None:
    given = settings(rollout_container_digest=digest)
    with pytest.raises(Refused, match="stands for different images") as error:
        method_of(given).refuse(given, NO_PLAN, infos)
    assert TWO in str(error.value)
    assert ONE in str(error.value)


def test_a_unit_that_does_not_read_the_file_is_refused_with_what_it_needs() -> None:
    given = settings()
    with pytest.raises(BadInput, match=r"web2: shop\.service does not read /var/lib/x/image\.env") as error:
        method_of(given).refuse(given, NO_PLAN, {"web1": member(), "web2": member(reads=False)})
    assert "EnvironmentFile=/var/lib/x/image.env" in str(error.value)
    assert "${ROLLOUT_IMAGE}" in str(error.value)
