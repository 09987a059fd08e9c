# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""A member as its own host tells it: which release it has, and whether that one is healthy.

How a member is upgraded is the user's business, so the release it has is known
from three sources, best first: its health answer (where that names the
version), the release store (method ``archive``), and a record that the gate
leaves on the member after every upgrade that passed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, Callable

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import InvalidConfiguration, Unhealthy
from ansible_collections.zerodrop.rollout.plugins.module_utils._files import replace_json
from ansible_collections.zerodrop.rollout.plugins.module_utils._health import health_gate, health_probe
from ansible_collections.zerodrop.rollout.plugins.module_utils._names import service as checked_service

RECORDS = "/var/lib/zerodrop"


def member_info(params: Mapping[str, Any], check: bool) -> dict[str, Any]:
    """The member's release, the one before it, and one probe of its health.

    ``params``: ``service``; ``health`` (the gate's parameters); ``base`` and
    ``unit`` when releases are kept in a store, ``package`` and ``unit``, or ``engine`` and ``unit``; ``records``
    (folder). Changes nothing.
    """
    # Only here, since the gate is asked far more often and does not need it.
    from ansible_collections.zerodrop.rollout.plugins.module_utils._release import release_info

    probe = health_probe({**params["health"], "version": None, "version_also": None}, check)
    if params.get("package"):
        return _packaged(params, check, probe)
    if params.get("engine"):
        return _contained(params, check, probe)
    store = release_info({"base": params["base"], "unit": params.get("unit")}, check) if params.get("base") else None
    record = _read(_path(params))
    release = probe.get("version") or (store["current"] if store else record.get("release"))
    return {
        "changed": False,
        "release": release,
        "runs": probe.get("version"),
        "installed": store["current"] if store else record.get("release"),
        "previous": (store or record).get("previous"),
        "releases": [each["version"] for each in store["releases"]] if store else [],
        "healthy": bool(probe["healthy"]),
        "reason": probe.get("reason", ""),
        "staged": [{key: each[key] for key in ("version", "checksum")} for each in store["releases"]] if store else [],
        "unit": store.get("unit") if store else None,
        "keeps_record": _writable(os.path.dirname(_path(params))),
    }


def _packaged(params: Mapping[str, Any], check: bool, probe: Mapping[str, Any]) -> dict[str, Any]:
    from ansible_collections.zerodrop.rollout.plugins.module_utils._package import package_info, upstream

    store = package_info(params, check)
    # Its first package may bring the unit.
    store["unit"] = store["unit"] if store["current"] else None
    what = f"its package {params['package']} is at {store['current']}"
    return _installed(params, probe, store, what, lambda version: (version, upstream(version)))


def _contained(params: Mapping[str, Any], check: bool, probe: Mapping[str, Any]) -> dict[str, Any]:
    from ansible_collections.zerodrop.rollout.plugins.module_utils._container import container_info

    store = container_info(params, check)
    return _installed(params, probe, store, f"{store['file']} names {store['current']}", lambda version: (version,))


def _installed(
    params: Mapping[str, Any],
    probe: Mapping[str, Any],
    store: Mapping[str, Any],
    what: str,
    called: Callable[[str], Sequence[str]],
) -> dict[str, Any]:
    """The same where the host itself knows the release, and the service must not contradict it.

    ``called`` are the names by which a service of that version may answer.
    """
    # While a restart is due, what ran before may run still.
    names = [each for each in (store["before"], store["current"]) if each]
    release = names[0] if names else None
    runs = probe.get("version")
    if runs is not None and release is not None:
        release = next((each for each in names if runs in called(each)), None)
        if release is None:
            raise InvalidConfiguration(
                f"The service answers as version {runs}, but {what}: nobody can tell what there is to go back to.",
                "Restart it if it was upgraded without that; otherwise its answer is about something else.",
            )
    return {
        "changed": False,
        "release": release,
        "runs": runs,
        "installed": store["current"],
        "previous": store["previous"],
        "releases": [each["version"] for each in store["releases"]],
        "healthy": bool(probe["healthy"]),
        "reason": probe.get("reason", ""),
        "staged": [each for each in store["releases"] if each["checksum"]],
        "unit": store["unit"],
        "keeps_record": _writable(os.path.dirname(_path(params))),
        **{
            key: store[key]
            for key in ("whole", "manager", "cannot_hold", "unbroken", "file", "reads_file")
            if key in store
        },
    }


def member_gate(params: Mapping[str, Any], check: bool) -> dict[str, Any]:
    """The health gate, the warm-up, and after them the record of the release that passed.

    ``params``: ``service``, ``health``, ``release`` (None writes no record),
    ``previous``, ``records``, ``warm_up`` (None sends nothing; see there). Raises ``Unhealthy``.
    """
    result = health_gate(params["health"], check)
    if params.get("warm_up") and not check:
        from ansible_collections.zerodrop.rollout.plugins.module_utils._warm_up import warm_up

        try:
            result["warm_up"] = warm_up(params["warm_up"], params["health"])
        except Unhealthy as error:
            if params["warm_up"].get("required", True):
                raise
            result["warm_up"] = {"failed": error.message}
    release = params.get("release")
    if release:
        try:
            result["changed"] = _write(_path(params), release, params.get("previous"), check)
        except PermissionError:
            pass  # preflight has seen to it that the release is known from elsewhere
    return result


def _path(params: Mapping[str, Any]) -> str:
    return os.path.join(params.get("records") or RECORDS, checked_service(params["service"]) + ".json")


def _writable(folder: str) -> bool:
    """Whether the record can be kept there, or the folder for it made."""
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return os.access(folder, os.W_OK | os.X_OK)


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InvalidConfiguration(
            f"The record of this member's release, {path}, cannot be read: {error}.",
            "Remove it if it is broken; the next rollout then upgrades the member again.",
        ) from error
    return data if isinstance(data, dict) else {}


def _write(path: str, release: str, previous: Any, check: bool) -> bool:
    if _read(path).get("release") == release:
        return False
    if check:
        return True
    replace_json(path, {"release": release, "previous": previous}, 0o644)
    return True
