# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""A service that comes as a Debian package: its version now, the next one, and the way back.

::

    /var/lib/zerodrop/packages/PACKAGE/   the .deb files of the releases that this host can go to
    /var/lib/zerodrop/packages/PACKAGE/.switch.json   the last switch, and whether the restart is still due

A release is kept here before the first member changes, the present one
included: a repository that drops old versions cannot take the way back away.
Versions are named without Debian's epoch, as a service names itself.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    BadArtefact,
    BadInput,
    PermissionDenied,
    TimedOut,
    UpgradeFailed,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._files import replace_json, take_lock
from ansible_collections.zerodrop.rollout.plugins.module_utils._names import package as checked_package
from ansible_collections.zerodrop.rollout.plugins.module_utils._names import unit as checked_unit
from ansible_collections.zerodrop.rollout.plugins.module_utils._names import version as checked_version
from ansible_collections.zerodrop.rollout.plugins.module_utils._params import flag, items, number, text, whole
from ansible_collections.zerodrop.rollout.plugins.module_utils._systemd import (
    Run,
    require_unit,
    restart,
    run_command,
    unit_state,
)

FOLDER = "/var/lib/zerodrop/packages"
_CACHE = "/var/cache/apt/archives"
_SWITCH = ".switch.json"
_QUICK = 30.0

# Nothing asks, nothing else on the host is restarted, and the service's edited configuration stays.
_QUIET = ("LC_ALL=C", "DEBIAN_FRONTEND=noninteractive", "NEEDRESTART_SUSPEND=1", "APT_LISTCHANGES_FRONTEND=none")
_CONFIGURATION = ("-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold")


class Installed(NamedTuple):
    """What dpkg says of a package."""

    version: str | None  # with its epoch
    held: bool
    whole: bool  # no earlier run of dpkg was interrupted in it


class Store:
    """The kept .deb files of one package."""

    def __init__(self, params: Mapping[str, Any], run: Run) -> None:
        self.package = checked_package(params.get("package"), "package")
        self.folder = os.path.join(text(params, "folder") or FOLDER, self.package)
        self.run = run

    def installed(self) -> Installed:
        shown = "${db:Status-Want} ${db:Status-Eflag} ${db:Status-Status} ${Version}\n"
        status, said = self._quick(["dpkg-query", "--show", f"--showformat={shown}", "--", self.package])
        rows = [line.split(" ") for line in said.splitlines() if line.count(" ") == 3] if status == 0 else []
        rows = [row for row in rows if row[2] not in ("not-installed", "config-files")]
        if len({row[3] for row in rows}) > 1:
            raise BadInput(f"{self.package} is installed in several versions, for several architectures.")
        if not rows:
            return Installed(None, False, True)
        want, flags, state, version = rows[0]
        return Installed(version, want == "hold", flags == "ok" and state == "installed")

    def kept(self) -> dict[str, str]:
        """The path of each kept .deb of this package, by its version."""
        return self._debs(self.folder)

    def _debs(self, folder: str) -> dict[str, str]:
        found = {}
        for path in sorted(glob.glob(os.path.join(glob.escape(folder), f"{self.package}_*.deb"))):
            argv = ["dpkg-deb", "--show", "--showformat=${Package} ${Version}", "--", path]
            status, said = self._quick(argv)
            name, _space, version = said.strip().partition(" ")
            if status == 0 and name == self.package and version:
                found[version] = path
        return found

    def offered(self) -> list[str]:
        """The versions that the host's lists of its repositories have."""
        _status, said = self._quick(["apt-cache", "madison", "--", self.package])
        rows = [[part.strip() for part in line.split("|")] for line in said.splitlines()]
        return [row[1] for row in rows if len(row) > 2 and row[0] == self.package and "Packages" in row[2]]

    def fetch(self, version: str, limit: float) -> str:
        """Keep the .deb of a version; returns its full version. Raises ``BadArtefact``."""
        kept = _named(version, self.kept())
        if kept:
            return kept
        with tempfile.TemporaryDirectory(prefix=".incoming-", dir=self.folder) as work:
            full = self._download(version, limit, work)
            if full is None:  # unknown, or a repository has dropped it since the host read its list
                self._apt(["update"], limit, "read the lists of its repositories")
                full = self._download(version, limit, work)
            found = self._debs(work if full else _CACHE)
            full = full or _named(version, found)
            if not full or full not in found:
                offered = ", ".join(dict.fromkeys(self.offered())) or "none"
                raise BadArtefact(
                    f"No repository of this host has {self.package} {version}; offered: {offered}.",
                    f"Publish it there, or put its .deb file into {self.folder}.",
                )
            path = os.path.join(work, "complete")
            shutil.copyfile(found[full], path)
            with open(path, "rb") as file:
                os.fsync(file.fileno())
            os.replace(path, os.path.join(self.folder, os.path.basename(found[full])))
        return full

    def _download(self, version: str, limit: float, work: str) -> str | None:
        """The full version, when a repository has it and gave it."""
        full = _named(version, self.offered())
        if full:
            # In a folder of root's own, where apt's other user could not write.
            argv = ["-o", "APT::Sandbox::User=root", "download", f"{self.package}={full}"]
            try:
                self._apt(argv, limit, f"fetch {self.package} {full}", work)
            except UpgradeFailed:
                return None
        return full

    def install(self, path: str, limit: float, lock: float, only: str = "") -> None:
        """Install a .deb with what it depends on; ``only`` is an option that stops short of it."""
        argv = ["-y", "-o", f"DPkg::Lock::Timeout={int(lock)}", *_CONFIGURATION]
        argv += ["--no-remove", "--allow-downgrades", "--allow-change-held-packages"]
        argv += [*([only] if only else []), "install", "--", path]
        self._apt(argv, limit + lock, f"install {os.path.basename(path)}")

    def hold(self) -> None:
        status, said = self._quick(["env", *_QUIET, "apt-mark", "hold", "--", self.package])
        if status:
            raise UpgradeFailed(f"{self.package} could not be held again: {_last(said)}")

    def last_switch(self) -> dict[str, Any]:
        try:
            with open(os.path.join(self.folder, _SWITCH), encoding="utf-8") as file:
                data = json.load(file)
        except (OSError, ValueError):
            return {}
        return data if isinstance(data, dict) else {}

    def record_switch(self, before: str | None, after: str, restart_due: bool) -> None:
        data = {"before": before, "after": after, "restart_due": restart_due}
        replace_json(os.path.join(self.folder, _SWITCH), data, 0o644)

    @contextlib.contextmanager
    def locked(self, limit: float) -> Iterator[None]:
        try:
            os.makedirs(self.folder, mode=0o755, exist_ok=True)
            handle = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise PermissionDenied(
                f"{self.folder}: {error.strerror}.", "Installing packages takes 'become'."
            ) from error
        try:
            if not take_lock(handle, limit):
                raise TimedOut(f"Another run has been working on {self.folder} for {limit:g} s.")
            yield
        finally:
            os.close(handle)

    def _quick(self, argv: Sequence[str]) -> tuple[int, str]:
        try:
            return self.run(argv, _QUICK)
        except subprocess.TimeoutExpired:
            raise UpgradeFailed(f"{argv[0]} did not answer within {_QUICK:g} s.") from None

    def _apt(self, argv: Sequence[str], limit: float, what: str, folder: str = "/") -> None:
        try:
            status, said = self.run(["env", f"--chdir={folder}", *_QUIET, "apt-get", "-q", *argv], limit)
        except subprocess.TimeoutExpired:
            raise TimedOut(
                f"apt-get did not {what} within {limit:g} s, and was ended.", "See 'dpkg --audit' on this host."
            ) from None
        if status:
            raise _explained(said, what)


def package_info(params: Mapping[str, Any], check: bool, run: Run = run_command) -> dict[str, Any]:
    """The package's version, and those that this host can go to. Changes nothing.

    ``params``: ``package``, ``unit``, ``folder``. ``before`` is what ran when the
    last switch began, while its restart is due.
    """
    store = Store(params, run)
    _needs_apt()
    found = store.installed()
    last = store.last_switch()
    after = last.get("after")
    due = bool(last.get("restart_due")) and found.version in (after, last.get("before"))
    unit = text(params, "unit")
    return {
        "changed": False,
        "current": _shown(found.version),
        "before": _shown(last.get("before")) if due else None,
        "previous": _shown(last.get("before")) if after == found.version else None,
        "held": found.held,
        "whole": found.whole,
        "restart_due": due,
        "releases": [{"version": _shown(each), "checksum": ""} for each in store.kept()],
        "unit": unit_state(checked_unit(unit), run).to_dict() if unit else None,
    }


def package_stage(params: Mapping[str, Any], check: bool, run: Run = run_command) -> dict[str, Any]:
    """Brings a version's package and all it needs to the host, and keeps the present one for the way back.

    ``params``: ``package``, ``version``, ``timeout``, ``lock_timeout``, ``folder``.
    """
    store = Store(params, run)
    _needs_apt()
    version = checked_version(params.get("version"), "version")
    limit = number(params, "timeout", 600, 1, 86400)
    lock = number(params, "lock_timeout", 60, 0, 86400)
    found = store.installed()
    _require_whole(store, found)
    wanted = [version] if found.version is None else [version, found.version]
    lacking = [each for each in wanted if not _named(each, store.kept())]
    if check:
        offered = [*store.offered(), *store._debs(_CACHE)]
        for each in lacking:
            if not _named(each, offered):
                raise BadArtefact(
                    f"No repository of this host has {store.package} {each}, by the lists that it has now.",
                    "A run without check mode reads the lists anew.",
                )
    elif lacking:
        with store.locked(limit):
            for each in lacking:
                store.fetch(each, limit)
            kept = store.kept()
            # The dependencies come now, and what cannot be installed without removing something is refused now.
            if found.version is None or _shown(found.version) != version:
                store.install(kept[_named(version, kept) or ""], limit, lock, "--download-only")
    return {"changed": bool(lacking), "version": version, "kept": [_shown(each) for each in store.kept()]}


def package_switch(params: Mapping[str, Any], check: bool, run: Run = run_command) -> dict[str, Any]:
    """Installs a staged version, restarts the unit, and removes old .deb files.

    ``params``: ``package``, ``version``, ``unit``, ``hold``, ``keep``, ``protect``,
    ``timeout``, ``lock_timeout``, ``restart_timeout``, ``will_be_staged``, ``folder``.
    A package that was held is held again, whatever ``hold`` says.
    """
    store = Store(params, run)
    _needs_apt()
    version = checked_version(params.get("version"), "version")
    unit = checked_unit(params.get("unit"))
    keep = whole(params, "keep", 5, 1, 10000)
    protect = {checked_version(each, "protect") for each in items(params, "protect")}
    limit = number(params, "timeout", 600, 1, 86400)
    lock = number(params, "lock_timeout", 60, 0, 86400)
    found = store.installed()
    _require_whole(store, found)
    hold = flag(params, "hold", False) or found.held
    full = _named(version, store.kept()) or (found.version if _shown(found.version) == version else None)
    if full is None and not (check and flag(params, "will_be_staged", False)):
        raise UpgradeFailed(f"{store.package} {version} is not staged on this host.", "Stage it first.")
    switches = _shown(found.version) != version
    last = store.last_switch()
    active = unit_state(unit, run).active
    due = switches or not active or (bool(last.get("restart_due")) and last.get("after") == full)
    result: dict[str, Any] = {
        "changed": switches or due or hold != found.held,
        "before": _shown(found.version),
        "after": version,
        "held": hold,
        "restarted": due,
        "pruned": [],
        "diff": {
            "before": {"version": _shown(found.version), "held": found.held},
            "after": {"version": version, "held": hold},
        },
    }
    if check or full is None:
        return result
    with store.locked(limit):
        if due:
            before = found.version if switches else last.get("before")
            store.record_switch(before, full, True)
        try:
            if switches:
                store.install(store.kept()[full], limit, lock)
        finally:
            if hold and not store.installed().held:
                store.hold()
        now = store.installed()
        if now.version != full:
            raise UpgradeFailed(f"{store.package} is at {now.version} after {full} was installed.")
        if due:
            run(["systemctl", "daemon-reload"], _QUICK)
            state = restart(require_unit(unit, run), number(params, "restart_timeout", 60, 0.1, 86400), run)
            result["unit"] = state.to_dict()
            store.record_switch(before, full, False)
            spared = protect | {each for each in (version, _shown(before)) if each}
            result["pruned"] = _prune(store, keep, spared)
    return result


def _prune(store: Store, keep: int, spared: set[str]) -> list[str]:
    kept = store.kept()
    newest = sorted(kept, key=lambda each: os.path.getmtime(kept[each]), reverse=True)
    gone = []
    for version in newest[keep:]:
        shown = _shown(version)
        if shown and shown not in spared:
            os.unlink(kept[version])
            gone.append(shown)
    return gone


def _shown(version: str | None) -> str | None:
    """Without the epoch, which no service names and no file name carries."""
    return version.partition(":")[2] or version if version else None


def _named(version: str, full: Any) -> str | None:
    """The full version among these that is meant; the first, where two differ in their epoch only."""
    return next((each for each in full if each == version or _shown(each) == version), None)


def upstream(version: str) -> str:
    """A Debian version without epoch and revision, as the service inside the package may name itself."""
    shown = _shown(version) or version
    return shown.rpartition("-")[0] or shown


def _needs_apt() -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-query") is None:
        raise BadInput("The upgrade method package works with apt, and this host has no apt-get.")


def _require_whole(store: Store, found: Installed) -> None:
    if not found.whole:
        raise UpgradeFailed(
            f"dpkg was interrupted in {store.package} {found.version} on this host.",
            "Run 'dpkg --configure -a' there, and see that 'dpkg --audit' is silent.",
        )


def _explained(said: str, what: str) -> UpgradeFailed | TimedOut | PermissionDenied:
    """What apt-get's last words mean."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    facts: dict[str, Any] = {"output": lines[-15:]}
    if "dpkg was interrupted" in said:
        hint = "Run 'dpkg --configure -a' there, and see that 'dpkg --audit' is silent."
        return UpgradeFailed(f"dpkg was interrupted on this host, so apt-get could not {what}.", hint, **facts)
    if "are you root?" in said:
        return PermissionDenied(f"This user may not {what}.", "Installing packages takes 'become'.", **facts)
    if "Could not get lock" in said:
        return TimedOut(f"Another package manager runs on this host, so apt-get could not {what}.", **facts)
    return UpgradeFailed(f"apt-get could not {what}: {_last(said)}", "See 'output' for the rest.", **facts)


def _last(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("E:", "dpkg: error"))]
    return (errors or lines or ["it said nothing"])[-1][:300]
