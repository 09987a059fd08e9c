# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A service that runs as a container of Podman or Docker, from a registry of the user's: forward, back, and refused."""

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
from .rig import Rig, on_all, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]

_FOLDER = "/var/lib/zerodrop/containers/shop"
# As a user writes it: every option is theirs, and the image is what the environment says.
_UNIT = f"""\
[Unit]
Description=The sample service, in a container
StartLimitIntervalSec=0
[Service]
EnvironmentFile={_FOLDER}/image.env
ExecStart=/usr/bin/podman run --rm --replace --name shop --pull=never --network host --user 990 \
--stop-signal KILL --volume /var/log/shop:/var/log/shop ${{ROLLOUT_IMAGE}}
ExecStop=/usr/bin/podman stop --ignore --time 0 shop
Restart=on-failure
RestartSec=200ms
TimeoutStopSec=10
"""
# The same as a Quadlet, for Podman 5; in the lab, control groups are not an inner engine's.
_QUADLET = f"""\
[Unit]
Description=The sample service, in a container
StartLimitIntervalSec=0
[Container]
Image=${{ROLLOUT_IMAGE}}
ContainerName=shop
Network=host
Pull=never
User=990
Volume=/var/log/shop:/var/log/shop
PodmanArgs=--stop-signal KILL --cgroups=disabled
[Service]
EnvironmentFile={_FOLDER}/image.env
Restart=on-failure
RestartSec=200ms
"""
# And with Docker, whose client is what the unit runs.
_DOCKER = f"""\
[Unit]
Description=The sample service, in a container
StartLimitIntervalSec=0
[Service]
EnvironmentFile={_FOLDER}/image.env
ExecStartPre=-/usr/bin/docker rm --force shop
ExecStart=/usr/bin/docker run --rm --name shop --pull=never --network host --user 990 \
--stop-signal KILL --volume /var/log/shop:/var/log/shop ${{ROLLOUT_IMAGE}}
ExecStop=/usr/bin/docker stop --time 0 shop
Restart=on-failure
RestartSec=200ms
TimeoutStopSec=10
"""
_UNITS = {
    "engine": ("/etc/systemd/system/shopc.service", _UNIT),
    "engine-5": ("/etc/containers/systemd/shopc.container", _QUADLET),
    "docker": ("/etc/systemd/system/shopc.service", _DOCKER),
}
_COMMAND = '["/usr/bin/python3", "-S", "-E", "-s", "/srv/shop/shop.py"]'


class Registry:
    """Debian's own registry on the first member, and images of the sample service in it."""

    def __init__(self, up: lab.Lab) -> None:
        self._lab, self._host = up, up.members[0]
        self._address = f"{self._host.address}:5000"
        self.image = f"{self._address}/shop/api"
        self.digests: dict[str, str] = {}
        self.engine = "docker" if up.description.member == "docker" else "podman"
        path, unit = _UNITS[up.description.member]
        insecure = f"""
            printf '[[registry]]\\nlocation = "{self._address}"\\ninsecure = true\\n' \
                >/etc/containers/registries.conf.d/lab.conf
        """
        script = f"""
            systemctl disable --now shop.service
            {insecure if self.engine == "podman" else ""}
            mkdir -p {Path(path).parent}
            printf %s {shlex.quote(unit)} >{path}
            systemctl daemon-reload
        """
        on_all(up.members, up, script)
        self._on(self._host, "sed -i '/^auth:/,/path:/d' /etc/docker/registry/config.yml")
        self.start()

    def start(self) -> None:
        self._on(self._host, "systemctl start docker-registry.service")
        wait_for(
            lambda: not self._lab.exec(self._host, ["curl", "-sf", f"{self._address}/v2/"], check=False).returncode
        )

    def stop(self) -> None:
        self._on(self._host, "systemctl stop docker-registry.service")

    def add(self, version: str, **switches: float) -> str:
        """The sample service as an image with this tag; returns its digest."""
        work = f"/tmp/image-{version}"
        lines = [f"mkdir -p {work}/shop"]
        for name, data in releases.contents(version, lab.Switches(**switches)).items():  # type: ignore[arg-type]
            lines.append(f"printf %s {shlex.quote(data.decode())} >{work}/shop/{name}")
        containerfile = f"FROM localhost/python\nCOPY shop /srv/shop\nCMD {_COMMAND}\n"
        there = f"{self.engine} image inspect localhost/python >{work}/base 2>&1"
        lines += [
            f"printf %s {shlex.quote(containerfile)} >{work}/Dockerfile",
            f"{there} || {self.engine} import /usr/local/lib/python.tar localhost/python",
            f"{self.engine} build -q {'--isolation chroot' if self.engine == 'podman' else ''} -t {self.image}:{version} {work}",
        ]
        if self.engine == "podman":
            lines += [f"podman push -q --digestfile {work}/digest {self.image}:{version}"]
        else:
            lines += [f"docker push {self.image}:{version} | grep -o 'sha256:[0-9a-f]*' | tail -1 >{work}/digest"]
        lines += [f"cat {work}/digest; rm -r {work}"]
        self.digests[version] = self._on(self._host, "\n".join(lines)).strip().splitlines()[-1]
        return self.digests[version]

    def _on(self, host: lab.Host, script: str) -> str:
        done = self._lab.exec(host, ["sh", "-s"], stdin=f"set -e\n{script}", check=False, timeout=180)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module", params=["engine", *(pytest.param(name, marks=FULL) for name in ("engine-5", "docker"))])
def fleet(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[lab.Lab]:
    """Three members with an engine: Podman 4 or Docker and a unit of the user's, or Podman 5 and a Quadlet."""
    description = lab.Description(
        prefix=f"i{os.getpid()}-c", members=3, member=request.param, sticky="cookie", pool_lines=PATIENT
    )
    with lab.running(description, tmp_path_factory.mktemp("lab") / "containers") as up:
        yield up


@pytest.fixture(scope="module")
def registry(fleet: lab.Lab) -> Registry:
    found = Registry(fleet)
    found.add("1.0")
    found.add("2.0")
    return found


@pytest.fixture
def rig(fleet: lab.Lab, registry: Registry, tmp_path: Path) -> Iterator[Rig]:
    """Every member on 1.0, as a user's own provisioning leaves it: the file, the image, the unit."""
    registry.start()
    ref = f"{registry.image}@{registry.digests['1.0']}"
    script = f"""
        rm -rf /var/lib/zerodrop
        mkdir -p {_FOLDER}
        printf 'ROLLOUT_IMAGE={ref}\\nROLLOUT_VERSION=1.0\\n' >{_FOLDER}/image.env
        {registry.engine} pull -q {ref}
        systemctl restart shopc.service
    """

    on_all(fleet.members, fleet, script)
    found = Rig(fleet, tmp_path)
    wait_for(lambda: found.in_service() == set(found.hosts), 40)
    found.on_members(f"{registry.engine} image prune -a -f --filter label!=none")
    yield found
    found.heal()


def running(rig: Rig, registry: Registry) -> set[str]:
    """The digests that run, over all members."""
    ask = {"podman": "podman ps --format '{{.Image}}'"}
    ask["docker"] = "docker ps -q | xargs docker inspect --format '{{.Config.Image}}'"
    return set(rig.on_members(f"{ask[registry.engine]} | sed 's/.*@//'").values())


def settings(registry: Registry, version: str, **more: Any) -> dict[str, Any]:
    return {
        "rollout_upgrade_method": "container",
        "rollout_container_image": registry.image,
        "rollout_container_unit": "shopc.service",
        "rollout_version": version,
        "rollout_health_version_key": "version",
        "rollout_batches": [1, 2],
        "rollout_look_timeout": 2,
        **more,
    }


def test_an_image_is_rolled_out_under_load_and_a_second_run_changes_nothing(rig: Rig, registry: Registry) -> None:
    check = rig.rollout(settings(registry, "2.0"), options=["--check"])
    assert check.rc == 0, str(check)
    assert set(rig.on_members(f"ls {_FOLDER}").values()) == {"image.env"}
    with rig.watch() as watch, rig.load(rate=100) as load:
        run = rig.rollout(settings(registry, "2.0"))
    assert run.rc == 0, str(run)
    load.assert_nothing_lost()
    assert load.served("2.0") > 0
    assert watch.least >= 1
    assert (run.report["from_version"], run.report["to_version"]) == ("1.0", "2.0")
    assert running(rig, registry) == {registry.digests["2.0"]}
    assert f"2.0 is {registry.image}@{registry.digests['2.0']}" in run.report["notes"]
    # Nobody needs the registry for a run that has nothing to do.
    registry.stop()
    again = rig.rollout(settings(registry, "2.0"))
    assert again.rc == 0, str(again)
    assert set(again.changed.values()) == {0}, str(again)
    assert again.report["batches"] == []


@FULL
def test_a_version_that_is_never_healthy_goes_back_without_the_registry(rig: Rig, registry: Registry) -> None:
    """The registry is gone, and images without a name were pruned, once the members have staged."""
    bad = registry.add("3.0", never_healthy=1)
    staged = [rig.root(host) / f"{_FOLDER[1:]}/releases.json" for host in rig.hosts]

    def lose() -> None:
        registry.stop()
        rig.on_members(f"{registry.engine} image prune -f")

    def all_staged() -> bool:
        return all(path.exists() and "3.0" in path.read_text() for path in staged)

    with rig.when(all_staged, lose) as lost, rig.load(rate=80) as load:
        run = rig.rollout(settings(registry, "3.0"), rollout_health_timeout=5, rollout_container_digest=bad)
    assert lost
    load.assert_nothing_lost()
    assert run.rc != 0, str(run)
    assert run.report["outcome"] == "rolled_back", str(run)
    assert running(rig, registry) == {registry.digests["1.0"]}
    assert rig.in_service() == set(rig.hosts)


@FULL
def test_an_older_release_needs_no_registry_and_the_oldest_images_go(rig: Rig, registry: Registry) -> None:
    two = rig.rollout(settings(registry, "2.0"), rollout_batches=["50%"])
    assert two.rc == 0, str(two)
    registry.stop()
    back = rig.rollout(settings(registry, "1.0"), rollout_batches=["50%"])
    assert back.rc == 0, str(back)
    assert running(rig, registry) == {registry.digests["1.0"]}
    registry.start()
    registry.add("4.0")
    four = rig.rollout(settings(registry, "4.0"), rollout_batches=["50%"], rollout_container_keep=2)
    assert four.rc == 0, str(four)
    there = {
        version: set(
            rig.on_members(
                f"{registry.engine} image inspect {registry.image}@{digest} >/dev/null 2>&1; echo $?"
            ).values()
        )
        for version, digest in registry.digests.items()
        if version in ("1.0", "4.0")
    }
    assert there == {"1.0": {"0"}, "4.0": {"0"}}
    assert rig.lab.exec(
        "web3", [registry.engine, "image", "inspect", f"{registry.image}@{registry.digests['2.0']}"], check=False
    ).returncode


@FULL
def test_what_cannot_go_well_is_refused_before_anything_is_touched(rig: Rig, registry: Registry) -> None:
    def refused(words: str, *more: dict[str, Any], options: tuple[str, ...] = ()) -> None:
        run = rig.rollout(settings(registry, "2.0"), *more, options=options)
        assert run.rc != 0, str(run)
        assert run.report["outcome"] == "refused", str(run)
        assert words in run.text, str(run)
        assert running(rig, registry) == {registry.digests["1.0"]}
        assert set(rig.on_members("systemctl show -P NRestarts shopc.service").values()) == {"0"}

    other = "sha256:" + "0" * 64
    engine, other_engine = registry.engine, {"podman": "docker", "docker": "podman"}[registry.engine]
    refused(f"{engine} could not pull", {"rollout_version": "9.9"})
    refused(f"{engine} would not get", {"rollout_version": "9.9"}, options=("--check",))
    refused(f"{engine} could not pull", {"rollout_container_digest": other})
    refused(
        f"web3: The upgrade method container is to use {other_engine}, and this host has no {other_engine}",
        {"rollout_container_engine": other_engine},
    )
    refused("there is no unit nothing.service", {"rollout_container_unit": "nothing.service"})
    refused("ssh.service does not read", {"rollout_container_unit": "ssh.service"})
    record = f'{{"2.0": "{registry.image}@{other}"}}'
    rig.lab.exec("web2", ["sh", "-c", f"printf '%s' '{record}' >{_FOLDER}/releases.json"])
    refused("The version 2.0 stands for different images", {"rollout_container_digest": registry.digests["2.0"]})
    rig.lab.exec("web2", ["rm", f"{_FOLDER}/releases.json"])
    registry.stop()
    refused(f"{engine} could not pull")


@FULL
def test_a_way_back_that_nobody_has_is_refused(rig: Rig, registry: Registry) -> None:
    """The service runs, but its image was removed by force and the registry has dropped it."""
    gone = "sha256:" + "1" * 64
    rig.lab.exec("web2", ["sed", "-i", f"s/@.*/@{gone}/", f"{_FOLDER}/image.env"])
    run = rig.rollout(settings(registry, "2.0"))
    assert run.rc != 0
    assert run.report["outcome"] == "refused", str(run)
    assert f"web2: {registry.engine} could not pull {registry.image}@{gone}" in run.text
    assert running(rig, registry) == {registry.digests["1.0"]}
