"""Make releases of the sample service."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path

from . import names
from .switches import Switches

_SERVICE = Path(__file__).parent / "service" / "shop.py"


@dataclass(frozen=True)
class Release:
    """An artefact that a rollout can install."""

    version: str
    path: Path
    sha256: str


def contents(version: str, switches: Switches) -> dict[str, bytes]:
    """The files of a release: they belong in releases/<version>/."""
    return {
        "VERSION": f"{names.version(version)}\n".encode(),
        "settings.json": switches.to_json().encode(),
        "shop.py": _SERVICE.read_bytes(),
    }


def build(directory: Path, version: str, switches: Switches) -> Release:
    """Write shop-VERSION.tar.gz into `directory`; the same input gives the same bytes."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in sorted(contents(version, switches).items()):
            member = tarfile.TarInfo(name)  # time 0, owner 0, mode 0644
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    packed = gzip.compress(plain.getvalue(), mtime=0)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"shop-{version}.tar.gz"
    # Renamed into place: a reader sees the old or the new one.
    part = directory / f".{path.name}.{os.getpid()}"
    part.write_bytes(packed)
    part.replace(path)
    return Release(version, path, hashlib.sha256(packed).hexdigest())


def install(shop: Path, version: str, switches: Switches) -> None:
    """Lay a release out under a member's /opt/shop, as it is before the first rollout."""
    release = shop / "releases" / version
    release.mkdir(parents=True)
    for name, data in contents(version, switches).items():
        (release / name).write_bytes(data)
    (shop / "current").symlink_to(f"releases/{version}")
    for path in (shop, *shop.rglob("*")):  # whatever the umask
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)
