"""The ways to do the same rolling upgrade. Each is a program that is started and timed."""

from __future__ import annotations

from . import community, floor, guide, ours
from .base import Command, Run, Way

__all__ = ["WAYS", "Command", "Run", "Way"]

WAYS: dict[str, Way] = {way.name: way for way in (floor.WAY, ours.WAY, guide.WAY, community.WAY)}
