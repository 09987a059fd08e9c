"""What the demo says, with the time it has taken so far."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterable

_STARTED = time.monotonic()
_WIDTH = 100


def seconds() -> float:
    """Since the demo began."""
    return time.monotonic() - _STARTED


def heading(text: str) -> None:
    """The next thing that happens."""
    print(f"\n[{seconds():5.1f} s] {text}", flush=True)


def say(text: str) -> None:
    """A paragraph that explains."""
    print(textwrap.fill(text, _WIDTH, initial_indent="  ", subsequent_indent="  "), flush=True)


def show(lines: Iterable[str]) -> None:
    """Lines as they are: a file, a command."""
    for line in lines:
        print(f"      {line}".rstrip(), flush=True)


def live(line: str) -> None:
    """A line of a program that runs, as it comes."""
    print(f"  {seconds():5.1f} | {line}".rstrip(), flush=True)


def verdict(holds: bool, text: str) -> None:
    """One thing that had to be shown, and whether it was."""
    print(f"  {'yes' if holds else 'NO '}  {text}", flush=True)
