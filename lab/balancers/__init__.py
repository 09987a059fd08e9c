"""The generations of balancers the lab knows: one file each, found by its GENERATION."""

from __future__ import annotations

import importlib
import pkgutil

from ..errors import LabError
from .generation import Generation, Server

__all__ = ["Generation", "Server", "find", "known"]


def known() -> dict[str, Generation]:
    """Every generation by its name."""
    found = {}
    for module in pkgutil.iter_modules(__path__):
        generation = getattr(importlib.import_module(f".{module.name}", __name__), "GENERATION", 0)
        if isinstance(generation, Generation):
            found[generation.name] = generation
    return found


def find(name: str) -> Generation:
    """The generation of this name."""
    generations = known()
    if name not in generations:
        raise LabError(f"balancer {name!r} is not known; known: {', '.join(sorted(generations))}")
    return generations[name]
