"""Collect which orders were executed, by whom."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Order(NamedTuple):
    """One executed POST; two with the same id are one executed twice."""

    id: str
    version: str
    host: str


def read(paths: list[Path]) -> list[Order]:
    """The orders in these logs; a member that has not started yet has none."""
    found = []
    for path in paths:
        if path.exists():
            for line in path.read_text(encoding="ascii").splitlines():
                found.append(Order(*line.split(" ")))
    return found
