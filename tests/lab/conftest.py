"""One small lab for all tests that only use it, and names nobody else has."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator

import pytest

import lab

from .helpers import direct, leftovers

_NUMBERS = itertools.count(1)


def _prefix() -> str:
    return f"t{os.getpid()}-{next(_NUMBERS)}"


@pytest.fixture
def new_prefix() -> Callable[[], str]:
    """Makes a prefix that no other lab on this machine has."""
    return _prefix


@pytest.fixture(scope="session")
def small_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lab.Lab]:
    """Two members behind one balancer."""
    description = lab.Description(prefix=_prefix(), members=2, tcp=True)
    with lab.running(description, tmp_path_factory.mktemp("lab") / "small") as up:
        yield up
    assert leftovers(f"zerodrop.lab={description.prefix}") == ""


@pytest.fixture
def restored(small_lab: lab.Lab) -> Iterator[lab.Lab]:
    """The small lab, with every member back on its first release afterwards."""
    yield small_lab
    for host in small_lab.members:
        current = small_lab.files(host) / "shop/current"
        if os.readlink(current) != "releases/1.0":
            current.unlink()
            current.symlink_to("releases/1.0")
            small_lab.exec(host, ["systemctl", "restart", "shop.service"])
    wait_until_balanced(small_lab)


def wait_until_balanced(up: lab.Lab) -> None:
    """Every member healthy, and every balancer sure of it."""
    from lab import readiness

    readiness.wait(up, 20)
    assert all(direct(host, "/health") for host in up.members)
