"""Where this machine gets Debian from."""

from __future__ import annotations

import os
import subprocess


def parse(text: str) -> str | None:
    """The first of Debian's own archives in the output of `apt-get indextargets`."""
    for line in text.splitlines():
        origin, component, uri = [*line.split("\t"), "", "", ""][:3]
        if origin == "Debian" and component == "main" and "security" not in uri:
            return uri
    return None


def configured() -> str | None:
    """The archive apt is configured with; None leaves the choice to debootstrap."""
    done = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(ORIGIN)\t$(COMPONENT)\t$(REPO_URI)"],
        capture_output=True,
        text=True,
        check=False,
    )
    return parse(done.stdout)


# Whether lists may be older than their archive says: a mirror that stands still needs it. Signatures count regardless.
_FRESHNESS = ("Acquire::Check-Valid-Until", "Acquire::Check-Date")


def freshness() -> str:
    """How old lists may be on this machine, as apt's configuration says; an image is built under the same rules."""
    done = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False)
    return "".join(f"{line}\n" for line in done.stdout.splitlines() if line.startswith(_FRESHNESS))


def environment() -> dict[str, str]:
    """Our environment, with the proxy that apt uses where it uses one."""
    found = dict(os.environ)
    for scheme in ("http", "https"):
        done = subprocess.run(
            ["apt-config", "shell", "proxy", f"Acquire::{scheme}::Proxy"],
            capture_output=True,
            text=True,
            check=False,
        )
        value = done.stdout.strip().removeprefix("proxy=").strip("'\"")
        if value and value != "DIRECT":
            found.setdefault(f"{scheme}_proxy", value)
    return found
