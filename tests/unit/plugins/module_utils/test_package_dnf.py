# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The upgrade method package, on a host whose dnf and rpm are made of answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    BadArtefact,
    BadInput,
    PermissionDenied,
    UpgradeFailed,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._package import (
    package_info,
    package_stage,
    package_switch,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._packages.dnf import Dnf

_TABLE = "Dependencies resolved.\n====\nUpgrading:\n shop  noarch  2.0-1  @commandline  6.0 k\n"


class RedHat:
    """One host: what is installed, by name, and what its repository offers; a file's text is its name and version."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.packages: dict[str, list[str]] = {"shop": ["1:1.0-1"], "shop-data": ["1-1"]}
        self.offered = ["1:2.0-1", "1:1.0-1"]
        self.locks: list[str] = []
        self.plugin = True
        self.table = _TABLE
        self.install_says: tuple[int, str] = (0, "")
        self.calls: list[list[str]] = []

    @property
    def version(self) -> str:
        return self.packages["shop"][-1]

    def run(self, argv: Sequence[str], limit: float) -> tuple[int, str]:
        args = list(argv)
        self.calls.append(args)
        if args[0] == "systemctl":
            return 0, "LoadState=loaded\nActiveState=active\nSubState=running\nResult=success\nNRestarts=0\n"
        if args[0] == "rpm":
            return self._rpm(args)
        for verb in ("versionlock", "repoquery", "makecache", "reinstall", "install"):
            if verb in args:
                return getattr(self, "_" + verb)(args)  # type: ignore[no-any-return]
        raise AssertionError(args)

    def _rpm(self, args: list[str]) -> tuple[int, str]:
        names = args[args.index("--") + 1 :]
        if "-qp" in args:
            rows = [Path(name).read_text(encoding="utf-8").split(" ") for name in names]
        else:
            rows = [[name, version] for name in names for version in self.packages.get(name, [])]
        if not rows:
            return 1, "package is not installed\n"
        return 0, "".join(self._row(*row) for row in rows)

    @staticmethod
    def _row(name: str, version: str) -> str:
        epoch, colon, rest = version.partition(":")
        number, _dash, release = (rest if colon else version).partition("-")
        return f"{name} {epoch if colon else '(none)'} {number} {release} noarch\n"

    def _repoquery(self, _args: list[str]) -> tuple[int, str]:
        lines = [self._row("shop", each).split(" ")[1:4] for each in reversed(self.offered)]
        return 0, "Unable to detect release version\n" + "".join(" ".join(line) + "\n" for line in lines)

    def _makecache(self, _args: list[str]) -> tuple[int, str]:
        return 0, ""

    def _versionlock(self, args: list[str]) -> tuple[int, str]:
        if not self.plugin:
            return 1, "No such command: versionlock.\n"
        verb = args[args.index("versionlock") + 1]
        if verb == "delete":
            self.locks = [each for each in self.locks if not each.startswith("shop-1:")]
        if verb == "add":
            self.locks.append(f"shop-{self.version}.*")
        return 0, "".join(f"{each}\n" for each in self.locks)

    def _reinstall(self, args: list[str]) -> tuple[int, str]:
        assert "--downloadonly" in args
        folder = Path(next(each.partition("=")[2] for each in args if each.startswith("--downloaddir=")))
        for what in args[args.index(f"--downloaddir={folder}") + 1 :]:
            name = "shop" if what.startswith("shop-1:") else what
            version = self.packages[name][-1]
            (folder / f"{name}-{version.partition(':')[2] or version}.noarch.rpm").write_text(f"{name} {version}")
        return 0, ""

    def _install(self, args: list[str]) -> tuple[int, str]:
        if "--assumeno" in args:
            return 1, self.table + "Operation aborted.\n"
        if "--downloadonly" in args:
            folder = Path(next(each.partition("=")[2] for each in args if each.startswith("--downloaddir=")))
            version = args[-1].removeprefix("shop-")
            (folder / f"shop-{version.partition(':')[2]}.noarch.rpm").write_text(f"shop {version}")
            (folder / "shop-data-2-1.noarch.rpm").write_text("shop-data 2-1")
            return 0, ""
        assert "--disablerepo=*" in args
        if self.install_says[0]:
            return self.install_says
        for path in args[args.index("install") + 1 :]:
            name, version = Path(path).read_text(encoding="utf-8").split(" ")
            self.packages[name] = [version]
        return 0, ""

    def params(self, **more: Any) -> dict[str, Any]:
        return {"package": "shop", "unit": "shop.service", "folder": str(self.folder), "version": "2.0-1", **more}

    def kept(self) -> list[str]:
        return sorted(str(path.relative_to(self.folder / "shop")) for path in (self.folder / "shop").rglob("*.rpm"))


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RedHat:
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}" if name in ("dnf", "rpm") else None)
    monkeypatch.setattr(Dnf, "caches", (str(tmp_path / "cache/*/packages"),))
    return RedHat(tmp_path / "packages")


BOTH = [
    "shop-1.0-1.noarch.rpm",
    "shop-1.0-1.noarch.rpm.with/shop-data-1-1.noarch.rpm",
    "shop-2.0-1.noarch.rpm",
    "shop-2.0-1.noarch.rpm.with/shop-data-2-1.noarch.rpm",
]


def test_staging_keeps_both_ends_of_the_way_and_what_they_need(host: RedHat) -> None:
    result = package_stage(host.params(), False, host.run)
    assert result["changed"] is True
    assert host.kept() == BOTH
    assert package_stage(host.params(), False, host.run)["changed"] is False


def test_there_and_back_without_the_repository(host: RedHat) -> None:
    package_stage(host.params(), False, host.run)
    host.offered.clear()
    done = package_switch(host.params(), False, host.run)
    assert (done["before"], done["after"], done["restarted"]) == ("1.0-1", "2.0-1", True)
    assert host.packages == {"shop": ["1:2.0-1"], "shop-data": ["2-1"]}
    info = package_info(host.params(), False, host.run)
    assert (info["current"], info["previous"], info["manager"]) == ("2.0-1", "1.0-1", "dnf")
    package_switch(host.params(version="1.0-1"), False, host.run)
    assert host.packages == {"shop": ["1:1.0-1"], "shop-data": ["1-1"]}
    assert package_switch(host.params(version="1.0-1"), False, host.run)["changed"] is False


def test_check_mode_changes_nothing(host: RedHat) -> None:
    assert package_stage(host.params(), True, host.run)["changed"] is True
    assert package_switch(host.params(will_be_staged=True), True, host.run)["changed"] is True
    assert not host.folder.exists()
    assert host.version == "1:1.0-1"


@pytest.mark.parametrize("lock", ["shop-1:1.0-1.*", "shop-1.0*", "shop"])
def test_a_package_that_was_locked_is_locked_again(host: RedHat, lock: str) -> None:
    host.locks = [lock, "other-0:1-1.*"]
    assert package_info(host.params(), False, host.run)["held"] is True
    package_stage(host.params(), False, host.run)
    assert package_switch(host.params(), False, host.run)["held"] is True
    assert package_info(host.params(), False, host.run)["held"] is True
    assert host.version == "1:2.0-1"


@pytest.mark.parametrize("lock", ["shop-data-0:1-1.*", "shop-1:0.9-1.*", "!shop-1:1.0-1.*"])
def test_a_lock_of_something_else_is_none(host: RedHat, lock: str) -> None:
    host.locks = [lock]
    assert package_info(host.params(), False, host.run)["held"] is False


def test_locked_when_asked_and_refused_where_nothing_can_lock(host: RedHat) -> None:
    package_stage(host.params(), False, host.run)
    assert package_info(host.params(hold=True), False, host.run)["cannot_hold"] == ""
    package_switch(host.params(hold=True), False, host.run)
    assert host.locks == ["shop-1:2.0-1.*"]
    host.plugin = False
    assert "versionlock" in package_info(host.params(hold=True), False, host.run)["cannot_hold"]


def test_a_version_that_nobody_has_is_refused(host: RedHat) -> None:
    for check in (True, False):
        with pytest.raises(BadArtefact, match=r"No repository of this host has shop 9\.9-1"):
            package_stage(host.params(version="9.9-1"), check, host.run)
    host.offered = ["1:2.0-1"]
    with pytest.raises(BadArtefact, match=r"has shop 1:1\.0-1"):
        package_stage(host.params(), False, host.run)
    assert host.version == "1:1.0-1"


@pytest.mark.parametrize(
    "table",
    [
        _TABLE + "     replacing  other.noarch 1-1\n",
        _TABLE + "Removing dependent packages:\n other  noarch  1-1  @System  3 k\n\nTransaction Summary\n",
    ],
)
def test_what_would_remove_another_package_is_refused(host: RedHat, table: str) -> None:
    host.table = table
    for _again in range(2):  # its files are kept after the first time
        with pytest.raises(UpgradeFailed, match="would remove other"):
            package_stage(host.params(), False, host.run)
    assert host.version == "1:1.0-1"


def test_a_package_that_rpm_left_twice_is_not_touched(host: RedHat) -> None:
    host.packages["shop"] = ["1:1.0-1", "1:2.0-1"]
    assert package_info(host.params(), False, host.run)["whole"] is False
    for operation in (package_stage, package_switch):
        with pytest.raises(UpgradeFailed, match="dnf was interrupted in shop"):
            operation(host.params(), False, host.run)


@pytest.mark.parametrize(
    ("said", "error", "words"),
    [
        ("Error: This command has to be run with superuser privileges (under root).", PermissionDenied, "may not"),
        (
            "Error:\n Problem: conflicting requests\n  - nothing provides x\n(try to)",
            UpgradeFailed,
            "conflicting requests",
        ),
        ("Error: Transaction test error:\n", UpgradeFailed, "Transaction test error"),
    ],
)
def test_what_dnf_says_is_explained(host: RedHat, said: str, error: type[Exception], words: str) -> None:
    package_stage(host.params(), False, host.run)
    host.install_says = (1, said)
    with pytest.raises(error, match=words):
        package_switch(host.params(), False, host.run)
    assert json.loads((host.folder / "shop/.switch.json").read_text())["restart_due"] is True


def test_old_files_go_with_what_lay_beside_them(host: RedHat) -> None:
    package_stage(host.params(), False, host.run)
    assert package_switch(host.params(keep=1), False, host.run)["pruned"] == []  # the way back
    (host.folder / "shop/.switch.json").unlink()
    assert package_switch(host.params(version="2.0-1", keep=1, hold=True), False, host.run)["pruned"] == []
    host.offered.append("1:3.0-1")
    package_stage(host.params(version="3.0-1"), False, host.run)
    assert package_switch(host.params(version="3.0-1", keep=1), False, host.run)["pruned"] == ["1.0-1"]
    assert not [name for name in host.kept() if "1.0-1" in name]


@pytest.mark.parametrize("name", ["-y", "shop*", "shop 2", "../shop", "@shop"])
def test_a_name_that_is_none_reaches_no_program(host: RedHat, name: str) -> None:
    with pytest.raises(BadInput):
        package_stage(host.params(package=name), False, host.run)
    assert host.calls == []


def test_where_both_managers_are_the_one_that_has_the_package_is_meant(
    host: RedHat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")

    def run(argv: Sequence[str], limit: float) -> tuple[int, str]:
        return (1, "no packages found") if argv[0] == "dpkg-query" else host.run(argv, limit)

    assert package_info(host.params(), False, run)["manager"] == "dnf"
    host.packages.clear()
    with pytest.raises(BadInput, match="both apt and dnf"):
        package_info(host.params(), False, run)
    assert package_info(host.params(manager="dnf"), False, run)["current"] is None
    assert package_info(host.params(manager="apt"), False, run)["manager"] == "apt"


def test_dnf_5_is_told_apart(host: RedHat, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "dnf5").touch()
    (tmp_path / "dnf").symlink_to("dnf5")
    monkeypatch.setattr("shutil.which", lambda name: str(tmp_path / name) if name in ("dnf", "rpm") else None)
    with pytest.raises(BadInput, match="dnf 5"):
        package_info(host.params(), False, host.run)
