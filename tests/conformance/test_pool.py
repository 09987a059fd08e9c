# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every driver must do with a real balancer, under real load."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Mapping
from typing import Any

import pytest

from ansible_collections.zerodrop.rollout.plugins.module_utils import _pool_operations as operations
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    ChangedByOther,
    FloorBroken,
    TimedOut,
    Unhealthy,
    UnknownMember,
    UnknownPool,
)
from tests.conformance.harness import App, Balancer, Load, PoolSpec, Slow, needs, wait_for

pytestmark = pytest.mark.balancer


def pool_of(apps: Mapping[str, App], **more: Any) -> PoolSpec:
    return PoolSpec("shop", [(app.name, app.port) for app in apps.values()], **more)


def admin(balancer: Balancer, name: str, pool: str = "shop") -> str:
    return balancer.driver().read(pool).member(name).admin.value


def in_flight(balancer: Balancer, name: str, pool: str = "shop") -> int:
    return balancer.driver().read(pool).member(name).in_flight


def occupy(balancer: Balancer, port: int, name: str, seconds: float) -> list[Slow]:
    """Slow requests until one is on this member."""
    slow = [Slow(port, seconds) for _unused in range(4)]
    wait_for(lambda: in_flight(balancer, name))
    return slow


def test_a_drain_waits_for_the_request_in_flight(balancer: Balancer, apps: dict[str, App]) -> None:
    pool = pool_of(apps)
    balancer.start([pool])
    slow = occupy(balancer, pool.port, "s1", 1.0)
    result = operations.pool_drain({**balancer.params("shop"), "members": ["s1"]}, False)
    done = time.monotonic()
    apps["s1"].kill()
    assert [each.wait() for each in slow].count("s1") == 1
    ended = next(each.ended for each in slow if each.outcome == "s1")
    assert 0 <= done - ended < 2.0  # seen late on a busy machine, never early
    assert result["changed"] is True
    assert result["before"] == {"s1": {"admin": "ready", "weight": 1}}
    assert result["members"]["s1"]["in_flight_at_start"] == 1
    assert 0.5 < result["members"]["s1"]["waited"] < 1.5
    assert result["capacity"] == {"before": 4, "after": 3}


@pytest.mark.case(23)
@pytest.mark.parametrize("keep_alive", [True, False])
def test_killing_a_drained_member_at_once_loses_nothing(
    balancer: Balancer, apps: dict[str, App], keep_alive: bool
) -> None:
    needs(balancer, "exact")
    pool = pool_of(apps)
    balancer.start([pool])
    with Load(pool.port).running(clients=16, keep_alive=keep_alive) as load:
        for name in ("s1", "s2", "s3", "s4", "s1", "s2"):
            operations.pool_drain({**balancer.params("shop"), "members": [name], "floor": 3}, False)
            apps[name].kill()
            time.sleep(0.05)
            apps[name].start()
            operations.pool_return({**balancer.params("shop"), "members": [name], "timeout": 20}, False)
            result = operations.pool_put_back(
                {
                    **balancer.params("shop"),
                    "settings": {name: {"admin": "ready", "weight": 1}},
                    "look": {"requests": 5, "seconds": 0.1, "timeout": 20, "max_errors": 0},
                },
                False,
            )
            verdict = "inconclusive" if "counters" in balancer.lacks else "pass"
            assert result["members"][name]["look"] == verdict, result
    assert not load.failures
    assert set(load.answers) == set(apps)


def test_several_members_at_once(balancer: Balancer, apps: dict[str, App]) -> None:
    pool = pool_of(apps)
    balancer.start([pool])
    with Load(pool.port).running() as load:
        operations.pool_drain({**balancer.params("shop"), "members": ["s1", "s3"]}, False)
        apps["s1"].kill()
        apps["s3"].kill()
        time.sleep(0.2)
    assert not load.failures


@pytest.mark.case(14)
def test_a_put_back_never_leaks_into_a_dead_member(balancer: Balancer, apps: dict[str, App]) -> None:
    needs(balancer, "checks")
    pool = pool_of(apps)
    balancer.start([pool])
    with Load(pool.port).running() as load:
        operations.pool_drain({**balancer.params("shop"), "members": ["s1"]}, False)
        apps["s1"].kill()
        for _unused in range(5):
            with pytest.raises(Unhealthy) as error:
                operations.pool_return({**balancer.params("shop"), "members": ["s1"], "timeout": 0.3}, False)
            assert list(error.value.facts["members"]) == ["s1"]
            assert admin(balancer, "s1") == "out"
    assert not load.failures


@pytest.mark.case(14)
def test_a_put_back_without_a_return_before_it_is_gated_too(balancer: Balancer, apps: dict[str, App]) -> None:
    needs(balancer, "checks")
    pool = pool_of(apps)
    balancer.start([pool])
    settings = {"s1": {"admin": "ready", "weight": 1}}
    with Load(pool.port).running() as load:
        operations.pool_drain({**balancer.params("shop"), "members": ["s1"]}, False)
        apps["s1"].kill()
        result = operations.pool_put_back(
            {
                **balancer.params("shop"),
                "settings": settings,
                "look": {"requests": 1, "seconds": 0, "timeout": 1, "max_errors": 0},
            },
            False,
        )
    assert result["members"]["s1"]["look"] == "fail"
    assert not load.failures


def test_an_ill_member_is_named_with_its_check(balancer: Balancer, apps: dict[str, App]) -> None:
    needs(balancer, "checks")
    balancer.start([pool_of(apps)])
    operations.pool_drain({**balancer.params("shop"), "members": ["s1", "s2"]}, False)
    apps["s1"].switch("ill")
    with pytest.raises(Unhealthy) as error:
        operations.pool_return({**balancer.params("shop"), "members": ["s1", "s2"], "timeout": 1}, False)
    assert list(error.value.facts["members"]) == ["s1"]
    assert "check_words" in balancer.lacks or "L7STS" in error.value.message
    assert admin(balancer, "s1") == "out"
    assert admin(balancer, "s2") == "drain"


@pytest.mark.case(9)
def test_a_timeout_puts_everything_back_and_says_who_is_busy(balancer: Balancer, apps: dict[str, App]) -> None:
    pool = pool_of(apps)
    balancer.start([pool])
    slow = occupy(balancer, pool.port, "s2", 2.0)
    with pytest.raises(TimedOut) as error:
        operations.pool_drain({**balancer.params("shop"), "members": ["s1", "s2"], "timeout": 0.3}, False)
    assert error.value.facts["busy"]["s2"] == 1
    assert error.value.facts["undone"] is True
    assert "work" in balancer.lacks or any(work["member"] == "s2" for work in error.value.facts["work"])
    assert admin(balancer, "s1") == admin(balancer, "s2") == "ready"
    wait_for(lambda: balancer.driver().read("shop").member("s2").in_service)
    assert not [each.wait() for each in slow if each.outcome.startswith(("failed", "status"))]


def test_what_is_cut_at_the_limit_is_counted(balancer: Balancer, apps: dict[str, App]) -> None:
    needs(balancer, "cut")
    pool = pool_of(apps)
    balancer.start([pool])
    occupy(balancer, pool.port, "s1", 20.0)
    result = operations.pool_drain(
        {**balancer.params("shop"), "members": ["s1"], "timeout": 0.3, "on_timeout": "cut"}, False
    )
    assert result["members"]["s1"]["cut"] == 1
    assert in_flight(balancer, "s1") == 0


@pytest.mark.case(5)
def test_a_reload_in_mid_drain_is_seen_and_mended(balancer: Balancer, apps: dict[str, App]) -> None:
    pool = pool_of(apps)
    balancer.start([pool])
    slow = occupy(balancer, pool.port, "s1", 2.5)

    def reload_once_out() -> None:  # where a drain is a reload itself, the two could fall together
        wait_for(lambda: admin(balancer, "s1") == "out")
        balancer.reload()

    threading.Thread(target=reload_once_out, daemon=True).start()
    with Load(pool.port).running(clients=4) as load:
        result = operations.pool_drain({**balancer.params("shop"), "members": ["s1"]}, False)
        apps["s1"].kill()
        time.sleep(0.2)
    assert result["reloads_seen"] == 1
    assert [each.wait() for each in slow].count("s1") == 1
    assert admin(balancer, "s1") == "out"
    assert not load.failures


@pytest.mark.case(7)
def test_what_an_older_process_still_serves_counts(balancer: Balancer, apps: dict[str, App]) -> None:
    pool = pool_of(apps)
    balancer.start([pool])
    slow = occupy(balancer, pool.port, "s1", 2.0)
    old = balancer.driver().identity()
    balancer.reload()
    wait_for(lambda: balancer.driver().read("shop").identity != old)
    now = balancer.driver().read("shop")
    assert now.leaving
    glance = balancer.driver().glance("shop", ["s1"])
    if "apart" in balancer.lacks:
        assert now.member("s1").in_flight >= 1
        assert glance.busy["s1"] >= 1
    else:
        assert now.leaving == 1
        assert now.member("s1").in_flight == 1
        assert dict(glance.busy) == {"s1": 1}
    result = operations.pool_drain({**balancer.params("shop"), "members": ["s1"]}, False)
    apps["s1"].kill()
    assert [each.wait() for each in slow].count("s1") == 1
    assert result["members"]["s1"]["waited"] > 0.5


@pytest.mark.case(7)
def test_idle_clients_of_an_older_process_lose_nothing(balancer: Balancer, apps: dict[str, App]) -> None:
    needs(balancer, "idle")
    pool = pool_of(apps)
    balancer.start([pool])
    clients = [http.client.HTTPConnection("127.0.0.1", pool.port, timeout=10) for _unused in range(8)]

    def ask(client: http.client.HTTPConnection) -> int:
        client.request("GET", "/")
        with client.getresponse() as answer:
            answer.read()
            return answer.status

    assert [ask(client) for client in clients] == [200] * 8
    old = balancer.driver().identity()
    balancer.reload()
    wait_for(lambda: balancer.driver().read("shop").identity != old)
    statuses: list[int] = []
    speaker = threading.Timer(0.7, lambda: statuses.extend(ask(client) for client in clients))
    speaker.start()
    result = operations.pool_drain({**balancer.params("shop"), "members": ["s1"]}, False)
    apps["s1"].kill()
    speaker.join()
    for client in clients:
        client.close()
    assert statuses == [200] * 8
    assert result["members"]["s1"]["undecided"] == 0


def test_what_an_older_process_still_serves_can_be_cut(balancer: Balancer, apps: dict[str, App]) -> None:
    needs(balancer, "cut")
    pool = pool_of(apps)
    balancer.start([pool])
    slow = occupy(balancer, pool.port, "s1", 20.0)
    old = balancer.driver().identity()
    balancer.reload()
    wait_for(lambda: balancer.driver().read("shop").identity != old)
    result = operations.pool_drain(
        {**balancer.params("shop"), "members": ["s1"], "timeout": 0.2, "on_timeout": "cut"}, False
    )
    assert result["members"]["s1"]["cut"] == 1
    wait_for(lambda: any(each.outcome for each in slow))


@pytest.mark.case(4, 46)
def test_a_change_right_after_a_reload_holds_in_the_process_that_stays(
    balancer: Balancer, apps: dict[str, App]
) -> None:
    balancer.start([pool_of(apps)])
    driver = balancer.driver()
    for round_ in range(12):
        balancer.reload()
        time.sleep(0.01 * round_)
        driver.hold_out("shop", ["s1"])
        time.sleep(0.4)
        now = driver.read("shop")
        # A reload that began after the change undoes it; one that began before it never does.
        assert now.member("s1").admin.value == "out", round_


@pytest.mark.case(10)
def test_requests_queued_for_a_member_count(balancer: Balancer, apps: dict[str, App]) -> None:
    needs(balancer, "queue")
    pool = pool_of({"s1": apps["s1"]}, max_in_flight=1)
    balancer.start([pool])
    slow = [Slow(pool.port, 0.4) for _unused in range(3)]
    wait_for(lambda: balancer.driver().read("shop").queued + balancer.driver().read("shop").member("s1").queued)
    assert all(each.wait() == "s1" for each in slow)


def test_a_tcp_session_counts_as_in_flight(balancer: Balancer, apps: dict[str, App]) -> None:
    needs(balancer, "tcp")
    pool = pool_of(apps, tcp=True)
    balancer.start([pool])
    slow = occupy(balancer, pool.port, "s1", 1.0)
    operations.pool_drain({**balancer.params("shop"), "members": ["s1"]}, False)
    apps["s1"].kill()
    assert [each.wait() for each in slow].count("s1") == 1


@pytest.mark.case(1)
def test_all_names_are_checked_before_the_first_change(balancer: Balancer, apps: dict[str, App]) -> None:
    balancer.start([pool_of(apps)])
    with pytest.raises(UnknownMember, match="s9"):
        operations.pool_drain({**balancer.params("shop"), "members": ["s1", "s9"]}, False)
    with pytest.raises(UnknownPool, match="shoq"):
        operations.pool_drain({**balancer.params("shoq"), "members": ["s1"]}, False)
    assert admin(balancer, "s1") == "ready"


@pytest.mark.case(16)
def test_the_floor_is_held_on_the_live_state(balancer: Balancer, apps: dict[str, App]) -> None:
    needs(balancer, "checks")
    balancer.start([pool_of(apps)])
    apps["s4"].kill()
    wait_for(lambda: not balancer.driver().read("shop").member("s4").in_service)
    with pytest.raises(FloorBroken, match=r"s4 \(down\)"):
        operations.pool_drain({**balancer.params("shop"), "members": ["s1"], "floor": 3}, False)
    assert admin(balancer, "s1") == "ready"
    # What does not serve may always be taken out.
    operations.pool_drain({**balancer.params("shop"), "members": ["s4"], "floor": 4}, False)


def test_a_floor_may_be_waited_for(balancer: Balancer, apps: dict[str, App]) -> None:
    needs(balancer, "checks")
    balancer.start([pool_of(apps)])
    apps["s4"].kill()
    wait_for(lambda: not balancer.driver().read("shop").member("s4").in_service)
    threading.Timer(0.3, apps["s4"].start).start()
    params = {**balancer.params("shop"), "members": ["s1"], "floor": 3, "wait_for_floor": 20}
    assert operations.pool_drain(params, False)["capacity"] == {"before": 4, "after": 3}


@pytest.mark.case(17)
def test_a_member_in_another_state_than_expected_is_left_alone(balancer: Balancer, apps: dict[str, App]) -> None:
    balancer.start([pool_of(apps)])
    expect = {"s1": {"admin": "ready", "weight": 7}}
    with pytest.raises(ChangedByOther, match="weight 7"):
        operations.pool_drain({**balancer.params("shop"), "members": ["s1"], "expect": expect}, False)
    assert admin(balancer, "s1") == "ready"


@pytest.mark.case(15)
def test_a_second_run_changes_nothing_under_load(balancer: Balancer, apps: dict[str, App]) -> None:
    pool = pool_of(apps)
    balancer.start([pool])
    params = {**balancer.params("shop"), "members": ["s1", "s2"]}
    with Load(pool.port).running() as load:
        for state in ("drained", "ready"):
            assert operations.pool_member({**params, "state": state}, False)["changed"] is True
            for _unused in range(3):
                result = operations.pool_member({**params, "state": state}, False)
                assert result["changed"] is False
                assert result["diff"]["before"] == result["diff"]["after"]
    assert not load.failures


def test_check_mode_says_what_a_run_then_does(balancer: Balancer, apps: dict[str, App]) -> None:
    balancer.start([pool_of(apps)])
    params = {**balancer.params("shop"), "members": ["s1", "s2"]}
    for change in (
        {"state": "drained", "weight": 5},
        {"state": "draining"},
        {"weight": 9},
        {"state": "ready"},
        {"state": "draining", "floor": 2},
        {"state": "out"},
        {"state": "ready", "weight": 3},
    ):
        before = balancer.driver().read("shop").to_dict()["members"]
        foretold = operations.pool_member({**params, **change}, True)
        after = balancer.driver().read("shop").to_dict()["members"]
        assert [(m["admin"], m["weight"]) for m in before] == [(m["admin"], m["weight"]) for m in after]
        done = operations.pool_member({**params, **change}, False)
        assert foretold["changed"] == done["changed"], change
        assert foretold["diff"] == done["diff"], change
        live = {m.name: {"admin": m.admin.value, "weight": m.weight} for m in balancer.driver().read("shop").members}
        assert done["after"] == {name: live[name] for name in ("s1", "s2")}


@pytest.mark.case(12)
def test_a_member_that_was_out_stays_out(balancer: Balancer, apps: dict[str, App]) -> None:
    balancer.start([pool_of(apps)])
    balancer.driver().hold_out("shop", ["s2"])
    drained = operations.pool_drain({**balancer.params("shop"), "members": ["s1", "s2"]}, False)
    assert drained["before"]["s2"]["admin"] == "out"
    operations.pool_return({**balancer.params("shop"), "members": ["s1", "s2"], "timeout": 10}, False)
    operations.pool_put_back({**balancer.params("shop"), "settings": drained["before"]}, False)
    assert admin(balancer, "s1") == "ready"
    assert admin(balancer, "s2") == "out"


def test_weights(balancer: Balancer, apps: dict[str, App]) -> None:
    balancer.start([pool_of(apps)])
    result = operations.pool_weigh({**balancer.params("shop"), "weights": {"s1": 10, "s2": 20}}, False)
    assert result["changed"] is True
    assert [member.weight for member in balancer.driver().read("shop").members] == [10, 20, 1, 1]
    assert operations.pool_weigh({**balancer.params("shop"), "weights": {"s1": 10}}, False)["changed"] is False


def test_the_look_tells_no_traffic_from_good_traffic(balancer: Balancer, apps: dict[str, App]) -> None:
    balancer.start([pool_of(apps)])
    result = operations.pool_put_back(
        {
            **balancer.params("shop"),
            "settings": {"s1": {"admin": "ready", "weight": 1}},
            "look": {"requests": 1, "seconds": 0, "timeout": 0.5, "max_errors": 0},
        },
        False,
    )
    assert result["members"]["s1"]["look"] == "inconclusive"
    assert result["changed"] is False
