"""What every way is told, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lab

from ..scenario import Scenario

# The same for all ways.
SOCKET = "/run/haproxy/admin.sock"
BASE = "/opt/shop"
UNIT = "shop.service"
PORT = 8080
SUCCESSES = 3  # healthy answers in a row, which is our own default
INTERVAL = 0.05


@dataclass(frozen=True)
class Run:
    """One upgrade of a fleet that is up and has the release staged on every member."""

    up: lab.Lab
    scenario: Scenario
    release: lab.Release
    directory: Path  # of this run alone
    sockets: Path  # where SSH's shared connections are to be; empty, so they are opened afresh
    peers: Path  # the virtual environment with the collections of PyPI's `ansible`
    settings: Mapping[str, Any] = field(default_factory=dict)  # for our own playbook, beside the usual


@dataclass(frozen=True)
class Command:
    """The program that does it."""

    argv: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Way:
    """A way by its name."""

    name: str
    title: str
    command: Callable[[Run], Command]
