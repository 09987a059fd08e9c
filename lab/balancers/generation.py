"""What a kind and version of balancer must tell the lab."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..description import Description
from ..recipes import Recipe


@dataclass(frozen=True)
class Server:
    """One member as a balancer sees it."""

    name: str
    address: str
    port: int = 8080


@dataclass(frozen=True)
class Generation:
    """One file beside this one makes one of these, named GENERATION; nothing else changes."""

    name: str  # haproxy-2.6
    recipe: Recipe
    config_dir: str  # a host directory lies there, with what `render` returns
    render: Callable[[Description, Sequence[Server]], Mapping[str, str]]
    # Given the root of a balancer's file system: does it see every member as healthy?
    ready: Callable[[Path, Description, Sequence[Server]], bool]
    # By member: UP, DRAIN, MAINT or DOWN, a space, and its weight. Raises OSError while it does not answer.
    states: Callable[[Path, Description, Sequence[Server]], Mapping[str, str]]
    # Every member as in the beginning; the last is given a program to be run on the balancer.
    restore: Callable[[Path, Description, Sequence[Server], Callable[[Sequence[str]], object]], None]
