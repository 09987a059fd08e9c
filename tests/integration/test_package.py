# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A service that comes as a Debian package, from a repository of the user's: forward, back, and refused."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lab
from lab import releases

from .conftest import PATIENT
from .packages import UNIT, WebFolder
from .rig import Rig, on_all, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

SETTINGS: dict[str, Any] = {
    "rollout_upgrade_method": "package",
    "rollout_package_name": "shop",
    "rollout_package_unit": "shopd.service",
    "rollout_health_version_key": "version",
    "rollout_batches": [2],
    "rollout_look_timeout": 2,
}


class Repository(WebFolder):
    """A flat repository of real packages, served from the controller."""

    def __init__(self, folder: Path, address: str) -> None:
        folder.mkdir()
        super().__init__(folder, address)
        self._control: dict[str, str] = {}

    def add(self, version: str, depends: str = "", **switches: float) -> None:
        """The sample service as shop_VERSION-1_all.deb, with a configuration file that users edit."""
        files = {
            f"usr/lib/shop/{name}": data
            for name, data in releases.contents(version, lab.Switches(**switches)).items()  # type: ignore[arg-type]
        }
        files["lib/systemd/system/shopd.service"] = UNIT.encode()
        files["etc/shop.conf"] = f"# as delivered with {version}\n".encode()
        self._build("shop", f"{version}-1", files, depends, conffiles="/etc/shop.conf\n")

    def add_data(self) -> None:
        self._build("shop-data", "1", {"usr/share/shop-data": b"data\n"}, "")

    def drop(self, version: str) -> None:
        """As repositories do that keep the newest version only."""
        name = f"shop_{version}-1_all.deb"
        (self.folder / name).unlink()
        del self._control[name]
        self._index()

    def _build(self, package: str, version: str, files: dict[str, bytes], depends: str, conffiles: str = "") -> None:
        tree = self.folder / ".tree"
        control = f"Package: {package}\nVersion: {version}\nArchitecture: all\nMaintainer: Shop <shop@example.com>\n"
        control += f"Depends: {depends}\n" if depends else ""
        control += "Description: the sample service\n"
        files = {**files, "DEBIAN/control": control.encode()}
        if conffiles:
            files["DEBIAN/conffiles"] = conffiles.encode()
        for name, data in files.items():
            path = tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        for path in (tree, *tree.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        name = f"{package}_{version}_all.deb"
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "-Zgzip", "--build", str(tree), str(self.folder / name)],
            check=True,
            capture_output=True,
        )
        subprocess.run(["rm", "-r", str(tree)], check=True)
        self._control[name] = control
        self._index()

    def _index(self) -> None:
        entries = []
        for name, control in self._control.items():
            data = (self.folder / name).read_bytes()
            digest = hashlib.sha256(data).hexdigest()
            entries.append(f"{control}Filename: ./{name}\nSize: {len(data)}\nSHA256: {digest}\n")
        (self.folder / "Packages").write_text("\n".join(entries), encoding="utf-8")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lab.Lab]:
    """Four members that have nothing of the service but what a package brings."""
    description = lab.Description(prefix=f"i{os.getpid()}-p", members=4, sticky="cookie", pool_lines=PATIENT)
    with lab.running(description, tmp_path_factory.mktemp("lab") / "packages") as up:
        for host in up.members:
            up.exec(host, ["systemctl", "disable", "--now", "shop.service"])
        yield up


@pytest.fixture
def repository(fleet: lab.Lab, tmp_path: Path) -> Iterator[Repository]:
    found = Repository(tmp_path / "repository", fleet.controller)
    found.add("1.0")
    found.add_data()
    found.add("2.0", depends="shop-data")
    yield found
    found.close()


@pytest.fixture
def rig(fleet: lab.Lab, repository: Repository, tmp_path: Path) -> Iterator[Rig]:
    """Every member on shop 1.0-1, installed as users install it."""
    script = f"""
        rm -rf /var/lib/zerodrop /etc/apt/sources.list.d/* /etc/apt/sources.list /var/cache/apt/archives/*.deb
        echo 'deb [trusted=yes allow-insecure=yes] {repository.url} ./' > /etc/apt/sources.list
        apt-get update -q
        apt-mark unhold shop
        apt-get purge -y -q shop shop-data
        apt-get install -y -q shop=1.0-1
        systemctl daemon-reload
        systemctl restart shopd.service
    """

    on_all(fleet.members, fleet, script)
    found = Rig(fleet, tmp_path)
    wait_for(lambda: found.in_service() == set(found.hosts))
    yield found
    found.heal()


def versions(rig: Rig) -> set[str]:
    return set(rig.on_members("dpkg-query -W -f '${db:Status-Abbrev}${Version}' shop").values())


def test_a_package_is_upgraded_under_load_and_a_second_run_changes_nothing(rig: Rig, repository: Repository) -> None:
    rig.on_members("echo mine >> /etc/shop.conf")
    with rig.watch() as watch, rig.load(rate=150) as load:
        run = rig.rollout(SETTINGS, rollout_version="2.0-1")
    assert run.rc == 0, str(run)
    load.assert_nothing_lost()
    assert load.served("2.0") > 0
    assert watch.least >= 2
    assert (run.report["from_version"], run.report["to_version"]) == ("1.0-1", "2.0-1")
    assert versions(rig) == {"ii 2.0-1"}
    assert set(rig.on_members("tail -1 /etc/shop.conf").values()) == {"mine"}
    assert set(rig.on_members("ls /var/lib/zerodrop/packages/shop").values()) == {
        "shop_1.0-1_all.deb\nshop_2.0-1_all.deb"
    }
    again = rig.rollout(SETTINGS, rollout_version="2.0-1")
    assert again.rc == 0, str(again)
    assert set(again.changed.values()) == {0}, str(again)
    assert again.report["batches"] == []


def test_a_version_that_is_never_healthy_goes_back_without_the_repository(rig: Rig, repository: Repository) -> None:
    """The repository drops the old version once the members have staged; a held package stays held."""
    repository.add("3.0", never_healthy=1)
    rig.on_members("apt-mark hold shop; apt-get update -q")
    # A rollout in check mode has proven that there is a way back, and kept nothing.
    check = rig.rollout(SETTINGS, rollout_version="3.0-1", options=["--check"])
    assert check.rc == 0, str(check)
    assert set(rig.on_members("ls /var/lib/zerodrop").values()) == {""}
    root = rig.root("web1")
    kept = root / "var/lib/zerodrop/packages/shop/shop_1.0-1_all.deb"
    with rig.when(kept.exists, lambda: repository.drop("1.0")) as dropped, rig.load(rate=100) as load:
        run = rig.rollout(SETTINGS, rollout_version="3.0-1", rollout_health_timeout=3)
    assert dropped
    load.assert_nothing_lost()
    assert run.rc != 0, str(run)
    assert run.report["outcome"] == "rolled_back"
    assert versions(rig) == {"hi 1.0-1"}
    assert rig.in_service() == set(rig.hosts)


def test_without_a_way_back_nothing_begins(rig: Rig, repository: Repository) -> None:
    repository.drop("1.0")
    rig.on_members("apt-get update -q; apt-get clean")
    run = rig.rollout(SETTINGS, rollout_version="2.0-1")
    assert run.rc != 0
    assert run.report["outcome"] == "refused", str(run)
    assert "No repository of this host has shop 1.0-1" in run.text
    assert versions(rig) == {"ii 1.0-1"}


def test_a_version_that_no_repository_has_is_refused(rig: Rig) -> None:
    run = rig.rollout(SETTINGS, rollout_version="9.9-1")
    assert run.rc != 0
    assert run.report["outcome"] == "refused", str(run)
    assert "No repository of this host has shop 9.9-1; offered: 2.0-1, 1.0-1" in run.text
    assert versions(rig) == {"ii 1.0-1"}


def test_held_when_asked(rig: Rig) -> None:
    run = rig.rollout(SETTINGS, rollout_version="2.0-1", rollout_package_hold=True, rollout_batches=["50%"])
    assert run.rc == 0, str(run)
    assert versions(rig) == {"hi 2.0-1"}


def test_the_way_back_may_come_from_the_cache_of_apt(rig: Rig, repository: Repository) -> None:
    repository.drop("1.0")
    run = rig.rollout(SETTINGS, rollout_version="2.0-1", rollout_batches=["50%"])
    assert run.rc == 0, str(run)
    assert set(rig.on_members("ls /var/lib/zerodrop/packages/shop").values()) == {
        "shop_1.0-1_all.deb\nshop_2.0-1_all.deb"
    }


def test_where_dpkg_was_interrupted_nothing_begins(rig: Rig) -> None:
    script = "cd /tmp && apt-get download -q shop=2.0-1 && dpkg --unpack --force-depends shop_2.0-1_all.deb; rm *.deb"
    said = rig.lab.exec("web3", ["sh", "-c", script])
    assert "ii" not in versions(rig), said.stdout + said.stderr
    run = rig.rollout(SETTINGS, rollout_version="2.0-1", rollout_health_version_key=None)
    assert run.rc != 0
    assert run.report["outcome"] == "refused", str(run)
    assert "web3: apt was interrupted in shop" in run.text
    assert "dpkg --configure -a" in run.text
