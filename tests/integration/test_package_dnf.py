# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A service that comes as a package of rpm, from a repository of the user's, by the real dnf: forward, back, refused.

The members are Debian's, with Debian's dnf: it knows nothing but what these repositories have.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lab
from lab import releases

from .conftest import FULL, PATIENT
from .packages import UNIT, WebFolder
from .rig import Rig, on_all, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

SETTINGS: dict[str, Any] = {
    "rollout_upgrade_method": "package",
    "rollout_package_name": "shop",
    "rollout_package_unit": "shopd.service",
    "rollout_package_manager": "dnf",
    "rollout_health_version_key": "version",
    "rollout_batches": [1, 2],
    "rollout_look_timeout": 2,
}
_FOLDER = "/srv/repository"
_SPEC = """\
Name: {name}
Version: {version}
Release: 1
Summary: the sample service
License: GPL
BuildArch: noarch
AutoReqProv: no
{more}
%description
The sample service.
%files
{files}
"""


class Repository(WebFolder):
    """Real packages, made by rpmbuild on the first member and served from the controller."""

    def __init__(self, up: lab.Lab, root: Path) -> None:
        self._lab, self._host = up, up.members[0]
        (root / _FOLDER[1:]).mkdir(exist_ok=True)
        super().__init__(root / _FOLDER[1:], up.controller)

    def add(self, version: str, more: str = "", **switches: float) -> None:
        """The sample service as shop-VERSION-1, with a configuration file that users edit."""
        files = {
            f"/usr/lib/shop/{name}": data.decode()
            for name, data in releases.contents(version, lab.Switches(**switches)).items()  # type: ignore[arg-type]
        }
        files["/usr/lib/systemd/system/shopd.service"] = UNIT
        files["/etc/shop.conf"] = f"# as delivered with {version}\n"
        self.build("shop", version, files, more)

    def build(self, name: str, version: str, files: dict[str, str], more: str = "") -> None:
        listed = "\n".join(f"%config(noreplace) {path}" if path.startswith("/etc/") else path for path in files)
        spec = _SPEC.format(name=name, version=version, more=more, files=listed)
        work = f"/tmp/{name}-{version}"
        lines = [f"mkdir -p {work}", f"printf %s {shlex.quote(spec)} >{work}/{name}.spec"]
        for path, text in files.items():
            lines += [f"mkdir -p {work}/root{Path(path).parent}", f"printf %s {shlex.quote(text)} >{work}/root{path}"]
        build = f"rpmbuild -bb --quiet --buildroot {work}/root --define '__spec_install_pre %{{nil}}'"
        lines += [f"{build} --define '_topdir {work}' --define '_rpmdir {_FOLDER}' {work}/{name}.spec"]
        on_all([self._host], self._lab, "\n".join([*lines, f"rm -r {work}"]))
        self.index()

    def drop(self, version: str) -> None:
        (self.folder / f"noarch/shop-{version}-1.noarch.rpm").unlink()
        self.index()

    def index(self) -> None:
        on_all([self._host], self._lab, f"createrepo_c -q {_FOLDER}")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lab.Lab]:
    """Three members that have nothing of the service but what a package brings."""
    description = lab.Description(
        prefix=f"i{os.getpid()}-r", members=3, member="rpm", sticky="cookie", pool_lines=PATIENT
    )
    with lab.running(description, tmp_path_factory.mktemp("lab") / "rpm") as up:
        on_all(up.members, up, "systemctl disable --now shop.service; rm /etc/systemd/system/shop.service")
        yield up


@pytest.fixture(scope="module")
def packages(fleet: lab.Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    found = Repository(fleet, Rig(fleet, tmp_path_factory.mktemp("rig")).root("web1"))
    for number in "12":
        found.build("shop-data", number, {"/usr/share/shop-data": f"{number}\n"})
    found.build("shop-tools", "1", {"/usr/share/shop-tools": "1\n"})
    # Each needs its own data: the way back is one for two packages.
    found.add("1.0", more="Requires: shop-data = 1")
    found.add("2.0", more="Requires: shop-data = 2")
    found.add("3.0", more="Requires: shop-data = 2", never_healthy=1)
    found.add("4.0", more="Obsoletes: shop-tools < 2\nRequires: shop-data = 2")
    yield found
    found.close()


@pytest.fixture
def rig(fleet: lab.Lab, packages: Repository, tmp_path: Path) -> Iterator[Rig]:
    """Every member on shop 1.0-1, installed as users install it."""
    packages.add("1.0", more="Requires: shop-data = 1")
    script = f"""
        rm -rf /var/lib/zerodrop
        mkdir -p /etc/yum.repos.d
        printf '[shop]\\nname=shop\\nbaseurl={packages.url}\\ngpgcheck=0\\n' >/etc/yum.repos.d/shop.repo
        : >/etc/dnf/plugins/versionlock.list
        rpm -e --nodeps shop shop-data || true
        rm -f /etc/shop.conf*
        dnf -q -y --refresh install shop-1.0-1 shop-tools
        systemctl daemon-reload
        systemctl restart shopd.service
    """
    on_all(fleet.members, fleet, script)
    found = Rig(fleet, tmp_path)
    wait_for(lambda: found.in_service() == set(found.hosts))
    yield found
    found.heal()


def versions(rig: Rig) -> set[str]:
    return set(rig.on_members("rpm -q shop shop-data | xargs").values())


ONE, TWO = "shop-1.0-1.noarch shop-data-1-1.noarch", "shop-2.0-1.noarch shop-data-2-1.noarch"


@FULL
def test_a_locked_package_is_upgraded_under_load_and_a_second_run_changes_nothing(rig: Rig) -> None:
    rig.on_members("echo mine >>/etc/shop.conf; dnf -q versionlock add shop")
    check = rig.rollout(SETTINGS, rollout_version="2.0-1", options=["--check"])
    assert check.rc == 0, str(check)
    assert set(rig.on_members("ls /var/lib/zerodrop").values()) == {""}
    with rig.watch() as watch, rig.load(rate=100) as load:
        run = rig.rollout(SETTINGS, rollout_version="2.0-1")
    assert run.rc == 0, str(run)
    load.assert_nothing_lost()
    assert load.served("2.0") > 0
    assert watch.least >= 1
    assert (run.report["from_version"], run.report["to_version"]) == ("1.0-1", "2.0-1")
    assert versions(rig) == {TWO}
    assert set(rig.on_members("tail -1 /etc/shop.conf").values()) == {"mine"}
    assert set(rig.on_members("dnf -q versionlock list").values()) == {"shop-0:2.0-1.*"}
    again = rig.rollout(SETTINGS, rollout_version="2.0-1")
    assert again.rc == 0, str(again)
    assert set(again.changed.values()) == {0}, str(again)
    assert again.report["batches"] == []


def test_a_version_that_is_never_healthy_goes_back_without_the_repository(rig: Rig, packages: Repository) -> None:
    """The repository has gone once the members have staged; what the old version needs goes back with it."""
    kept = [rig.root(host) / "var/lib/zerodrop/packages/shop" for host in rig.hosts]

    def lose() -> None:
        rig.on_members("rm /etc/yum.repos.d/shop.repo; dnf -q clean all")

    def staged() -> bool:
        return all(len(list(path.glob("*.rpm"))) == 2 and list(path.glob("*1.0*.with/*")) for path in kept)

    with rig.when(staged, lose) as lost, rig.load(rate=80) as load:
        run = rig.rollout(SETTINGS, rollout_version="3.0-1", rollout_health_timeout=4)
    assert lost
    load.assert_nothing_lost()
    assert run.rc != 0, str(run)
    assert run.report["outcome"] == "rolled_back", str(run)
    assert versions(rig) == {ONE}
    assert rig.in_service() == set(rig.hosts)


@FULL
def test_what_cannot_go_well_is_refused_before_anything_is_touched(rig: Rig, packages: Repository) -> None:
    def refused(version: str, words: str) -> None:
        run = rig.rollout(SETTINGS, rollout_version=version)
        assert run.rc != 0, str(run)
        assert run.report["outcome"] == "refused", str(run)
        assert words in run.text, str(run)
        assert versions(rig) == {ONE}

    refused("9.9-1", "No repository of this host has shop 9.9-1; offered: 4.0-1, 3.0-1, 2.0-1, 1.0-1")
    for _again in range(2):  # its files are kept after the first time
        refused("4.0-1", "dnf would remove shop-tools.noarch")
    packages.drop("1.0")
    rig.on_members("rm -r /var/lib/zerodrop")  # the refused run has kept it
    refused("2.0-1", "No repository of this host has shop 1.0-1")
    rig.lab.exec("web3", ["sh", "-c", f"rpm -i --justdb --nodeps --force {_url(packages)}shop-2.0-1.noarch.rpm"])
    run = rig.rollout(SETTINGS, rollout_version="2.0-1", rollout_health_version_key=None)
    assert "web3: dnf was interrupted in shop" in run.text, str(run)
    assert "dnf remove --duplicates" in run.text
    rig.lab.exec("web3", ["rpm", "-e", "--justdb", "--nodeps", "shop-2.0-1"])


@FULL
def test_locked_when_asked(rig: Rig) -> None:
    run = rig.rollout(SETTINGS, rollout_version="2.0-1", rollout_package_hold=True, rollout_batches=["50%"])
    assert run.rc == 0, str(run)
    assert versions(rig) == {TWO}
    assert set(rig.on_members("dnf -q versionlock list").values()) == {"shop-0:2.0-1.*"}
    back = rig.rollout(SETTINGS, rollout_version="1.0-1", rollout_batches=["50%"])
    assert back.rc == 0, str(back)
    assert versions(rig) == {ONE}
    assert set(rig.on_members("dnf -q versionlock list").values()) == {"shop-0:1.0-1.*"}


def _url(packages: Repository) -> str:
    return f"{packages.url}noarch/"
