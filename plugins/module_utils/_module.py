# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The one place that runs an operation as an Ansible module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import RolloutError


def run_module(module: AnsibleModule, operation: Callable[[Mapping[str, Any], bool], dict[str, Any]]) -> None:
    """Run the operation with the module's parameters and leave with its result or its error."""
    try:
        result = operation(module.params, module.check_mode)
    except RolloutError as error:
        module.fail_json(msg=str(error), code=error.code, hint=error.hint, facts=error.facts)
    if not module._diff:
        result.pop("diff", None)
    module.exit_json(**result)
