# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What cannot go well is refused with a clear message, before anything is touched.

The runs change nothing, so they all go before the tests that look at them, a few at a time.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

import lab

from .rig import Rig, Run

pytestmark = pytest.mark.lab


HELD = "Another run has the lease on this service"


@dataclass(frozen=True)
class Refusal:
    """Settings that must be refused, and words of the message."""

    settings: Mapping[str, Any]
    words: tuple[str, ...]
    inventory: Callable[[dict[str, Any], lab.Lab], None] | None = None
    options: tuple[str, ...] = ()
    reported: bool = True  # whether there can be a report
    archive: Callable[[], bytes] | None = None
    host_settings: Mapping[str, Any] = field(default_factory=dict)


def bad(setting: str, value: Any, *words: str) -> Refusal:
    """One wrong value; its name stands in the message."""
    return Refusal({f"rollout_{setting}": value}, (f"rollout_{setting}", *words))


# -- inventories ----------------------------------------------------------------


def stranger(inventory: dict[str, Any], up: lab.Lab) -> None:
    """A host among the members that no balancer knows."""
    children = inventory["all"]["children"]
    children["shop"]["hosts"]["stranger"] = {"ansible_host": up.balancers[0].address}


def no_balancer(inventory: dict[str, Any], up: lab.Lab) -> None:
    """A host among the balancers on which no HAProxy runs."""
    hosts = inventory["all"]["children"]["lb"]["hosts"]
    hosts["impostor"] = {"ansible_host": up.members[0].address}


def dead_balancer(inventory: dict[str, Any], up: lab.Lab) -> None:
    """A balancer at an address where nobody is."""
    address = up.controller.rpartition(".")[0] + ".254"
    inventory["all"]["children"]["lb"]["hosts"]["gone"] = {"ansible_host": address}


def same_member_twice(inventory: dict[str, Any], up: lab.Lab) -> None:
    inventory["all"]["children"]["shop"]["hosts"]["web2"]["rollout_member"] = "web1"


def no_such_member(inventory: dict[str, Any], up: lab.Lab) -> None:
    inventory["all"]["children"]["shop"]["hosts"]["web2"]["rollout_member"] = "web9"


def member_with_a_semicolon(inventory: dict[str, Any], up: lab.Lab) -> None:
    inventory["all"]["children"]["shop"]["hosts"]["web2"]["rollout_member"] = "web2;shutdown"


def zone_of_two_lines(inventory: dict[str, Any], up: lab.Lab) -> None:
    inventory["all"]["children"]["shop"]["hosts"]["web2"]["rollout_zone"] = "a\nb"


def member_port_of_text(inventory: dict[str, Any], up: lab.Lab) -> None:
    host = inventory["all"]["children"]["shop"]["hosts"].pop("web2")
    inventory["all"]["children"]["shop"]["hosts"]["two"] = {**host, "rollout_member_port": "http"}


def one_is_not_in_the_inventory(inventory: dict[str, Any], up: lab.Lab) -> None:
    del inventory["all"]["children"]["shop"]["hosts"]["web6"]


def no_members_in_the_group(inventory: dict[str, Any], up: lab.Lab) -> None:
    inventory["all"]["children"]["shop"]["hosts"] = {}


def two_names_for_one_host(inventory: dict[str, Any], up: lab.Lab) -> None:
    hosts = inventory["all"]["children"]["shop"]["hosts"]
    hosts["alias"] = dict(hosts["web1"])


# -- archives -------------------------------------------------------------------


def _archive(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for entry, data in entries:
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return gzip.compress(plain.getvalue())


def _file(name: str) -> tuple[tarfile.TarInfo, bytes]:
    return tarfile.TarInfo(name), b"2.0\n"


def _link(name: str, to: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, to
    return entry, b""


def absolute_path() -> bytes:
    return _archive(_file("VERSION"), _file("/etc/cron.d/evil"))


def parent_path() -> bytes:
    return _archive(_file("VERSION"), _file("../../evil"))


def link_out() -> bytes:
    return _archive(_file("VERSION"), _link("evil", "/etc"))


def link_out_by_parents() -> bytes:
    return _archive(_file("VERSION"), _link("a/evil", "../../../etc"))


def hard_link_out() -> bytes:
    return _archive(_file("VERSION"), _link("evil", "/etc/passwd", tarfile.LNKTYPE))


def device() -> bytes:
    entry = tarfile.TarInfo("evil")
    entry.type = tarfile.BLKTYPE
    return _archive(_file("VERSION"), (entry, b""))


def no_archive() -> bytes:
    return b"This is not an archive.\n"


def damaged() -> bytes:
    whole = _archive(_file("VERSION"), (tarfile.TarInfo("data"), bytes(range(256)) * 40))
    return whole[: len(whole) // 2]


CASES: dict[str, Refusal] = {
    # Who and where.
    "service missing": bad("service", None),
    "service with a slash": bad("service", "a/b"),
    "hosts missing": bad("hosts", None),
    "hosts unknown": bad("hosts", "nobody", "'nobody'", "matches no host"),
    "hosts empty": Refusal({}, ("rollout_hosts", "matches no host"), no_members_in_the_group),
    "hosts excluded": bad("hosts", "shop:!shop", "matches no host"),
    "balancers missing": bad("balancers", None),
    "balancers unknown": bad("balancers", "nobody", "'nobody'", "matches no host"),
    "balancers among members": bad("balancers", "lb:web1", "web1"),
    "driver unknown": bad("driver", "varnish", "haproxy"),
    "pool missing": bad("pool", None),
    "pool unknown": Refusal({"rollout_pool": "store"}, ("'store'", "shop")),
    "pool with a semicolon": bad("pool", "shop;shutdown"),
    "pool with a space": bad("pool", "shop store"),
    "pool with a newline": bad("pool", "shop\nstore"),
    "member unknown": Refusal({}, ("stranger", "not a member", "web1"), stranger),
    "member misnamed": Refusal({}, ("web9",), no_such_member),
    "member with a semicolon": Refusal({}, ("rollout_member", "web2"), member_with_a_semicolon),
    "member port of text": Refusal({}, ("rollout_member_port", "two"), member_port_of_text),
    "members with the same name": Refusal({}, ("web1 and web2", "rollout_member"), same_member_twice),
    "one host under two names": Refusal({}, ("web1", "alias"), two_names_for_one_host),
    "member not in the inventory": Refusal({}, ("web6", "inventory does not know"), one_is_not_in_the_inventory),
    "balancer without HAProxy": Refusal({}, ("impostor", "/run/haproxy/admin.sock"), no_balancer),
    "balancer that is gone": Refusal({}, ("gone cannot be reached",), dead_balancer),
    "limited run": Refusal({}, ("web1", "rollout_hosts", "limit"), options=("--limit", "web1"), reported=False),
    "limited to all but one": Refusal({}, ("limit",), options=("--limit", "all:!web6"), reported=False),
    # The runtime socket.
    "socket without rights": Refusal({"rollout_socket": "/run/haproxy/user.sock"}, ("/run/haproxy/user.sock", "lb1")),
    "socket with few rights": Refusal(
        {"rollout_socket": "/run/haproxy/operator.sock"}, ("/run/haproxy/operator.sock", "lb1")
    ),
    "socket that is not there": Refusal({"rollout_socket": "/run/none.sock"}, ("/run/none.sock", "lb1")),
    "socket that is a file": Refusal({"rollout_socket": "/etc/passwd"}, ("/etc/passwd", "lb1")),
    "socket of a relative path": bad("socket", "run/haproxy.sock", "absolute"),
    # How much at a time.
    "batches of 0": bad("batches", 0, "at least 1"),
    "batches of 0 in a ramp": bad("batches", [1, 0], "at least 1"),
    "batches of 0 percent": bad("batches", "0%", "at least 1"),
    "batches of 150 percent": bad("batches", "150%", "100%"),
    "batches of text": bad("batches", "many", "'many'"),
    "batches of less than 0": bad("batches", -1),
    "batches of a fraction": bad("batches", 1.5),
    "batches of nothing": bad("batches", []),
    "batches of a mapping": bad("batches", {"first": 1}),
    "batches of true": bad("batches", True),
    "floor above all": bad("floor", 7, "7", "6 members"),
    "floor of all": bad("floor", 6, "6 of 6", "not one can be taken out"),
    "floor of 100 percent": bad("floor", "100%", "not one can be taken out"),
    "floor of 120 percent": bad("floor", "120%", "100%"),
    "floor of text": bad("floor", "most", "'most'"),
    "floor of less than 0": bad("floor", "-1"),
    "floor_wait of text": bad("floor_wait", "long"),
    # What.
    "version missing": bad("version", None),
    "version with a slash": bad("version", "2/0"),
    "version with a space": bad("version", "2 0"),
    "version with a newline": bad("version", "2\n0"),
    "version with a newline at the end": bad("version", "2.0\n"),
    "version of two dots": bad("version", ".."),
    "version with two dots": bad("version", "2..0"),
    "version like an option": bad("version", "-rf"),
    "version of a shell": bad("version", "$(reboot)"),
    "version of a template": bad("version", "{{ lookup('pipe', 'id') }}"),
    # How.
    "no method": Refusal({"rollout_upgrade_method": None}, ("rollout_upgrade_method", "rollout_upgrade_tasks")),
    "two methods": Refusal({"rollout_upgrade_role": "mine"}, ("rollout_upgrade_role", "rollout_upgrade_method")),
    "method unknown": bad("upgrade_method", "magic", "'magic'"),
    "tasks that are not there": Refusal(
        {
            "rollout_upgrade_method": None,
            "rollout_archive_src": None,
            "rollout_archive_checksum": None,
            "rollout_upgrade_tasks": "none.yml",
        },
        ("rollout_upgrade_tasks", "none.yml"),
    ),
    "role that is not there": Refusal(
        {
            "rollout_upgrade_method": None,
            "rollout_archive_src": None,
            "rollout_archive_checksum": None,
            "rollout_upgrade_role": "none",
        },
        ("rollout_upgrade_role", "none"),
    ),
    "role of a collection that is not there": Refusal(
        {
            "rollout_upgrade_method": None,
            "rollout_archive_src": None,
            "rollout_archive_checksum": None,
            "rollout_upgrade_role": "no.such.role",
        },
        ("rollout_upgrade_role", "no.such.role"),
    ),
    "archive not given": bad("archive_src", None),
    "archive not there": bad("archive_src", "none.tar.gz", "none.tar.gz"),
    "checksum not given": bad("archive_checksum", None, "sha256"),
    "checksum of nothing": bad("archive_checksum", "sha256:", "sha256"),
    "checksum too short": bad("archive_checksum", "sha256:abcd", "sha256"),
    "checksum without a kind": bad("archive_checksum", "0" * 64, "sha256"),
    "checksum of a weak kind": bad("archive_checksum", "md5:" + "0" * 32, "sha256"),
    "checksum that does not match": Refusal(
        {"rollout_archive_checksum": "sha256:" + "0" * 64}, ("checksum", "sha256:000000")
    ),
    "base of a relative path": bad("archive_base", "opt/shop", "absolute"),
    "base with two dots": bad("archive_base", "/opt/../etc", "absolute"),
    "unit of a shell": bad("archive_unit", "shop;reboot"),
    "unit that is not there": Refusal({"rollout_archive_unit": "none.service"}, ("none.service",)),
    "too few releases kept": bad("archive_keep", 1, "at least 2"),
    "archive with an absolute path": Refusal({}, ("/etc/cron.d/evil",), archive=absolute_path),
    "archive with two dots": Refusal({}, ("../../evil",), archive=parent_path),
    "archive with a link out": Refusal({}, ("evil", "/etc"), archive=link_out),
    "archive with a link out by parents": Refusal({}, ("evil", "../../../etc"), archive=link_out_by_parents),
    "archive with a hard link out": Refusal({}, ("evil", "/etc/passwd"), archive=hard_link_out),
    "archive with a device": Refusal({}, ("evil",), archive=device),
    "archive that is none": Refusal({}, ("archive",), archive=no_archive),
    "archive that is damaged": Refusal({}, ("archive is damaged",), archive=damaged),
    # The drain.
    "drain_timeout of text": bad("drain_timeout", "long", "'long'"),
    "drain_timeout below 0": bad("drain_timeout", -1, "at least 0"),
    "drain_timeout without end": bad("drain_timeout", "inf"),
    "drain_timeout of no number": bad("drain_timeout", "nan"),
    "on_drain_timeout unknown": bad("on_drain_timeout", "kill", "fail, cut"),
    "session_grace below 0": bad("session_grace", -0.5),
    # The gate.
    "health_url missing": bad("health_url", None),
    "health_url without scheme": bad("health_url", "127.0.0.1:8080/health", "http://"),
    "health_url of another scheme": bad("health_url", "ftp://127.0.0.1/health", "http://"),
    "health_url without a host": bad("health_url", "http:///health"),
    "health_url with a space": bad("health_url", "http://127.0.0.1/he alth", "space"),
    "health_url with a newline": bad("health_url", "http://127.0.0.1/\r\nX: y"),
    "health_status of text": bad("health_status", "good"),
    "health_status out of range": bad("health_status", [200, 99]),
    "two places for the version": Refusal(
        {"rollout_health_version_key": "version", "rollout_health_version_header": "X-Version"},
        ("rollout_health_version_key", "rollout_health_version_header"),
    ),
    "health_version_in_text unclear": bad("health_version_in_text", "perhaps", "true or false"),
    "health_successes of 0": bad("health_successes", 0, "at least 1"),
    "health_successes of a fraction": bad("health_successes", 2.5, "whole"),
    "health_seconds of text": bad("health_seconds", "a few"),
    "health_seconds beyond the timeout": Refusal(
        {"rollout_health_seconds": 30, "rollout_health_timeout": 20},
        ("rollout_health_seconds", "rollout_health_timeout"),
    ),
    "health_successes beyond the timeout": Refusal(
        {"rollout_health_successes": 100, "rollout_health_interval": 1, "rollout_health_timeout": 20},
        ("rollout_health_timeout",),
    ),
    "health_timeout of 0": bad("health_timeout", 0),
    "health_interval of 0": bad("health_interval", 0),
    "health_request_timeout of 0": bad("health_request_timeout", 0),
    "health_validate_certs unclear": bad("health_validate_certs", "maybe", "true or false"),
    # The look.
    "look_requests below 0": bad("look_requests", -1),
    "look_seconds beyond the timeout": Refusal(
        {"rollout_look_seconds": 9, "rollout_look_timeout": 3}, ("rollout_look_seconds", "rollout_look_timeout")
    ),
    "look_max_errors of text": bad("look_max_errors", "none"),
    # The end.
    "on_failure unknown": bad("on_failure", "retry", "rollback, freeze"),
    "report_dir under a file": Refusal(
        {"rollout_report_dir": "/etc/passwd/reports"}, ("rollout_report_dir",), reported=False
    ),
    # When, and how many may fail.
    "freeze": Refusal({"rollout_freeze_until": "2099-01-01"}, ("freeze until 2099-01-01", "rollout_override")),
    "zone of two lines": Refusal({}, ("rollout_zone of web2",), zone_of_two_lines),
    # Data that change.
    "expand of tasks that are not there": Refusal({"rollout_expand": "none.yml"}, ("rollout_expand", "none.yml")),
    "settle of what is known": Refusal(
        {"rollout_expand": "up", "rollout_settle": "expand not run"}, ("rollout_settle", "has not run")
    ),
    "migrate_host unknown": Refusal(
        {"rollout_expand": "up", "rollout_migrate_host": "nobody"}, ("rollout_migrate_host", "'nobody'")
    ),
    # The witness.
    "witness_url without scheme": bad("witness_url", "shop.example.com", "http://"),
    "witness_rate of 0": bad("witness_rate", 0),
    "witness_mix of text": bad("witness_mix", "all"),
    "witness_mix unknown": Refusal(
        {"rollout_witness_url": "http://127.0.0.1/", "rollout_witness_mix": {"bots": 1}}, ("bots",)
    ),
    "max_failed_requests without a witness": bad("max_failed_requests", 3, "rollout_witness_url"),
    "max_failed_requests below 0": bad("max_failed_requests", -1),
    # Typing errors.
    "setting that is none": bad("batch", 2, "rollout_batches"),
}


@dataclass(frozen=True)
class Refused:
    """All the runs, and what the fleet was like before and after them."""

    runs: dict[str, Run]
    before: dict[str, Any]
    after: dict[str, Any]


def _run(rig: Rig, good: Mapping[str, Any], number: int, case: Refusal) -> Run:
    settings = dict(good)
    if case.archive is not None:
        folder = rig.folder / f"archive{number}"
        folder.mkdir()
        path = folder / "shop-2.0.tar.gz"
        data = case.archive()
        path.write_bytes(data)
        settings["rollout_archive_src"] = str(path)
        settings["rollout_archive_checksum"] = f"sha256:{hashlib.sha256(data).hexdigest()}"
    inventory: Path | None = None
    if case.inventory is not None:
        values = yaml.safe_load(rig.lab.inventory.read_text(encoding="utf-8"))
        case.inventory(values, rig.lab)
        inventory = rig.folder / f"inventory{number}.yml"
        inventory.write_text(yaml.safe_dump(values), encoding="utf-8")
    return rig.rollout(settings, case.settings, inventory=inventory, options=case.options)


@pytest.fixture(scope="module")
def refused(six_members: lab.Lab, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Refused:
    """Runs the cases of the tests that were chosen."""
    rig = Rig(six_members, tmp_path_factory.mktemp("refusals"))
    rig.reset()
    before = rig.snapshot()
    chosen = {
        item.callspec.params["name"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and hasattr(item, "callspec") and "name" in item.callspec.params
    }
    names = [name for name in CASES if name in chosen]
    good = rig.archive("2.0")
    with ThreadPoolExecutor(3) as pool:
        runs = pool.map(lambda each: _run(rig, good, each[0], CASES[each[1]]), enumerate(names))
        found = dict(zip(names, runs, strict=True))
    for number, name in enumerate(names, len(names)):
        if HELD in found[name].text:  # by a case that ran beside it
            found[name] = _run(rig, good, number, CASES[name])
    return Refused(found, before, rig.snapshot())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nothing_is_touched_by_what_is_refused(refused: Refused) -> None:
    """Not the members' releases and processes, not the balancers, and no file is left anywhere."""
    assert refused.after == refused.before


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", list(CASES))
def test_refused_with_a_clear_message(refused: Refused, name: str) -> None:
    assert_refused(refused.runs[name], CASES[name])


def assert_refused(run: Run, case: Refusal) -> None:
    """It failed, and said why without a word of Python's."""
    assert run.rc != 0, str(run)
    assert "Traceback" not in run.output, str(run)
    assert "unexpected" not in run.output.lower(), str(run)
    for word in case.words:
        assert word in run.text, str(run)
    if case.reported:
        assert run.report["outcome"] == "refused", str(run)
        assert "nothing was touched" in run.report["sentence"]
        for word in case.words:
            assert word in run.report["sentence"]
