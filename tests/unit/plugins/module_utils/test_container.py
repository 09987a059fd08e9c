# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The upgrade method container, on a host whose engine and systemd are made of answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.module_utils import _container, _names
from ansible_collections.zerodrop.rollout.plugins.module_utils._container import (
    container_info,
    container_resolve,
    container_stage,
    container_switch,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._engine import digests_among, insecure, repository
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadArtefact, BadInput, UpgradeFailed

NAME = "registry.example.com/shop/api"
ONE, TWO, THREE = (f"sha256:{digit * 64}" for digit in "123")


class Host:
    """An engine with images, a registry that it reaches, a unit, and every command that was given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registry = {f"{NAME}@{ONE}": "a" * 64, f"{NAME}@{TWO}": "b" * 64, f"{NAME}:2.0": "b" * 64}
        self.images = {f"{NAME}@{ONE}": "a" * 64}
        self.digests = {"a" * 64: [f"{NAME}@{ONE}"], "b" * 64: [f"{NAME}@{TWO}"], "c" * 64: [f"{NAME}@{THREE}"]}
        self.runs = "a" * 64
        self.state = "active"
        self.unit_reads = True
        self.ignores_file = False
        self.calls: list[list[str]] = []
        self.write(f"{NAME}@{ONE}", "1.0")

    @property
    def file(self) -> Path:
        return self.folder / "shop" / "image.env"

    def write(self, ref: str, version: str) -> None:
        self.file.parent.mkdir(exist_ok=True)
        self.file.write_text(
            f"# a comment\nROLLOUT_IMAGE={ref}\nROLLOUT_VERSION={version}\nOTHER=1\n", encoding="utf-8"
        )

    def run(self, argv: Sequence[str], limit: float) -> tuple[int, str]:
        args = list(argv)
        self.calls.append(args)
        if args[0] == "podman":
            return getattr(self, "_" + args[1])(args[2:])  # type: ignore[no-any-return]
        if args[:2] == ["systemctl", "show"]:
            if "EnvironmentFiles" in args[2]:
                return 0, f"EnvironmentFiles={self.file} (ignore_errors=yes)\n" if self.unit_reads else "\n"
            return 0, f"LoadState=loaded\nActiveState={self.state}\nSubState=running\nResult=success\nNRestarts=0\n"
        if "restart" in args:
            if not self.ignores_file:
                ref = self.file.read_text().split("ROLLOUT_IMAGE=")[1].split()[0]
                self.runs = self.images.get(ref, "")
            return 0, ""
        return 0, ""

    def _image(self, args: list[str]) -> tuple[int, str]:
        found = self.images.get(args[-1])
        if found is None:
            return 125, f"Error: inspecting object: {args[-1]}: image not known\n"
        return 0, json.dumps([{"Id": f"sha256:{found}", "RepoDigests": self.digests[found], "Digest": ONE}])

    def _manifest(self, args: list[str]) -> tuple[int, str]:
        return (0, "{}") if args[-1] in self.registry else (125, "Error: reading manifest: manifest unknown\n")

    def _pull(self, args: list[str]) -> tuple[int, str]:
        if args[-1] not in self.registry:
            return 125, "Trying to pull...\nError: reading manifest: manifest unknown\n"
        self.images[args[-1]] = self.registry[args[-1]]
        for each in self.digests[self.registry[args[-1]]]:
            self.images[each] = self.registry[args[-1]]
        return 0, self.registry[args[-1]]

    def _tag(self, args: list[str]) -> tuple[int, str]:
        self.images[args[1]] = args[0]
        return 0, ""

    def _rmi(self, args: list[str]) -> tuple[int, str]:
        return (0, "") if self.images.pop(args[-1], None) else (1, "no such image")

    def _ps(self, args: list[str]) -> tuple[int, str]:
        return 0, "time=now level=warning\n" + "f" * 12 + "\n" if args[-1] == f"ancestor={self.runs}" else ""


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}" if name == "podman" else None)
    monkeypatch.setattr(_container, "_PAUSE", 0.001)
    return Host(tmp_path)


def params(host: Host, **more: Any) -> dict[str, Any]:
    return {
        "service": "shop",
        "engine": "auto",
        "image": NAME,
        "version": "2.0",
        "digest": TWO,
        "unit": "shop.service",
        "folder": str(host.folder),
        "restart_timeout": 0.2,
        **more,
    }


def there(host: Host, **more: Any) -> dict[str, Any]:
    container_stage(params(host, **more), False, host.run)
    return container_switch(params(host, **more), False, host.run)


def test_there_and_back(host: Host) -> None:
    assert container_resolve(params(host), False, host.run)["digest"] == TWO
    assert container_stage(params(host), False, host.run)["changed"] is True
    assert container_stage(params(host), False, host.run)["changed"] is False
    host.registry.clear()
    done = container_switch(params(host), False, host.run)
    assert (done["before"], done["after"], done["restarted"]) == ("1.0", "2.0", True)
    assert host.file.read_text().splitlines()[1:] == [f"ROLLOUT_IMAGE={NAME}@{TWO}", "ROLLOUT_VERSION=2.0"]
    info = container_info(params(host), False, host.run)
    assert (info["current"], info["previous"], info["restart_due"]) == ("2.0", "1.0", False)
    assert container_switch(params(host), False, host.run)["changed"] is False
    assert container_switch(params(host, version="1.0"), False, host.run)["after"] == "1.0"
    assert host.runs == "a" * 64


def test_check_mode_changes_nothing_and_tells_what_would(host: Host) -> None:
    images, text = dict(host.images), host.file.read_text()
    assert container_resolve(params(host), True, host.run) == {"changed": False, "digest": None}
    assert container_stage(params(host, digest=None), True, host.run)["changed"] is True
    assert container_stage(params(host), True, host.run)["changed"] is True
    done = container_switch(params(host, will_be_staged=True), True, host.run)
    assert done["changed"] is True
    assert done["diff"]["before"] == {"version": "1.0", "image": f"{NAME}@{ONE}"}
    assert (host.images, host.file.read_text()) == (images, text)
    assert [path.name for path in host.file.parent.iterdir()] == ["image.env"]


@pytest.mark.parametrize("check", [True, False])
def test_what_the_registry_does_not_have_is_refused(host: Host, check: bool) -> None:
    with pytest.raises(BadArtefact, match=r"9\.9"):
        container_resolve(params(host, version="9.9"), check, host.run)
    with pytest.raises(BadArtefact, match=THREE):
        container_stage(params(host, digest=THREE), check, host.run)
    host.images.clear()
    del host.registry[f"{NAME}@{ONE}"]
    with pytest.raises(BadArtefact, match=ONE):  # the way back
        container_stage(params(host), check, host.run)


def test_the_users_own_tag_is_pinned_before_the_way_there(host: Host) -> None:
    host.images[f"{NAME}:1.0"] = "a" * 64
    host.write(f"{NAME}:1.0", "1.0")
    there(host)
    container_switch(params(host, version="1.0"), False, host.run)
    assert f"ROLLOUT_IMAGE={NAME}@{ONE}" in host.file.read_text()


def test_an_image_that_was_built_here_is_no_certain_way_back(host: Host) -> None:
    host.images["localhost/shop:1.0"] = "a" * 64
    host.write("localhost/shop:1.0", "1.0")
    with pytest.raises(BadArtefact, match="no certain way back"):
        container_stage(params(host), False, host.run)


def test_a_unit_that_runs_something_else_is_found_out(host: Host) -> None:
    host.ignores_file = True
    with pytest.raises(UpgradeFailed, match=r"no container of the image b+ ran .* \$\{ROLLOUT_IMAGE\}"):
        there(host)
    info = container_info(params(host), False, host.run)
    assert (info["restart_due"], info["before"]) == (True, "1.0")
    host.ignores_file = False
    assert container_switch(params(host), False, host.run)["restarted"] is True
    assert container_info(params(host), False, host.run)["restart_due"] is False


def test_an_image_that_was_pruned_meanwhile_is_fetched_or_nothing_is_touched(host: Host) -> None:
    container_stage(params(host), False, host.run)
    del host.images[f"{NAME}@{TWO}"]
    registry, text = dict(host.registry), host.file.read_text()
    host.registry.clear()
    with pytest.raises(BadArtefact, match="could not pull"):
        container_switch(params(host), False, host.run)
    assert (host.file.read_text(), host.runs) == (text, "a" * 64)
    assert container_info(params(host), False, host.run)["restart_due"] is False
    host.registry = registry
    assert container_switch(params(host), False, host.run)["changed"] is True


def test_old_images_go_but_not_those_that_are_protected(host: Host) -> None:
    there(host)
    host.registry[f"{NAME}@{THREE}"] = "c" * 64
    done = there(host, version="3.0", digest=THREE, keep=2, protect=["2.0"])
    assert done["pruned"] == ["1.0"]
    assert not [name for name, image in host.images.items() if image == "a" * 64]
    assert done["after"] == "3.0"
    assert there(host, version="2.0", keep=1, protect=["3.0"])["pruned"] == []


@pytest.mark.parametrize(
    ("file", "current"),
    [
        ("", None),
        ("ROLLOUT_IMAGE=x\n", None),
        ("ROLLOUT_VERSION=1.0\n", None),
        ("export ROLLOUT_IMAGE=x\nROLLOUT_VERSION=1\n", None),
        ("ROLLOUT_VERSION=\"1.0\"\nROLLOUT_IMAGE='a/b:1'\n", "1.0"),
        ("# ROLLOUT_VERSION=1.0\nROLLOUT_VERSION=2.0\nROLLOUT_IMAGE=x\n", "2.0"),
    ],
)
def test_what_the_file_says(host: Host, file: str, current: str | None) -> None:
    host.file.write_text(file)
    assert container_info(params(host), False, host.run)["current"] == current


def test_a_member_on_which_nothing_was_said_yet_has_no_release(host: Host) -> None:
    host.file.unlink()
    info = container_info(params(host), False, host.run)
    assert (info["current"], info["reads_file"]) == (None, True)
    assert there(host)["before"] is None


@pytest.mark.parametrize("there", [[], ["podman", "docker"]])
def test_an_engine_that_cannot_be_chosen_is_asked_for(
    host: Host, there: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: name if name in there else None)
    with pytest.raises(BadInput, match="both podman and docker" if there else "neither podman nor docker"):
        container_info(params(host), False, host.run)
    if not there:
        with pytest.raises(BadInput, match="this host has no docker"):
            container_info(params(host, engine="docker"), False, host.run)


@pytest.mark.parametrize("wrong", ["shop", "r.example.com/Shop", "r.example.com/shop:1", "-r.x/shop", "r.x/a b", "", 5])
def test_a_name_that_is_none_reaches_no_program(host: Host, wrong: Any) -> None:
    with pytest.raises(BadInput):
        container_stage(params(host, image=wrong), False, host.run)
    with pytest.raises(BadInput):
        container_resolve(params(host, image=wrong), False, host.run)
    assert host.calls == []


@pytest.mark.parametrize("wrong", ["1" * 64, "sha256:12", f"sha256:{'g' * 64}", f"sha512:{'1' * 64}", f"{ONE}\n"])
def test_a_digest_that_is_none_reaches_no_program(host: Host, wrong: str) -> None:
    with pytest.raises(BadInput):
        container_stage(params(host, digest=wrong), False, host.run)
    assert not [call for call in host.calls if call[1] == "pull"]


@given(st.text(alphabet="ab.:/-_@[]1 \n%$'\"A", max_size=40))
def test_a_name_that_passes_is_one_word_and_no_option(text: str) -> None:
    try:
        name = _names.image(text)
    except BadInput:
        return
    assert name == text
    assert not set(name) & set(" \n@%$'\"")
    assert not name.startswith("-")
    assert repository(f"{name}:1.0") == repository(f"{name}@{ONE}") == repository(name) == name


@pytest.mark.parametrize(
    ("known", "own", "expected"),
    [
        ([], ONE, []),
        ([f"{NAME}@{ONE}"], ONE, [ONE]),
        ([f"{NAME}@{ONE}", f"other.example.com/shop@{TWO}"], TWO, [ONE]),
        ([f"{NAME}@{ONE}", f"{NAME}@{TWO}"], ONE, [TWO, ONE]),  # of all platforms, and of this one
        ([f"{NAME}@{ONE}", f"{NAME}@{TWO}", f"{NAME}@{ONE}"], None, [ONE, TWO]),
    ],
)
def test_the_digests_of_an_image_that_has_several(known: list[str], own: str | None, expected: list[str]) -> None:
    assert digests_among(NAME, known, own) == expected


def test_a_digest_that_no_registry_has_is_not_what_a_tag_stands_for(host: Host) -> None:
    host.digests["b" * 64].insert(0, f"{NAME}@{THREE}")  # it was built on this member
    assert container_resolve(params(host), False, host.run)["digest"] == TWO
    del host.registry[f"{NAME}@{TWO}"]
    with pytest.raises(BadArtefact, match="under no digest that its registry has"):
        container_resolve(params(host), False, host.run)


def test_docker_says_its_own_registrys_names_in_short() -> None:
    assert digests_among("docker.io/library/nginx", [f"nginx@{ONE}"], None) == [ONE]
    assert digests_among("docker.io/acme/shop", [f"acme/shop@{ONE}"], None) == [ONE]


@pytest.mark.parametrize(
    ("registry", "expected"),
    [
        ("10.0.0.7:5000", True),  # by its network
        ("10.1.0.7:5000", False),
        ("images.example.com:5000", True),  # by its name
        ("images.example.com", False),
        ("docker.io", False),
        ("", False),
    ],
)
def test_a_registry_without_tls_is_one_that_dockers_configuration_names(registry: str, expected: bool) -> None:
    names = {"docker.io": {"Secure": True}, "images.example.com:5000": {"Secure": False}}
    config = {"IndexConfigs": names, "InsecureRegistryCIDRs": ["10.0.0.0/24", "127.0.0.0/8"]}
    assert insecure(registry, config) is expected
    assert not insecure(registry, {"IndexConfigs": None, "InsecureRegistryCIDRs": None})
