# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""A service that runs as a container: its image now, the next one, and the way back.

::

    /var/lib/zerodrop/containers/SERVICE/image.env       the image that the service's unit is to run
    /var/lib/zerodrop/containers/SERVICE/releases.json   the images that this host can go to, by version
    /var/lib/zerodrop/containers/SERVICE/.switch.json    the last switch, and whether the restart is still due

The unit, or Quadlet, is the user's with all its options. It reads ``image.env`` as its ``EnvironmentFile``
and runs ``${ROLLOUT_IMAGE}``, which is always a digest: what a tag stands for may change, and this does not.
An image that is kept has a name of ours as well, so that pruning images without a name leaves it.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from ansible_collections.zerodrop.rollout.plugins.module_utils._engine import Engine, find_engine, repository
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadArtefact, UpgradeFailed
from ansible_collections.zerodrop.rollout.plugins.module_utils._files import replace, replace_json
from ansible_collections.zerodrop.rollout.plugins.module_utils._names import image as checked_image
from ansible_collections.zerodrop.rollout.plugins.module_utils._names import image_digest as checked_digest
from ansible_collections.zerodrop.rollout.plugins.module_utils._names import service as checked_service
from ansible_collections.zerodrop.rollout.plugins.module_utils._names import unit as checked_unit
from ansible_collections.zerodrop.rollout.plugins.module_utils._names import version as checked_version
from ansible_collections.zerodrop.rollout.plugins.module_utils._params import flag, items, number, text, whole
from ansible_collections.zerodrop.rollout.plugins.module_utils._switches import Folder, read_object
from ansible_collections.zerodrop.rollout.plugins.module_utils._systemd import (
    Run,
    environment_files,
    require_unit,
    restart,
    run_command,
    unit_failed,
    unit_state,
)

FOLDER = "/var/lib/zerodrop/containers"
IMAGE, VERSION = "ROLLOUT_IMAGE", "ROLLOUT_VERSION"
_KEPT = "localhost/zerodrop-kept"
_PAUSE = 0.1
_LINE = re.compile(rf"\s*({IMAGE}|{VERSION})=([\"']?)(\S*)\2\s*\Z")


class Image(NamedTuple):
    """The image of a release."""

    version: str
    ref: str  # its name and digest


class Store(Folder):
    """What a host knows of the images of one service."""

    def __init__(self, params: Mapping[str, Any], run: Run) -> None:
        self.service = checked_service(params.get("service"), "service")
        super().__init__(os.path.join(text(params, "folder") or FOLDER, self.service))
        self.engine = find_engine(text(params, "engine") or "auto", run)
        self.run = run
        self.file = os.path.join(self.path, "image.env")
        self._releases = os.path.join(self.path, "releases.json")

    def current(self) -> Image | None:
        """What the service's unit is to run; None where nobody has said so yet."""
        try:
            with open(self.file, encoding="utf-8") as file:
                found = {match[1]: match[3] for match in map(_LINE.match, file) if match}
        except (FileNotFoundError, UnicodeDecodeError):
            return None
        if not found.get(IMAGE) or not found.get(VERSION):
            return None
        return Image(checked_version(found[VERSION], f"{VERSION} in {self.file}"), found[IMAGE])

    def releases(self) -> dict[str, str]:
        """The image of each version that was staged, the one used last at the end."""
        return {version: ref for version, ref in read_object(self._releases).items() if isinstance(ref, str)}

    def keep(self, image: Image, found: str) -> None:
        """Note that an image, which is here, is the release of its version."""
        self.engine.tag(found, self._kept(image.ref))
        releases = self.releases()
        if releases.get(image.version) != image.ref:
            releases.pop(image.version, None)
            replace_json(self._releases, {**releases, image.version: image.ref}, 0o644)

    def write(self, image: Image) -> None:
        text = f"# Written by zerodrop.rollout. The unit of {self.service} runs this image.\n"
        text += f"{IMAGE}={image.ref}\n{VERSION}={image.version}\n"
        replace(self.file, text.encode("utf-8"), 0o644)

    def used(self, version: str, keep: int, spared: set[str]) -> list[str]:
        """Note that a release is the one in use, and give up those that were so longest ago; returns their versions."""
        releases = self.releases()
        releases[version] = releases.pop(version)
        gone = [each for each in list(releases)[:-keep] if each not in spared]
        left = {each: ref for each, ref in releases.items() if each not in gone}
        replace_json(self._releases, left, 0o644)
        for version in gone:
            if releases[version] not in left.values():
                self.engine.forget([self._kept(releases[version]), releases[version]])
        return gone

    def _kept(self, ref: str) -> str:
        return f"{_KEPT}:{self.service}-{ref.rpartition(':')[2][:32]}"


def container_info(params: Mapping[str, Any], check: bool, run: Run = run_command) -> dict[str, Any]:
    """The image's version, and those that this host can go to. Changes nothing.

    ``params``: ``service``, ``engine``, ``unit``, ``folder``. ``before`` is what ran when the last
    switch began, while its restart is due.
    """
    store = Store(params, run)
    found, last = store.current(), store.last_switch()
    current = found.version if found else None
    due = last.due_for(current)
    unit = checked_unit(params.get("unit"))
    return {
        "changed": False,
        "current": current,
        "before": last.before if due else None,
        "previous": last.before if last.after == current else None,
        "restart_due": due,
        "releases": [
            {"version": version, "checksum": ref.partition("@")[2]} for version, ref in store.releases().items()
        ],
        "unit": unit_state(unit, run).to_dict(),
        "file": store.file,
        "reads_file": store.file in environment_files(unit, run),
    }


def container_resolve(params: Mapping[str, Any], check: bool, run: Run = run_command) -> dict[str, Any]:
    """What a tag stands for now, as a digest; the image is here afterwards.

    ``params``: ``service``, ``engine``, ``image``, ``version`` (the tag), ``timeout``. In check mode
    ``digest`` is None, and only whether the registry has the tag is looked at.
    """
    store = Store(params, run)
    ref = f"{checked_image(params.get('image'), 'image')}:{checked_version(params.get('version'), 'version')}"
    limit = number(params, "timeout", 600, 1, 86400)
    if check:
        _require_offered(store.engine, ref, limit)
        return {"changed": False, "digest": None}
    store.engine.pull(ref, limit)
    digest = store.engine.digest(ref, limit)
    if digest is None:
        raise BadArtefact(
            f"{store.engine.name} knows {ref} under no digest that its registry has, so nobody can tell what every "
            "member is to run.",
            "Say it in rollout_container_digest.",
        )
    return {"changed": True, "digest": digest}


def container_stage(params: Mapping[str, Any], check: bool, run: Run = run_command) -> dict[str, Any]:
    """Brings a release's image to the host, and sees that the present one is there for the way back.

    ``params``: ``service``, ``engine``, ``image``, ``version``, ``digest`` (None only in check mode),
    ``timeout``, ``folder``.
    """
    store = Store(params, run)
    name = checked_image(params.get("image"), "image")
    version = checked_version(params.get("version"), "version")
    digest = text(params, "digest")
    limit = number(params, "timeout", 600, 1, 86400)
    known = store.releases().get(version)
    if digest is None and not known:
        if not check:
            raise UpgradeFailed("An image is only staged by its digest.")
        _require_offered(store.engine, f"{name}:{version}", limit)
        wanted = None
    else:
        ref = known if digest is None or (known or "").endswith(f"@{digest}") else f"{name}@{checked_digest(digest)}"
        wanted = Image(version, str(ref))
    present = store.current()
    if present is not None and present.version in store.releases():
        present = Image(present.version, store.releases()[present.version])
    images = [each for each in (present, wanted) if each is not None]
    lacking = [
        each
        for each in dict.fromkeys(images)
        if store.releases().get(each.version) != each.ref or store.engine.image_id(each.ref) is None
    ]
    if check:
        for each in lacking:
            if store.engine.image_id(each.ref) is None:
                _require_offered(store.engine, each.ref, limit)
    elif lacking:
        with store.locked(limit):
            for each in lacking:
                _stage(store, each, limit)
    return {"changed": bool(lacking) or wanted is None, "version": version, "kept": list(store.releases())}


def _stage(store: Store, image: Image, limit: float) -> None:
    found = store.engine.image_id(image.ref) or store.engine.pull(image.ref, limit)
    if "@" not in image.ref:  # of the user's own, from before the first rollout
        digest = store.engine.digest(image.ref, limit)
        if digest is None:
            raise BadArtefact(
                f"The image that {store.service} has now, {image.ref}, has no digest of a registry: there would be "
                "no certain way back.",
                f"Push it, pull it, and name it with its digest in {store.file}.",
            )
        image = Image(image.version, f"{repository(image.ref)}@{digest}")
    store.keep(image, found)


def container_switch(params: Mapping[str, Any], check: bool, run: Run = run_command) -> dict[str, Any]:
    """Names a staged image in the unit's environment file, restarts the unit, and sees that it runs that image.

    ``params``: ``service``, ``engine``, ``version``, ``unit``, ``keep``, ``protect``, ``timeout``,
    ``restart_timeout``, ``will_be_staged``, ``folder``.
    """
    store = Store(params, run)
    version = checked_version(params.get("version"), "version")
    unit = checked_unit(params.get("unit"))
    keep = whole(params, "keep", 5, 1, 10000)
    protect = {checked_version(each, "protect") for each in items(params, "protect")}
    limit = number(params, "timeout", 600, 1, 86400)
    restart_limit = number(params, "restart_timeout", 60, 0.1, 86400)
    ref = store.releases().get(version)
    if ref is None and not (check and flag(params, "will_be_staged", False)):
        raise UpgradeFailed(f"The image of {store.service} {version} is not staged on this host.", "Stage it first.")
    found, last = store.current(), store.last_switch()
    switches = found is None or found.version != version or found.ref != ref
    due = switches or not unit_state(unit, run).active or last.due_for(version)
    before = found.version if found else None
    result: dict[str, Any] = {
        "changed": due,
        "before": before,
        "after": version,
        "image": ref,
        "restarted": due,
        "pruned": [],
        "diff": {
            "before": {"version": before, "image": found.ref if found else None},
            "after": {"version": version, "image": ref},
        },
    }
    if check or ref is None or not due:
        return result
    with store.locked(limit):
        # It may have been pruned since; now is the last moment at which that costs nothing.
        image = store.engine.image_id(ref) or store.engine.pull(ref, limit)
        ready = require_unit(unit, run)
        before = before if switches else last.before
        store.record_switch(before, version, True)
        store.write(Image(version, ref))
        since = time.time()
        restart(ready, restart_limit, run)
        _wait_until_it_runs(store.engine, image, unit, since, restart_limit)
        result["unit"] = unit_state(unit, run).to_dict()
        store.record_switch(before, version, False)
        result["pruned"] = store.used(version, keep, protect | {each for each in (version, before) if each})
    return result


def _wait_until_it_runs(engine: Engine, image: str, unit: str, since: float, limit: float) -> None:
    """The unit is active as soon as the engine's client has begun; the container comes later, or never."""
    deadline = time.monotonic() + limit
    while not engine.runs(image):
        if unit_state(unit, engine.run).state in ("failed", "inactive"):
            raise unit_failed(unit, "its container ended at once", since, engine.run)
        if time.monotonic() >= deadline:
            why = f"no container of the image {image[:12]} ran within {limit:g} s: does it run ${{{IMAGE}}}"
            raise unit_failed(unit, why, since, engine.run)
        time.sleep(_PAUSE)


def _require_offered(engine: Engine, ref: str, limit: float) -> None:
    trouble = engine.offers(ref, limit)
    if trouble:
        raise BadArtefact(
            f"{engine.name} would not get {ref}: {trouble}",
            f"See that the image is there and that this host may read it ('{engine.name} login', certificates).",
        )
