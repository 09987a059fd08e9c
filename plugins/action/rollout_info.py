# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a service stands, as data for a playbook."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._controller_action import ControllerAction
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._inventory import hosts_of
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Remote
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout import status
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import PREFIX, Overview


class ActionModule(ControllerAction):
    """Asks what the playbook status asks, and fails only where nothing can be asked."""

    def work(self, arguments: dict[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
        own = {name: self._templar.template(value) for name, value in variables.items() if name.startswith(PREFIX)}
        settings = Overview.from_vars(own)
        layers = [hosts_of(layer.balancers, self._loader, variables) for layer in settings.layers]
        hosts = hosts_of(settings.hosts, self._loader, variables)
        remote = Remote(variables, self._task, self._play_context, self._templar)
        return {"rollout": status.status(settings, hosts, layers, variables["hostvars"], remote)}
