# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The verdict on a canary, on the controller."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._argspec import VERDICT
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._controller_action import ControllerAction
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict import verdict


class ActionModule(ControllerAction):
    """Judges; it changes nothing, with check mode or without."""

    def takes(self) -> Mapping[str, Any]:
        return VERDICT

    def work(self, arguments: dict[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
        found = verdict(_plain({name: value for name, value in arguments.items() if value is not None}))
        return {**found, "msg": found["sentence"]}


def _plain(arguments: dict[str, Any]) -> dict[str, Any]:
    """The same without Ansible's marks on every value, which are no plain numbers."""
    try:
        return dict(json.loads(json.dumps(arguments)))
    except (TypeError, ValueError) as error:
        raise BadInput(f"The polls and settings must be numbers, texts, lists and dictionaries: {error}.") from error
