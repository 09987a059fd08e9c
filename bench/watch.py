"""Look at every balancer's state from outside its host, the same for every way."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lab
from lab.balancers import haproxy_socket
from lab.namespaces import root_of

from .outage import Sample, out_of_service

EVERY = 0.04


def roots(up: lab.Lab) -> list[Path]:
    """The file systems of the balancers."""
    found = [root_of(host) for host in up.balancers]
    return [root for root in found if root is not None]


def look(balancers: list[Path], pool: str) -> Sample:
    """One sample of all balancers."""
    out: set[str] = set()
    for root in balancers:
        out |= out_of_service(haproxy_socket.ask(root, f"show servers state {pool}", "user"))
    return Sample(time.monotonic(), frozenset(out))


@contextmanager
def watching(balancers: list[Path], pool: str) -> Iterator[list[Sample]]:
    """Samples for the length of a `with`."""
    samples: list[Sample] = []
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(EVERY):
            try:
                samples.append(look(balancers, pool))
            except OSError:
                continue  # a balancer was away for a moment; the next sample tells

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()
