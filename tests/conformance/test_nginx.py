# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What only nginx has: files, reloads that do not come about, and workers that leave."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils import _pool_operations as operations
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    BadInput,
    ChangedByOther,
    InvalidConfiguration,
    Refused,
    TimedOut,
)
from tests.conformance.harness import App, Load, PoolSpec, Slow, wait_for
from tests.conformance.nginx import Nginx

pytestmark = pytest.mark.balancer


def pool_of(apps: dict[str, App], name: str = "shop") -> PoolSpec:
    return PoolSpec(name, [(app.name, app.port) for app in apps.values()])


def generation(nginx: Nginx) -> str:
    return nginx.driver().identity()


def upload(port: int, seconds: float) -> tuple[threading.Thread, list[bytes]]:
    """A request whose body takes so long to send."""
    answers: list[bytes] = []

    def run() -> None:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 10\r\n\r\n")
            for _unused in range(10):
                time.sleep(seconds / 10)
                client.sendall(b".")
            answers.append(client.recv(65536))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, answers


@pytest.mark.case(28)
def test_nothing_but_the_line_changes_and_it_comes_back(nginx: Nginx, apps: dict[str, App]) -> None:
    nginx.start([pool_of(apps)])
    file = nginx.folder / "conf.d" / "shop.conf"
    os.chmod(file, 0o640)
    before = file.read_text()
    operations.pool_drain({**nginx.params("shop"), "members": ["s2"]}, False)
    line = f"server 127.0.0.1:{apps['s2'].port}  max_fails=0"
    assert file.read_text() == before.replace(line, f"{line} down")
    assert file.stat().st_mode & 0o777 == 0o640
    operations.pool_put_back({**nginx.params("shop"), "settings": {"s2": {"admin": "ready", "weight": 1}}}, False)
    assert file.read_text() == before


@pytest.mark.case(27)
def test_one_reload_a_batch_and_none_for_nothing(nginx: Nginx, apps: dict[str, App]) -> None:
    nginx.start([pool_of(apps)])
    log = nginx.folder / "error.log"

    def reloads() -> int:
        return log.read_text().count("signal 1 (SIGHUP) received")

    drain = {**nginx.params("shop"), "members": ["s1", "s2"]}
    assert operations.pool_drain(drain, False)["reloads_seen"] == 0
    assert reloads() == 1
    operations.pool_drain(drain, False)
    assert reloads() == 1
    settings = {name: {"admin": "ready", "weight": 7} for name in ("s1", "s2")}
    for _unused in range(2):
        operations.pool_put_back({**nginx.params("shop"), "settings": settings}, False)
        assert reloads() == 2


def test_servers_in_an_include_file_of_their_own(nginx: Nginx, apps: dict[str, App]) -> None:
    pool = pool_of(apps)
    nginx.write([pool])
    (nginx.folder / "conf.d" / "shop.conf").write_text(
        f"upstream shop {{ include {nginx.folder}/servers.inc; }}\n"
        f"server {{ listen 127.0.0.1:{pool.port}; location / {{ proxy_pass http://shop; }} }}\n"
    )
    own = nginx.folder / "servers.inc"
    own.write_text("".join(f"server 127.0.0.1:{app.port};\n" for app in apps.values()))
    os.chmod(own, 0o640)
    others = {path: path.read_bytes() for path in (nginx.config, *(nginx.folder / "conf.d").iterdir())}
    text = own.read_text()
    nginx.run()
    with Load(pool.port).running(keep_alive=False) as load:
        operations.pool_drain({**nginx.params("shop"), "members": ["s1"]}, False)
        assert own.read_text().startswith(f"server 127.0.0.1:{apps['s1'].port} down;\n")
        apps["s1"].kill()
        apps["s1"].start()
        operations.pool_put_back({**nginx.params("shop"), "settings": {"s1": {"admin": "ready", "weight": 1}}}, False)
    assert not load.failures
    assert own.read_text() == text
    assert own.stat().st_mode & 0o777 == 0o640
    assert {path: path.read_bytes() for path in others} == others


@pytest.mark.case(22)
def test_a_configuration_that_is_broken_already_is_left_alone(nginx: Nginx, apps: dict[str, App]) -> None:
    nginx.start([pool_of(apps)])
    (nginx.folder / "conf.d" / "broken.conf").write_text("server { nonsense; }\n")
    os.utime(nginx.folder / "conf.d" / "broken.conf", (1, 1))
    before, old = (nginx.folder / "conf.d" / "shop.conf").read_bytes(), generation(nginx)
    with pytest.raises(InvalidConfiguration, match="nonsense"):
        operations.pool_drain({**nginx.params("shop"), "members": ["s1"]}, False)
    assert (nginx.folder / "conf.d" / "shop.conf").read_bytes() == before
    assert generation(nginx) == old


@pytest.mark.case(21)
def test_a_reload_that_does_not_come_about_is_seen_and_undone(nginx: Nginx, apps: dict[str, App]) -> None:
    pool = pool_of(apps)
    nginx.start([pool])
    other = nginx.folder / "conf.d" / "other.conf"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        # `nginx -t` binds nothing: only the reload finds that the address is taken.
        other.write_text(f"server {{ listen 127.0.0.1:{taken.getsockname()[1]}; }}\n")
        os.utime(other, (1, 1))
        before, old = (nginx.folder / "conf.d" / "shop.conf").read_bytes(), generation(nginx)
        with pytest.raises((Refused, InvalidConfiguration), match=r"bind\(\) to") as error:
            operations.pool_drain({**nginx.params("shop"), "members": ["s1"]}, False)
        # Taken until here: nginx tries for seconds, and would come through with the files as they were.
        assert error.value.facts["undone"] is True
        assert (nginx.folder / "conf.d" / "shop.conf").read_bytes() == before
        assert generation(nginx) == old
        other.unlink()
    with Load(pool.port).running(keep_alive=False) as load:
        operations.pool_drain({**nginx.params("shop"), "members": ["s1"]}, False)
    assert not load.failures


@pytest.mark.case(36)
def test_an_edit_without_a_reload_is_not_taken_for_the_state(nginx: Nginx, apps: dict[str, App]) -> None:
    nginx.start([pool_of(apps)])
    file = nginx.folder / "conf.d" / "shop.conf"
    time.sleep(0.1)
    file.write_text(file.read_text().replace("max_fails=0;", "max_fails=0 down;", 1))
    with pytest.raises(ChangedByOther, match=r"shop\.conf"):
        operations.pool_drain({**nginx.params("shop"), "members": ["s1"]}, False)
    nginx.reload()
    wait_for(lambda: nginx.driver().read("shop").member("s1").admin.value == "out")


@pytest.mark.case(16, 29)
def test_the_last_server_is_not_taken_out(nginx: Nginx, apps: dict[str, App]) -> None:
    nginx.start([pool_of(apps)])
    old = generation(nginx)
    with pytest.raises(Refused, match="without any server"):
        operations.pool_drain({**nginx.params("shop"), "members": list(apps)}, False)
    assert generation(nginx) == old


def test_a_weight_of_zero_is_refused(nginx: Nginx, apps: dict[str, App]) -> None:
    nginx.start([pool_of(apps)])
    with pytest.raises(BadInput, match="1 to 65535"):
        operations.pool_weigh({**nginx.params("shop"), "weights": {"s1": 0}}, False)


@pytest.mark.case(24)
def test_a_slow_upload_in_an_older_worker_is_waited_for(nginx: Nginx, apps: dict[str, App]) -> None:
    """It has no server yet, and the older worker may still choose the one that is drained."""
    one = {"s1": apps["s1"], "s2": apps["s2"]}
    pool = pool_of(one)
    nginx.start([pool], extra="hash $request_method$arg_x;", workers=2)
    uploads = [upload(pool.port, 1.5) for _unused in range(6)]
    time.sleep(0.2)
    started = time.monotonic()
    operations.pool_drain({**nginx.params("shop"), "members": ["s1"]}, False)
    apps["s1"].kill()
    assert time.monotonic() - started > 1.0
    for thread, answers in uploads:
        thread.join(10)
        assert answers[0].startswith(b"HTTP/1.1 200"), answers


def test_a_limit_puts_back_and_a_second_drain_waits_for_all_that_is_left(nginx: Nginx, apps: dict[str, App]) -> None:
    pool = pool_of(apps)
    nginx.start([pool], workers=2, keepalive="", extra="zone shop 64k;")  # else each worker begins with s1
    slow = [Slow(pool.port, 4.0) for _unused in range(4)]
    wait_for(lambda: all(member.in_flight == 1 for member in nginx.driver().read("shop").members))
    with pytest.raises(TimedOut):
        operations.pool_drain({**nginx.params("shop"), "members": ["s1"], "timeout": 0.5}, False)
    operations.pool_drain({**nginx.params("shop"), "members": ["s1"]}, False)
    apps["s1"].kill()
    assert sorted(each.wait() for each in slow) == ["s1", "s2", "s3", "s4"]


@pytest.mark.case(26)
def test_a_member_is_empty_while_another_has_long_work(nginx: Nginx, apps: dict[str, App]) -> None:
    pool = pool_of(apps)
    nginx.start([pool], keepalive="")
    slow = Slow(pool.port, 2.5)
    busy = wait_for(lambda: [m.name for m in nginx.driver().read("shop").members if m.in_flight])[0]
    other = next(name for name in apps if name != busy)
    started = time.monotonic()
    operations.pool_drain({**nginx.params("shop"), "members": [other]}, False)
    assert time.monotonic() - started < 1.5
    assert nginx.driver().read("shop").leaving == 1
    apps[other].kill()
    assert slow.wait() == busy


@pytest.mark.case(17, 31)
def test_two_pools_at_once_do_not_trample_each_other(nginx: Nginx, apps: dict[str, App]) -> None:
    names = list(apps)
    first, second = ({name: apps[name] for name in part} for part in (names[:2], names[2:]))
    nginx.start([pool_of(first), pool_of(second, "cart")])
    failures: list[Exception] = []

    def walk(pool: str, name: str) -> Callable[[], None]:
        def run() -> None:
            try:
                for _unused in range(4):
                    operations.pool_drain({**nginx.params(pool), "members": [name]}, False)
                    settings = {name: {"admin": "ready", "weight": 1}}
                    operations.pool_put_back({**nginx.params(pool), "settings": settings}, False)
            except Exception as error:
                failures.append(error)

        return run

    before = {path: path.read_bytes() for path in (nginx.folder / "conf.d").iterdir()}
    threads = [threading.Thread(target=walk("shop", "s1")), threading.Thread(target=walk("cart", "s3"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert {path: path.read_bytes() for path in (nginx.folder / "conf.d").iterdir()} == before


def test_rights_and_what_it_can_do(nginx: Nginx, apps: dict[str, App]) -> None:
    nginx.start([pool_of(apps)])
    result = operations.pool_read({**nginx.params("shop"), "rights": True}, False)
    assert result["capabilities"]["version"].startswith(nginx.version)
    assert result["capabilities"]["runtime_changes"] is False
    assert result["capabilities"]["counts_requests"] is False


@pytest.mark.case(30)
def test_a_name_that_does_not_resolve_is_said_and_nothing_is_touched(nginx: Nginx, apps: dict[str, App]) -> None:
    nginx.start([pool_of(apps)])
    far = nginx.folder / "conf.d" / "far.conf"
    far.write_text("upstream far { server shop.invalid:80; }\n")
    os.utime(far, (1, 1))
    before, old = (nginx.folder / "conf.d" / "shop.conf").read_bytes(), generation(nginx)
    with pytest.raises(InvalidConfiguration, match=r"shop\.invalid"):
        operations.pool_drain({**nginx.params("shop"), "members": ["s1"]}, False)
    assert (nginx.folder / "conf.d" / "shop.conf").read_bytes() == before
    assert generation(nginx) == old
