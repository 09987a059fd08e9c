# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a service stands, as data for a playbook."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import RolloutError
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._inventory import hosts_of
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Remote
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout import status
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import PREFIX, Overview


class ActionModule(ActionBase):
    """Asks what the playbook status asks, and fails only where nothing can be asked."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        self.validate_argument_spec(argument_spec={})
        known = task_vars or {}
        own = {name: self._templar.template(value) for name, value in known.items() if name.startswith(PREFIX)}
        try:
            settings = Overview.from_vars(own)
            layers = [hosts_of(layer.balancers, self._loader, known) for layer in settings.layers]
            hosts = hosts_of(settings.hosts, self._loader, known)
            remote = Remote(known, self._task, self._play_context, self._templar)
            found = status.status(settings, hosts, layers, known["hostvars"], remote)
        except RolloutError as error:
            return {"failed": True, "changed": False, "msg": str(error), "code": error.code}
        return {"changed": False, "rollout": found}
