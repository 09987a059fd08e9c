# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The manual of the settings says what the code does: names, defaults, choices, and every form that is taken."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import (
    PREFIX,
    BlueGreen,
    Canary,
    Maintenance,
    Recovery,
    Rollback,
    Settings,
)

ROOT = Path(__file__).parents[2]
ROLE = ROOT / "roles" / "rollout"
SPECS: dict[str, Any] = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))[
    "argument_specs"
]
OPTIONS: dict[str, dict[str, Any]] = SPECS["roll_out"]["options"]
FIELDS: dict[str, Field[Any]] = {PREFIX + each.name: each for each in fields(Settings)}
OF_A_HOST = {"rollout_member", "rollout_member_port", "rollout_zone"}


def described(name: str) -> str:
    text = OPTIONS[name]["description"]
    return text if isinstance(text, str) else " ".join(text)


def test_every_setting_is_in_the_manual_and_nothing_else() -> None:
    assert set(OPTIONS) == set(FIELDS) | OF_A_HOST


@pytest.mark.parametrize("name", FIELDS)
def test_default(name: str) -> None:
    default = FIELDS[name].default
    if default is MISSING:
        assert "default" not in OPTIONS[name]
        assert described(name).startswith("Required.")
        return
    assert not described(name).startswith("Required.")
    if OPTIONS[name].get("default") in (None, "", {}):
        assert not default
    else:
        assert FIELDS[name].metadata["check"](OPTIONS[name]["default"], name) == default


@pytest.mark.parametrize("name", FIELDS)
def test_choices(name: str) -> None:
    try:
        FIELDS[name].metadata["check"]("no such choice", name)
        refusal = ""
    except BadInput as error:
        refusal = str(error)
    choices = re.search(r"must be one of (.+), got", refusal)
    assert OPTIONS[name].get("choices") == (choices[1].split(", ") if choices else None)


@pytest.mark.parametrize("name", OPTIONS)
def test_description_is_sentences(name: str) -> None:
    text = OPTIONS[name]["description"]
    for part in [text] if isinstance(text, str) else text:
        assert part[0].isupper()
        assert part.endswith(".")


def test_the_settings_that_descriptions_refer_to_exist() -> None:
    text = (ROLE / "meta" / "argument_specs.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"O\((\w+)\)", text)) <= {name for spec in SPECS.values() for name in spec["options"]}


SEVEN_LINES = {
    "rollout_service": "shop",
    "rollout_hosts": "shop",
    "rollout_balancers": "lb",
    "rollout_driver": "haproxy",
    "rollout_pool": "shop",
    "rollout_health_url": "http://127.0.0.1:8080/health",
    "rollout_upgrade_role": "shop_deploy",
}
FORMS: dict[str, list[Any]] = {
    "rollout_version": [2.0, "2.0"],
    "rollout_batches": [2, "2", "25%", "1, 25%", '[1, "25%"]', [1, "25%"]],
    "rollout_floor": [3, "3", "50%", "load", {"members": "50%", "load": True}, '{"members": 2, "load": true}'],
    "rollout_headroom": ["20%"],
    "rollout_member_capacity": [120, "12.5"],
    "rollout_health_status": [204, "204", "200, 204", [200, "204"]],
    "rollout_health_timeout": [8, 8.5, "8"],
    "rollout_health_validate_certs": [False, "no", "true"],
    "rollout_witness_mix": [{"close": 1}, '{"close": 1}'],
    "rollout_archive_keep": [3, "3"],
    "rollout_package_keep": [3, "3"],
    "rollout_container_keep": [3, "3"],
    "rollout_package_hold": [True, "yes", "0"],
    "rollout_look_requests": ["", "5"],
    "rollout_dead_balancer": ["skip"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in FORMS.items() for value in values])
def test_every_form_that_the_settings_take_passes_ansible_too(name: str, value: Any) -> None:
    variables = {"rollout_version": "2.0", **SEVEN_LINES, name: value}
    Settings.from_vars(variables)
    assert ArgumentSpecValidator(OPTIONS).validate(variables).error_messages == []


@pytest.mark.parametrize("wrong", [{"rollout_batches": "two"}, {"rollout_floor_wait": "long"}, {"rollout_pool": None}])
def test_what_is_wrong_is_left_to_the_settings_to_say(wrong: dict[str, Any]) -> None:
    variables = {"rollout_version": "2.0", **SEVEN_LINES, **wrong}
    assert ArgumentSpecValidator(OPTIONS).validate(variables).error_messages == []
    with pytest.raises(BadInput, match=next(iter(wrong))):
        Settings.from_vars(variables)


def test_maintenance_documents_what_it_has_beside_the_settings_of_a_rollout() -> None:
    own = {PREFIX + each.name for each in fields(Maintenance)} - set(FIELDS)
    assert set(SPECS["maintain"]["options"]) == own
    for name in own:
        option = SPECS["maintain"]["options"][name]
        assert option["description"][0].startswith("Required.")
        assert "default" not in option
        assert all(part.endswith(".") for part in option["description"])


@pytest.mark.parametrize(
    ("point", "strategy"),
    [("roll_back", Rollback), ("recover", Recovery), ("blue_green", BlueGreen), ("canary", Canary)],
)
def test_a_strategy_documents_what_it_has_beside_the_settings_of_a_rollout(
    point: str, strategy: type[Settings]
) -> None:
    own = {PREFIX + each.name for each in fields(strategy)} - set(FIELDS)
    assert set(SPECS[point]["options"]) == own
    for option in SPECS[point]["options"].values():
        text = option["description"]
        assert all(part.endswith(".") for part in ([text] if isinstance(text, str) else text))


def test_entry_points_are_the_steps_of_the_role() -> None:
    steps = {path.stem for path in (ROLE / "tasks").glob("*.yml")}
    assert set(SPECS) <= steps
    for name, spec in SPECS.items():
        assert spec["short_description"]
        assert spec["description"]
        assert spec["version_added"]
        assert bool(spec["options"]) == (
            name in ("roll_out", "maintain", "roll_back", "recover", "blue_green", "canary")
        )


def test_ansible_doc_shows_it() -> None:
    program = Path(sys.executable).with_name("ansible-doc")
    done = subprocess.run(
        [str(program), "-t", "role", "--json", "zerodrop.rollout.rollout"],
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".build" / "collections")},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    points = json.loads(done.stdout)["zerodrop.rollout.rollout"]["entry_points"]
    assert set(points) == set(SPECS)
    assert set(points["roll_out"]["options"]) == set(OPTIONS)


CANARY = {name: each for each in fields(Canary) if (name := PREFIX + each.name) in SPECS["canary"]["options"]}


@pytest.mark.parametrize("name", CANARY)
def test_defaults_and_choices_of_a_canary(name: str) -> None:
    option, field = SPECS["canary"]["options"][name], CANARY[name]
    default = field.default_factory() if field.default is MISSING else field.default  # type: ignore[operator]
    assert field.metadata["check"](option["default"], name) == default
    with pytest.raises(BadInput, match=name) as refusal:
        field.metadata["check"]("no such choice", name)
    choices = re.search(r"must be one of (.+), got", str(refusal.value))
    assert option.get("choices") == (choices[1].split(", ") if choices else None)
