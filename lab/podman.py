"""Call Podman with the flags found to work."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Mapping

from .errors import LabError


def limits() -> list[str]:
    """Resource limits for run and build: the defaults fail without CAP_SYS_RESOURCE."""
    flags = []
    for name, which in (("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC)):
        hard = resource.getrlimit(which)[1]
        value = 20000 if hard == resource.RLIM_INFINITY else min(20000, hard)
        flags += ["--ulimit", f"{name}={value}:{value}"]
    return flags


def call(
    *arguments: str,
    check: bool = True,
    timeout: float = 120,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `podman ARGUMENTS`; raise LabError with its last words when it fails.

    runc, because crun refuses the hybrid of cgroup v1 and v2. A session of its own, because a
    Ctrl-C in the terminal must not kill the call that takes the lab down.
    """
    try:
        done = subprocess.run(
            ["podman", "--runtime", "runc", *arguments],
            input=stdin or "",
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            start_new_session=True,
            check=False,
            env=env,
        )
    except subprocess.TimeoutExpired:
        raise LabError(f"podman {arguments[0]} took longer than {timeout:.0f} s") from None
    if check and done.returncode:
        words = (done.stderr or done.stdout).strip()
        raise LabError(f"podman {arguments[0]} failed: {words[-2000:]}")
    return done


def lines(*arguments: str) -> list[str]:
    """The non-empty lines that `podman ARGUMENTS` prints."""
    return [line for line in call(*arguments).stdout.splitlines() if line.strip()]
