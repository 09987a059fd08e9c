"""The folder of a user: inventory, settings, role and releases. It stays after the demo, without the hosts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from lab import Lab

_SITE = Path(__file__).parent / "site"
SETTINGS = "group_vars/all.yml"
EXTRAS = "demo.yml"

RATE = 300
# Shares of 300 requests a second: browsers and scripts, some that take 3 s, downloads, WebSockets, sessions, orders.
MIX = {
    "keepalive": 0.60,
    "close": 0.20,
    "post": 0.08,
    "session": 0.08,
    "slow": 0.01,
    "stream": 0.015,
    "websocket": 0.015,
}


def lay_out(lab: Lab) -> None:
    """Put the site's files beside the lab's inventory."""
    shutil.copytree(_SITE, lab.directory, dirs_exist_ok=True)
    extras: dict[str, Any] = {
        "rollout_batches": 2,
        "rollout_health_version_key": "version",
        "rollout_health_timeout": 8,
        "rollout_witness_url": lab.url,
        "rollout_witness_rate": RATE,
        "rollout_witness_mix": MIX,
    }
    lines = [f"{name}: {json.dumps(value)}" for name, value in extras.items()]
    (lab.directory / EXTRAS).write_text("---\n" + "\n".join(lines) + "\n", encoding="utf-8")


def lines_of(path: Path) -> list[str]:
    """A YAML file without the mark of its beginning."""
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line != "---"]
