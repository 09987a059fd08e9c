"""A lab of real hosts on one machine: members and balancers under Podman, reached by SSH."""

from __future__ import annotations

from .description import Description
from .errors import LabError
from .hosts import Host
from .lifecycle import down, listing, reap, running, up
from .model import Lab, load
from .order_log import Order
from .releases import Release
from .switches import Switches

__all__ = [
    "Description",
    "Host",
    "Lab",
    "LabError",
    "Order",
    "Release",
    "Switches",
    "down",
    "listing",
    "load",
    "orders",
    "reap",
    "running",
    "up",
]


def orders(lab: Lab) -> list[Order]:
    """Every POST that any member of the lab executed since it came up."""
    return lab.orders()
