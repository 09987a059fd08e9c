# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The driver against a scripted socket that answers as HAProxy was recorded to."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.module_utils._drivers import haproxy as haproxy_module
from ansible_collections.zerodrop.rollout.plugins.module_utils._drivers.base import Clock
from ansible_collections.zerodrop.rollout.plugins.module_utils._drivers.haproxy import HAProxyDriver
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    BadInput,
    BadReply,
    ChangedByOther,
    PermissionDenied,
    Refused,
    RolloutError,
    UnknownMember,
    UnknownPool,
    Unreachable,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._haproxy.runtime import RuntimeSocket
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Admin, Health

STATE_HEADER = (
    "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight "
    "srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state "
    "bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr "
    "srv_agent_addr srv_agent_port\n"
)
# Cut to the columns that are used; HAProxy gives about a hundred.
STAT_HEADER = (
    "# pxname,svname,qcur,scur,stot,econ,eresp,wretr,wredis,status,bck,throttle,tracked,check_status,hrsp_5xx,"
    "last_chk,check_desc,cookie,\n"
)


class Server:
    """A line of each table."""

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.number = number
        self.bits = 0
        self.op = 2
        self.weight = 1
        self.check = 6
        self.agent = 0
        self.tracked = ""
        self.scur = 0
        self.qcur = 0
        self.stot = 0

    def state(self) -> str:
        return (
            f"3 shop {self.number} {self.name} 127.0.0.1 {self.op} {self.bits} {self.weight} 1 9 6 3 3 {self.check} "
            f"{self.agent} 0 0 - 8081 - 0 0 - - 0\n"
        )

    def stat(self) -> str:
        return (
            f"shop,{self.name},{self.qcur},{self.scur},{self.stot},1,2,3,4,UP,0,,{self.tracked},L7OK,5,,"
            f"Layer7 check passed,c1,\n"
        )


class FakeHAProxy:
    """Enough of HAProxy's runtime and master sockets, with a log of what was asked."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "admin.sock")
        self.master_path = str(folder / "master.sock")
        self.pid = 100
        self.master_says: list[int] = []  # the current workers; the one that answers when empty
        self.old: dict[int, dict[str, int]] = {}  # leaving workers, with what each serves by member
        self.servers = {name: Server(name, number) for number, name in enumerate(("s1", "s2"), 1)}
        self.old_clients = 0
        self.old_sessions: list[str] = []  # the server of each
        self.answers: dict[str, str] = {}  # overrides
        self.before: Callable[[str], None] = lambda command: None
        self.level = "admin"
        self.asked: list[str] = []
        self._stopping = False
        self._threads: list[threading.Thread] = []
        for path, answer in ((self.path, self.answer), (self.master_path, self.master)):
            server = socket.socket(socket.AF_UNIX)
            server.bind(path)
            server.listen(50)
            server.settimeout(0.05)
            thread = threading.Thread(target=self._serve, args=(server, answer))
            thread.start()
            self._threads.append(thread)

    def _serve(self, server: socket.socket, answer: Callable[[str], str]) -> None:
        with server:
            while not self._stopping:
                try:
                    connection, _address = server.accept()
                except OSError:
                    continue
                with connection:
                    connection.settimeout(2)
                    line = b""
                    while not line.endswith(b"\n"):
                        chunk = connection.recv(65536)
                        if not chunk:
                            break
                        line += chunk
                    if line.endswith(b"\n"):
                        connection.sendall(answer(line.decode().rstrip("\n")).encode("utf-8", "surrogateescape"))

    def stop(self) -> None:
        self._stopping = True
        for thread in self._threads:
            thread.join()

    def answer(self, line: str) -> str:
        return "".join(self._one(command) for command in line.split(";"))

    def _one(self, command: str) -> str:
        self.before(command)
        self.asked.append(command)
        if command in self.answers:
            return self.answers[command]
        if command == "show info":
            return f"Name: HAProxy\nVersion: 2.6.12\nPid: {self.pid}\nStopping: 0\nStart_time_sec: 7\nCurrConns: 0\n\n"
        if command == "show cli level":
            return f"{self.level}\n\n"
        if command == "show backend":
            return "# name\nshop\n\n"
        if command == "show servers state shop":
            return STATE_HEADER + "".join(server.state() for server in self.servers.values()) + "\n"
        if command.startswith("show servers state"):
            return "Can't find backend.\n\n"
        if command.startswith(("show stat 3 ", "show stat -1 ")):
            number = int(command.split()[-1])
            chosen = [server for server in self.servers.values() if number in (-1, server.number)]
            return STAT_HEADER + "".join(server.stat() for server in chosen) + "\n"
        if self.level != "admin":
            return "Permission denied\n\n"
        return self._change(command.split())

    def _change(self, words: list[str]) -> str:
        target = words[2] if words[0] == "set" else words[-1]
        pool, _separator, name = target.partition("/")
        if pool != "shop":
            return "No such backend.\n\n"
        if name not in self.servers:
            return "No such server.\n\n"
        server = self.servers[name]
        if words[0] == "set" and words[3] == "state":
            server.bits = server.bits & ~9 | {"ready": 0, "drain": 8, "maint": 1}[words[4]]
        elif words[0] == "set" and words[3] == "health":
            server.op = 0
        elif words[0] == "set" and words[3] == "weight":
            server.weight = int(words[4])
        elif words[:2] == ["disable", "agent"]:
            server.agent &= ~4
        elif words[:2] == ["enable", "agent"]:
            server.agent |= 4
        return "\n"

    def master(self, line: str) -> str:
        self.asked.append(line)
        if line == "show proc":
            text = "#<PID>          <type>          <reloads>       <uptime>        <version>      \n"
            text += "50              master          0 [failed: 0]   0d00h00m02s     2.6.12\n# workers\n"
            for pid in self.master_says or [self.pid]:
                text += f"{pid}           worker          0               0d00h00m02s     2.6.12\n"
            if self.old:
                text += "# old workers\n"
            for pid in self.old:
                text += f"{pid}           worker          1               0d00h04m49s     2.6.12\n"
            return text + "# programs\n\n"
        target, _separator, command = line.partition(" ")
        pid = int(target[2:])
        if pid not in self.old:
            return f"Can't find the target PID matching the prefix '@!{pid}'\n"
        if command == "show servers state shop":
            return STATE_HEADER + "".join(server.state() for server in self.servers.values()) + "\n"
        if command == "show info":
            return f"Version: 2.6.12\nPid: {pid}\nStopping: 1\nCurrConns: {self.old_clients}\n\n"
        if command == "show sess":
            line = "0x7f62: proto=tcpv4 src=192.0.2.1:53 fe=in be=shop srv={} ts=00 epoch=0 age=4s\n"
            return "".join(line.format(server) for server in self.old_sessions) + "\n"
        assert command == "show stat 3 4 -1", command
        rows = []
        for name, scur in self.old[pid].items():
            server = Server(name, 1)
            server.scur = scur
            rows.append(server.stat())
        return STAT_HEADER + "".join(rows) + "\n"

    @property
    def changes(self) -> list[str]:
        return [command for command in self.asked if not command.startswith(("show", "@!"))]

    def driver(self, master: bool = True) -> HAProxyDriver:
        return HAProxyDriver(self.path, self.master_path if master else None, answer_limit=1.0)


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="zd-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def fake(folder: Path) -> Iterator[FakeHAProxy]:
    one = FakeHAProxy(folder)
    yield one
    one.stop()


def test_it_reads_what_haproxy_says(fake: FakeHAProxy) -> None:
    fake.servers["s1"].scur, fake.servers["s1"].qcur, fake.servers["s1"].stot = 2, 1, 9
    fake.servers["s2"].bits = 8
    pool = fake.driver().read("shop")
    first, second = pool.members
    assert (first.in_flight, first.queued, first.counters.requests, first.counters.errors) == (2, 1, 9, 3)
    assert (first.admin, first.health, first.in_service) == (Admin.READY, Health.UP, True)
    assert (second.admin, second.in_service) == (Admin.DRAIN, False)
    assert pool.identity == "100@7"


def test_what_leaving_workers_serve_is_added(fake: FakeHAProxy) -> None:
    fake.servers["s1"].scur = 1
    fake.old = {90: {"s1": 3, "s2": 0}, 91: {"s1": 2}}
    driver = fake.driver()
    pool = driver.read("shop")
    assert [member.in_flight for member in pool.members] == [6, 0]
    assert pool.leaving == 2
    assert dict(driver.glance("shop", ["s1", "s2"]).busy) == {"s1": 6, "s2": 0}
    assert [member.in_flight for member in fake.driver(master=False).read("shop").members] == [1, 0]


def test_idle_clients_of_a_leaving_worker_count(fake: FakeHAProxy) -> None:
    fake.old = {90: {"s1": 0, "s2": 0}}
    fake.old_clients, fake.old_sessions = 5, ["s2", "<none>"]
    driver = fake.driver()
    assert [member.undecided for member in driver.read("shop").members] == [4, 4]
    assert dict(driver.glance("shop", ["s1"]).busy) == {"s1": 4}
    fake.old_clients = 1
    assert dict(driver.glance("shop", ["s1"]).busy) == {"s1": 0}


def test_a_member_that_was_out_before_the_reload_is_safe_from_them(fake: FakeHAProxy) -> None:
    fake.old, fake.old_clients = {90: {"s1": 0}}, 5
    fake.servers["s1"].bits = 1
    driver = fake.driver()
    assert [member.undecided for member in driver.read("shop").members] == [0, 5]
    assert dict(driver.glance("shop", ["s1"]).busy) == {"s1": 0}


def test_the_commands_of_a_member_that_goes_out_and_comes_back(fake: FakeHAProxy) -> None:
    driver = fake.driver()
    driver.drain("shop", ["s1"])
    driver.hold_out("shop", ["s1"])
    driver.prepare_return("shop", ["s1"])
    driver.weigh("shop", {"s1": 7})
    driver.put_back("shop", ["s1"])
    assert fake.changes == [
        "set server shop/s1 state drain",
        "set server shop/s1 state maint",
        "set server shop/s1 state drain",
        "set server shop/s1 health down",
        "set server shop/s1 weight 7",
        "set server shop/s1 state ready",
    ]


def test_an_agent_is_silenced_first_and_heard_again_last(fake: FakeHAProxy) -> None:
    fake.servers["s1"].agent = 22
    driver = fake.driver()
    driver.hold_out("shop", ["s1"])
    driver.put_back("shop", ["s1"])
    assert fake.changes == [
        "disable agent shop/s1",
        "set server shop/s1 state maint",
        "set server shop/s1 state ready",
        "enable agent shop/s1",
    ]


@pytest.mark.parametrize(("check", "tracked"), [(0, ""), (2, ""), (6, "shop/s2")])
def test_health_is_not_put_down_where_nothing_would_lift_it(fake: FakeHAProxy, check: int, tracked: str) -> None:
    fake.servers["s1"].check, fake.servers["s1"].tracked = check, tracked
    fake.driver().prepare_return("shop", ["s1"])
    assert fake.changes == ["set server shop/s1 state drain"]


@pytest.mark.case(4)
def test_a_change_that_went_to_a_leaving_worker_is_made_again(fake: FakeHAProxy) -> None:
    def reload(command: str) -> None:
        if command == "set server shop/s1 state maint" and fake.pid == 100:
            fake.answers[command] = "\n"  # said yes, by a worker that is leaving
        elif command == "show info" and fake.answers and fake.pid == 100:
            fake.pid = 101
            fake.answers.clear()

    fake.before = reload
    fake.driver().hold_out("shop", ["s1"])
    assert fake.servers["s1"].bits == 1
    assert fake.changes.count("set server shop/s1 state maint") == 2


def test_a_worker_that_refuses_because_it_leaves_is_asked_again(fake: FakeHAProxy) -> None:
    command = "set server shop/s1 state maint"
    fake.answers[command] = "Proxy is disabled.\n\n"
    threading.Timer(0.1, fake.answers.clear).start()
    fake.driver().hold_out("shop", ["s1"])
    assert fake.servers["s1"].bits == 1


def test_an_answer_of_a_process_that_the_master_does_not_name_is_not_taken(fake: FakeHAProxy) -> None:
    fake.master_says = [101]
    threading.Timer(0.15, lambda: setattr(fake, "pid", 101)).start()
    assert fake.driver().read("shop").identity == "101@7"


def test_endless_reloads_end_in_an_error(fake: FakeHAProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(haproxy_module, "_PAUSE", 0.001)

    def reload(command: str) -> None:
        if command.startswith("set server"):
            fake.pid += 1

    fake.before = reload
    with pytest.raises(ChangedByOther, match="again and again"):
        fake.driver().hold_out("shop", ["s1"])


def test_a_yes_that_did_not_take_is_refused(fake: FakeHAProxy) -> None:
    fake.answers["set server shop/s1 state maint"] = "\n"
    with pytest.raises(Refused, match="said yes, but shop/s1 is not in maintenance"):
        fake.driver().hold_out("shop", ["s1"])


def test_a_tracking_server_is_explained(fake: FakeHAProxy) -> None:
    fake.servers["s1"].bits, fake.servers["s1"].tracked = 16, "other/x"
    with pytest.raises(Refused, match="tracks other/x"):
        fake.driver().put_back("shop", ["s1"])


def test_the_names_are_checked_before_the_first_change(fake: FakeHAProxy) -> None:
    with pytest.raises(UnknownMember, match=r"no server 's9'.*It has s1, s2"):
        fake.driver().hold_out("shop", ["s1", "s9"])
    with pytest.raises(UnknownPool, match="no backend 'shoq'"):
        fake.driver().hold_out("shoq", ["s1"])
    assert not fake.changes


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ("Permission denied\n\n", PermissionDenied),
        ("No such backend.\n\n", UnknownPool),
        ("No such server.\n\n", UnknownMember),
        ("Backend is using a static LB algorithm and only accepts weights '0%' and '100%'.\n\n", Refused),
        ("Unknown command. Please enter one of the following commands only :\n  help\n\n", Refused),
        ("\x00\x01\x02", BadReply),
    ],
)
def test_every_answer_but_an_empty_line_is_an_error(fake: FakeHAProxy, answer: str, error: type[RolloutError]) -> None:
    fake.answers["set server shop/s1 weight 5"] = answer
    with pytest.raises(error):
        fake.driver().weigh("shop", {"s1": 5})


@pytest.mark.parametrize("level", ["user", "operator"])
def test_too_low_a_level_is_named(fake: FakeHAProxy, level: str) -> None:
    fake.level = level
    with pytest.raises(PermissionDenied, match=f"'{level}'"):
        fake.driver().check_rights()
    with pytest.raises(PermissionDenied, match="level admin"):
        fake.driver().hold_out("shop", ["s1"])


@pytest.mark.parametrize("weight", [-1, 257])
def test_a_weight_out_of_range_is_not_sent(fake: FakeHAProxy, weight: int) -> None:
    with pytest.raises(BadInput, match="0 to 256"):
        fake.driver().weigh("shop", {"s1": weight})
    assert not fake.asked


@pytest.mark.parametrize("name", ["s1;quit", "s1 s2", "s1\nquit", "", "s1\x00", "s1\\", "#1", "é", "s1/s2"])
def test_no_name_reaches_the_socket_that_is_not_one_word(fake: FakeHAProxy, name: str) -> None:
    driver = fake.driver()
    for call in (driver.drain, driver.hold_out, driver.prepare_return, driver.put_back):
        with pytest.raises(BadInput):
            call("shop", [name])
        with pytest.raises(BadInput):
            call(name, ["s1"])
    with pytest.raises(BadInput):
        driver.read(name)
    assert not fake.asked


@pytest.mark.case(40)
@given(st.text(max_size=30))
def test_the_socket_itself_takes_nothing_but_plain_commands(text: str) -> None:
    line = RuntimeSocket("/nowhere", "The socket", Clock())._line
    try:
        sent = line((text,))
    except BadInput:
        return
    assert sent == text.encode() + b"\n"
    assert not set(text) & set(";\n\r\\\"'\x00<")


def test_a_missing_socket(folder: Path) -> None:
    with pytest.raises(Unreachable, match="does not exist"):
        HAProxyDriver(str(folder / "none.sock"), None).read("shop")


def test_a_file_that_is_no_socket(folder: Path) -> None:
    (folder / "file").write_text("")
    with pytest.raises(Unreachable, match="is not a socket"):
        HAProxyDriver(str(folder / "file"), None).read("shop")


def test_a_socket_that_nothing_listens_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ansible_collections.zerodrop.rollout.plugins.module_utils._haproxy.runtime.RELOAD_LIMIT", 0.1)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "dead.sock"))
    with pytest.raises(Unreachable, match="Connection refused"):
        HAProxyDriver(str(folder / "dead.sock"), None).read("shop")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_socket_that_may_not_be_opened(fake: FakeHAProxy, folder: Path) -> None:
    folder.chmod(0o700)
    child = os.fork()
    if child == 0:
        os.setuid(65534)
        try:
            fake.driver().read("shop")
        except PermissionDenied as error:
            os._exit(7 if "become" in str(error) else 8)
        finally:
            os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_a_silent_socket(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "silent.sock"))
        server.listen()
        started = time.monotonic()
        with pytest.raises(Unreachable, match="does not answer"):
            HAProxyDriver(str(folder / "silent.sock"), None, answer_limit=0.2).read("shop")
        assert time.monotonic() - started < 2


@pytest.mark.parametrize("rubbish", ["HTTP/1.1 400 Bad Request\r\n\r\n", "\x00\xff", "Pid: x\n\n", "hello\n"])
def test_a_socket_that_answers_rubbish(fake: FakeHAProxy, rubbish: str) -> None:
    fake.answers = dict.fromkeys(["show info", "show servers state shop", "show cli level", "show backend"], rubbish)
    for call in (
        lambda: fake.driver().read("shop"),
        lambda: fake.driver().check_rights(),
        lambda: fake.driver().pools(),
        lambda: fake.driver().capabilities(),
        lambda: fake.driver().hold_out("shop", ["s1"]),
    ):
        with pytest.raises(BadReply):
            call()
    assert not fake.changes


@pytest.mark.case(41)
@pytest.mark.parametrize("path", ["ipv4@127.0.0.1:9999", "127.0.0.1:9999", "localhost:80", "abns@haproxy"])
def test_only_unix_sockets(path: str) -> None:
    with pytest.raises(BadInput, match="network address"):
        HAProxyDriver(path, None)


@pytest.mark.parametrize("path", ["relative.sock", "/a/../b", "/a\nb"])
def test_only_absolute_paths(path: str) -> None:
    with pytest.raises(BadInput, match="absolute path"):
        HAProxyDriver(path, None)


def test_a_path_too_long_for_a_socket() -> None:
    with pytest.raises(BadInput, match="107"):
        HAProxyDriver("/" + "x" * 107, None)


@pytest.mark.parametrize(("given_path", "exact"), [("", False), ("/some/master.sock", True)])
def test_the_master_socket_can_be_named_or_switched_off(given_path: str, exact: bool) -> None:
    driver = HAProxyDriver.from_params({"socket": "/a.sock", "master_socket": given_path}, Clock())
    assert (driver._master is not None) == exact


def test_the_usual_master_socket_is_used_when_it_is_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(haproxy_module, "MASTER_SOCKET", str(folder / "master.sock"))
    assert HAProxyDriver.from_params({}, Clock())._master is None
    (folder / "master.sock").write_text("")
    assert HAProxyDriver.from_params({}, Clock())._master is not None
