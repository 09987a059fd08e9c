# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The upgrade method package, on a host whose apt and dpkg are made of answers."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    BadArtefact,
    BadInput,
    PermissionDenied,
    TimedOut,
    UpgradeFailed,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._package import (
    package_info,
    package_stage,
    package_switch,
    upstream,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._packages.apt import Apt


class Debian:
    """One host: what is installed, what its repository offers, and every command it was given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.version: str | None = "1:1.0-1"
        self.held = False
        self.state = "ok installed"
        self.offered = ["1:2.0-1", "1:1.0-1"]
        self.calls: list[list[str]] = []
        self.install_says: tuple[int, str] = (0, "")
        self.forgets_hold = False

    def run(self, argv: Sequence[str], limit: float) -> tuple[int, str]:
        args = list(argv)
        self.calls.append(args)
        where = "/"
        if args[0] == "env":
            where = next((each[8:] for each in args if each.startswith("--chdir=")), "/")
            args = args[next(i for i, each in enumerate(args[1:], 1) if "=" not in each) :]
        name = args[0].replace("-", "_")
        return getattr(self, "_" + name)(args[1:], where)  # type: ignore[no-any-return]

    def _dpkg_query(self, _args: list[str], _where: str) -> tuple[int, str]:
        if self.version is None:
            return 1, "dpkg-query: no packages found matching shop"
        return 0, f"{'hold' if self.held else 'install'} {self.state} {self.version}\n"

    def _dpkg_deb(self, args: list[str], _where: str) -> tuple[int, str]:
        return 0, Path(args[-1]).read_text(encoding="utf-8")

    def _apt_cache(self, _args: list[str], _where: str) -> tuple[int, str]:
        return 0, "".join(f"      shop | {each} | http://repo ./ Packages\n" for each in self.offered)

    def _apt_get(self, args: list[str], where: str) -> tuple[int, str]:
        if "download" in args:
            version = args[-1].partition("=")[2]
            (Path(where) / f"shop_{version.replace(':', '%3a')}_all.deb").write_text(f"shop {version}")
        if "install" in args and "--download-only" not in args:
            if self.install_says[0]:
                return self.install_says
            self.version = Path(args[-1]).read_text(encoding="utf-8").split(" ")[1]
            self.held = self.held and not self.forgets_hold
        return 0, ""

    def _apt_mark(self, args: list[str], _where: str) -> tuple[int, str]:
        self.held = args[0] == "hold"
        return 0, ""

    def _systemctl(self, args: list[str], _where: str) -> tuple[int, str]:
        return 0, "LoadState=loaded\nActiveState=active\nSubState=running\nResult=success\nNRestarts=0\n"

    def ran(self, word: str) -> list[list[str]]:
        return [each for each in self.calls if word in each]

    def params(self, **more: Any) -> dict[str, Any]:
        return {"package": "shop", "unit": "shop.service", "folder": str(self.folder), "version": "2.0-1", **more}

    def kept(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "shop").glob("*.deb"))


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Debian:
    monkeypatch.setattr("shutil.which", lambda name: None if name in ("dnf", "rpm") else f"/usr/bin/{name}")
    monkeypatch.setattr(Apt, "caches", (str(tmp_path / "cache"),))
    return Debian(tmp_path / "packages")


def test_staging_keeps_both_ends_of_the_way(host: Debian) -> None:
    assert package_stage(host.params(), False, host.run)["changed"] is True
    assert host.kept() == ["shop_1%3a1.0-1_all.deb", "shop_1%3a2.0-1_all.deb"]
    assert host.version == "1:1.0-1"
    assert host.ran("--download-only")
    assert package_stage(host.params(), False, host.run)["changed"] is False
    assert [path for path in (host.folder / "shop").iterdir() if path.name.startswith(".incoming")] == []


def test_there_and_back(host: Debian) -> None:
    package_stage(host.params(), False, host.run)
    there = package_switch(host.params(protect=["1.0-1", "2.0-1"]), False, host.run)
    assert (there["changed"], there["before"], there["after"], there["restarted"]) == (True, "1.0-1", "2.0-1", True)
    assert host.version == "1:2.0-1"
    info = package_info(host.params(), False, host.run)
    assert (info["current"], info["previous"], info["restart_due"]) == ("2.0-1", "1.0-1", False)
    assert package_switch(host.params(), False, host.run)["changed"] is False
    package_switch(host.params(version="1.0-1"), False, host.run)
    assert host.version == "1:1.0-1"
    (install, back) = [each for each in host.ran("install") if "--download-only" not in each]
    for command in (install, back):
        assert {"--allow-downgrades", "--no-remove", "Dpkg::Options::=--force-confold", "--"} <= set(command)
        assert "DPkg::Lock::Timeout=60" in command


def test_check_mode_changes_nothing_and_tells_what_would(host: Debian) -> None:
    assert package_stage(host.params(), True, host.run)["changed"] is True
    result = package_switch(host.params(will_be_staged=True), True, host.run)
    assert result["diff"] == {
        "before": {"version": "1.0-1", "held": False},
        "after": {"version": "2.0-1", "held": False},
    }
    assert host.version == "1:1.0-1"
    assert not host.folder.exists()


@pytest.mark.parametrize("forgets", [False, True])
def test_a_held_package_is_held_again(host: Debian, forgets: bool) -> None:
    host.held, host.forgets_hold = True, forgets
    package_stage(host.params(), False, host.run)
    assert package_switch(host.params(), False, host.run)["held"] is True
    assert (host.version, host.held) == ("1:2.0-1", True)


def test_hold_alone_is_a_change(host: Debian) -> None:
    host.version = "1:2.0-1"
    assert package_switch(host.params(hold=True), False, host.run)["changed"] is True
    assert host.held
    assert host.ran("restart") == []


def test_a_present_version_that_nobody_has_is_refused(host: Debian) -> None:
    host.offered = ["1:2.0-1"]
    for check in (True, False):
        with pytest.raises(BadArtefact, match=r"No repository of this host has shop 1:1\.0-1"):
            package_stage(host.params(), check, host.run)
    assert host.version == "1:1.0-1"


def test_a_restart_that_did_not_happen_is_done_by_the_next_run(host: Debian) -> None:
    package_stage(host.params(), False, host.run)
    record = {"before": "1:1.0-1", "after": "1:2.0-1", "restart_due": True}
    (host.folder / "shop/.switch.json").write_text(json.dumps(record))
    host.version = "1:2.0-1"
    info = package_info(host.params(), False, host.run)
    assert (info["current"], info["before"], info["restart_due"]) == ("2.0-1", "1.0-1", True)
    assert package_switch(host.params(), False, host.run)["restarted"] is True
    assert package_info(host.params(), False, host.run)["restart_due"] is False


def test_old_files_go_but_not_those_that_are_protected(host: Debian) -> None:
    package_stage(host.params(), False, host.run)
    (host.folder / "shop/shop_0.9_all.deb").write_text("shop 0.9")
    (host.folder / "shop/shop_0.8_all.deb").write_text("shop 0.8")
    for name, at in (("0.8", 1), ("0.9", 2)):
        os.utime(host.folder / f"shop/shop_{name}_all.deb", (at, at))
    result = package_switch(host.params(keep=1, protect=["1.0-1", "0.9"]), False, host.run)
    assert result["pruned"] == ["0.8"]
    assert host.kept() == ["shop_0.9_all.deb", "shop_1%3a1.0-1_all.deb", "shop_1%3a2.0-1_all.deb"]


@pytest.mark.parametrize(
    ("said", "error", "words"),
    [
        ("E: dpkg was interrupted, you must manually run 'dpkg --configure -a'", UpgradeFailed, "dpkg was interrupted"),
        ("E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by 7", TimedOut, "Another package manager"),
        ("E: Could not open lock file - are you root?", PermissionDenied, "may not install"),
        ("E: Packages need to be removed but remove is disabled.", UpgradeFailed, "remove is disabled"),
    ],
)
def test_what_apt_says_is_explained(host: Debian, said: str, error: type[Exception], words: str) -> None:
    package_stage(host.params(), False, host.run)
    host.install_says = (100, said)
    with pytest.raises(error, match=words):
        package_switch(host.params(), False, host.run)
    # The next run knows that it was begun.
    assert json.loads((host.folder / "shop/.switch.json").read_text())["restart_due"] is True


def test_a_package_that_dpkg_left_half_done_is_not_touched(host: Debian) -> None:
    host.state = "ok half-configured"
    assert package_info(host.params(), False, host.run)["whole"] is False
    for operation in (package_stage, package_switch):
        with pytest.raises(UpgradeFailed, match="apt was interrupted in shop"):
            operation(host.params(), False, host.run)
    assert host.ran("install") == []


@pytest.mark.parametrize("name", ["", "a", "Sh@p", "shop=2", "-y", "shop;reboot", "../shop", "shop 2", "shop\n", None])
def test_a_name_that_is_none_reaches_no_program(host: Debian, name: Any) -> None:
    with pytest.raises(BadInput):
        package_stage(host.params(package=name), False, host.run)
    assert host.calls == []


@pytest.mark.parametrize("version", ["", "2 0", "-2", "2;0", "2/0", None])
def test_a_version_that_is_none_reaches_no_program(host: Debian, version: Any) -> None:
    for operation in (package_stage, package_switch):
        with pytest.raises(BadInput):
            operation(host.params(version=version), False, host.run)
    assert host.calls == []


def test_a_host_without_apt_is_told_so(host: Debian, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _name: None)
    with pytest.raises(BadInput, match="neither apt nor dnf"):
        package_info(host.params(), False, host.run)


@pytest.mark.parametrize(
    ("version", "expected"), [("2.0", "2.0"), ("2.0-1", "2.0"), ("1:2.0-1", "2.0"), ("2.0-rc1-1", "2.0-rc1")]
)
def test_the_version_as_the_service_may_say_it(version: str, expected: str) -> None:
    assert upstream(version) == expected
