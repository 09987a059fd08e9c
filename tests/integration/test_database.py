# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A column of PostgreSQL is renamed by expand and contract, while both versions write to it: docs/migrations.md."""

from __future__ import annotations

import http.client
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import lab

from .conftest import PATIENT
from .rig import FIRST, ROOT, Rig
from .slots import Slots, description
from .test_canary import SHORT

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(not os.environ.get("ZERODROP_MIGRATIONS"), reason="make migrations runs these"),
]

_MANUAL = (ROOT / "docs" / "migrations.md").read_text(encoding="utf-8")
_FOUND = re.search(r"```sql\n(.+?)```", _MANUAL, re.DOTALL)
assert _FOUND is not None
EXPAND = _FOUND[1]
CONTRACT = "DROP TRIGGER keep_both ON customers; DROP FUNCTION customers_both; ALTER TABLE customers DROP COLUMN name"
UNDO = CONTRACT.replace("COLUMN name", "COLUMN full_name")


class Customers:
    """Clients that write a name and read it back, all the time; what was acknowledged must stay."""

    def __init__(self, address: str, clients: int = 4) -> None:
        self._address = address
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(clients)]
        self.acknowledged: dict[str, str] = {}
        self.failed: list[str] = []
        self.requests = 0
        self.versions: set[str] = set()

    @contextmanager
    def at_work(self) -> Iterator[Customers]:
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._end.set()
            for thread in self._threads:
                thread.join()

    def _run(self, client: int) -> None:
        number = 0
        while not self._end.wait(0.03):
            number += 1
            # Every third time a name that is there is changed.
            key = f"c{client}-{number - number % 3}"
            name = f"name {client} {number}"
            if self._ask("PUT", key, name) is None:
                continue
            self.acknowledged[key] = name
            seen = self._ask("GET", key)
            if seen is not None and f'"name": "{name}"' not in seen:
                self.failed.append(f"{key} is {seen}, and was {name}")

    def _ask(self, method: str, key: str, body: str = "") -> str | None:
        self.requests += 1
        try:
            connection = http.client.HTTPConnection(self._address, timeout=20)
            connection.request(method, f"/customers/{key}", body or None)
            answer = connection.getresponse()
            text = answer.read().decode()
            connection.close()
        except (OSError, http.client.HTTPException) as error:
            self.failed.append(f"{method} {key}: {error!r}")
            return None
        if answer.status != 200:
            self.failed.append(f"{method} {key}: {answer.status} {text}")
            return None
        self.versions.add(str(answer.getheader("X-Version")))
        return text


@pytest.fixture(scope="module")
def with_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lab.Lab]:
    """Four members and their database."""
    description = lab.Description(
        prefix=f"d{os.getpid()}-4",
        members=4,
        member="database",
        database=True,
        pool_lines=PATIENT,
        switches=lab.Switches(customers="name"),
    )
    with lab.running(description, tmp_path_factory.mktemp("lab") / "database") as up:
        yield up


@pytest.fixture(scope="module")
def slots_with_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lab.Lab]:
    """The same, in two slots."""
    own: dict[str, Any] = {"member": "database", "database": True, "switches": lab.Switches(customers="name")}
    with lab.running(description(prefix=f"d{os.getpid()}-s", **own), tmp_path_factory.mktemp("lab") / "slots") as up:
        yield up


@pytest.fixture
def slots(slots_with_database: lab.Lab, tmp_path: Path) -> Iterator[Slots]:
    found = Slots(Rig(slots_with_database, tmp_path))
    found.reset()
    fresh(found.rig)
    yield found
    found.rig.heal()


@pytest.fixture
def rig(with_database: lab.Lab, tmp_path: Path) -> Iterator[Rig]:
    found = Rig(with_database, tmp_path)
    found.reset()
    fresh(found)
    yield found
    found.heal()


def fresh(found: Rig) -> None:
    """A database without customers, as the first version wants it."""
    found.lab.exec("db1", ["dropdb", "-U", "postgres", "-h", "127.0.0.1", "--if-exists", "-f", "shop"])
    found.lab.exec("db1", ["createdb", "-U", "postgres", "-h", "127.0.0.1", "shop"])
    sql(found, "CREATE TABLE customers (id text PRIMARY KEY, name text NOT NULL)")


def psql(text: str) -> list[str]:
    return ["psql", "-U", "postgres", "-h", "127.0.0.1", "-d", "shop", "-v", "ON_ERROR_STOP=1", "-qAtc", text]


def sql(rig: Rig, text: str) -> list[str]:
    return rig.lab.exec("db1", psql(text)).stdout.splitlines()


def steps(rig: Rig) -> dict[str, Any]:
    address = rig.lab.balancers[0].address
    (rig.folder / "expand.sql").write_text(EXPAND, encoding="utf-8")
    (rig.folder / "expand.yml").write_text(
        "- name: Expand\n  ansible.builtin.command:\n    argv: [psql, -U, postgres, -h, 127.0.0.1, -d, shop, -v, "
        "ON_ERROR_STOP=1, -q, -f, '-']\n    stdin: \"{{ lookup('file', '" + str(rig.folder / "expand.sql") + "') }}\"\n"
        "  changed_when: true\n",
        encoding="utf-8",
    )
    check = f"curl -fsS -X PUT -d probe http://{address}/customers/probe && curl -fsS http://{address}/customers/probe"
    return {
        "rollout_migrate_host": "db1",
        "rollout_expand": str(rig.folder / "expand.yml"),
        "rollout_compat": ["/bin/sh", "-c", f'{check} | grep -q \'"name": "probe"\''],
        "rollout_contract": psql(CONTRACT),
        "rollout_expand_undo": psql(UNDO),
        "rollout_health_version_key": "version",
        "rollout_batches": [2],
    }


def assert_nothing_lost(rig: Rig, customers: Customers, column: str) -> None:
    assert customers.failed == [], customers.failed[:5]
    assert customers.requests > 200
    rows = dict(line.split("|", 1) for line in sql(rig, f"SELECT id, {column} FROM customers WHERE id <> 'probe'"))
    assert rows == customers.acknowledged
    print(f"{customers.requests} requests, {len(rows)} rows, versions {sorted(customers.versions)}")


def columns(rig: Rig) -> set[str]:
    return set(sql(rig, "SELECT column_name FROM information_schema.columns WHERE table_name = 'customers'"))


def test_a_column_is_renamed_under_load(rig: Rig) -> None:
    settings, release = steps(rig), rig.archive("2.0", customers="full_name")
    customers = Customers(rig.lab.balancers[0].address)
    with customers.at_work():
        run = rig.rollout(settings, release)
        assert run.rc == 0, str(run)
        assert columns(rig) == {"id", "name", "full_name"}
        late = rig.rollout(settings, release, rollout_version=None, rollout_contract_after=0.5, playbook="contract")
        assert late.rc == 0, str(late)
    assert columns(rig) == {"id", "full_name"}
    assert customers.versions == {FIRST, "2.0"}
    assert_nothing_lost(rig, customers, "full_name")


def test_a_rollback_before_the_contract_keeps_the_data(rig: Rig) -> None:
    settings, release = steps(rig), rig.archive("2.0", customers="full_name")
    customers = Customers(rig.lab.balancers[0].address)
    with customers.at_work():
        run = rig.rollout(settings, release)
        assert run.rc == 0, str(run)
        back = rig.rollout(settings, release, rollout_version=None, playbook="rollback")
        assert back.rc == 0, str(back)
    assert rig.current() == rig.all_on(FIRST)
    assert columns(rig) == {"id", "name"}
    assert customers.versions == {FIRST, "2.0"}
    assert_nothing_lost(rig, customers, "name")


def test_what_fails_leaves_the_old_version_serving(rig: Rig) -> None:
    """The expand breaks half way; the old version cannot live with what the expand did."""
    settings, release = steps(rig), rig.archive("2.0", customers="full_name")
    customers = Customers(rig.lab.balancers[0].address)
    with customers.at_work():
        half = psql("ALTER TABLE customers ADD COLUMN full_name text; SELECT nothing FROM nowhere")
        run = rig.rollout(settings, release, rollout_expand=half)
        assert run.rc != 0
        assert 'relation "nowhere" does not exist' in run.report["stop"]["message"] or "nowhere" in run.text
        assert run.report["outcome"] == "rolled_back"
        bad = psql("ALTER TABLE customers ADD COLUMN full_name text; ALTER TABLE customers ADD CHECK (id <> 'probe')")
        more = {"rollout_expand_undo": psql("ALTER TABLE customers DROP COLUMN full_name")}
        run = rig.rollout(settings, release, more, rollout_expand=bad)
        assert run.rc != 0
        assert run.report["stop"]["phase"] == "compat", str(run)
        assert [event["phase"] for event in run.report["events"]] == ["expand", "compat", "expand_undo"]
    assert columns(rig) == {"id", "name"}
    assert rig.current() == rig.all_on(FIRST)
    assert customers.versions == {FIRST}
    assert_nothing_lost(rig, customers, "name")


def test_a_column_is_renamed_in_a_canary(rig: Rig) -> None:
    settings, release = steps(rig), rig.archive("2.0", customers="full_name")
    customers = Customers(rig.lab.balancers[0].address)
    with customers.at_work():
        run = rig.rollout(SHORT, settings, release, rollout_contract_after=0, playbook="canary")
        assert run.rc == 0, str(run)
    assert [event["phase"] for event in run.report["events"]][:2] == ["expand", "compat"]
    assert columns(rig) == {"id", "full_name"}
    assert customers.versions == {FIRST, "2.0"}
    assert_nothing_lost(rig, customers, "full_name")


def test_a_column_is_renamed_in_blue_green(slots: Slots) -> None:
    """There and back with the old slot warm, which holds the contract up; then there for good."""
    rig = slots.rig
    settings, release = steps(rig), rig.archive("2.0", customers="full_name")
    customers = Customers(rig.lab.balancers[0].address)
    with customers.at_work():
        run = slots.run("blue_green", settings, release)
        assert run.rc == 0, str(run)
        assert columns(rig) == {"id", "name", "full_name"}
        early = slots.run("contract", settings, release, rollout_version=None, rollout_contract_after=0)
        assert early.rc != 0
        assert "web1, web2 answers with another version than 2.0" in early.text, str(early)
        back = slots.run("rollback", settings, release, rollout_version=None)
        assert back.rc == 0, str(back)
        assert slots.live() == {"blue"}
        assert columns(rig) == {"id", "name"}
        run = slots.run("blue_green", settings, release, rollout_retire="stop")
        assert run.rc == 0, str(run)
        late = slots.run("contract", settings, release, rollout_version=None, rollout_contract_after=0.5)
        assert late.rc == 0, str(late)
        assert columns(rig) == {"id", "full_name"}
        refused = slots.run("rollback", settings, release, rollout_version=None)
        assert refused.rc != 0
        assert "1.0 cannot serve any more" in refused.text, str(refused)
    assert slots.live() == {"green"}
    assert customers.versions == {FIRST, "2.0"}
    assert_nothing_lost(rig, customers, "full_name")
