# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""A service that comes as a package: its version now, the next one, and the way back.

::

    /var/lib/zerodrop/packages/PACKAGE/   the files of the releases that this host can go to
    /var/lib/zerodrop/packages/PACKAGE/.switch.json   the last switch, and whether the restart is still due

A release is kept here before the first member changes, the present one
included: a repository that drops old versions cannot take the way back away.
Versions are named without their epoch, as a service names itself.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadArtefact, BadInput, UpgradeFailed
from ansible_collections.zerodrop.rollout.plugins.module_utils._names import package as checked_package
from ansible_collections.zerodrop.rollout.plugins.module_utils._names import unit as checked_unit
from ansible_collections.zerodrop.rollout.plugins.module_utils._names import version as checked_version
from ansible_collections.zerodrop.rollout.plugins.module_utils._packages.apt import Apt
from ansible_collections.zerodrop.rollout.plugins.module_utils._packages.dnf import BESIDE, Dnf
from ansible_collections.zerodrop.rollout.plugins.module_utils._packages.manager import (
    QUICK,
    Installed,
    Manager,
    shown,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._params import flag, items, number, text, whole
from ansible_collections.zerodrop.rollout.plugins.module_utils._switches import Folder
from ansible_collections.zerodrop.rollout.plugins.module_utils._systemd import (
    Run,
    require_unit,
    restart,
    run_command,
    unit_state,
)

FOLDER = "/var/lib/zerodrop/packages"
MANAGERS: Mapping[str, type[Manager]] = {each.name: each for each in (Apt, Dnf)}


class Store(Folder):
    """The kept files of one package."""

    def __init__(self, params: Mapping[str, Any], run: Run) -> None:
        package = checked_package(params.get("package"), "package")
        super().__init__(os.path.join(text(params, "folder") or FOLDER, package))
        self.manager = find_manager(text(params, "manager") or "auto", package, run)
        self.package = package

    def kept(self) -> dict[str, str]:
        """The path of each kept file of this package, by its version."""
        return self.manager.files(self.path)

    def fetch(self, version: str, limit: float) -> str:
        """Keep the file of a version; returns its full version. Raises ``BadArtefact``."""
        kept = _named(version, self.kept())
        if kept:
            return kept
        with tempfile.TemporaryDirectory(prefix=".incoming-", dir=self.path) as work:
            full = self._download(version, limit, work)
            if full is None:  # unknown, or a repository has dropped it since the host read its list
                self.manager.refresh(limit)
                full = self._download(version, limit, work)
            found = self.manager.files(work) if full else self.manager.cached()
            full = full or _named(version, found)
            if not full or full not in found:
                offered = ", ".join(dict.fromkeys(self.manager.offered())) or "none"
                raise BadArtefact(
                    f"No repository of this host has {self.package} {version}; offered: {offered}.",
                    f"Publish it there, or put its file into {self.path}.",
                )
            self._keep(found[full], work)
        return full

    def _keep(self, path: str, work: str) -> None:
        """In one step that survives a crash; what the file needs beside it is there first."""
        final = os.path.join(self.path, os.path.basename(path))
        if os.path.isdir(path + BESIDE):
            shutil.rmtree(final + BESIDE, ignore_errors=True)
            os.replace(path + BESIDE, final + BESIDE)
        complete = os.path.join(work, "complete")
        shutil.copyfile(path, complete)
        with open(complete, "rb") as file:
            os.fsync(file.fileno())
        os.replace(complete, final)

    def _download(self, version: str, limit: float, work: str) -> str | None:
        """The full version, when a repository has it and gave it."""
        full = _named(version, self.manager.offered())
        if full:
            try:
                self.manager.download(full, work, limit)
            except UpgradeFailed:
                return None
        return full

    def prune(self, keep: int, spared: set[str]) -> list[str]:
        """Remove the oldest files; returns their versions."""
        kept = self.kept()
        newest = sorted(kept, key=lambda each: os.path.getmtime(kept[each]), reverse=True)
        gone = [version for version in newest[keep:] if (shown(version) or "") not in spared]
        for version in gone:
            os.unlink(kept[version])
            shutil.rmtree(kept[version] + BESIDE, ignore_errors=True)
        return [shown(version) or "" for version in gone]


def find_manager(wanted: str, package: str, run: Run) -> Manager:
    """The package manager that is asked for, or the one that this package is, or would be, installed with."""
    if wanted != "auto" and wanted not in MANAGERS:
        raise BadInput(f"manager must be auto, apt or dnf, got {wanted!r}.")
    there = [kind(package, run) for name, kind in MANAGERS.items() if kind.here() and wanted in ("auto", name)]
    if not there:
        what = "neither apt nor dnf" if wanted == "auto" else f"no {wanted}"
        raise BadInput(f"The upgrade method package works with apt and dnf, and this host has {what}.")
    if len(there) > 1:
        there = [each for each in there if each.installed().version is not None] or there
    if len(there) > 1:
        raise BadInput(
            f"This host has both apt and dnf, and {package} could come from either.",
            "Say which one is meant in rollout_package_manager.",
        )
    manager = there[0]
    if os.path.basename(os.path.realpath(shutil.which(manager.name) or "")).startswith("dnf5"):
        raise BadInput(
            "This host has dnf 5, and the upgrade method package works with dnf 4.", "Use tasks of your own."
        )
    return manager


def package_info(params: Mapping[str, Any], check: bool, run: Run = run_command) -> dict[str, Any]:
    """The package's version, and those that this host can go to. Changes nothing.

    ``params``: ``package``, ``manager``, ``unit``, ``hold``, ``folder``. ``before`` is what ran when the
    last switch began, while its restart is due.
    """
    store = Store(params, run)
    found = store.manager.installed()
    last = store.last_switch()
    due = last.restart_due and found.version in (last.after, last.before)
    unit = text(params, "unit")
    return {
        "changed": False,
        "current": shown(found.version),
        "before": shown(last.before) if due else None,
        "previous": shown(last.before) if last.after == found.version else None,
        "held": found.held,
        "whole": found.whole,
        "restart_due": due,
        "releases": [{"version": shown(each), "checksum": ""} for each in store.kept()],
        "unit": unit_state(checked_unit(unit), run).to_dict() if unit else None,
        "manager": store.manager.name,
        "cannot_hold": store.manager.cannot_hold() if flag(params, "hold", False) else "",
        "unbroken": store.manager.unbroken,
    }


def package_stage(params: Mapping[str, Any], check: bool, run: Run = run_command) -> dict[str, Any]:
    """Brings a version's package and all it needs to the host, and keeps the present one for the way back.

    ``params``: ``package``, ``manager``, ``version``, ``timeout``, ``lock_timeout``, ``folder``.
    """
    store = Store(params, run)
    version = checked_version(params.get("version"), "version")
    limit = number(params, "timeout", 600, 1, 86400)
    lock = number(params, "lock_timeout", 60, 0, 86400)
    found = store.manager.installed()
    _require_whole(store, found)
    wanted = [version] if found.version is None else [version, found.version]
    lacking = [each for each in wanted if not _named(each, store.kept())]
    if check:
        offered = [*store.manager.offered(), *store.manager.cached()]
        for each in lacking:
            if not _named(each, offered):
                raise BadArtefact(
                    f"No repository of this host has {store.package} {each}, by the lists that it has now.",
                    "A run without check mode reads the lists anew.",
                )
    elif lacking or shown(found.version) != version:
        with store.locked(limit):
            for each in lacking:
                store.fetch(each, limit)
            kept = store.kept()
            # The dependencies come now, and what cannot be installed without removing something is refused now, every time.
            if shown(found.version) != version:
                present = kept[found.version] if found.version else None
                store.manager.prepare(kept[_named(version, kept) or ""], present, limit, lock)
    return {"changed": bool(lacking), "version": version, "kept": [shown(each) for each in store.kept()]}


def package_switch(params: Mapping[str, Any], check: bool, run: Run = run_command) -> dict[str, Any]:
    """Installs a staged version, restarts the unit, and removes old files.

    ``params``: ``package``, ``manager``, ``version``, ``unit``, ``hold``, ``keep``, ``protect``,
    ``timeout``, ``lock_timeout``, ``restart_timeout``, ``will_be_staged``, ``folder``.
    A package that was held is held again, whatever ``hold`` says.
    """
    store = Store(params, run)
    version = checked_version(params.get("version"), "version")
    unit = checked_unit(params.get("unit"))
    keep = whole(params, "keep", 5, 1, 10000)
    protect = {checked_version(each, "protect") for each in items(params, "protect")}
    limit = number(params, "timeout", 600, 1, 86400)
    lock = number(params, "lock_timeout", 60, 0, 86400)
    found = store.manager.installed()
    _require_whole(store, found)
    hold = flag(params, "hold", False) or found.held
    full = _named(version, store.kept()) or (found.version if shown(found.version) == version else None)
    if full is None and not (check and flag(params, "will_be_staged", False)):
        raise UpgradeFailed(f"{store.package} {version} is not staged on this host.", "Stage it first.")
    switches = shown(found.version) != version
    last = store.last_switch()
    active = unit_state(unit, run).active
    due = switches or not active or last.due_for(full)
    result: dict[str, Any] = {
        "changed": switches or due or hold != found.held,
        "before": shown(found.version),
        "after": version,
        "held": hold,
        "restarted": due,
        "pruned": [],
        "diff": {
            "before": {"version": shown(found.version), "held": found.held},
            "after": {"version": version, "held": hold},
        },
    }
    if check or full is None:
        return result
    with store.locked(limit):
        if due:
            before = found.version if switches else last.before
            store.record_switch(before, full, True)
        try:
            if switches:
                store.manager.install(store.kept()[full], limit, lock)
        finally:
            if hold and not store.manager.installed().held:
                store.manager.hold()
        now = store.manager.installed()
        if now.version != full:
            raise UpgradeFailed(f"{store.package} is at {now.version} after {full} was installed.")
        if due:
            run(["systemctl", "daemon-reload"], QUICK)
            state = restart(require_unit(unit, run), number(params, "restart_timeout", 60, 0.1, 86400), run)
            result["unit"] = state.to_dict()
            store.record_switch(before, full, False)
            spared = protect | {each for each in (version, shown(before)) if each}
            result["pruned"] = store.prune(keep, spared)
    return result


def _named(version: str, full: Iterable[str]) -> str | None:
    """The full version among these that is meant; the first, where two differ in their epoch only."""
    return next((each for each in full if each == version or shown(each) == version), None)


def upstream(version: str) -> str:
    """A package's version without epoch and revision, as the service inside the package may name itself."""
    plain = shown(version) or version
    return plain.rpartition("-")[0] or plain


def _require_whole(store: Store, found: Installed) -> None:
    if not found.whole:
        raise UpgradeFailed(
            f"{store.manager.name} was interrupted in {store.package} {found.version} on this host.",
            store.manager.unbroken,
        )
