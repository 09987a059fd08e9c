"""Build the images that are missing; they are made once and kept."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from . import locks, mirror, podman
from .errors import LabError
from .progress import say, step
from .recipes import REPOSITORY, Bootstrap, Layer, Recipe, chain, image

# A debootstrap tree, the archive on its way into Podman's store and the image there.
_SPACE = 3 * 1024**3

# Not /tmp: that is often in memory, or without devices. Whoever holds the lock owns what is here.
_WORK = "/var/tmp"
_PREFIX = "zerodrop-lab-"

# What no host of the lab reads; a third of the image.
_SUPERFLUOUS = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/info",
    "usr/share/locale",
    "var/cache/apt/archives",
    "var/lib/apt/lists",
)


def exists(recipe: Recipe) -> bool:
    """Is the image already there?"""
    return podman.call("image", "exists", image(recipe), check=False).returncode == 0


def ensure(recipes: Iterable[Recipe]) -> None:
    """Build what is missing of these recipes and their ancestors."""
    wanted = list(dict.fromkeys(r for recipe in recipes for r in chain(recipe)))
    if all(exists(recipe) for recipe in wanted):
        return
    with locks.held("images", lambda: say("another process is building images, waiting …")):
        for stale in Path(_WORK).glob(f"{_PREFIX}*"):  # of a build that was killed
            shutil.rmtree(stale, ignore_errors=True)
        for recipe in wanted:
            if exists(recipe):  # looked at again: the other process may have built it
                continue
            if isinstance(recipe, Bootstrap):
                with step(f"building the base image (debootstrap {recipe.suite}, about 90 s the first time)"):
                    _bootstrap(recipe)
            else:
                with step(f"building the image {recipe.name}"):
                    _build(recipe)


def prune(keep: Iterable[Recipe]) -> list[str]:
    """Remove the lab's images that belong to other recipes, unless a container uses them."""
    kept = {image(r) for recipe in keep for r in chain(recipe)}
    with locks.held("images"):
        found = podman.lines("images", "--format", "{{.Repository}}:{{.Tag}}")
        old = [name for name in found if name.startswith(REPOSITORY) and name not in kept]
        return [n for n in old if podman.call("rmi", n, check=False).returncode == 0]


def _bootstrap(recipe: Bootstrap) -> None:
    graph_root = podman.call("info", "--format", "{{.Store.GraphRoot}}").stdout.strip()
    for place in (_WORK, graph_root):
        if shutil.disk_usage(place).free < _SPACE:
            raise LabError(f"building images takes {_SPACE >> 30} GB of free disk under {place}")
    work = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_WORK))
    try:
        tree = work / "root"
        _debootstrap(recipe, tree)
        # No two hosts may share an identity or a key.
        for key in (tree / "etc/ssh").glob("ssh_host_*"):
            key.unlink()
        (tree / "etc/machine-id").write_text("", encoding="ascii")
        (tree / "var/lib/dbus/machine-id").unlink(missing_ok=True)
        for place in _SUPERFLUOUS:
            shutil.rmtree(tree / place, ignore_errors=True)
        for place in ("var/cache/apt/archives/partial", "var/lib/apt/lists/partial"):
            (tree / place).mkdir(parents=True)
        _import(tree, image(recipe))
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _debootstrap(recipe: Bootstrap, tree: Path) -> None:
    command = [
        # Its mounts and its processes go with it and with us, also when we are killed half-way.
        *("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child"),
        "debootstrap",
        "--variant=minbase",
        f"--include={','.join(recipe.packages)}",
        recipe.suite,
        str(tree),
    ]
    archive = mirror.configured()
    if archive:
        command.append(archive)
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=mirror.environment(),
        check=False,
    )
    if done.returncode:
        log = tree / "debootstrap/debootstrap.log"
        more = log.read_text(errors="replace")[-1500:] if log.exists() else ""
        raise LabError(f"debootstrap {recipe.suite} failed:\n{done.stdout[-1500:]}\n{more}")


def _import(tree: Path, name: str) -> None:
    archive = tree.parent / "root.tar"
    packed = subprocess.run(
        ["tar", "--one-file-system", "-C", str(tree), "-cf", str(archive), "."],
        capture_output=True,
        text=True,
        check=False,
    )
    if packed.returncode:
        raise LabError(f"packing the base image failed: {packed.stderr.strip()[-1000:]}")
    podman.call("import", "-q", str(archive), name, timeout=600)


def _build(recipe: Layer) -> None:
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=_WORK) as directory:
        context = Path(directory)
        files = context / "files"
        files.mkdir()
        for path, text in recipe.files:
            (files / path).parent.mkdir(parents=True, exist_ok=True)
            (files / path).write_text(text, encoding="utf-8")
        for entry in (files, *files.rglob("*")):  # whatever the umask
            entry.chmod(0o755 if entry.is_dir() else 0o644)
        (context / "apt.conf").write_text(mirror.freshness(), encoding="utf-8")
        script = [f"FROM {image(recipe.parent)}", "COPY files/ /"]
        script += [f"RUN {command}" for command in recipe.commands]
        (context / "Containerfile").write_text("\n".join(script) + "\n", encoding="utf-8")
        podman.call(
            "build",
            "-q",
            "--isolation",
            "chroot",
            "--network",
            "host",
            "--pull=never",
            "--layers=false",
            f"--volume={context}/apt.conf:/etc/apt/apt.conf.d/99-machine:ro",
            *podman.limits(),
            "-t",
            image(recipe),
            str(context),
            timeout=900,
            env=mirror.environment(),
        )
