"""Hosts and networks that fail."""

from __future__ import annotations

import subprocess

import pytest

import lab
from lab.inventory import SSH_OPTIONS
from lab.probes import http_status, ssh_answers

from .helpers import request, wait_for

pytestmark = pytest.mark.lab


def _ssh(up: lab.Lab, host: lab.Host, *command: str, tty: bool = False) -> str:
    options = [word for option in SSH_OPTIONS for word in option.split(" ")]
    arguments = ["ssh", *options, "-i", str(up.key), *(["-tt"] if tty else []), f"root@{host.address}", *command]
    return subprocess.run(
        arguments, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, check=True
    ).stdout


def test_ssh_lets_the_key_in_with_and_without_a_terminal(small_lab: lab.Lab) -> None:
    for host in small_lab.hosts:
        assert _ssh(small_lab, host, "hostname").strip() == host.name
    assert _ssh(small_lab, small_lab.members[0], "sudo", "-n", "id", "-u", tty=True).strip() == "0"


def test_no_unit_fails_and_no_two_hosts_share_an_identity(small_lab: lab.Lab) -> None:
    identities = set()
    for host in small_lab.hosts:
        assert small_lab.exec(host, ["systemctl", "--failed", "--no-legend", "--plain"]).stdout == ""
        identities.add(small_lab.exec(host, ["cat", "/etc/machine-id", "/etc/ssh/ssh_host_ed25519_key.pub"]).stdout)
    assert len(identities) == len(small_lab.hosts)


def test_a_cut_port_is_silent_while_others_answer(restored: lab.Lab) -> None:
    host = restored.members[0]
    restored.cut(host, from_="controller", port=22)
    try:
        assert not ssh_answers(host.address)
        assert http_status(host.address, 8080, "/health") == 200
    finally:
        restored.heal(host)
    assert ssh_answers(host.address)


@pytest.mark.parametrize("direction", ["both", "in", "out"])
def test_a_member_cut_from_its_balancer_goes_down_there_only(restored: lab.Lab, direction: str) -> None:
    restored.cut("web1", from_="lb1", direction=direction)
    try:
        wait_for(lambda: "web1,0,0" in restored.ask("lb1", "show stat", "user"))
        wait_for(lambda: restored.ask("lb1", "show stat", "user").count(",DOWN,") == 2)
        assert ssh_answers(restored.host("web1").address)
    finally:
        restored.heal("web1")
        restored.heal("web1")


def test_a_host_cut_from_all_is_gone(restored: lab.Lab) -> None:
    host = restored.members[1]
    restored.cut(host)
    try:
        assert not ssh_answers(host.address)
        assert http_status(host.address, 8080, "/health") is None
    finally:
        restored.heal(host)


def test_a_killed_host_is_gone_and_comes_back_with_its_files(restored: lab.Lab) -> None:
    host = restored.members[0]
    restored.exec(host, ["touch", "/opt/shop/kept", "/root/kept"])
    restored.kill(host)
    assert not ssh_answers(host.address)
    restored.start(host)
    wait_for(lambda: http_status(host.address, 8080, "/health") == 200)
    restored.exec(host, ["rm", "/opt/shop/kept", "/root/kept"])


def started(up: lab.Lab, host: str) -> int:
    """When its init started, in ticks: two reboots may lie within a second."""
    return int(up.exec(host, ["cat", "/proc/1/stat"]).stdout.rpartition(")")[2].split()[19])


@pytest.mark.parametrize("hard", [False, True])
def test_a_balancer_reboots(restored: lab.Lab, hard: bool) -> None:
    before = started(restored, "lb1")
    restored.reboot("lb1", hard=hard)
    assert started(restored, "lb1") != before
    wait_for(lambda: http_status(restored.balancers[0].address, 80, "/") == 200)


def test_sshd_stops_with_and_without_the_sessions_and_starts(small_lab: lab.Lab) -> None:
    host = small_lab.members[0]
    options = [word for option in SSH_OPTIONS for word in option.split(" ")]
    command = ["ssh", *options, "-i", str(small_lab.key), f"root@{host.address}", "echo in; exec sleep 60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as session:
        try:
            assert session.stdout is not None
            assert session.stdout.readline() == b"in\n"
            small_lab.stop_sshd(host)
            assert not ssh_answers(host.address)
            assert session.poll() is None
            small_lab.stop_sshd(host, sessions=True)
            assert session.wait(10) == 255
        finally:
            session.kill()
            small_lab.start_sshd(host)
    assert ssh_answers(host.address)


def test_the_sockets_have_the_rights_their_names_say(small_lab: lab.Lab) -> None:
    command = "set weight shop/web1 100"
    assert "Permission denied" in small_lab.ask("lb1", command, "user")
    assert "Permission denied" in small_lab.ask("lb1", "shutdown sessions server shop/web1", "operator")
    assert small_lab.ask("lb1", command).strip() == ""
    assert "worker" in small_lab.ask("lb1", "show proc", "master")


def test_haproxy_survives_a_reload(restored: lab.Lab) -> None:
    restored.exec("lb1", ["systemctl", "reload", "haproxy"])
    wait_for(lambda: request(restored.balancers[0].address, "/").status == 200)


def test_a_host_that_is_not_there_is_named(small_lab: lab.Lab) -> None:
    with pytest.raises(lab.LabError, match="'web9' is no host of the lab"):
        small_lab.kill("web9")
