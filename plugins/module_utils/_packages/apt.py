# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""apt and dpkg."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    BadInput,
    PermissionDenied,
    RolloutError,
    TimedOut,
    UpgradeFailed,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._packages.manager import (
    Installed,
    Manager,
    last,
    lines_of,
)

# Nothing asks, nothing else on the host is restarted, and the service's edited configuration stays.
_QUIET = ("LC_ALL=C", "DEBIAN_FRONTEND=noninteractive", "NEEDRESTART_SUSPEND=1", "APT_LISTCHANGES_FRONTEND=none")
_CONFIGURATION = ("-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold")


class Apt(Manager):
    """A Debian package."""

    name = "apt"
    programs = ("apt-get", "dpkg-query")
    pattern = "{}_*.deb"
    caches = ("/var/cache/apt/archives",)
    unbroken = "Run 'dpkg --configure -a' there, and see that 'dpkg --audit' is silent."

    def installed(self) -> Installed:
        wanted = "${db:Status-Want} ${db:Status-Eflag} ${db:Status-Status} ${Version}\n"
        status, said = self.quick(["dpkg-query", "--show", f"--showformat={wanted}", "--", self.package])
        rows = [line.split(" ") for line in said.splitlines() if line.count(" ") == 3] if status == 0 else []
        rows = [row for row in rows if row[2] not in ("not-installed", "config-files")]
        if len({row[3] for row in rows}) > 1:
            raise BadInput(f"{self.package} is installed in several versions, for several architectures.")
        if not rows:
            return Installed(None, False, True)
        want, flags, state, version = rows[0]
        return Installed(version, want == "hold", flags == "ok" and state == "installed")

    def version_of(self, path: str) -> str | None:
        status, said = self.quick(["dpkg-deb", "--show", "--showformat=${Package} ${Version}", "--", path])
        name, _space, version = said.strip().partition(" ")
        return version if status == 0 and name == self.package else None

    def offered(self) -> list[str]:
        _status, said = self.quick(["apt-cache", "madison", "--", self.package])
        rows = [[part.strip() for part in line.split("|")] for line in said.splitlines()]
        return [row[1] for row in rows if len(row) > 2 and row[0] == self.package and "Packages" in row[2]]

    def refresh(self, limit: float) -> None:
        self._apt(["update"], limit, "read the lists of its repositories")

    def download(self, version: str, folder: str, limit: float) -> None:
        # In a folder of root's own, where apt's other user could not write.
        argv = ["-o", "APT::Sandbox::User=root", "download", f"{self.package}={version}"]
        self._apt(argv, limit, f"fetch {self.package} {version}", folder)

    def prepare(self, path: str, present: str | None, limit: float, lock: float) -> None:
        self._install(path, limit, lock, "--download-only")

    def install(self, path: str, limit: float, lock: float) -> None:
        self._install(path, limit, lock)

    def hold(self) -> None:
        status, said = self.quick(["env", *_QUIET, "apt-mark", "hold", "--", self.package])
        if status:
            raise UpgradeFailed(f"{self.package} could not be held again: {_last(said)}")

    def _install(self, path: str, limit: float, lock: float, *only: str) -> None:
        argv = ["-y", "-o", f"DPkg::Lock::Timeout={int(lock)}", *_CONFIGURATION]
        argv += ["--no-remove", "--allow-downgrades", "--allow-change-held-packages"]
        self._apt([*argv, *only, "install", "--", path], limit + lock, f"install {os.path.basename(path)}")

    def _apt(self, argv: Sequence[str], limit: float, what: str, folder: str = "/") -> None:
        self.work(["env", f"--chdir={folder}", *_QUIET, "apt-get", "-q", *argv], limit, what)

    def explained(self, said: str, what: str) -> RolloutError:
        output = lines_of(said)[-15:]
        if "dpkg was interrupted" in said:
            message = f"dpkg was interrupted on this host, so apt-get could not {what}."
            return UpgradeFailed(message, self.unbroken, output=output)
        if "are you root?" in said:
            return PermissionDenied(f"This user may not {what}.", "Installing packages takes 'become'.", output=output)
        if "Could not get lock" in said:
            return TimedOut(f"Another package manager runs on this host, so apt-get could not {what}.", output=output)
        return UpgradeFailed(f"apt-get could not {what}: {_last(said)}", "See 'output' for the rest.", output=output)


def _last(said: str) -> str:
    return last(said, "E:", "dpkg: error")
