# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the nginx driver reads off the host: /proc, the program's words, the error log, and files put back."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.module_utils import _files
from ansible_collections.zerodrop.rollout.plugins.module_utils._drivers.base import Clock
from ansible_collections.zerodrop.rollout.plugins.module_utils._drivers.nginx import NginxDriver
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    BadInput,
    BadReply,
    ChangedByOther,
    TimedOut,
    Unreachable,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._files import configuration_lock
from ansible_collections.zerodrop.rollout.plugins.module_utils._names import member_name
from ansible_collections.zerodrop.rollout.plugins.module_utils._nginx import files, processes, program, sockets

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
PORTS = st.integers(0, 65535)


def line(local: str, remote: str, state: int, inode: int) -> str:
    return (
        f"   0: {local} {remote} {state:02X} 00000000:00000000 00:00000000 00000000     0        0 {inode} 1 0 20 4\n"
    )


@given(PORTS, PORTS, st.sampled_from([1, 2, 8, 10]), st.integers(0, 2**40), st.ip_addresses())
def test_connections_are_read_as_the_kernel_prints_them(
    local: int, remote: int, state: int, inode: int, address: IPv4Address | IPv6Address
) -> None:
    packed = address.packed
    words = "".join(f"{int.from_bytes(packed[i : i + 4], sys.byteorder):08X}" for i in range(0, len(packed), 4))
    text = HEAD + line(f"{'0' * len(words)}:{local:04X}", f"{words}:{remote:04X}", state, inode)
    (found,) = sockets.connections(text)
    assert (found.local_port, found.remote_port, found.state, found.inode) == (local, remote, state, inode)
    assert found.remote == str(getattr(address, "ipv4_mapped", None) or address)


def test_what_waits_for_its_end_is_left_out() -> None:
    assert sockets.connections(HEAD + line("0100007F:0050", "0100007F:0051", 6, 0)) == []


@given(st.text())
def test_any_text_for_proc_net_is_survived(text: str) -> None:
    sockets.connections(HEAD + text)
    sockets.connected(text, "/run/x.sock")


def test_own_connections_are_found() -> None:
    with socket.socket() as server, socket.socket() as client:
        server.bind(("127.0.0.1", 0))
        server.listen()
        client.connect(server.getsockname())
        port = server.getsockname()[1]
        found = [one for one in sockets.read(os.getpid()) if one.remote_port == port]
        assert [one.remote for one in sockets.owned(os.getpid(), found)] == ["127.0.0.1"]
        with subprocess.Popen(["sleep", "10"], close_fds=True) as other:
            assert sockets.owned(other.pid, found) == []
            other.kill()


def test_connections_at_a_unix_socket_are_counted(tmp_path: Path) -> None:
    path = str(tmp_path / "x.sock")
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(path)
        server.listen()
        assert sockets.on_unix_socket(os.getpid(), path) == 0
        client.connect(path)
        taken, _address = server.accept()
        with taken:
            assert sockets.on_unix_socket(os.getpid(), path) == 1


@given(st.text(), st.integers(0, 2**60))
def test_a_process_may_have_any_name(name: str, start: int) -> None:
    fields = " ".join(["S", "7", *["0"] * 17, str(start), "0", "0"])
    assert processes.start_of(f"12 ({name}) {fields}") == start
    assert processes.parent_of(f"12 ({name}) {fields}") == 7


@given(st.text())
def test_a_pid_file_says_a_number_or_nothing(text: str) -> None:
    try:
        assert processes.pid_of(text) > 0
    except ValueError:
        pass


def test_a_pid_file_of_something_else_is_not_nginx(tmp_path: Path) -> None:
    (tmp_path / "pid").write_text(f"{os.getpid()}\n")
    with pytest.raises(Unreachable, match="not nginx's master"):
        processes.read(str(tmp_path / "pid"))
    with pytest.raises(Unreachable, match="says nothing"):
        processes.read(str(tmp_path / "none"))


def test_a_start_time_is_compared_with_a_files_time(tmp_path: Path) -> None:
    (tmp_path / "before").touch()
    with subprocess.Popen(["sleep", "10"]) as child:
        process = processes.Process(child.pid, processes.start_of(Path(f"/proc/{child.pid}/stat").read_text()))
        assert abs(processes.started_at(process) - (tmp_path / "before").stat().st_mtime) < 0.5
        assert processes.lives(process)
        assert not processes.lives(process._replace(start=process.start - 1))
        child.kill()


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("nginx version: nginx/1.22.1\nconfigure arguments: --pid-path=/run/nginx.pid", (1, 22, 1)),
        ("nginx version: openresty/1.27.1.2\n", (1, 27, 1)),
        ("nginx version: nginx/1.30.6 (Ubuntu)\n", (1, 30, 6)),
    ],
)
def test_versions(text: str, version: tuple[int, int, int]) -> None:
    assert program.build_of(text).version == version


def test_what_is_built_in() -> None:
    text = "nginx version: nginx/1.22.1\nconfigure arguments: --with-x='a b' --prefix=/usr --pid-path='/run/n.pid'"
    assert program.build_of(text).options == {"prefix": "/usr", "pid-path": "/run/n.pid"}


@given(st.text())
def test_other_words_of_a_program_are_no_version(text: str) -> None:
    try:
        program.build_of(text)
    except BadReply:
        pass
    program.dump_of(text)


def test_grave_lines_of_an_error_log() -> None:
    log = (
        "2026/11/24 06:12:39 [notice] 7#7: signal 1 (SIGHUP) received\n"
        "2026/11/24 06:12:39 [emerg] 7#7: bind() to 0.0.0.0:80 failed (98: Address already in use)\n"
        "2026/11/24 06:12:39 [error] 8#8: *1 upstream\n"
    )
    assert program.errors_of(log) == [(7, "[emerg] bind() to 0.0.0.0:80 failed (98: Address already in use)")]


@given(st.text())
def test_any_error_log_is_survived(text: str) -> None:
    program.errors_of(text)


@pytest.mark.case(25)
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http { server { listen 80; } }", program.Dump(True, False, True)),
        ("  # http2 on;\n", program.Dump(True, False, True)),
        ("http2 on;", program.Dump(False, False, True)),
        ("listen 443 ssl http2;", program.Dump(False, False, True)),
        ("listen unix:/run/x.sock;", program.Dump(False, False, True)),
        ("auth_request /auth;", program.Dump(False, False, True)),
        ("content_by_lua_block {}", program.Dump(False, False, True)),
        ("keepalive_min_timeout 2s;", program.Dump(True, True, True)),
        ("keepalive_min_timeout 0;", program.Dump(True, False, True)),
        ("proxy_next_upstream off;", program.Dump(True, False, False)),
    ],
)
def test_what_a_configuration_says_about_counting(text: str, expected: program.Dump) -> None:
    assert program.dump_of(text) == expected


def test_a_replaced_file_keeps_its_mode_and_owner_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "x.conf"
    path.write_bytes(b"old")
    path.chmod(0o604)
    os.utime(path, ns=(1, 1234567890))
    owner = path.stat().st_uid, path.stat().st_gid
    replaced = files.Replaced()
    replaced.write({str(path): b"old"}, {str(path): b"new"})
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o7777 == 0o604
    assert (path.stat().st_uid, path.stat().st_gid) == owner
    replaced.restore()
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (b"old", 1234567890)
    assert [one.name for one in tmp_path.iterdir()] == ["x.conf"]


LABEL = b"system_u:object_r:httpd_config_t:s0\0"


def test_a_replaced_file_keeps_its_selinux_label(tmp_path: Path) -> None:
    path = tmp_path / "shop.conf"
    path.write_text("old")
    try:
        os.setxattr(path, "security.selinux", LABEL)
    except OSError as error:
        pytest.skip(f"a label cannot be set here: {error.strerror}")
    inode = path.stat().st_ino
    replaced = files.Replaced()
    replaced.write({str(path): b"old"}, {str(path): b"new"})
    assert path.read_text() == "new"
    assert path.stat().st_ino != inode
    assert os.getxattr(path, "security.selinux") == LABEL
    replaced.restore()
    assert path.read_text() == "old"
    assert os.getxattr(path, "security.selinux") == LABEL


def test_a_file_that_somebody_else_changed_is_not_written_over(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_bytes(b"old")
    second.write_bytes(b"theirs")
    with pytest.raises(ChangedByOther, match="nothing was touched"):
        files.Replaced().write({str(first): b"old", str(second): b"old"}, {str(first): b"new", str(second): b"new"})
    assert first.read_bytes() == b"old"


def test_one_change_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_files, "LOCK_FOLDER", str(tmp_path / "run"))
    with configuration_lock("nginx", "/etc/nginx/nginx.conf", 0.0):
        with configuration_lock("nginx", "/etc/nginx/other.conf", 0.0):
            pass
        with (
            pytest.raises(TimedOut, match="nothing was changed"),
            configuration_lock("nginx", "/etc/nginx/nginx.conf", 0.05),
        ):
            pass
    with configuration_lock("nginx", "/etc/nginx/nginx.conf", 0.0):
        pass


def test_a_file_that_comes_or_goes_is_seen(tmp_path: Path) -> None:
    disk = files.OnDisk()
    assert disk.glob(str(tmp_path / "*.conf")) == []
    first = disk.signature()
    (tmp_path / "a.conf").touch()
    os.utime(tmp_path, ns=(1, 1))
    assert disk.signature() != first


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("nginx_config", "etc/nginx.conf"),
        ("nginx_binary", "nginx; rm -rf /"),
        ("nginx_pid_file", "/run/../x"),
        ("nginx_leaving_wait", "soon"),
    ],
)
def test_wrong_parameters_are_refused(key: str, wrong: object) -> None:
    with pytest.raises(BadInput, match=key):
        NginxDriver.from_params({key: wrong}, Clock())


@pytest.mark.parametrize("name", ["10.0.0.1:80", "app.example:8080", "[::1]:80", "unix:/run/app.sock"])
def test_an_address_is_a_members_name(name: str) -> None:
    assert member_name(name) == name


@pytest.mark.parametrize(
    "name", ["[::1]:80;", "[::1] :80", "unix:/run/a b", "unix:/run/a;b", "unix:/run/../x", "[x]:80", "a/b"]
)
def test_what_looks_like_an_address_is_not_taken(name: str) -> None:
    with pytest.raises(BadInput):
        member_name(name)
