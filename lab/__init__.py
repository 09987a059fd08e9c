"""A lab of real hosts on one machine: members and balancers under Podman, reached by SSH."""

from __future__ import annotations

from .description import Description
from .errors import LabError
from .lifecycle import down, listing, reap, running, up
from .model import Host, Lab, load
from .releases import Release
from .switches import Switches

__all__ = [
    "Description",
    "Host",
    "Lab",
    "LabError",
    "Release",
    "Switches",
    "down",
    "listing",
    "load",
    "reap",
    "running",
    "up",
]
