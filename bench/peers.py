"""The virtual environment with the collections of PyPI's `ansible`, made once and kept."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_CACHE = ROOT / ".cache"
_WANTED = (ROOT / "requirements" / "bench.txt", ROOT / "requirements" / "ansible-2.19.txt")


class PeersError(Exception):
    """The environment could not be made."""


def environment() -> Path:
    """Where it is; made now if it is not there. All playbooks run from it, ours too: one Ansible for all."""
    text = "".join(path.read_text(encoding="utf-8") for path in _WANTED) + sys.version
    stamp = f"ready-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    venv = _CACHE / "bench-venv"
    if (venv / stamp).exists():
        return venv
    print("bench: installing PyPI's ansible, for its collections; this takes a minute, once", file=sys.stderr)
    shutil.rmtree(venv, ignore_errors=True)
    _CACHE.mkdir(exist_ok=True)
    for argv in (
        [sys.executable, "-m", "venv", str(venv)],
        [str(venv / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", "-r", str(_WANTED[0])],
    ):
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PeersError(f"{argv[0]} failed: {done.stderr.strip()[-1000:]}")
    (venv / stamp).touch()
    return venv
