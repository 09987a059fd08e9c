# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An action that works on the controller: arguments in, a result out, and an error of ours as a failed task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import RolloutError


class ControllerAction(ActionBase):
    """Subclasses say what they take, and do the work."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def takes(self) -> Mapping[str, Any]:
        """The argument spec."""
        return {}

    def work(self, arguments: dict[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
        """The result, for a task with these checked arguments and variables; raises ``RolloutError``."""
        raise NotImplementedError

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        arguments: dict[str, Any]
        _result, arguments = self.validate_argument_spec(argument_spec=dict(self.takes()))
        try:
            return {"changed": False, **self.work(arguments, task_vars or {})}
        except RolloutError as error:
            return {"failed": True, "changed": False, "msg": str(error), "code": error.code}
