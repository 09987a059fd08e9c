# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings: what is accepted from YAML, from the command line and from a survey, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._plan import Amount, Floor
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import Maintenance, Rollback, Settings

SEVEN_LINES = {
    "rollout_service": "shop",
    "rollout_hosts": "shop",
    "rollout_balancers": "lb",
    "rollout_driver": "haproxy",
    "rollout_pool": "shop",
    "rollout_health_url": "http://127.0.0.1:8080/health",
    "rollout_upgrade_role": "shop_deploy",
}
CALL = {**SEVEN_LINES, "rollout_version": "2.0"}


def settings(**more: Any) -> Settings:
    return Settings.from_vars({**CALL, **more})


def test_the_seven_lines_are_enough() -> None:
    found = settings()
    assert (found.method, found.version, found.floor) == ("role", "2.0", Floor(50, True))
    assert found.batches == (Amount(1, False), Amount(25, True))
    assert (found.base, found.unit) == ("/opt/shop", "shop.service")


@pytest.mark.parametrize("name", [*SEVEN_LINES, "rollout_version"])
def test_what_is_required_is_named_when_it_lacks(name: str) -> None:
    if name in ("rollout_driver", "rollout_upgrade_role"):
        return  # has a default; has alternatives, tested below
    lacking = {key: value for key, value in CALL.items() if key != name}
    with pytest.raises(BadInput, match=f"{name} is not set"):
        Settings.from_vars(lacking)


@pytest.mark.parametrize(
    ("name", "value", "attribute", "expected"),
    [
        ("rollout_version", 2.0, "version", "2.0"),
        ("rollout_batches", "1,25%,100%", "batches", (Amount(1, False), Amount(25, True), Amount(100, True))),
        ("rollout_batches", '[1, "25%"]', "batches", (Amount(1, False), Amount(25, True))),
        ("rollout_batches", 2, "batches", (Amount(2, False),)),
        ("rollout_floor", "3", "floor", Floor(3, False)),
        ("rollout_floor", 0, "floor", Floor(0, False)),
        ("rollout_drain_timeout", "12.5", "drain_timeout", 12.5),
        ("rollout_health_status", "200,204", "health_status", (200, 204)),
        ("rollout_health_validate_certs", "no", "health_validate_certs", False),
        ("rollout_master_socket", "none", "master_socket", "none"),
        ("rollout_access_log", "/var/log/a.log", "access_log", ("/var/log/a.log",)),
        ("rollout_access_log", ["/a", "/b"], "access_log", ("/a", "/b")),
        ("rollout_access_log", "", "access_log", ()),
        ("rollout_witness_mix", '{"keepalive": 1}', "witness_mix", {"keepalive": 1}),
    ],
)
def test_text_from_a_survey_is_as_good_as_yaml(name: str, value: Any, attribute: str, expected: Any) -> None:
    assert getattr(settings(**{name: value}), attribute) == expected


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("rollout_service", "a b"),
        ("rollout_service", "../x"),
        ("rollout_driver", "traefik"),
        ("rollout_canary_source", "datadog"),
        ("rollout_canary_source", "command"),
        ("rollout_canary_command", "counts --pool shop"),
        ("rollout_canary_command", [""]),
        ("rollout_canary_command", ["counts"]),
        ("rollout_canary_restarts", "sometimes"),
        ("rollout_health_from_balancer", "sometimes"),
        ("rollout_busy_sockets", "cut"),
        ("rollout_idle_timeout", "-1"),
        ("rollout_on_idle_timeout", "drop"),
        ("rollout_outside_url", "shop.example.com"),
        ("rollout_outside_timeout", 0),
        ("rollout_warm_up", ["products"]),
        ("rollout_warm_up", ["/a\r\nHost: x"]),
        ("rollout_warm_up", "/a b"),
        ("rollout_warm_up_count", 0),
        ("rollout_warm_up_concurrency", 65),
        ("rollout_warm_up_timeout", "long"),
        ("rollout_dead_balancer", "ignore"),
        ("rollout_balancers_removed", [3, ""]),
        ("rollout_lasting", "maybe"),
        ("rollout_pool", "shop;disable"),
        ("rollout_pool", "shop web1"),
        ("rollout_version", "1/2"),
        ("rollout_version", "1 2"),
        ("rollout_version", "1\n2"),
        ("rollout_version", ".."),
        ("rollout_version", "1..2"),
        ("rollout_version", "-rf"),
        ("rollout_socket", "admin.sock"),
        ("rollout_socket", "/run/../etc"),
        ("rollout_master_socket", "x"),
        ("rollout_access_log", "access.log"),
        ("rollout_access_log", ["/var/log/../x"]),
        ("rollout_access_log", 7),
        ("rollout_access_log_format", "$status"),
        ("rollout_access_log_format", "$upstream_addr\n$status"),
        ("rollout_expand", "migrate 'up"),
        ("rollout_contract_after", "later"),
        ("rollout_migration", "a b"),
        ("rollout_settle", "perhaps"),
        ("rollout_settle", "expand perhaps"),
        ("rollout_freeze_until", "tomorrow"),
        ("rollout_allowed_hours", "Mon-Foo 09:00-10:00"),
        ("rollout_time_zone", "../etc/passwd"),
        ("rollout_override", "two\nlines"),
        ("rollout_max_failed_members", -1),
        ("rollout_zone_bake", "long"),
        ("rollout_zone_approval", "perhaps"),
        ("rollout_batches", 0),
        ("rollout_batches", "150%"),
        ("rollout_batches", "many"),
        ("rollout_batches", []),
        ("rollout_floor", "150%"),
        ("rollout_floor", "half"),
        ("rollout_floor", -1),
        ("rollout_floor_wait", "soon"),
        ("rollout_drain_timeout", -1),
        ("rollout_drain_timeout", "nan"),
        ("rollout_drain_timeout", "inf"),
        ("rollout_drain_timeout", True),
        ("rollout_on_drain_timeout", "kill"),
        ("rollout_ramp", "50%,25%"),
        ("rollout_ramp", "5"),
        ("rollout_ramp", "101%"),
        ("rollout_ramp_seconds", "-1"),
        ("rollout_long_after", "-1"),
        ("rollout_long_timeout", "soon"),
        ("rollout_on_long_timeout", "kill"),
        ("rollout_on_long_timeout", "cut"),  # of which limit?
        ("rollout_session_grace", "x"),
        ("rollout_health_url", "127.0.0.1:8080/health"),
        ("rollout_health_url", "ftp://host/"),
        ("rollout_health_url", "http://"),
        ("rollout_health_url", "http://host:99999/"),
        ("rollout_health_url", "http://host/a b"),
        ("rollout_health_status", 99),
        ("rollout_health_status", "ok"),
        ("rollout_health_version_in_text", "perhaps"),
        ("rollout_health_successes", 0),
        ("rollout_health_successes", 1.5),
        ("rollout_health_seconds", -1),
        ("rollout_health_timeout", 0),
        ("rollout_health_interval", 0),
        ("rollout_health_request_timeout", 0),
        ("rollout_health_validate_certs", "x"),
        ("rollout_look_requests", -1),
        ("rollout_look_seconds", "x"),
        ("rollout_look_timeout", "x"),
        ("rollout_look_max_errors", -1),
        ("rollout_on_failure", "panic"),
        ("rollout_report_dir", "a\nb"),
        ("rollout_witness_url", "shop.example"),
        ("rollout_witness_rate", 0),
        ("rollout_witness_mix", "keepalive"),
        ("rollout_max_failed_requests", -1),
        ("rollout_upgrade_method", "rsync"),
        ("rollout_archive_keep", 1),
        ("rollout_archive_base", "opt/shop"),
        ("rollout_archive_unit", "shop service"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(name: str, wrong: Any) -> None:
    with pytest.raises(BadInput, match=name):
        settings(**{name: wrong}).method  # noqa: B018


TWO_POOLS = [{"balancers": "edge", "pool": "shop"}, {"balancers": "inner", "pool": "api", "socket": "/run/api.sock"}]


def in_pools(value: Any, **more: Any) -> Settings:
    return settings(rollout_pools=value, rollout_balancers=None, rollout_pool=None, **more)


@pytest.mark.parametrize("given", [TWO_POOLS, json.dumps(TWO_POOLS)])
def test_pools_have_their_own_settings_and_share_the_others(given: Any) -> None:
    outer, inner = in_pools(given, rollout_floor=1).layers
    assert (outer.balancers, outer.pool, outer.socket) == ("edge", "shop", "/run/haproxy/admin.sock")
    assert (inner.balancers, inner.pool, inner.socket) == ("inner", "api", "/run/api.sock")
    assert inner.floor == outer.floor
    assert [each.pool for each in settings().layers] == ["shop"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("shop", "must be a mapping"),
        ("[{", "is not a list"),
        ([{"pool": "shop"}], r"rollout_pools \(1\) does not say its balancers"),
        ([TWO_POOLS[0], {"balancers": "lb"}], r"rollout_pools \(2\) does not say its pool"),
        ([{**TWO_POOLS[0], "flor": 1}], "'flor', which is no setting of a pool"),
        ([{**TWO_POOLS[0], "pool": "shop;x"}], r"pool of rollout_pools \(1\)"),
        ([{**TWO_POOLS[0], "driver": "traefik"}], r"driver of rollout_pools \(1\)"),
    ],
)
def test_wrong_pools_are_refused(given: Any, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        in_pools(given)


def test_one_pool_or_several_but_not_both() -> None:
    with pytest.raises(BadInput, match="Both rollout_balancers and rollout_pools"):
        settings(rollout_pools=TWO_POOLS)


def test_a_misspelt_setting_is_refused_with_the_right_one() -> None:
    with pytest.raises(BadInput, match=r"rollout_batchs is not a setting.*rollout_batches\?"):
        settings(rollout_batchs=2)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"rollout_upgrade_role": ""}, "It is not clear how"),
        ({"rollout_upgrade_tasks": "deploy.yml"}, "exactly one"),
        ({"rollout_upgrade_method": "archive"}, "exactly one"),
        ({"rollout_upgrade_role": "", "rollout_upgrade_method": "tasks"}, "It is not clear how"),
        ({"rollout_upgrade_role": "", "rollout_upgrade_method": "archive"}, "rollout_archive_src is not set"),
        (
            {"rollout_upgrade_role": "", "rollout_upgrade_method": "archive", "rollout_archive_src": "x.tgz"},
            "rollout_archive_checksum is not set",
        ),
        ({"rollout_archive_src": "x.tgz"}, "but the upgrade method is role"),
        ({"rollout_health_version_key": "v", "rollout_health_version_header": "V"}, "Only one of"),
        ({"rollout_look_seconds": 10, "rollout_look_timeout": 5}, "no look could pass"),
        ({"rollout_join_batches": True, "rollout_look_seconds": 2}, "rollout_look_seconds is set, and so is"),
        ({"rollout_join_batches": True, "rollout_ramp": ["50%"]}, "rollout_ramp is set, and so is"),
        ({"rollout_join_batches": True, "rollout_outside_url": "http://shop/"}, "rollout_outside_url is set, and so"),
        ({"rollout_health_seconds": 90, "rollout_health_timeout": 60}, "no member could pass"),
        ({"rollout_health_successes": 200, "rollout_health_timeout": 5}, "no member could pass"),
        ({"rollout_max_failed_requests": 0}, "needs a witness"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(more: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        settings(**more)


@given(st.text())
def test_no_version_can_leave_its_folder_or_its_line(version: str) -> None:
    try:
        found = settings(rollout_version=version).version
    except BadInput:
        return
    assert found
    assert not set(found) & set("/\\ \n\r\t;'\"$`")
    assert ".." not in found
    assert not found.startswith("-")


def test_a_package_needs_its_name_and_has_a_unit_of_the_services_name() -> None:
    package = {"rollout_upgrade_role": "", "rollout_upgrade_method": "package", "rollout_package_name": "shop-api"}
    assert settings(**package).unit == "shop.service"
    assert settings(**package, rollout_package_unit="api.service").unit == "api.service"
    assert settings(**package, rollout_package_hold="yes").package_hold is True
    with pytest.raises(BadInput, match="rollout_package_name is not set"):
        settings(**{**package, "rollout_package_name": ""})
    with pytest.raises(BadInput, match="rollout_package_name is set, but the upgrade method is role"):
        settings(rollout_package_name="shop")
    for wrong in ("shop=2.0", "-y", "shop/2", "shop;x", "shop api"):
        with pytest.raises(BadInput, match="rollout_package_name"):
            settings(**{**package, "rollout_package_name": wrong})


DIGEST = "sha256:" + "0" * 64


def test_a_container_needs_its_image_and_a_version_that_is_a_tag_or_has_a_digest() -> None:
    container = {
        "rollout_upgrade_role": "",
        "rollout_upgrade_method": "container",
        "rollout_container_image": "registry.example.com/shop",
    }
    assert settings(**container).unit == "shop.service"
    assert settings(**container, rollout_container_unit="api.service").unit == "api.service"
    with pytest.raises(BadInput, match="rollout_container_image is not set"):
        settings(**{**container, "rollout_container_image": ""})
    for name, value in (("rollout_container_image", "r.example.com/shop"), ("rollout_container_digest", DIGEST)):
        with pytest.raises(BadInput, match=f"{name} is set, but the upgrade method is role"):
            settings(**{name: value})
    for wrong in ("shop", "registry.example.com/shop:2.0", "-r.example.com/shop", "registry.example.com/shop;x"):
        with pytest.raises(BadInput, match="rollout_container_image"):
            settings(**{**container, "rollout_container_image": wrong})
    for wrong in ("sha256:12", "0" * 64, f"{DIGEST}0"):
        with pytest.raises(BadInput, match="rollout_container_digest"):
            settings(**container, rollout_container_digest=wrong)
    with pytest.raises(BadInput, match=r"rollout_version '2\.0\+1' is not the tag of an image"):
        settings(**container, rollout_version="2.0+1")
    assert settings(**container, rollout_version="2.0+1", rollout_container_digest=DIGEST).version == "2.0+1"


def test_a_rollback_knows_the_image_by_its_version_alone() -> None:
    lines = {
        name: value for name, value in SEVEN_LINES.items() if name not in ("rollout_upgrade_role", "rollout_version")
    }
    lines |= {"rollout_upgrade_method": "container", "rollout_container_digest": DIGEST}
    with pytest.raises(BadInput, match="rollout_container_image is not set"):
        Rollback.from_vars(lines)
    assert Rollback.from_vars({**lines, "rollout_container_image": "r.example.com/shop"}).container_digest == ""


MAINTENANCE = {**SEVEN_LINES, "rollout_tasks": "reboot.yml"}


def test_maintenance_needs_no_version_and_no_upgrade() -> None:
    lines = {name: value for name, value in MAINTENANCE.items() if name != "rollout_upgrade_role"}
    found = Maintenance.from_vars(lines)
    assert isinstance(found, Maintenance)
    assert (found.tasks, found.method, found.version) == ("reboot.yml", "tasks", "")


@pytest.mark.parametrize(
    "more",
    [
        {"rollout_upgrade_tasks": "upgrade.yml"},
        {"rollout_upgrade_method": "archive", "rollout_archive_src": "shop.tgz"},
        {"rollout_on_failure": "freeze"},
        {"rollout_version": ""},
    ],
)
def test_maintenance_uses_the_inventory_of_rollouts(more: dict[str, Any]) -> None:
    assert Maintenance.from_vars({**MAINTENANCE, **more}).method == "tasks"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"rollout_version": "2.0"}, "rollout_version is set to '2.0', but maintenance"),
        ({"rollout_tasks": ""}, "rollout_tasks is not set"),
        ({"rollout_task": "reboot.yml"}, "Did you mean rollout_tasks"),
        ({"rollout_floor": "much"}, "rollout_floor"),
    ],
)
def test_what_maintenance_refuses(more: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        Maintenance.from_vars({**MAINTENANCE, **more})


def test_a_rollout_is_not_disturbed_by_the_tasks_of_maintenance() -> None:
    assert settings(rollout_tasks="reboot.yml").method == "role"


@pytest.mark.parametrize("name", ["rollout_compat", "rollout_expand_undo", "rollout_sync_back"])
def test_what_belongs_to_an_expand_needs_one(name: str) -> None:
    with pytest.raises(BadInput, match=f"{name} is set without rollout_expand"):
        settings(**{name: "work"})
    assert settings(rollout_expand="up", **{name: "work"}).steps == {"expand", name.removeprefix("rollout_")}
