# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the modules pass on, and how an error leaves them."""

from __future__ import annotations

import importlib
import json
from typing import Any

import pytest
import yaml
from ansible.module_utils import basic
from ansible.module_utils.testing import patch_module_args

from ansible_collections.zerodrop.rollout.plugins.doc_fragments import _balancer
from ansible_collections.zerodrop.rollout.plugins.module_utils import _pool_operations
from ansible_collections.zerodrop.rollout.plugins.module_utils._argspec import POOL_INFO, POOL_MEMBER
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import FloorBroken

MODULES = "ansible_collections.zerodrop.rollout.plugins.modules."
ARGS: dict[str, dict[str, Any]] = {
    "pool_info": {"pool": "shop"},
    "pool_member": {"pool": "shop", "members": ["s1"], "state": "drained"},
}
OPERATIONS = {"pool_info": "pool_read", "pool_member": "pool_member"}


def run(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], operation: Any, **more: Any
) -> dict[str, Any]:
    module = importlib.import_module(MODULES + name)
    monkeypatch.setattr(module, OPERATIONS[name], operation)
    with patch_module_args({**ARGS[name], **more}), pytest.raises(SystemExit):
        module.main()
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


@pytest.mark.parametrize("name", sorted(ARGS))
@pytest.mark.parametrize("diff", [True, False])
def test_the_result_of_the_operation_is_the_result_of_the_module(
    name: str, diff: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[Any] = []

    def operation(params: dict[str, Any], check: bool) -> dict[str, Any]:
        seen.append((params, check))
        return {"changed": True, "diff": {"before": {}, "after": {}}, "pool": "shop"}

    result = run(name, monkeypatch, capsys, operation, _ansible_check_mode=True, _ansible_diff=diff)
    assert result["changed"] is True
    assert ("diff" in result) == diff
    params, check = seen[0]
    assert check is True
    assert params["pool"] == "shop"
    assert params["driver"] == "haproxy"
    assert params["socket"] is None


@pytest.mark.parametrize("name", sorted(ARGS))
def test_an_error_leaves_with_its_code_and_facts(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def operation(params: dict[str, Any], check: bool) -> dict[str, Any]:
        raise FloorBroken("Too few.", "Wait.", in_service=["s1"])

    result = run(name, monkeypatch, capsys, operation)
    assert result["failed"] is True
    assert result["msg"] == "Too few. Wait."
    assert (result["code"], result["hint"], result["facts"]) == ("floor", "Wait.", {"in_service": ["s1"]})


def test_bad_input_is_refused_by_the_module(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run("pool_member", monkeypatch, capsys, _pool_operations.pool_member, members=["s1", "s1"])
    assert result["code"] == "bad_input"
    result = run("pool_member", monkeypatch, capsys, _pool_operations.pool_member, state="gone")
    assert "value of state must be one of" in result["msg"]


@pytest.mark.parametrize("name", sorted(ARGS))
def test_the_documentation_and_the_spec_agree(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module(MODULES + name)
    seen: dict[str, Any] = {}

    class Stop(Exception):
        pass

    def capture(self: Any, argument_spec: dict[str, Any], supports_check_mode: bool = False) -> None:
        assert supports_check_mode
        seen.update(argument_spec)
        raise Stop

    monkeypatch.setattr(basic.AnsibleModule, "__init__", capture)
    with pytest.raises(Stop):
        module.main()
    documented = yaml.safe_load(module.DOCUMENTATION)["options"]
    documented.update(yaml.safe_load(_balancer.ModuleDocFragment.DOCUMENTATION)["options"])
    assert set(documented) == set(seen)
    for option, spec in seen.items():
        for key in ("type", "default", "choices", "elements", "required"):
            assert spec.get(key) == documented[option].get(key), (option, key)


def test_the_shared_options_are_those_of_the_fragment() -> None:
    documented = yaml.safe_load(_balancer.ModuleDocFragment.DOCUMENTATION)["options"]
    assert set(documented) == set(POOL_INFO) & set(POOL_MEMBER) - {"pool"}
    assert documented["driver"]["choices"] == list(_pool_operations.DRIVERS)
