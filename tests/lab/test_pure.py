"""What needs neither hosts nor root."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from ipaddress import IPv4Network
from pathlib import Path

import pytest

import lab
from lab import (
    balancers,
    faults,
    inventory,
    kernel,
    mirror,
    names,
    order_log,
    owner,
    podman,
    prerequisites,
    recipes,
    subnets,
)
from lab.balancers import haproxy_config, haproxy_socket
from lab.hosts import Host
from lab.model import dump

SERVERS = [balancers.Server("web1", "198.18.3.21"), balancers.Server("web2", "198.18.3.22")]
HOSTS = (
    Host("lb1", "balancer", "198.18.3.11", "zd-lb1", "abc"),
    Host("web1", "member", "198.18.3.21", "zd-web1", "def"),
)


def _lab(directory: Path, **options: object) -> lab.Lab:
    description = lab.Description(**{"global_lines": ("nbthread 1",), **options})  # type: ignore[arg-type]
    return lab.Lab("0a1b", directory, description, "198.18.3.0/24", HOSTS)


# Descriptions and names.


@pytest.mark.parametrize("name", ["", "Zd", "1zd", "zd_x", "zd x", "zd\n", "z" * 21, "-zd", "zd;x", "zd/x"])
def test_a_bad_prefix_is_refused(name: str) -> None:
    with pytest.raises(lab.LabError, match="prefix"):
        lab.Description(prefix=name)


@pytest.mark.parametrize("name", ["", "1/0", "..", "1..0", "1 0", "1.0\n", ".1", "-1", "v" * 65, "é"])
def test_a_bad_version_is_refused(name: str) -> None:
    with pytest.raises(lab.LabError, match="version"):
        names.version(name)


@pytest.mark.parametrize(
    "options",
    [
        {"members": -1},
        {"members": 201},
        {"balancers": 10},
        {"members": 0, "balancers": 0},
        {"pool": "a b"},
        {"pool": "a;b"},
        {"extra_pools": ("shop",)},
        {"weight": 257},
        {"sticky": "source"},
        {"subnet": "198.18.0.0/16"},
        {"subnet": "198.18.0.1/24"},
        {"subnet": "x"},
    ],
)
def test_a_bad_description_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(lab.LabError):
        lab.Description(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"error_share": 1.1}, {"start_delay": -1}, {"crash_after": float("nan")}])
def test_a_bad_switch_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(lab.LabError):
        lab.Switches(**options)  # type: ignore[arg-type]


def test_an_unknown_generation_is_refused_with_those_known() -> None:
    with pytest.raises(lab.LabError, match=r"haproxy-1.0.*known: .*haproxy-2\.6"):
        balancers.find(lab.Description(haproxy="1.0").generation)


def test_a_lab_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    one = _lab(tmp_path, switches=lab.Switches(error_share=0.1), extra_pools=("a", "b"))
    (tmp_path / "lab.json").write_text(dump(one), encoding="utf-8")
    assert lab.load(tmp_path) == one
    with pytest.raises(lab.LabError, match="no lab is up"):
        lab.load(tmp_path / "other")


# Subnets.


def test_the_first_free_subnet_from_the_start_is_taken_going_round() -> None:
    assert subnets.choose([], 7) == IPv4Network("198.18.7.0/24")
    taken = [IPv4Network("198.18.254.0/23"), IPv4Network("198.18.0.128/25")]
    assert subnets.choose(taken, 254) == IPv4Network("198.18.1.0/24")


def test_no_free_subnet_is_an_error() -> None:
    with pytest.raises(lab.LabError, match="no free"):
        subnets.choose([IPv4Network("198.18.0.0/15")], 0)


def test_routes_are_read_and_the_default_route_is_not_one() -> None:
    text = (
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "br0\t000512C6\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
    )
    assert subnets.parse_routes(text) == [IPv4Network("198.18.5.0/24")]


def test_addresses_never_meet() -> None:
    subnet = IPv4Network("198.18.5.0/24")
    found = [subnets.balancer_address(subnet, n) for n in range(1, 10)]
    found += [subnets.member_address(subnet, n) for n in range(1, 201)]
    assert len(set(found)) == 209
    assert all(address in subnet for address in found)
    assert subnets.mac_address("198.18.5.21") == "02:5a:c6:12:05:15"


# The balancer's configuration.


def _config(**options: object) -> str:
    return haproxy_config.render(lab.Description(**options), SERVERS)["haproxy.cfg"]  # type: ignore[arg-type]


def test_the_plain_configuration_hides_no_loss() -> None:
    text = _config()
    assert "retries 0\n" in text
    assert "no option redispatch\n" in text
    assert "option idle-close-on-response\n" in text
    assert "server web1 198.18.3.21:8080 check inter 200ms fall 2 rise 2 weight 100\n" in text
    for level in ("admin", "operator", "user"):
        assert f"stats socket /run/haproxy/{level}.sock mode 660 level {level}\n" in text
    assert "cookie" not in text
    assert "mode tcp" not in text
    assert "server-state" not in text


def test_every_option_reaches_the_configuration() -> None:
    text = _config(
        retries=3,
        redispatch=True,
        sticky="cookie",
        tcp=True,
        state_file=True,
        weight=7,
        member_maxconn=40,
        check=False,
        extra_pools=("api",),
        global_lines=("nbthread 1",),
        pool_lines=("timeout queue 1s",),
        server_options="slowstart 5s",
    )
    assert "retries 3\n" in text
    assert "\n    option redispatch\n" in text
    assert "cookie SRV insert" in text
    assert "server web2 198.18.3.22:8080 weight 7 maxconn 40 slowstart 5s cookie web2\n" in text
    assert "default_backend shop_tcp\n" in text
    assert "server-state-file" in text
    assert "load-server-state-from-file global\n" in text
    assert "\nbackend api\n" in text
    assert "    nbthread 1\n" in text
    assert text.count("timeout queue 1s\n") == 2
    assert "httpchk" not in text


def test_readiness_reads_the_pool_it_is_asked_about() -> None:
    stat = "# pxname,svname,status,\nshop,web1,UP,\nshop,BACKEND,UP,\nother,web1,DOWN,\n"
    assert haproxy_socket.statuses(stat, "shop") == {"web1": "UP"}
    assert haproxy_socket.statuses("", "shop") == {}


# Images.


def test_an_image_is_named_after_all_it_is_made_of() -> None:
    one = recipes.host("bookworm")
    assert recipes.image(one) == recipes.image(recipes.host("bookworm"))
    child = recipes.with_packages("x", one, ("a",), "a.service")
    other_parent = recipes.with_packages("x", recipes.host("trixie"), ("a",), "a.service")
    other_packages = recipes.with_packages("x", one, ("b",), "a.service")
    assert len({recipes.image(r) for r in (child, other_parent, other_packages)}) == 3
    assert [r.name for r in recipes.chain(child)] == ["base-bookworm", "host-bookworm", "x"]


def test_the_archive_is_debians_own_and_not_the_security_one() -> None:
    text = (
        "Acme\tmain\thttp://acme.example/\nDebian\tmain\thttp://mirror.example/debian-security/\n"
        "Debian\tcontrib\thttp://a.example/debian/\nDebian\tmain\thttp://mirror.example/debian/\n"
    )
    assert mirror.parse(text) == "http://mirror.example/debian/"
    assert mirror.parse("") is None


# Releases.


def test_a_release_is_the_same_bytes_every_time(tmp_path: Path) -> None:
    one = _lab(tmp_path / "one").release("2.0", error_share=0.25)
    # In another process, with another hash seed, umask and time zone.
    code = (
        "import os, lab; os.umask(0o77); from pathlib import Path; from lab import releases; "
        f"print(releases.build(Path({str(tmp_path / 'two')!r}), '2.0', lab.Switches(error_share=0.25)).sha256)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, check=True)
    assert done.stdout.decode().strip() == one.sha256
    assert one.path.read_bytes() == (tmp_path / "two/shop-2.0.tar.gz").read_bytes()
    assert _lab(tmp_path / "one").release("2.0").sha256 != one.sha256
    with tarfile.open(one.path) as archive:
        assert archive.getnames() == ["VERSION", "settings.json", "shop.py"]
        assert {(m.mtime, m.uid, m.mode) for m in archive} == {(0, 0, 0o644)}


def test_orders_are_read_and_a_missing_log_is_empty(tmp_path: Path) -> None:
    log = tmp_path / "orders.log"
    log.write_text("a 1.0 web1\na 2.0 web1\n", encoding="ascii")
    assert order_log.read([tmp_path / "none", log]) == [("a", "1.0", "web1"), ("a", "2.0", "web1")]


# The rest.


def test_inotify_instances_are_raised_and_never_lowered(tmp_path: Path) -> None:
    limit = tmp_path / "max_user_instances"
    for before, after in (("128\n", 2048), ("9000\n", 9000)):
        limit.write_text(before, encoding="ascii")
        kernel.allow_many_hosts(limit)
        assert int(limit.read_text(encoding="ascii")) == after


@pytest.mark.parametrize(("manager", "flags"), [("cgroupfs", ["--cgroup-parent=/zerodrop-lab"]), ("systemd", [])])
def test_labs_have_a_share_of_the_processors_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, manager: str, flags: list[str]
) -> None:
    said = subprocess.CompletedProcess(["podman"], 0, f"{manager}\n", "")
    monkeypatch.setattr(podman, "call", lambda *_arguments: said)
    assert kernel.own_share(tmp_path) == []  # there are no such control groups
    (tmp_path / "cpu.shares").write_text("1024\n", encoding="ascii")
    for _again in range(2):
        assert kernel.own_share(tmp_path) == flags
    group = tmp_path / "zerodrop-lab/cpu.shares"
    assert [group.read_text(encoding="ascii")] == ["8192\n"] if flags else not group.exists()


def test_the_inventory_names_groups_hosts_and_how_to_reach_them(tmp_path: Path) -> None:
    text = inventory.render(_lab(tmp_path))
    assert "    shop:\n      hosts:\n        web1: {ansible_host: 198.18.3.21}\n" in text
    assert "    lb:\n      hosts:\n        lb1: {ansible_host: 198.18.3.11}\n" in text
    assert 'ansible_python_interpreter: "/usr/bin/python3"' in text
    assert "StrictHostKeyChecking=no" in text


def test_cut_rules_match_what_comes_and_what_goes() -> None:
    text = faults.rules("198.18.3.11", 22, "both")
    assert "in ip saddr 198.18.3.11 tcp dport 22 drop" in text
    assert "out ip daddr 198.18.3.11 tcp sport 22 drop" in text
    assert faults.rules(None, None, "in").count(" drop\n") == 1
    assert 'in iifname != "lo" drop' in faults.rules(None, None, "in")
    with pytest.raises(lab.LabError, match="direction"):
        faults.rules(None, None, "up")


def test_an_owner_is_alive_until_it_is_gone() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        name = owner.identity(process.pid)
        assert name is not None
        assert owner.alive(name)
        process.kill()
        process.wait()
    assert not owner.alive(name)
    assert not owner.alive(f"{os.getpid()}.1.other-boot")
    assert not owner.alive("rubbish")


def _machine(**facts: object) -> prerequisites.Machine:
    given: dict[str, object] = {"linux": True, "root": True, "apt": True, "docker": False, "missing": ()}
    return prerequisites.Machine(**{**given, **facts})  # type: ignore[arg-type]


def test_nothing_missing_is_nothing_to_say() -> None:
    assert prerequisites.verdict(_machine()) is None


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"root": False}, ["not root", "sudo"]),
        ({"missing": ("podman", "runc")}, ["missing: podman runc", "install with: apt-get install -y podman runc"]),
        ({"missing": ("podman",), "root": False}, ["install with: sudo apt-get install -y podman", "not root"]),
        ({"missing": ("podman",), "apt": False}, ["missing: podman", "no apt-get here"]),
        ({"missing": ("podman",), "docker": True}, ["Docker alone does not do", "apt-get install -y podman"]),
        ({"linux": False}, ["needs Linux"]),
    ],
)
def test_what_is_missing_is_said_in_one_line(facts: dict[str, object], words: list[str]) -> None:
    line = prerequisites.verdict(_machine(**facts))
    assert line is not None
    assert "\n" not in line
    assert all(word in line for word in words)
