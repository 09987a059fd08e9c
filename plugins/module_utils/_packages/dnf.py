# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""dnf (version 4) and rpm.

dnf is only ever given files to install, with every repository off: what the way there and the way back
need besides lies in a folder beside the package's own file.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import re
import shutil
import tempfile
from collections.abc import Sequence

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    BadInput,
    PermissionDenied,
    RolloutError,
    UpgradeFailed,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._packages.manager import (
    Installed,
    Manager,
    last,
    lines_of,
)

BESIDE = ".with"  # the folder of what a package's file needs, after that file's name
_SHOW = "%{NAME} %{EPOCH} %{VERSION} %{RELEASE} %{ARCH}\n"
# A lock is no reason to keep a rollout from its own package, as a hold is none for apt.
_FREE = "--disableplugin=versionlock"
_REMOVES = re.compile(r"^\s+replacing\s+(\S+)", re.MULTILINE)
_REMOVING = re.compile(r"^Removing[^:\n]*:\n((?: .+\n)+)", re.MULTILINE)


class Dnf(Manager):
    """A package of rpm."""

    name = "dnf"
    programs = ("dnf", "rpm")
    pattern = "{}-*.rpm"
    caches = ("/var/cache/dnf/*/packages",)
    unbroken = "See 'rpm -q' and 'dnf history' there; 'dnf remove --duplicates' ends an interrupted upgrade."

    def installed(self) -> Installed:
        rows = self._query(["-q", "--", self.package])
        versions = list(dict.fromkeys(_version(row) for row in rows))
        if len({row[4] for row in rows}) > 1:
            raise BadInput(f"{self.package} is installed for several architectures.")
        if not rows:
            return Installed(None, False, True)
        return Installed(versions[-1], self._locked(rows[-1]), len(versions) == 1)

    def version_of(self, path: str) -> str | None:
        rows = self._query(["-qp", "--nosignature", "--", path])
        return _version(rows[0]) if rows and rows[0][0] == self.package else None

    def offered(self) -> list[str]:
        shown = "%{epoch} %{version} %{release}"
        _status, said = self.quick(["dnf", "-q", _FREE, "repoquery", "--qf", shown, self.package])
        rows = [line.split(" ") for line in said.splitlines() if re.match(r"\d+ \S+ \S+$", line)]
        return list(dict.fromkeys(_version([self.package, *row]) for row in reversed(rows)))

    def cannot_hold(self) -> str:
        status, said = self.quick(["dnf", "-q", "-C", "versionlock", "list"])
        return "" if status == 0 else last(said)

    def refresh(self, limit: float) -> None:
        self._dnf(["makecache", "--refresh"], limit, "read the lists of its repositories")

    def download(self, version: str, folder: str, limit: float) -> None:
        """What depends on it comes along; signatures are checked as the repository asks for it."""
        verb = "reinstall" if version == self.installed().version else "install"
        self._download(verb, [f"{self.package}-{version}"], folder, limit)
        self._settle(folder)

    def prepare(self, path: str, present: str | None, limit: float, lock: float) -> None:
        files = [path, *_beside(path)]
        self._refuse_removals(files, limit + lock)
        if present is None:
            return
        # What comes along may replace something that the present version needs as it is.
        have = {row[0] for row in self._files(_beside(present))}
        replaced = [row[0] for row in self._files(_beside(path)) if self._query(["-q", "--", row[0]])]
        lacking = [name for name in replaced if name not in have]
        if not lacking:
            return
        with tempfile.TemporaryDirectory(prefix=".incoming-", dir=os.path.dirname(present)) as work:
            self._download("reinstall", lacking, work, limit)
            os.makedirs(present + BESIDE, exist_ok=True)
            for each in sorted(os.listdir(work)):
                os.replace(os.path.join(work, each), os.path.join(present + BESIDE, each))

    def install(self, path: str, limit: float, lock: float) -> None:
        files = [path, *_beside(path)]
        self._dnf(["--disablerepo=*", "install", *files], limit + lock, f"install {os.path.basename(path)}")

    def hold(self) -> None:
        self.quick(["dnf", "-q", "-C", "versionlock", "delete", self.package])  # of the version before
        status, said = self.quick(["dnf", "-q", "-C", "versionlock", "add", self.package])
        if status or not self.installed().held:
            raise UpgradeFailed(f"{self.package} could not be locked again: {last(said, 'Error')}")

    def _locked(self, row: Sequence[str]) -> bool:
        """Whether a lock fits the version that is installed."""
        _status, said = self.quick(["dnf", "-q", "-C", "versionlock", "list"])
        epoch = row[1] if row[1].isdecimal() else "0"
        forms = [row[0]]
        for version in (f"{row[2]}-{row[3]}", f"{epoch}:{row[2]}-{row[3]}"):
            forms += [f"{row[0]}-{version}", f"{row[0]}-{version}.{row[4]}"]
        return any(fnmatch.fnmatchcase(form, lock) for lock in lines_of(said) for form in forms)

    def _refuse_removals(self, files: Sequence[str], limit: float) -> None:
        argv = ["dnf", "--assumeno", _FREE, "--disablerepo=*", "install", *files]
        _status, said = self.run(argv, limit)  # it says no, so it fails
        gone = _REMOVES.findall(said)
        gone += [line.split()[0] for block in _REMOVING.findall(said) for line in block.splitlines()]
        if gone:
            raise UpgradeFailed(
                f"To install {os.path.basename(files[0])}, dnf would remove {', '.join(gone)}.",
                "Remove it yourself first, if that is meant.",
            )

    def _download(self, verb: str, what: Sequence[str], folder: str, limit: float) -> None:
        argv = [verb, "--downloadonly", f"--downloaddir={folder}", *what]
        self._dnf(argv, limit, f"fetch {', '.join(what)}")

    def _settle(self, folder: str) -> None:
        """Put what came along beside the package's own file."""
        own = set(self.files(folder).values())
        others = [path for path in glob.glob(os.path.join(folder, "*.rpm")) if path not in own]
        for path in own if others else ():
            os.makedirs(path + BESIDE, exist_ok=True)
            for each in others:
                shutil.copy2(each, path + BESIDE)
        for each in others:
            os.unlink(each)

    def _files(self, paths: Sequence[str]) -> list[list[str]]:
        return self._query(["-qp", "--nosignature", "--", *paths]) if paths else []

    def _query(self, argv: Sequence[str]) -> list[list[str]]:
        status, said = self.quick(["rpm", f"--qf={_SHOW}", *argv])
        return [line.split(" ") for line in said.splitlines() if line.count(" ") == 4] if status == 0 else []

    def _dnf(self, argv: Sequence[str], limit: float, what: str) -> None:
        self.work(["dnf", "-y", _FREE, *argv], limit, what)

    def explained(self, said: str, what: str) -> RolloutError:
        output = lines_of(said)[-15:]
        if "superuser privileges" in said:
            return PermissionDenied(f"This user may not {what}.", "Installing packages takes 'become'.", output=output)
        if "No such command" in said:
            return BadInput(f"dnf could not {what}: {last(said, 'No such')}", output=output)
        problem = next((line for line in lines_of(said) if line.startswith("Problem")), "")
        return UpgradeFailed(
            f"dnf could not {what}: {problem or last(said, 'Error')}", "See 'output' for the rest.", output=output
        )


def _beside(path: str) -> list[str]:
    return sorted(glob.glob(os.path.join(glob.escape(path + BESIDE), "*.rpm")))


def _version(row: Sequence[str]) -> str:
    epoch = f"{row[1]}:" if row[1].isdecimal() and row[1] != "0" else ""
    return f"{epoch}{row[2]}-{row[3]}"
