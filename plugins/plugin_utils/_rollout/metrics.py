# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The last rollout of a service as Prometheus reads it, for the node exporter's textfile collector."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._files import replace

OUTCOMES = ("succeeded", "rolled_back", "frozen", "failed")


def text(report: Mapping[str, Any]) -> str:
    """The metrics of a rollout that was no dry run and was not refused."""
    service = {"service": str(report["service"])}
    began = datetime.fromisoformat(report["started"]).timestamp()
    duration = float(report["duration_seconds"])
    versions = {"from_version": str(report["from_version"] or ""), "to_version": str(report["to_version"] or "")}
    lines: list[str] = []

    def add(name: str, help_text: str, *samples: tuple[Mapping[str, str], float]) -> None:
        full = f"zerodrop_rollout_{name}"
        lines.extend((f"# HELP {full} {help_text}", f"# TYPE {full} gauge"))
        lines.extend(f"{full}{{{_labels(labels)}}} {value:.17g}" for labels, value in samples)

    info = {**service, "strategy": str(report["strategy"]), **versions, "rollout_id": str(report["rollout_id"])}
    add("last_info", "The last rollout; always 1.", (info, 1))
    outcomes = [({**service, "outcome": each}, float(report["outcome"] == each)) for each in OUTCOMES]
    add("last_outcome", "1 for how the last rollout ended.", *outcomes)
    add("last_start_timestamp_seconds", "When it started.", (service, began))
    add("last_end_timestamp_seconds", "When it ended.", (service, began + duration))
    add("last_duration_seconds", "How long it took.", (service, duration))
    add("last_mixed_versions_seconds", "How long two versions served.", (service, report["mixed_versions_seconds"]))
    source = {**service, "source": str(report["requests_source"])}
    add("last_requests", "Requests meanwhile, as the source counted them.", (source, report["requests_total"]))
    add("last_requests_failed", "Those of them that failed.", (source, report["requests_failed"]))
    states = Counter(str(member["state"]) for member in report["members"].values())
    members = [({**service, "state": state}, float(count)) for state, count in sorted(states.items())]
    add("last_members", "Members by what became of them.", *members)
    return "\n".join(lines) + "\n"


def write(report: Mapping[str, Any], path: str) -> None:
    """Replace the file in one step; that it cannot be written is no reason for a rollout to fail."""
    if not path or report["check"] or report["outcome"] == "refused":
        return
    with suppress(OSError):
        replace(str(Path(path).expanduser()), text(report).encode(), 0o644)


def _labels(labels: Mapping[str, str]) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
