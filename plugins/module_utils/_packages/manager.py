# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What a package manager has to do for a rollout, whichever it is."""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
from collections.abc import Sequence
from typing import NamedTuple

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import RolloutError, TimedOut, UpgradeFailed
from ansible_collections.zerodrop.rollout.plugins.module_utils._systemd import Run

QUICK = 30.0


class Installed(NamedTuple):
    """What is known of a package on this host."""

    version: str | None  # with its epoch
    held: bool
    whole: bool  # no earlier run of the package manager was interrupted in it


class Manager:
    """One package, and the package manager that installs it on this host."""

    name: str
    programs: tuple[str, ...]  # all of them must be here
    pattern: str  # of a package's files
    caches: tuple[str, ...] = ()  # patterns of folders in which files of packages may lie already
    unbroken: str  # what to do when it was interrupted

    def __init__(self, package: str, run: Run) -> None:
        self.package = package
        self.run = run

    @classmethod
    def here(cls) -> bool:
        return all(shutil.which(program) for program in cls.programs)

    # -- looks ------------------------------------------------------------------

    def installed(self) -> Installed:
        raise NotImplementedError

    def offered(self) -> list[str]:
        """The versions that the host's lists of its repositories have."""
        raise NotImplementedError

    def version_of(self, path: str) -> str | None:
        """The version in a file, when it is one of this package."""
        raise NotImplementedError

    def cannot_hold(self) -> str:
        """Why this host cannot hold a package; empty when it can."""
        return ""

    def files(self, folder: str) -> dict[str, str]:
        """The path of each file of this package there, by its version."""
        found = {}
        for path in sorted(glob.glob(os.path.join(glob.escape(folder), self.pattern.format(self.package)))):
            version = self.version_of(path)
            if version:
                found[version] = path
        return found

    def cached(self) -> dict[str, str]:
        """The same of what the package manager itself still has."""
        folders = [folder for pattern in self.caches for folder in sorted(glob.glob(pattern))]
        return {version: path for folder in folders for version, path in self.files(folder).items()}

    # -- changes ----------------------------------------------------------------

    def refresh(self, limit: float) -> None:
        """Read the lists of the repositories anew."""
        raise NotImplementedError

    def download(self, version: str, folder: str, limit: float) -> None:
        """Put the file of a version that is offered, or of the one that is here, into a folder."""
        raise NotImplementedError

    def prepare(self, path: str, present: str | None, limit: float, lock: float) -> None:
        """Bring what the way to this file and the way back to ``present`` need; raises what would be in the way."""
        raise NotImplementedError

    def install(self, path: str, limit: float, lock: float) -> None:
        """Install a file, with what was brought for it."""
        raise NotImplementedError

    def hold(self) -> None:
        """Let nothing but a rollout change the version that is installed."""
        raise NotImplementedError

    # -- shared -----------------------------------------------------------------

    def quick(self, argv: Sequence[str]) -> tuple[int, str]:
        try:
            return self.run(argv, QUICK)
        except subprocess.TimeoutExpired:
            raise UpgradeFailed(f"{argv[0]} did not answer within {QUICK:g} s.") from None

    def work(self, argv: Sequence[str], limit: float, what: str) -> str:
        """Run the package manager for its effect; raises what its last words mean."""
        try:
            status, said = self.run(argv, limit)
        except subprocess.TimeoutExpired:
            message = f"{self.programs[0]} did not {what} within {limit:g} s, and was ended."
            raise TimedOut(message, self.unbroken) from None
        if status:
            raise self.explained(said, what)
        return said

    def explained(self, said: str, what: str) -> RolloutError:
        raise NotImplementedError


def shown(version: str | None) -> str | None:
    """Without the epoch, which no service names and no file name carries."""
    return version.partition(":")[2] or version if version else None


def lines_of(said: str) -> list[str]:
    return [line.strip() for line in said.splitlines() if line.strip()]


def last(said: str, *starts: str) -> str:
    """The last line that begins so, or else the last one."""
    lines = lines_of(said)
    return ([line for line in lines if line.startswith(starts)] or lines or ["it said nothing"])[-1][:300]
