# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""nginx whose members are switched by links, without a reload."""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils import _pool_operations as operations
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    ChangedByOther,
    InvalidConfiguration,
    Refused,
    TimedOut,
)
from tests.conformance.harness import App, Load, wait_for
from tests.conformance.nginx import NAMES
from tests.conformance.nginx_links import NginxByLinks
from tests.conformance.test_nginx import pool_of, upload
from tests.conformance.test_pool import admin

pytestmark = pytest.mark.balancer

READY = {"admin": "ready", "weight": 1}


def drain(nginx: NginxByLinks, *names: str, **more: object) -> dict[str, object]:
    return operations.pool_drain({**nginx.params("shop"), "members": list(names), **more}, False)


def put_back(nginx: NginxByLinks, *names: str, weight: int = 1) -> None:
    settings = {name: {"admin": "ready", "weight": weight} for name in names}
    operations.pool_put_back({**nginx.params("shop"), "settings": settings}, False)


@contextmanager
def strict(load: Load) -> Iterator[Load]:
    """A connection that is closed while idle is a failure here, in every version."""
    load.forgives_closed_idle = False  # type: ignore[misc]
    yield load
    assert not load.failures


@pytest.mark.case(23)
@pytest.mark.parametrize("keep_alive", [True, False], ids=["keep-alive", "close"])
def test_members_killed_as_soon_as_they_are_drained_lose_nothing(
    nginx_links: NginxByLinks, apps: dict[str, App], keep_alive: bool
) -> None:
    pool = pool_of(apps)
    nginx_links.start([pool], workers=2)
    generation = nginx_links.driver().identity()
    with (
        strict(Load(pool.port)) as load,
        load.running(clients=12, path="/slow/0.15", keep_alive=keep_alive, pause=0.005),
    ):
        for batch in (["s1"], ["s2", "s3"], ["s4", "s1", "s3"], ["s2"]):
            drain(nginx_links, *batch)
            for name in batch:
                apps[name].kill()
            time.sleep(0.1)
            for name in batch:
                apps[name].start()
            put_back(nginx_links, *batch)
    assert set(load.answers) == set(apps)
    assert nginx_links.driver().identity() == generation  # no reload, no new worker


def test_any_set_of_members_can_be_out(nginx_links: NginxByLinks, apps: dict[str, App]) -> None:
    pool = pool_of(apps)
    nginx_links.start([pool])
    choose = random.Random(7)
    with strict(Load(pool.port)) as load, load.running(clients=4, pause=0.002):
        for _unused in range(5):
            out = choose.sample(sorted(apps), choose.randint(1, 3))
            drain(nginx_links, *out)
            before = dict(load.answers)
            time.sleep(0.15)
            served = {name for name in apps if load.answers[name] > before.get(name, 0)}
            assert served == set(apps) - set(out)
            put_back(nginx_links, *out)


def test_all_in_service_share_evenly_and_a_weight_gets_its_share(
    nginx_links: NginxByLinks, apps: dict[str, App]
) -> None:
    pool = pool_of(apps)
    nginx_links.start([pool])
    with Load(pool.port).running(clients=4) as load:
        wait_for(lambda: sum(load.answers.values()) > 400, 20)
    assert max(load.answers.values()) - min(load.answers.values()) <= 8  # nginx's own round robin
    operations.pool_weigh({**nginx_links.params("shop"), "weights": {"s1": 7}}, False)
    assert nginx_links.driver().read("shop").member("s1").weight == 7
    with Load(pool.port).running(clients=4) as load:
        wait_for(lambda: sum(load.answers.values()) > 2000, 30)
    assert load.answers["s1"] / sum(load.answers.values()) == pytest.approx(0.7, abs=0.06)


@pytest.mark.case(24)
def test_a_slow_upload_never_goes_to_a_member_that_was_drained_meanwhile(
    nginx_links: NginxByLinks, apps: dict[str, App]
) -> None:
    pool = pool_of(apps)
    nginx_links.start([pool])
    uploads = [upload(pool.port, 1.5) for _unused in range(8)]
    time.sleep(0.2)
    drain(nginx_links, "s1", "s2", "s3")
    for name in ("s1", "s2", "s3"):
        apps[name].kill()
    for thread, answers in uploads:
        thread.join(20)
        assert answers[0].startswith(b"HTTP/1.1 200"), answers


def test_a_worker_that_may_still_act_on_an_old_link_is_waited_for(
    nginx_links: NginxByLinks, apps: dict[str, App]
) -> None:
    nginx_links.start([pool_of(apps)])
    worker = int(nginx_links.driver().identity().split(":")[1].split(".")[0])
    os.kill(worker, signal.SIGSTOP)
    try:
        with pytest.raises(TimedOut):
            drain(nginx_links, "s1", timeout=0.4)
    finally:
        os.kill(worker, signal.SIGCONT)
    drain(nginx_links, "s1", timeout=20)


@pytest.mark.case(5, 6)
def test_what_is_out_stays_out_over_a_reload_and_a_restart(nginx_links: NginxByLinks, apps: dict[str, App]) -> None:
    pool = pool_of(apps)
    nginx_links.start([pool])
    drain(nginx_links, "s1", "s2")
    old = nginx_links.driver().identity()
    nginx_links.reload()
    wait_for(lambda: nginx_links.driver().identity() != old)
    for restart in (False, True):
        if restart:
            nginx_links.restart()
        with strict(Load(pool.port)) as load, load.running(clients=2, pause=0.002):
            time.sleep(0.2)
        assert set(load.answers) == {"s3", "s4"}
        assert [admin(nginx_links, name) for name in ("s1", "s2", "s3")] == ["out", "out", "ready"]


def test_two_pools_are_switched_at_once(nginx_links: NginxByLinks, apps: dict[str, App]) -> None:
    names = list(apps)
    parts = {"shop": names[:2], "cart": names[2:]}
    nginx_links.start([pool_of({name: apps[name] for name in part}, pool) for pool, part in parts.items()])
    failures: list[Exception] = []

    def walk(pool: str, name: str) -> None:
        try:
            for _unused in range(5):
                operations.pool_drain({**nginx_links.params(pool), "members": [name]}, False)
                operations.pool_put_back({**nginx_links.params(pool), "settings": {name: READY}}, False)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=walk, args=(pool, part[0])) for pool, part in parts.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    for pool, part in parts.items():
        assert all(admin(nginx_links, name, pool) == "ready" for name in part)


def test_a_change_that_was_broken_off_is_made_again(nginx_links: NginxByLinks, apps: dict[str, App]) -> None:
    pool = pool_of(apps)
    nginx_links.start([pool])
    drain(nginx_links, "s1")
    slots = next((nginx_links.folder / "links" / "shop").iterdir()) / "slots"
    keys = {os.readlink(slots / str(number)) for number in range(200)}
    put_back(nginx_links, "s1")
    drain(nginx_links, "s2")
    for number in range(0, 200, 3):  # somebody's change got no further than this
        (slots / str(number)).unlink()
        (slots / str(number)).symlink_to(sorted(keys)[number % len(keys)])
    with pytest.raises(ChangedByOther):
        drain(nginx_links, "s2", expect={"s2": {"admin": "out", "weight": 1}})
    drain(nginx_links, "s2")
    with strict(Load(pool.port)) as load, load.running(clients=2, pause=0.002):
        time.sleep(0.3)
    assert set(load.answers) == {"s1", "s3", "s4"}


# --- preparing ---


def test_preparing_again_changes_nothing_and_check_mode_neither(
    nginx_links: NginxByLinks, apps: dict[str, App]
) -> None:
    nginx_links.start([pool_of(apps)])
    drain(nginx_links, "s1")
    old = nginx_links.driver().identity()
    assert nginx_links.prepare("shop")["changed"] is False
    assert nginx_links.driver().identity() == old
    seen = nginx_links.prepare("shop", check=True, key="$remote_addr")
    assert seen["changed"] is True
    assert "$remote_addr" in seen["diff"][0]["after"]
    assert nginx_links.prepare("shop")["changed"] is False
    assert admin(nginx_links, "s1") == "out"


def test_a_server_that_is_added_leaves_the_others_as_they_are(nginx_links: NginxByLinks, apps: dict[str, App]) -> None:
    few = {name: apps[name] for name in ("s1", "s2", "s3")}
    pool = pool_of(few)
    nginx_links.start([pool])
    drain(nginx_links, "s1")
    file = nginx_links.folder / "conf.d" / "shop.conf"
    file.write_text(file.read_text().replace("  \n}", f"server 127.0.0.1:{apps['s4'].port} max_fails=0;\n}}", 1))
    NAMES[apps["s4"].port] = "s4"
    old = nginx_links.driver()._processes().identity
    nginx_links.reload()
    wait_for(lambda: nginx_links.driver()._processes().identity != old)
    with pytest.raises(InvalidConfiguration, match="other servers"):
        drain(nginx_links, "s2")
    with strict(Load(pool.port)) as load, load.running(clients=2, keep_alive=False, pause=0.002):
        assert nginx_links.prepare("shop")["changed"] is True
        time.sleep(0.3)
    assert set(load.answers) == {"s2", "s3", "s4"}
    assert admin(nginx_links, "s1") == "out"


def test_a_file_that_nginx_does_not_include_is_taken_away_again(
    nginx_links: NginxByLinks, apps: dict[str, App]
) -> None:
    pool = pool_of(apps)
    nginx_links.write([pool], keepalive="")
    nginx_links.run()
    aside = nginx_links.folder / "aside" / "shop.conf"
    with pytest.raises(InvalidConfiguration, match="does not include"):
        nginx_links.prepare("shop", http_file=str(aside))
    assert not aside.exists()
    assert not (nginx_links.folder / "zerodrop" / "shop.conf").exists()
    assert nginx_links.prepare("shop")["changed"] is True


@pytest.mark.case(36)
def test_requests_that_go_past_the_links_are_refused(nginx_links: NginxByLinks, apps: dict[str, App]) -> None:
    pool = pool_of(apps)
    nginx_links.start([pool])
    file = nginx_links.folder / "conf.d" / "shop.conf"
    text = file.read_text()
    for location, words in (
        ("location /old { proxy_pass http://shop; }", "passes by them at"),
        ("location /odd { proxy_pass http://zerodrop_shop/x; }", "passes by them at"),
    ):
        _reload_with(nginx_links, file, text.replace("  location /", f"  {location}\n  location /", 1))
        with pytest.raises(Refused, match=words):
            drain(nginx_links, "s1")
        with pytest.raises(Refused, match=words):
            operations.pool_read({**nginx_links.params("shop"), "rights": True}, False)
    _reload_with(nginx_links, file, text)
    drain(nginx_links, "s1")


def test_a_pool_that_is_prepared_and_not_used(nginx_links: NginxByLinks, apps: dict[str, App]) -> None:
    pool = pool_of(apps)
    nginx_links.start([pool])
    params = nginx_links.params("shop")
    with pytest.raises(Refused, match="go by links"):
        operations.pool_drain({**params, "nginx_mode": "reload", "members": ["s1"]}, False)
    file = nginx_links.folder / "conf.d" / "shop.conf"
    native = file.read_text().replace(nginx_links.location("shop"), "proxy_pass http://shop;")
    _reload_with(nginx_links, file, native)
    with pytest.raises(Refused, match="passes by them at"):
        drain(nginx_links, "s1")
    operations.pool_drain({**params, "nginx_mode": "reload", "members": ["s1"]}, False)
    with strict(Load(pool.port)) as load, load.running(clients=2, pause=0.002):
        time.sleep(0.2)
    assert set(load.answers) == {"s2", "s3", "s4"}


def test_links_that_are_asked_for_and_not_there(nginx_links: NginxByLinks, apps: dict[str, App]) -> None:
    nginx_links.write([pool_of(apps)], keepalive="")
    nginx_links.run()
    with pytest.raises(Refused, match="not prepared for links"):
        operations.pool_drain({**nginx_links.params("shop"), "nginx_mode": "links", "members": ["s1"]}, False)


def test_a_table_that_is_gone_is_said_and_made_again(nginx_links: NginxByLinks, apps: dict[str, App]) -> None:
    nginx_links.start([pool_of(apps)])
    shutil.rmtree(nginx_links.folder / "links")
    with pytest.raises(InvalidConfiguration, match="cannot be read"):
        drain(nginx_links, "s1")
    assert nginx_links.prepare("shop")["changed"] is True
    drain(nginx_links, "s1")


@pytest.mark.case(29)
def test_rights_and_what_it_can_do(nginx_links: NginxByLinks, apps: dict[str, App]) -> None:
    nginx_links.start([pool_of(apps)])
    result = operations.pool_read({**nginx_links.params("shop"), "rights": True}, False)
    assert result["capabilities"]["runtime_changes"] is True
    assert result["pool_names"] == ["shop"]
    assert any("200 slots" in note for note in result["capabilities"]["notes"])
    drain(nginx_links, "s1", "s2", "s3")
    with pytest.raises(Refused, match="without any server"):
        drain(nginx_links, "s4")


def _reload_with(nginx: NginxByLinks, file: Path, text: str) -> None:
    old = nginx.driver()._processes().identity
    file.write_text(text)
    nginx.reload()
    wait_for(lambda: nginx.driver()._processes().identity != old)
    wait_for(lambda: not nginx.driver()._processes().leaving)
