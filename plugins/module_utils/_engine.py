# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""A container engine: the images that it has, and those that it can get."""

from __future__ import annotations

import ipaddress
import json
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadArtefact, BadInput, UpgradeFailed
from ansible_collections.zerodrop.rollout.plugins.module_utils._systemd import Run

ENGINES = ("podman", "docker")
_QUICK = 30.0
_ID = re.compile(r"[0-9a-f]{12,64}\s*\Z")
_LIST = re.compile(r"^\[\s*[{\]\n]", re.MULTILINE)
_DOCKERS_OWN = ("docker.io/library/", "docker.io/")


class Engine:
    """Podman or Docker on this host."""

    def __init__(self, name: str, run: Run) -> None:
        self.name = name
        self.run = run

    def image_id(self, ref: str) -> str | None:
        """The ID of an image that is here, by any of its names."""
        found = self._inspect(ref)
        return str(found["Id"]).rpartition(":")[2] if found else None

    def digest(self, ref: str, limit: float) -> str | None:
        """The digest by which the registry of its name knows an image that is here; None where it knows none."""
        found = self._inspect(ref)
        known = digests_among(repository(ref), found.get("RepoDigests") or [], found.get("Digest")) if found else []
        if len(known) == 1:
            return known[0]
        for each in known:  # an image that was built here has a digest that no registry has
            status, _said = self._call(["pull", "--quiet", f"{repository(ref)}@{each}"], limit)
            if status == 0:
                return each
        return None

    def offers(self, ref: str, limit: float) -> str:
        """What is wrong with getting this image, without getting it; empty when nothing is."""
        status, said = self._call(["manifest", "inspect", ref], limit)
        if status and self.name == "docker" and self._takes_insecure(ref):
            status, said = self._call(["manifest", "inspect", "--insecure", ref], limit)
        # Podman 4 has read an image for one platform when it says so.
        return "" if status == 0 or "Treating single images as manifest lists" in said else last_words(said)

    def pull(self, ref: str, limit: float) -> str:
        """The ID of this image, which is here afterwards. Raises ``BadArtefact``."""
        status, said = self._call(["pull", "--quiet", ref], limit)
        found = self.image_id(ref) if status == 0 else None
        if found is None:
            raise BadArtefact(
                f"{self.name} could not pull {ref}: {last_words(said)}",
                f"See that the image is there and that this host may read it ('{self.name} login', certificates).",
            )
        return found

    def tag(self, image: str, name: str) -> None:
        status, said = self._call(["tag", image, name], _QUICK)
        if status:
            raise UpgradeFailed(f"{self.name} could not name the image {image[:19]} {name}: {last_words(said)}")

    def forget(self, names: Iterable[str]) -> None:
        """Take names from images; one that has none left, and that no container uses, goes."""
        for name in names:
            self._call(["rmi", name], _QUICK)  # in use, or gone: both are well

    def runs(self, image: str) -> bool:
        """Whether a container of this image runs."""
        status, said = self._call(["ps", "--quiet", "--filter", f"ancestor={image}"], _QUICK)
        return status == 0 and any(_ID.match(line) for line in said.splitlines())  # beside what it warns of

    def _takes_insecure(self, ref: str) -> bool:
        """Whether Docker's daemon pulls from this registry without TLS; its client has to be told so."""
        status, said = self._call(["info", "--format", "{{json .RegistryConfig}}"], _QUICK)
        try:
            return not status and insecure(ref.partition("/")[0], json.loads(said))
        except (ValueError, TypeError, AttributeError):
            return False

    def _inspect(self, ref: str) -> dict[str, Any] | None:
        status, said = self._call(["image", "inspect", ref], _QUICK)
        if status:
            if "permission denied" in said.lower():
                raise UpgradeFailed(f"{self.name} does not answer: {last_words(said)}", "It may take 'become'.")
            return None
        try:
            return dict(json.loads(said[_LIST.search(said).start() :])[0])  # type: ignore[union-attr]
        except (AttributeError, ValueError, IndexError, TypeError) as error:
            raise UpgradeFailed(f"{self.name} does not say what the image {ref} is: {last_words(said)}") from error

    def _call(self, argv: Sequence[str], limit: float) -> tuple[int, str]:
        try:
            return self.run([self.name, *argv], limit)
        except subprocess.TimeoutExpired:
            return 124, f"it did not end within {limit:g} s"


def find_engine(wanted: str, run: Run) -> Engine:
    """The engine that is asked for, or the one that is there; raises ``BadInput``."""
    if wanted not in ("auto", *ENGINES):
        raise BadInput(f"engine must be auto, podman or docker, got {wanted!r}.")
    there = [name for name in ENGINES if shutil.which(name)]
    if wanted != "auto":
        if wanted not in there:
            raise BadInput(f"The upgrade method container is to use {wanted}, and this host has no {wanted}.")
        return Engine(wanted, run)
    if len(there) != 1:
        found = "both podman and docker" if there else "neither podman nor docker"
        raise BadInput(
            f"This host has {found}.",
            "Say which one runs the service in rollout_container_engine." if there else "Install one of them.",
        )
    return Engine(there[0], run)


def repository(ref: str) -> str:
    """An image's name without tag and digest."""
    name = ref.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return head + slash + last.partition(":")[0]


def insecure(registry: str, config: Mapping[str, Any]) -> bool:
    """Whether Docker's configuration names this registry, or the network of its address, as one without TLS."""
    named = (config.get("IndexConfigs") or {}).get(registry) or {}
    if named.get("Secure") is False:
        return True
    try:
        address = ipaddress.ip_address(registry.rpartition(":")[0] or registry)
    except ValueError:
        return False
    return any(address in ipaddress.ip_network(each) for each in config.get("InsecureRegistryCIDRs") or ())


def digests_among(name: str, known: Sequence[str], own: str | None) -> list[str]:
    """The digests by which an engine knows an image under this name, the likeliest first.

    Podman lists an image that came out of a manifest for several platforms under that one's digest and
    under its own; the first is what every platform can pull.
    """
    found = [digest for each, _at, digest in (ref.partition("@") for ref in known) if _plain(each) == _plain(name)]
    return sorted(dict.fromkeys(found), key=lambda digest: digest == own)


def last_words(said: str) -> str:
    """The last line that a program said, without what an engine puts before it."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return (lines or ["it said nothing"])[-1].removeprefix("Error: ")[-400:]


def _plain(name: str) -> str:
    for prefix in _DOCKERS_OWN:
        if name.startswith(prefix):
            return name[len(prefix) :]
    return name
