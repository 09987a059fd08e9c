"""community.general.haproxy as it is best used: drain, wait, and a gate over HTTP."""

from __future__ import annotations

from pathlib import Path

from . import playbook
from .base import Command, Run, Way


def command(run: Run) -> Command:
    """community.yml, as it stands beside this file."""
    return playbook.peer(run, Path(__file__).with_suffix(".yml"))


WAY = Way("community", "community.general.haproxy: drain, wait, HTTP gate", command)
