"""How a release misbehaves when it is told to."""

from __future__ import annotations

import http.client
import time

import pytest

import lab

from .helpers import deploy, direct, request, wait_for

pytestmark = pytest.mark.lab


def _status(host: lab.Host, path: str) -> int | None:
    answer = direct(host, path)
    return answer.status if answer else None


def test_a_good_release_is_soon_healthy(restored: lab.Lab) -> None:
    host = restored.members[0]
    deploy(restored, host, restored.release("2.0"))
    wait_for(lambda: direct(host, "/health"))
    answer = direct(host, "/")
    assert answer is not None
    assert answer.headers["x-version"] == "2.0"
    wait_for(
        lambda: (
            {request(restored.balancers[0].address, "/").json()["version"] for _unused in range(4)} == {"1.0", "2.0"}
        )
    )


def test_start_delay_leaves_the_port_closed(restored: lab.Lab) -> None:
    host = restored.members[0]
    started = time.monotonic()
    deploy(restored, host, restored.release("2.1", start_delay=2.0))
    assert direct(host, "/health") is None
    wait_for(lambda: _status(host, "/health") == 200)
    assert time.monotonic() - started >= 2.0


def test_warm_up_answers_503_to_everything_first(restored: lab.Lab) -> None:
    host = restored.members[0]
    deploy(restored, host, restored.release("2.2", warm_up=2.0))
    wait_for(lambda: direct(host, "/health"))
    assert (_status(host, "/health"), _status(host, "/ready"), _status(host, "/")) == (503, 503, 503)
    wait_for(lambda: _status(host, "/health") == 200)
    assert _status(host, "/") == 200


def test_never_healthy_fails_what_reaches_it(restored: lab.Lab) -> None:
    host = restored.members[0]
    deploy(restored, host, restored.release("2.3", never_healthy=True))
    wait_for(lambda: direct(host, "/health"))
    assert (_status(host, "/health"), _status(host, "/ready"), _status(host, "/")) == (503, 503, 500)
    wait_for(lambda: ",DOWN," in restored.ask("lb1", "show stat", "user"))


def test_error_share_spares_health(restored: lab.Lab) -> None:
    host = restored.members[0]
    deploy(restored, host, restored.release("2.4", error_share=0.5))
    wait_for(lambda: direct(host, "/health"))
    statuses = [_status(host, "/") for _unused in range(200)]
    assert set(statuses) == {200, 500}
    assert 60 < statuses.count(500) < 140  # 5.6 standard deviations
    assert {_status(host, "/health") for _unused in range(50)} == {200}


def test_extra_latency_spares_health(restored: lab.Lab) -> None:
    host = restored.members[0]
    deploy(restored, host, restored.release("2.5", extra_latency=0.5))
    wait_for(lambda: direct(host, "/health"))
    started = time.monotonic()
    assert _status(host, "/health") == 200
    healthy = time.monotonic()
    assert healthy - started < 0.4
    assert _status(host, "/") == 200
    assert time.monotonic() - healthy >= 0.5


def test_crash_after_kills_it_again_and_again(restored: lab.Lab) -> None:
    host = restored.members[0]
    deploy(restored, host, restored.release("2.6", crash_after=0.5))
    wait_for(lambda: direct(host, "/health"))
    wait_for(lambda: direct(host, "/health") is None)
    wait_for(lambda: direct(host, "/health"))
    unit = restored.exec(host, ["systemctl", "show", "-p", "NRestarts", "--value", "shop.service"])
    assert int(unit.stdout) >= 1


def test_it_dies_at_once_on_sigterm_with_what_it_was_doing(restored: lab.Lab) -> None:
    host = restored.members[0]
    connection = http.client.HTTPConnection(host.address, 8080, timeout=10)
    connection.request("GET", "/slow/60")
    time.sleep(0.1)
    restored.exec(host, ["systemctl", "stop", "shop.service"])
    try:
        # A service that SIGTERM does not end is killed after a while, and systemd says so.
        result = restored.exec(host, ["systemctl", "show", "-p", "Result", "--value", "shop.service"])
        assert result.stdout.strip() == "success"
        with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
            connection.getresponse()
        connection.close()
    finally:
        restored.exec(host, ["systemctl", "start", "shop.service"])
