# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The user's own upgrade: find the tasks file or role before anything is touched."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput


def find_tasks(name: str, folders: Sequence[str], setting: str = "rollout_upgrade_tasks") -> str:
    """The absolute path of a tasks file; raises ``BadInput`` and says where it was looked for."""
    return _find(name, setting, folders, os.path.isfile)


def find_role(name: str, folders: Sequence[str], roles_path: Sequence[str]) -> str:
    """A role by what Ansible finds it with: its FQCN, or its absolute path; raises ``BadInput``."""
    if name.count(".") >= 2 and "/" not in name:
        # Imported here: planning and its tests work without Ansible.
        from ansible.utils.collection_loader._collection_finder import _get_collection_role_path

        if _get_collection_role_path(name) is None:
            raise BadInput(f"rollout_upgrade_role {name!r} is not in any installed collection.")
        return name
    candidates = [os.path.join(folder, "roles") for folder in folders] + list(roles_path)
    return _find(name, "rollout_upgrade_role", [*candidates, *folders], _is_role)


def has_collection(name: str) -> bool:
    """Whether a collection is installed."""
    from ansible.utils.collection_loader._collection_finder import _get_collection_path

    try:
        return bool(_get_collection_path(name))
    except ValueError:
        return False


def _is_role(path: str) -> bool:
    return os.path.isdir(os.path.join(path, "tasks"))


def _find(name: str, setting: str, folders: Sequence[str], fits: object) -> str:
    looked = []
    for folder in folders:
        path = os.path.abspath(os.path.join(os.path.expanduser(folder), os.path.expanduser(name)))
        if callable(fits) and fits(path):
            return path
        if path not in looked:
            looked.append(path)
    raise BadInput(f"{setting} {name!r} was not found. Looked for: {', '.join(looked)}.")
