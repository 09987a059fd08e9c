"""Ours: the shipped playbook with the archive method, and its defaults."""

from __future__ import annotations

from . import playbook
from .base import PORT, Command, Run, Way


def command(run: Run) -> Command:
    """The seven lines, the artefact, and how many members a batch has."""
    return playbook.command(
        run,
        "zerodrop.rollout.rolling",
        {
            "rollout_service": "shop",
            "rollout_hosts": "shop",
            "rollout_balancers": "lb",
            "rollout_driver": run.up.description.generation.partition("-")[0],
            "rollout_pool": run.up.description.pool,
            "rollout_health_url": f"http://127.0.0.1:{PORT}/health",
            "rollout_upgrade_method": "archive",
            "rollout_version": run.release.version,
            "rollout_archive_src": str(run.release.path),
            "rollout_archive_checksum": f"sha256:{run.release.sha256}",
            "rollout_batches": [run.scenario.batch],
            "rollout_report_dir": str(run.directory / "reports"),
            **run.settings,
        },
    )


WAY = Way("ours", "ours: zerodrop.rollout.rolling", command)
