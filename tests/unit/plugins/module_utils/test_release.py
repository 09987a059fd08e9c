# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The release store: complete releases only, one atomic switch, and nothing left behind."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import http.server
import io
import json
import os
import stat
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.module_utils import _archive, _release
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    BadArtefact,
    BadInput,
    InvalidConfiguration,
    PermissionDenied,
    Refused,
    RolloutError,
    TimedOut,
    Unreachable,
    UpgradeFailed,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._release import (
    release,
    release_info,
    release_stage,
    release_switch,
)

UNIT = "shop.service"


class Systemd:
    """Stands for systemctl and journalctl of one host."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.load, self.state, self.after_restart = "loaded", "active", "active"
        self.restart_status, self.said = 0, ""
        self.hangs = self.too_quick = False
        self.result, self.restarted_by_itself = "success", 0
        self.on_restart: Callable[[], object] = lambda: None

    def __call__(self, argv: Sequence[str], limit: float) -> tuple[int, str]:
        self.calls.append(list(argv))
        if argv[0] == "journalctl":
            return 0, "".join(f"line {number} {'x' * 500}\n" for number in range(40)) + "Traceback: boom\n"
        if "restart" in argv:
            self.on_restart()
            if self.hangs:
                raise subprocess.TimeoutExpired(list(argv), limit)
            if self.too_quick:
                # As systemd does it: the reason is only told when the unit had not failed before.
                self.result = "start-limit-hit" if self.state == "active" else "exit-code"
                self.state = "failed"
                return 1, "Start request repeated too quickly.\n"
            self.state, self.result = self.after_restart, "success"
            return self.restart_status, self.said
        if "reset-failed" in argv:
            self.too_quick = False
            return 0, ""
        facts = f"LoadState={self.load}\nActiveState={self.state}\nSubState=running\nResult={self.result}\n"
        return 0, f"{facts}NRestarts={self.restarted_by_itself}\n"

    @property
    def restarts(self) -> int:
        return sum("restart" in call for call in self.calls)


class Host:
    """A host with a release store and archives to put into it."""

    def __init__(self, folder: Path) -> None:
        self.base = folder / "opt/shop"
        self.artefacts = folder / "artefacts"
        self.artefacts.mkdir()
        self.systemd = Systemd()

    def artefact(self, version: str, content: bytes = b"", name: str = "app") -> dict[str, Any]:
        path = self.artefacts / f"{version}.tar"
        with tarfile.open(path, "w") as archive:
            info = tarfile.TarInfo(name)
            data = content or version.encode()
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        return {"base": str(self.base), "version": version, "source": str(path), "checksum": checksum(path)}

    def stage(self, version: str, check: bool = False, **more: Any) -> dict[str, Any]:
        return release_stage({**self.artefact(version), **more}, check)

    def switch(self, version: str, check: bool = False, **more: Any) -> dict[str, Any]:
        params = {"base": str(self.base), "version": version, "unit": UNIT, **more}
        return release_switch(params, check, self.systemd)

    def info(self, **more: Any) -> dict[str, Any]:
        return release_info({"base": str(self.base), **more}, False, self.systemd)

    def installed(self, *versions: str) -> None:
        for version in versions:
            self.stage(version)
            self.switch(version)

    def names(self) -> list[str]:
        return sorted(str(path.relative_to(self.base)) for path in self.base.rglob("*"))


def checksum(path: Path, kind: str = "sha256") -> str:
    return f"{kind}:{hashlib.new(kind, path.read_bytes()).hexdigest()}"


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


# -- stage -------------------------------------------------------------------------


def test_a_release_is_staged_once(host: Host) -> None:
    first = host.stage("1.0")
    assert first["changed"] is True
    assert first["path"] == str(host.base / "releases/1.0")
    assert (first["entries"], first["bytes"]) == (1, 3)
    assert (host.base / "releases/1.0/app").read_text() == "1.0"
    assert not (host.base / "current").exists()
    assert host.stage("1.0")["changed"] is False
    assert host.names() == [".incoming", "releases", "releases/1.0", "releases/1.0/.release.json", "releases/1.0/app"]


def test_a_staged_release_needs_no_source_any_more(host: Host) -> None:
    params = host.artefact("1.0")
    release_stage(params, False)
    os.unlink(params["source"])
    assert release_stage(params, False)["changed"] is False


@pytest.mark.parametrize("kind", ["sha256", "sha384", "sha512"])
def test_every_kind_of_checksum_is_verified(host: Host, kind: str) -> None:
    params = host.artefact("1.0")
    params["checksum"] = checksum(Path(params["source"]), kind).upper().replace(kind.upper(), kind)
    assert release_stage(params, False)["changed"] is True
    assert host.info()["releases"][0]["checksum"] == checksum(Path(params["source"]), kind)


@pytest.mark.parametrize("check", [False, True])
def test_another_checksum_is_refused_before_anything_is_unpacked(
    host: Host, check: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_archive, "unpack", lambda *_: pytest.fail("it was unpacked"))
    with pytest.raises(BadArtefact, match=r"checksum of .*1\.0\.tar is sha256:\w+, not sha256:0000"):
        host.stage("1.0", check, checksum="sha256:" + "0" * 64)
    assert not host.base.exists()


def test_a_release_never_changes(host: Host) -> None:
    host.stage("1.0")
    other = host.artefact("1.0", b"other")
    for check in (True, False):
        with pytest.raises(Refused, match="A release never changes") as caught:
            release_stage(other, check)
        assert "under a new version" in caught.value.hint
    assert (host.base / "releases/1.0/app").read_text() == "1.0"


def test_a_checksum_of_another_kind_cannot_be_compared(host: Host) -> None:
    host.stage("1.0")
    params = host.artefact("1.0")
    with pytest.raises(Refused, match="cannot be told"):
        release_stage({**params, "checksum": checksum(Path(params["source"]), "sha512")}, False)


def test_a_directory_that_we_did_not_make_is_not_taken_over(host: Host) -> None:
    (host.base / "releases/1.0").mkdir(parents=True)
    with pytest.raises(Refused, match="not staged by this collection"):
        host.stage("1.0")


def test_check_mode_verifies_and_leaves_no_trace(host: Host) -> None:
    assert host.stage("1.0", check=True, remove_source=True)["changed"] is True
    assert not host.base.exists()
    assert (host.artefacts / "1.0.tar").exists()
    with pytest.raises(BadArtefact, match="absolute path"):
        release_stage(host.artefact("2.0", name="/etc/x"), True)


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x"])
def test_nothing_is_left_of_an_unsafe_archive(host: Host, name: str) -> None:
    with pytest.raises(BadArtefact):
        release_stage(host.artefact("1.0", name=name), False)
    assert not host.base.exists()
    host.installed("2.0")
    before = host.names()
    with pytest.raises(BadArtefact):
        release_stage(host.artefact("1.0", name=name), False)
    assert host.names() == before


@pytest.mark.parametrize("version", ["", "a/b", "a b", "1.0\n", "..", "1..0", "-1", ".hidden", "x" * 200, None, 1.0])
@pytest.mark.parametrize("operation", [release_stage, release_switch, release])
def test_a_bad_version_is_refused_first(host: Host, version: object, operation: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(BadInput):
        operation({**host.artefact("1.0"), "version": version}, False)
    assert not host.base.exists()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"base": "opt/shop"}, "absolute path"),
        ({"base": "/"}, "root directory"),
        ({"base": "/opt/../etc"}, r"without '\.\.'"),
        ({"checksum": None}, "checksum is needed"),
        ({"checksum": "0" * 64}, "is not a checksum"),
        ({"checksum": "md5:" + "0" * 32}, "is not a checksum"),
        ({"checksum": "sha256:" + "0" * 63}, "is not a checksum"),
        ({"checksum": "sha256:" + "g" * 64}, "is not a checksum"),
        ({"source": "shop.tar"}, "not a URL"),
        ({"source": "ftp://host/shop.tar"}, "not a URL"),
        ({"source": ""}, "not a URL|non-empty"),
        ({"source": None}, "non-empty text"),
        ({"strip_components": -1}, "strip_components must be"),
        ({"strip_components": "one"}, "strip_components must be"),
        ({"max_bytes": 0}, "max_bytes must be"),
        ({"timeout": 0}, "timeout must be"),
        ({"mode": "755"}, "not a mode"),
        ({"mode": "0000"}, "keep the owner out"),
        ({"owner": "no-such-user-here"}, "owner 'no-such-user-here' does not exist"),
        ({"group": "no-such-group-here"}, "does not exist"),
        ({"remove_source": "perhaps"}, "remove_source must be"),
    ],
)
def test_bad_input_is_refused_before_anything_is_touched(host: Host, params: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        host.stage("1.0", **params)
    assert not host.base.exists()


@pytest.mark.parametrize("remove", [True, False])
@pytest.mark.parametrize("name", ["app", "/etc/x"])
def test_the_source_is_removed_when_asked_also_after_a_refusal(host: Host, remove: bool, name: str) -> None:
    params = {**host.artefact("1.0", name=name), "remove_source": remove}
    try:
        release_stage(params, False)
    except BadArtefact:
        assert name == "/etc/x"  # the refusal itself is tested elsewhere
    assert os.path.exists(params["source"]) is not remove


def test_a_source_that_is_not_there_or_no_file_is_refused(host: Host) -> None:
    with pytest.raises(BadArtefact, match="is not there"):
        host.stage("1.0", source=str(host.artefacts / "missing"))
    with pytest.raises(BadArtefact, match="is not a file"):
        host.stage("1.0", source=str(host.artefacts))
    os.mkfifo(host.artefacts / "pipe")
    with pytest.raises(BadArtefact, match="is not a file"):
        host.stage("1.0", source=str(host.artefacts / "pipe"))
    assert not host.base.exists()


def test_a_source_that_changes_while_it_is_read_is_refused(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    params = host.artefact("1.0")
    unpack = _archive.unpack

    def meddled(*args: Any) -> Any:
        with open(params["source"], "ab") as file:
            file.write(b"more")
        return unpack(*args)

    monkeypatch.setattr(_archive, "unpack", meddled)
    with pytest.raises(BadArtefact, match="written to while"):
        release_stage(params, False)
    assert not host.base.exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_a_clear_error_and_leaves_nothing(
    host: Host, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.installed("1.0")
    before = host.names()

    def full(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(_archive, "_write", full)
    with pytest.raises(UpgradeFailed, match="no room left"):
        host.stage("2.0")
    assert host.names() == before


def test_the_disk_is_full_for_real(host: Host) -> None:
    host.base.mkdir(parents=True)
    if (
        os.geteuid()
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", host.base], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("needs to mount")
    try:
        with pytest.raises(UpgradeFailed, match="no room left"):
            release_stage(host.artefact("1.0", os.urandom(200_000)), False)
        assert host.names() == []
        assert host.stage("2.0")["changed"] is True
    finally:
        subprocess.run(["umount", host.base], check=True)


def test_what_a_killed_run_left_is_swept_away(host: Host) -> None:
    host.stage("1.0")
    (host.base / ".incoming/stage-killed/release").mkdir(parents=True)
    (host.base / ".incoming/switch").write_text("half")
    upload = host.base / ".incoming/upload"
    params = host.artefact("2.0")
    os.rename(params["source"], upload)
    assert release_stage({**params, "source": str(upload)}, False)["changed"] is True
    assert os.listdir(host.base / ".incoming") == ["upload"]


def test_a_run_waits_for_another_and_then_says_so(host: Host) -> None:
    host.stage("1.0")
    handle = os.open(host.base / ".incoming", os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(TimedOut, match="Another run"):
            host.stage("2.0", timeout=0.2)
        with pytest.raises(TimedOut, match="Another run"):
            host.switch("1.0", restart_timeout=0.2)
        timer = threading.Timer(0.2, fcntl.flock, (handle, fcntl.LOCK_UN))
        timer.start()
        assert host.stage("2.0")["changed"] is True
        timer.join()
    finally:
        os.close(handle)


def test_modes_and_owners(host: Host) -> None:
    me = str(os.getuid())
    host.stage("1.0", mode="0750", owner=me, group=str(os.getgid()))
    facts = (host.base / "releases/1.0").stat()
    assert stat.S_IMODE(facts.st_mode) == 0o750
    assert stat.S_IMODE((host.base / ".incoming").stat().st_mode) == 0o700
    if os.getuid() == 0:
        host.stage("2.0", owner="12345", group="54321")
        for path in ("releases/2.0", "releases/2.0/app", "releases/2.0/.release.json"):
            facts = (host.base / path).stat()
            assert (facts.st_uid, facts.st_gid) == (12345, 54321)


@pytest.mark.skipif(os.getuid() != 0, reason="becomes another user")
def test_it_works_as_another_user_and_says_where_it_may_not(host: Host, tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(folder.stat().st_mode | 0o755)
    params = host.artefact("1.0")
    mine = tmp_path / "mine"
    mine.mkdir()
    os.chown(mine, 65534, 65534)
    os.seteuid(65534)
    try:
        with pytest.raises(PermissionDenied, match="Permission denied") as caught:
            release_stage(params, False)
        assert "become" in caught.value.hint
        assert release_stage({**params, "base": str(mine / "shop")}, False)["changed"] is True
    finally:
        os.seteuid(0)
    assert not host.base.exists()


# -- stage from a URL --------------------------------------------------------------


PLACES = {"/moved": "/shop.tar", "/moved-to-a-file": "file:///etc/passwd?secret", "/moved-to-ftp": "ftp://host/?secret"}


class Server(http.server.BaseHTTPRequestHandler):
    """Serves what the class was given."""

    data = b""
    seen: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers["Authorization"]))
        if self.path.startswith("/moved"):
            self.send_response(302)
            self.send_header("Location", PLACES[self.path])
            self.end_headers()
            return
        if self.path.startswith("/missing"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.data)))
        self.end_headers()
        if self.path.startswith("/cut"):
            self.wfile.write(self.data[:1000])
        elif self.path.startswith("/trickle"):
            try:
                for number in range(len(self.data)):
                    self.wfile.write(self.data[number : number + 1])
                    threading.Event().wait(0.05)
            except OSError:
                pass
        else:
            self.wfile.write(self.data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    Server.seen = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as listener:
        thread = threading.Thread(target=listener.serve_forever, args=(0.02,))
        thread.start()
        yield f"127.0.0.1:{listener.server_port}"
        listener.shutdown()
        thread.join()


def fetched(host: Host, url: str, **more: Any) -> dict[str, Any]:
    params = host.artefact("1.0")
    Server.data = Path(params["source"]).read_bytes()
    return release_stage({**params, "source": url, **more}, False)


@pytest.mark.parametrize("path", ["/shop.tar", "/shop.tar?token=secret", "/moved"])
def test_an_artefact_is_fetched(host: Host, server: str, path: str) -> None:
    assert fetched(host, f"http://{server}{path}")["changed"] is True
    assert (host.base / "releases/1.0/app").read_text() == "1.0"
    assert os.listdir(host.base / ".incoming") == []


def test_a_password_goes_to_the_named_server_only(host: Host, server: str) -> None:
    fetched(host, f"http://me:pass%21@{server}/moved")
    assert Server.seen == [("/moved", "Basic bWU6cGFzcyE="), ("/shop.tar", None)]


@pytest.mark.parametrize(
    ("path", "more", "error", "message"),
    [
        ("/missing?token=secret", {}, BadArtefact, "answers with status 404"),
        ("/cut?token=secret", {}, Unreachable, "cut off: 9240 bytes are missing"),
        ("/trickle?token=secret", {"timeout": 0.4}, Unreachable, r"not fetched within 0\.4 s"),
        ("/shop.tar?token=secret", {"max_bytes": 5000}, BadArtefact, "more than 5000 bytes"),
        ("/shop.tar?token=secret", {"checksum": "sha256:" + "0" * 64}, BadArtefact, "is sha256:"),
        ("/moved-to-a-file", {}, BadArtefact, "answers with status 302"),
        ("/moved-to-ftp", {}, Unreachable, "'ftp', which is not HTTP"),
    ],
)
def test_a_fetch_that_fails_is_clear_and_leaves_nothing(
    host: Host, server: str, path: str, more: dict[str, Any], error: type[RolloutError], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        fetched(host, f"http://me:secret@{server}{path}", **more)
    assert "secret" not in str(caught.value) + json.dumps(caught.value.facts)
    assert not host.base.exists()


def test_a_server_that_does_not_listen(host: Host) -> None:
    with pytest.raises(Unreachable, match="Connection refused"):
        fetched(host, "http://127.0.0.1:1/shop.tar")


# -- info --------------------------------------------------------------------------


def test_info_of_a_host_without_a_store(host: Host) -> None:
    assert host.info() == {
        "changed": False, "current": None, "previous": None, "restart_due": False, "releases": [],
    }  # fmt: skip


def test_info_tells_all_newest_first(host: Host) -> None:
    host.installed("2.0", "1.0")
    (host.base / "releases/not-ours").mkdir()
    info = host.info(unit=UNIT)
    assert [each["version"] for each in info["releases"]] == ["1.0", "2.0"]
    assert (info["current"], info["previous"]) == ("1.0", "2.0")
    assert info["releases"][0]["checksum"] == checksum(host.artefacts / "1.0.tar")
    assert info["unit"] == {"name": UNIT, "active": True, "state": "active (running)", "load": "loaded"}


@pytest.mark.parametrize("target", ["/etc", "../elsewhere", "releases/1.0/..", "releases", "releases/a b", "1.0"])
def test_a_current_that_leads_elsewhere_is_refused(host: Host, target: str) -> None:
    host.stage("1.0")
    (host.base / "current").symlink_to(target)
    operations: list[Callable[[], object]] = [host.info, lambda: host.switch("1.0")]
    for operation in operations:
        with pytest.raises(InvalidConfiguration, match="not a release in"):
            operation()
    assert os.readlink(host.base / "current") == target


@pytest.mark.parametrize("make", [os.mkdir, os.mknod])
def test_a_current_that_is_no_link_is_refused(host: Host, make: Callable[[str], object]) -> None:
    host.stage("1.0")
    make(str(host.base / "current"))
    operations: list[Callable[[], object]] = [host.info, lambda: host.switch("1.0")]
    for operation in operations:
        with pytest.raises(InvalidConfiguration, match="is no link"):
            operation()


@pytest.mark.parametrize("absolute", [True, False])
def test_a_current_that_was_made_by_hand_is_understood(host: Host, absolute: bool) -> None:
    host.stage("1.0")
    (host.base / "current").symlink_to(f"{host.base}/releases/1.0/" if absolute else "./releases/1.0")
    assert host.info()["current"] == "1.0"


# -- switch ------------------------------------------------------------------------


def test_a_switch_and_its_second_run(host: Host) -> None:
    host.installed("1.0")
    host.stage("2.0")
    host.systemd.calls.clear()
    at_restart: list[Any] = []
    host.systemd.on_restart = lambda: at_restart.extend(
        (os.readlink(host.base / "current"), host.info()["restart_due"])
    )
    result = host.switch("2.0")
    assert {key: result[key] for key in ("changed", "before", "after", "previous", "pruned", "restarted")} == {
        "changed": True, "before": "1.0", "after": "2.0", "previous": "1.0", "pruned": [], "restarted": True,
    }  # fmt: skip
    assert result["diff"] == {"before": {"current": "1.0"}, "after": {"current": "2.0"}}
    assert at_restart == ["releases/2.0", True]
    assert ["systemctl", "--no-ask-password", "restart", "--", UNIT] in host.systemd.calls
    assert host.info()["restart_due"] is False
    again = host.switch("2.0")
    assert (again["changed"], again["restarted"], again["previous"]) == (False, False, "1.0")
    assert host.systemd.restarts == 1


@pytest.mark.parametrize("state", ["failed", "inactive", "activating"])
def test_a_unit_that_is_not_active_is_restarted(host: Host, state: str) -> None:
    host.installed("1.0")
    host.systemd.state = state
    result = host.switch("1.0")
    assert (result["changed"], result["restarted"]) == (True, True)


def test_current_is_there_at_every_moment(host: Host) -> None:
    host.stage("1.0")
    host.stage("2.0")
    host.switch("1.0")
    missing: list[str] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            try:
                (host.base / "current/app").read_bytes()
            except OSError as error:
                missing.append(str(error))

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _number in range(50):
        host.switch("2.0")
        host.switch("1.0")
    done.set()
    watcher.join()
    assert missing == []


@pytest.mark.parametrize("moment", ["record_switch", "point_to", "restart"])
def test_a_switch_that_was_interrupted_is_finished_by_the_next_run(
    host: Host, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.installed("0.9", "1.0")
    host.stage("2.0")

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_release if moment == "restart" else _release.Store, moment, killed)
        with pytest.raises(KeyboardInterrupt):
            host.switch("2.0")
    info = host.info()
    switched = moment == "restart"
    assert info["current"] == ("2.0" if switched else "1.0")
    assert info["previous"] == ("1.0" if switched else "0.9")
    before = host.systemd.restarts
    result = host.switch("2.0")
    assert (result["changed"], result["restarted"], result["after"]) == (True, True, "2.0")
    assert host.systemd.restarts == before + 1
    assert (host.info()["previous"], host.info()["restart_due"]) == ("1.0", False)
    assert host.switch("2.0")["changed"] is False


def test_going_back_after_an_interrupted_switch_restarts_too(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.installed("1.0")
    host.stage("2.0")

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_release.Store, "point_to", killed)
        with pytest.raises(KeyboardInterrupt):
            host.switch("2.0")
    assert host.switch("1.0")["restarted"] is True


def test_a_restart_that_fails_says_why_and_is_still_due(host: Host) -> None:
    host.installed("1.0")
    host.stage("2.0")
    host.systemd.restart_status, host.systemd.after_restart = 1, "failed"
    host.systemd.said = "Job for shop.service failed because the control process exited.\nSee journalctl for details.\n"
    with pytest.raises(UpgradeFailed, match=r"Job for shop\.service failed") as caught:
        host.switch("2.0")
    facts = caught.value.facts
    assert facts["journal"][-1] == "Traceback: boom"
    assert len(facts["journal"]) <= 15
    assert max(map(len, facts["journal"])) <= 300
    assert (facts["before"], facts["current"], facts["unit"]["active"]) == ("1.0", "2.0", False)
    assert host.info()["restart_due"] is True
    host.systemd.restart_status, host.systemd.after_restart = 0, "active"
    assert host.switch("1.0")["restarted"] is True
    assert (host.info()["current"], host.info()["previous"], host.info()["restart_due"]) == ("1.0", "2.0", False)


def test_a_unit_that_ends_at_once_is_a_failure(host: Host) -> None:
    host.stage("1.0")
    host.systemd.after_restart = "activating"
    with pytest.raises(UpgradeFailed, match="ended right after its start"):
        host.switch("1.0")


@pytest.mark.parametrize(("state", "restarted"), [("failed", 0), ("activating", 3), ("active", 3), ("active", 0)])
def test_a_unit_that_was_started_too_often_is_started_all_the_same(host: Host, state: str, restarted: int) -> None:
    host.installed("1.0")
    host.stage("2.0")
    host.systemd.too_quick, host.systemd.state, host.systemd.restarted_by_itself = True, state, restarted
    assert host.switch("2.0")["unit"]["active"] is True


def test_a_restart_that_does_not_come_back(host: Host) -> None:
    host.stage("1.0")
    host.systemd.hangs = True
    with pytest.raises(UpgradeFailed, match="did not come back within 7 s"):
        host.switch("1.0", restart_timeout=7)
    assert host.info()["restart_due"] is True


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("load", ["not-found", "masked", "bad-setting"])
def test_a_unit_that_cannot_be_started_is_refused_before_the_switch(host: Host, load: str, check: bool) -> None:
    host.installed("1.0")
    host.stage("2.0")
    host.systemd.load = load
    with pytest.raises(UpgradeFailed, match=f"systemd says {load}"):
        host.switch("2.0", check)
    assert host.info()["current"] == "1.0"


def test_without_a_unit_or_a_restart(host: Host) -> None:
    host.stage("1.0")
    assert host.switch("1.0", unit=None)["restarted"] is False
    host.stage("2.0")
    result = host.switch("2.0", restart=False)
    assert (result["changed"], result["restarted"], host.systemd.restarts) == (True, False, 0)
    assert host.switch("2.0", restart=False)["changed"] is False


@pytest.mark.parametrize("check", [True, False])
def test_what_is_not_staged_is_refused(host: Host, check: bool) -> None:
    with pytest.raises(UpgradeFailed, match=r"2\.0 is not staged in .*; staged: none"):
        host.switch("2.0", check)
    assert not host.base.exists()
    host.installed("1.0")
    with pytest.raises(UpgradeFailed, match=r"staged: 1\.0"):
        host.switch("2.0", check)
    (host.base / "releases/2.0").mkdir()
    with pytest.raises(UpgradeFailed, match="not staged by this collection"):
        host.switch("2.0", check)
    for record in ("{", "[]", '{"version": "1.0"}', '{"version": 2.0}', "[" * 60_000):
        (host.base / "releases/2.0/.release.json").write_text(record)
        with pytest.raises(UpgradeFailed, match="not staged by this collection"):
            host.switch("2.0", check)
    assert host.info()["current"] == "1.0"


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"unit": "a b"}, "systemd unit"),
        ({"unit": "--now"}, "systemd unit"),
        ({"unit": "a;b"}, "systemd unit"),
        ({"keep": 0}, "keep must be"),
        ({"keep": "all"}, "keep must be"),
        ({"protect": "1.0"}, "protect must be a list"),
        ({"protect": ["../x"]}, "protect"),
        ({"restart_timeout": -1}, "restart_timeout"),
        ({"restart": "maybe"}, "restart must be"),
    ],
)
def test_bad_input_of_a_switch(host: Host, params: dict[str, Any], message: str) -> None:
    host.stage("1.0")
    with pytest.raises(BadInput, match=message):
        host.switch("1.0", **params)
    assert not (host.base / "current").exists()


def test_check_mode_says_what_it_would_do(host: Host) -> None:
    host.installed("1.0", "2.0", "3.0")
    host.stage("4.0")
    names = host.names()
    restarts = host.systemd.restarts
    result = host.switch("4.0", check=True, keep=1)
    assert (result["changed"], result["restarted"], result["before"], result["after"]) == (True, True, "3.0", "4.0")
    assert result["pruned"] == ["2.0", "1.0"]
    assert (host.names(), host.systemd.restarts) == (names, restarts)
    assert host.switch("4.0", keep=1)["pruned"] == ["2.0", "1.0"]
    assert host.switch("4.0", check=True, keep=1)["changed"] is False


def test_old_releases_go_but_never_one_that_is_needed(host: Host) -> None:
    host.installed("1.0", "2.0", "3.0", "4.0")
    host.switch("1.0")
    (host.base / "releases/not-ours").mkdir()
    host.stage("5.0")
    # 1.0 is the oldest, but it is what 5.0 replaces.
    result = host.switch("5.0", keep=1, protect=["3.0"])
    assert result["pruned"] == ["4.0", "2.0"]
    assert sorted(os.listdir(host.base / "releases")) == ["1.0", "3.0", "5.0", "not-ours"]
    assert os.listdir(host.base / ".incoming") == []


def test_a_second_run_prunes_nothing(host: Host) -> None:
    host.installed("1.0", "2.0", "3.0")
    result = host.switch("3.0", keep=1)
    assert (result["changed"], result["pruned"]) == (False, [])


def test_a_release_that_will_not_go_is_a_warning(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.installed("1.0", "2.0")
    host.stage("3.0")
    rename = os.rename

    def busy(source: Any, target: Any) -> None:
        if str(source).endswith("releases/1.0"):
            raise OSError(errno.EBUSY, "Device or resource busy")
        rename(source, target)

    monkeypatch.setattr(os, "rename", busy)
    result = host.switch("3.0", keep=1)
    assert (result["changed"], result["pruned"]) == (True, [])
    assert result["warnings"] == ["Release 1.0 could not be removed: Device or resource busy."]


VERSIONS = ["1.0", "1.1", "2.0", "2.1-rc1", "3"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(VERSIONS), st.integers(1, 3)), min_size=1, max_size=8))
def test_any_row_of_upgrades_keeps_the_way_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, int]]
) -> None:
    host = Host(tmp_path_factory.mktemp("host"))
    current: str | None = None
    previous: str | None = None
    for version, keep in rows:
        host.stage(version)
        result = host.switch(version, keep=keep)
        assert result["changed"] is (version != current)
        if version != current:
            current, previous = version, current
        info = host.info()
        there = {each["version"] for each in info["releases"]}
        assert (info["current"], info["previous"]) == (current, previous)
        assert {each for each in (current, previous) if each} <= there
        assert len(there) <= max(keep + 2, len(there) if not result["changed"] else 0)
        assert (host.base / "current/app").read_text() == current
        assert host.switch(version, keep=keep)["changed"] is False


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=12) | st.from_regex(r"[0-9a-z./ ~+_-]{1,10}", fullmatch=True))
def test_any_text_is_one_directory_below_releases_or_bad_input(
    tmp_path_factory: pytest.TempPathFactory, version: str
) -> None:
    host = Host(tmp_path_factory.mktemp("host"))
    params = {**host.artefact("1.0"), "version": version}
    try:
        release_stage(params, False)
    except BadInput:
        assert not host.base.exists()  # either is right, and both are looked at
    else:
        assert os.listdir(host.base / "releases") == [version]
        assert sorted(os.listdir(host.base)) == [".incoming", "releases"]


# -- both at once ------------------------------------------------------------------


def test_staged_and_current_in_one_go(host: Host) -> None:
    params = {**host.artefact("1.0"), "unit": UNIT, "state": "current"}
    would = release(params, True, host.systemd)
    assert (would["changed"], would["staged"], would["after"]) == (True, True, "1.0")
    assert not host.base.exists()
    done = release(params, False, host.systemd)
    assert (done["changed"], done["staged"], done["restarted"], done["before"], done["after"]) == (
        True, True, True, None, "1.0",
    )  # fmt: skip
    assert [each["version"] for each in done["releases"]] == ["1.0"]
    assert release(params, False, host.systemd)["changed"] is False
    assert release({"base": str(host.base), "version": "1.0"}, False, host.systemd)["changed"] is False


def test_only_staged(host: Host) -> None:
    params = {**host.artefact("1.0"), "state": "staged", "unit": UNIT}
    done = release(params, False, host.systemd)
    assert (done["changed"], done["restarted"], done["before"], done["after"]) == (True, False, None, None)
    assert done["diff"] == {"before": {"staged": False}, "after": {"staged": True}}
    assert host.systemd.calls == []
    for state, source in (("staged", None), ("gone", params["source"])):
        with pytest.raises(BadInput):
            release({**params, "state": state, "source": source}, False, host.systemd)
