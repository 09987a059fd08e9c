# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What outlives a reload and a restart of HAProxy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils import _pool_operations as operations
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import InvalidConfiguration, Refused
from ansible_collections.zerodrop.rollout.plugins.module_utils._haproxy.config import MARK
from ansible_collections.zerodrop.rollout.plugins.module_utils._haproxy.persist import Launch
from tests.conformance.haproxy import HAProxy
from tests.conformance.harness import App, Load, PoolSpec, wait_for

pytestmark = pytest.mark.balancer


def pool_of(apps: Mapping[str, App], **more: Any) -> PoolSpec:
    return PoolSpec("shop", [(app.name, app.port) for app in apps.values()], **more)


def reload(haproxy: HAProxy) -> None:
    old = haproxy.driver().identity()
    haproxy.reload()
    wait_for(lambda: haproxy.driver().read("shop").identity != old)


def settings(haproxy: HAProxy) -> dict[str, tuple[str, int]]:
    return {member.name: (member.admin.value, member.weight) for member in haproxy.driver().read("shop").members}


def survives_a_reload_and_a_restart(haproxy: HAProxy, pool: PoolSpec, wanted: Mapping[str, tuple[str, int]]) -> None:
    with Load(pool.port).running(clients=4) as load:
        reload(haproxy)
        assert settings(haproxy) == wanted
    assert not load.failures
    haproxy.stop()
    haproxy.restart()
    assert settings(haproxy) == wanted


@pytest.mark.case(5, 6)
@pytest.mark.parametrize("checked", [True, False])
def test_a_reload_and_a_restart_bring_no_drained_member_back(
    haproxy: HAProxy, apps: dict[str, App], checked: bool
) -> None:
    pool = pool_of(apps, checked=checked)
    haproxy.start([pool], state_file=True)
    params = haproxy.params("shop")
    assert haproxy.driver().lasting("shop") == ""
    operations.pool_drain({**params, "members": ["s1"]}, False)
    operations.pool_weigh({**params, "weights": {"s2": 7}}, False)
    apps["s1"].kill()
    wanted = {"s1": ("out", 1), "s2": ("ready", 7), "s3": ("ready", 1), "s4": ("ready", 1)}
    survives_a_reload_and_a_restart(haproxy, pool, wanted)
    with Load(pool.port).running(clients=4) as load:
        pass
    assert not load.failures


@pytest.mark.case(42)
@pytest.mark.parametrize("checked", [True, False])
def test_a_reload_takes_no_ready_member_out(haproxy: HAProxy, apps: dict[str, App], checked: bool) -> None:
    pool = pool_of(apps, checked=checked)
    haproxy.start([pool], state_file=True)
    params = {**haproxy.params("shop"), "members": ["s1", "s2"]}
    operations.pool_member({**params, "state": "drained"}, False)
    reload(haproxy)
    operations.pool_member({**params, "state": "ready"}, False)
    reload(haproxy)
    wait_for(lambda: all(member.in_service for member in haproxy.driver().read("shop").members))
    # The file says `down` of a member whose first check was still to come; its checks say otherwise.
    assert set(settings(haproxy).values()) == {("ready", 1)}


@pytest.mark.case(5, 6)
@pytest.mark.parametrize("checked", [True, False])
def test_without_a_state_file_the_configuration_says_who_is_out(
    haproxy: HAProxy, apps: dict[str, App], checked: bool
) -> None:
    pool = pool_of(apps, checked=checked)
    haproxy.start([pool])
    haproxy.config.chmod(0o640)
    written = haproxy.config.read_bytes()
    params = {**haproxy.params("shop"), "members": ["s1", "s2"], "lasting": "require"}
    assert operations.pool_read({**haproxy.params("shop"), "rights": True}, False)["lasting"] == {"shop": ""}
    operations.pool_drain(params, False)
    assert haproxy.config.read_bytes().replace(MARK.encode(), b"") == written
    assert haproxy.config.read_bytes().count(MARK.encode()) == 2
    apps["s1"].kill()
    wanted = {"s1": ("out", 1), "s2": ("out", 1), "s3": ("ready", 1), "s4": ("ready", 1)}
    survives_a_reload_and_a_restart(haproxy, pool, wanted)
    apps["s1"].start()
    operations.pool_return(params, False)
    reload(haproxy)
    assert settings(haproxy) == wanted  # nothing let them in yet
    ready = {name: {"admin": "ready", "weight": 1} for name in ("s1", "s2")}
    look = {"requests": 3, "seconds": 0, "timeout": 20, "max_errors": 0}
    with Load(pool.port).running(clients=4) as load:
        operations.pool_return(params, False)
        result = operations.pool_put_back({**params, "settings": ready, "look": look}, False)
        assert {name: one["look"] for name, one in result["members"].items()} == {"s1": "pass", "s2": "pass"}
        assert haproxy.config.read_bytes() == written
        assert haproxy.config.stat().st_mode & 0o777 == 0o640
        reload(haproxy)
        wait_for(lambda: all(member.in_service for member in haproxy.driver().read("shop").members))
    assert not load.failures
    assert set(load.answers) == set(apps)
    assert not list(haproxy.folder.glob(".zerodrop-*"))


@pytest.mark.case(12, 36)
def test_what_an_operator_wrote_and_did_is_left_to_him(haproxy: HAProxy, apps: dict[str, App]) -> None:
    haproxy.start([pool_of(apps)])
    text = haproxy.config.read_text()
    haproxy.config.write_text(re.sub(r"(server s1 .*)", r"\1 disabled # broken disk", text))
    reload(haproxy)
    written = haproxy.config.read_bytes()
    driver = haproxy.driver()
    driver._write("set server shop/s2 state maint")
    params = {**haproxy.params("shop"), "members": ["s1", "s2"]}
    drained = operations.pool_drain(params, False)
    assert haproxy.config.read_bytes() == written
    operations.pool_return(params, False)
    assert haproxy.config.read_bytes() != written
    operations.pool_put_back({**params, "settings": drained["before"]}, False)
    assert haproxy.config.read_bytes() == written
    assert settings(haproxy)["s1"] == settings(haproxy)["s2"] == ("out", 1)
    # Served by hand against what the file says: said before a rollout, and the word stays.
    operations.pool_member({**params, "state": "ready"}, False)
    assert haproxy.config.read_bytes() == written
    assert "s1 serves, but is disabled at" in driver.lasting("shop")


@pytest.mark.case(18)
def test_a_run_that_was_killed_before_it_was_made_lasting(
    haproxy: HAProxy, apps: dict[str, App], tmp_path: Path
) -> None:
    haproxy.start([pool_of(apps)])
    params = {**haproxy.params("shop"), "members": ["s1"], "service": "shop", "marks": str(tmp_path)}
    written = haproxy.config.read_bytes()
    operations.pool_drain({**params, "lasting": "never"}, False)
    assert haproxy.config.read_bytes() == written
    drained = operations.pool_drain(params, False)
    assert haproxy.config.read_bytes() != written
    operations.pool_put_back({**params, "settings": drained["return_to"]}, False)
    assert haproxy.config.read_bytes() == written


TEMPLATE = "  server-template t 1-2 127.0.0.1:{port} check inter 50ms\n"


@pytest.mark.case(5, 39)
def test_what_cannot_be_made_to_last_is_named_and_refused_where_it_must(haproxy: HAProxy, apps: dict[str, App]) -> None:
    haproxy.start([pool_of(apps)], extra=f"backend made\n{TEMPLATE.format(port=apps['s1'].port)}")
    wait_for(lambda: all(member.in_service for member in haproxy.driver().read("made").members))
    written = haproxy.config.read_bytes()
    params = {**haproxy.params("made"), "members": ["t1"]}
    said = operations.pool_read({**params, "rights": True}, False)["lasting"]["made"]
    assert "t1, t2 has no line of its own" in said
    assert "rollout_lasting" in said
    with pytest.raises(Refused, match="t1 has no line of its own") as error:
        operations.pool_drain({**params, "lasting": "require"}, False)
    assert error.value.facts["undone"] is True
    wait_for(lambda: haproxy.driver().read("made").member("t1").in_service)
    operations.pool_drain({**params, "lasting": "accept"}, False)
    assert haproxy.driver().read("made").member("t1").admin.value == "out"
    assert haproxy.config.read_bytes() == written


@pytest.mark.case(6, 22)
def test_a_configuration_that_haproxy_would_not_take_stays_as_it_is(haproxy: HAProxy, apps: dict[str, App]) -> None:
    haproxy.start([pool_of(apps)])
    params = {**haproxy.params("shop"), "members": ["s1"], "lasting": "require"}
    haproxy.config.write_text(haproxy.config.read_text() + "backend broken\n  nonsense\n")
    written = haproxy.config.read_bytes()
    assert "would not take its configuration" in haproxy.driver().lasting("shop")
    assert "nonsense" in haproxy.driver().lasting("shop")
    with pytest.raises(InvalidConfiguration, match=rf"{haproxy.config}:\d+.*nonsense"):
        operations.pool_drain(params, False)
    wait_for(lambda: haproxy.driver().read("shop").member("s1").in_service)
    assert haproxy.config.read_bytes() == written


@pytest.mark.case(22)
def test_a_test_that_passed_is_made_again_only_when_the_files_change(
    haproxy: HAProxy, apps: dict[str, App], monkeypatch: pytest.MonkeyPatch
) -> None:
    haproxy.start([pool_of(apps)])
    params = {**haproxy.params("shop"), "lasting": "require"}
    tests: list[bool] = []
    complaint = Launch.complaint

    def counted(launch: Launch, texts: Mapping[str, str] | None = None) -> str:
        tests.append(True)
        return complaint(launch, texts)

    monkeypatch.setattr(Launch, "complaint", counted)
    for name in ("s1", "s2"):
        operations.pool_drain({**params, "members": [name]}, False)
        operations.pool_member({**params, "members": [name], "state": "ready"}, False)
    assert len(tests) == 1
    haproxy.config.write_text(haproxy.config.read_text() + "backend broken\n  nonsense\n")
    with pytest.raises(InvalidConfiguration, match="nonsense"):
        operations.pool_drain({**params, "members": ["s1"]}, False)


@pytest.mark.case(6, 42)
@pytest.mark.parametrize("checked", [True, False])
def test_a_server_whose_disabled_is_gone_is_brought_up(haproxy: HAProxy, apps: dict[str, App], checked: bool) -> None:
    """The state file keeps a server stopped that nothing holds out any more; without a check nothing lifts it."""
    pool = pool_of(apps, checked=checked)
    haproxy.start([pool], state_file=True)
    text = haproxy.config.read_text()
    haproxy.config.write_text(re.sub(r"(server s1 .*)", r"\1 disabled", text))
    reload(haproxy)
    haproxy.driver()._keep_state("shop")
    haproxy.config.write_text(text)
    reload(haproxy)
    params = {**haproxy.params("shop"), "members": ["s1"]}
    member = haproxy.driver().read("shop").member("s1")
    if not checked:
        assert (member.admin.value, member.health.value) == ("ready", "down")
    operations.pool_member({**params, "state": "ready"}, False)
    assert haproxy.driver().read("shop").member("s1").in_service


@pytest.mark.case(6, 36)
def test_a_state_file_that_names_another_port_is_seen(haproxy: HAProxy, apps: dict[str, App]) -> None:
    haproxy.start([pool_of(apps)], state_file=True)
    haproxy.driver()._keep_state("shop")
    moved = App("s9")
    haproxy.config.write_text(haproxy.config.read_text().replace(f":{apps['s1'].port} ", f":{moved.port} "))
    reload(haproxy)
    assert haproxy.driver().read("shop").member("s1").port == apps["s1"].port
    said = haproxy.driver().lasting("shop")
    assert f"s1 is at 127.0.0.1:{apps['s1'].port}, but 127.0.0.1:{moved.port} at {haproxy.config}" in said
    assert "its state file wins" in said


def test_the_files_mode_and_owner_stay(haproxy: HAProxy, apps: dict[str, App]) -> None:
    haproxy.start([pool_of(apps)], state_file=True)
    state = haproxy.folder / "state"
    assert not state.exists()
    operations.pool_weigh({**haproxy.params("shop"), "weights": {"s1": 9}}, False)
    state.chmod(0o640)
    operations.pool_weigh({**haproxy.params("shop"), "weights": {"s1": 8}}, False)
    assert state.stat().st_mode & 0o777 == 0o640
    assert not list(haproxy.folder.glob(".zerodrop-*"))
