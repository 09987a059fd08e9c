# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The versions of each balancer that the conformance cases run on; ``scripts/balancers`` fetches them."""

from __future__ import annotations

import os
from pathlib import Path

VERSIONS = {
    "apache": ("2.4",),
    "haproxy": ("2.6", "2.8", "3.0", "3.2"),
    "nginx": ("1.22", "1.26", "1.30", "1.31"),
    "nginx-links": ("1.22", "1.26", "1.30", "1.31"),
}

# Kinds whose program is another one's.
_PROGRAMS = {"nginx-links": "nginx"}

_ROOT = Path(os.environ.get("ZERODROP_BALANCERS") or Path(__file__).parents[2] / ".cache" / "balancers")


def folder(kind: str, version: str) -> Path:
    """Where this version lies: the program, and in ``root/`` the Debian packages it came in, where it did."""
    return _ROOT / f"{_PROGRAMS.get(kind, kind)}-{version}"


def binary(kind: str, version: str) -> str:
    """The program of this version; empty when it is not here."""
    program = folder(kind, version) / _PROGRAMS.get(kind, kind)
    return str(program) if os.access(program, os.X_OK) else ""


def missing(kind: str, version: str) -> str:
    """Why this version cannot be run here; empty when it can."""
    if binary(kind, version):
        return ""
    reason = folder(kind, version) / "missing"
    if reason.exists():
        return f"{kind} {version}: {reason.read_text(encoding='utf-8').strip()}"
    return f"{kind} {version} is not here; fetch it with: scripts/balancers {_PROGRAMS.get(kind, kind)}-{version}"
