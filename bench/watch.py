"""Look at every balancer's state from outside its host, the same for every way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import lab
from lab.balancers import Server, haproxy_socket
from lab.namespaces import root_of

from .outage import Sample, out_of_service

EVERY = 0.04


# Tells which members of a balancer are out of service.
Eye = Callable[[], set[str]]


def eyes(up: lab.Lab) -> list[Eye]:
    """One for each balancer."""
    found = [(host, root_of(host)) for host in up.balancers]
    return [_eye(up, host, root) for host, root in found if root is not None]


def _eye(up: lab.Lab, host: lab.Host, root: Path) -> Eye:
    pool = up.description.pool
    if up.generation(host).name.startswith("haproxy"):
        return lambda: out_of_service(haproxy_socket.ask(root, f"show servers state {pool}", "user"))
    servers = [Server(member.name, member.address) for member in up.members]
    states = up.generation(host).states
    return lambda: {
        name for name, state in states(root, up.description, servers).items() if not state.startswith("UP ")
    }


def look(balancers: list[Eye]) -> Sample:
    """One sample of all balancers."""
    out: set[str] = set()
    for eye in balancers:
        out |= eye()
    return Sample(time.monotonic(), frozenset(out))


@contextmanager
def watching(balancers: list[Eye]) -> Iterator[list[Sample]]:
    """Samples for the length of a `with`."""
    samples: list[Sample] = []
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(EVERY):
            try:
                samples.append(look(balancers))
            except OSError:
                continue  # a balancer was away for a moment; the next sample tells

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()
