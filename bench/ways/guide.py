"""The playbook of Ansible's guide to rolling upgrades."""

from __future__ import annotations

from pathlib import Path

from . import playbook
from .base import Command, Run, Way


def command(run: Run) -> Command:
    """guide.yml, as it stands beside this file."""
    return playbook.peer(run, Path(__file__).with_suffix(".yml"))


WAY = Way("guide", "the Ansible guide: disable, upgrade, wait for the port, enable", command)
