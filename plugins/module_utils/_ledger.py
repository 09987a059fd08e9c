# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The ledger of one service on one balancer: lease, rollouts, members, what they return to, events, flags.

An SQLite file: one transaction is on the disk whole or not at all, any Python
and any ``sqlite3`` reads it in an emergency, and its lock is the lock of the
service on this host. It is small, since old rollouts are taken out of it.
A file that is damaged or of a newer version is refused and left as it is.

    /var/lib/zerodrop/SERVICE/ledger.db
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import LedgerBroken
from ansible_collections.zerodrop.rollout.plugins.module_utils._lease import Lease
from ansible_collections.zerodrop.rollout.plugins.module_utils._names import service
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Admin, Setting

try:
    import sqlite3

    _LACKING = ""
except ImportError as error:  # Debian's python3-minimal alone has none
    _LACKING = str(error)

FOLDER = "/var/lib/zerodrop"
APPLICATION = 0x7A64726F  # "zdro": tells this file from any other SQLite file
VERSION = 1

KEPT_ROLLOUTS = 50
KEPT_EVENTS = 2000
KEPT_CANARIES = 3
_LOCK_LIMIT = 60.0  # an nginx reload is made under the lock

# Who holds a member out: a rollout, which takes up what it left, or an operator, whose members no rollout puts back.
BY_ROLLOUT, BY_HAND = "rollout", "hand"

# The phases of a member, and whether its balancers may put it back by themselves in each of them.
PHASES: Mapping[str, bool] = {
    "planned": True,  # nothing was done to it yet
    "draining": True,  # held out or about to be; its release is the old one
    "upgrading": False,  # its release may be touched from now on
    "healthy": True,  # it passed its gate, and is about to be put back
    "finished": True,
    "rolled_back": True,  # the same with the release it had before
    "left_out": False,  # it stays out until somebody mends it
}
ENDED = ("planned", "finished", "rolled_back")  # nothing is to be done about such a member after a run that died

_SCHEMA = """
CREATE TABLE lease (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    number INTEGER NOT NULL, holder TEXT NOT NULL, owner TEXT NOT NULL, reason TEXT NOT NULL, seconds REAL NOT NULL,
    started REAL NOT NULL, renewed REAL NOT NULL, boot TEXT NOT NULL, expires REAL NOT NULL,
    released INTEGER NOT NULL, process TEXT NOT NULL);
CREATE TABLE rollouts (
    id TEXT PRIMARY KEY, number INTEGER NOT NULL, strategy TEXT NOT NULL, owner TEXT NOT NULL,
    from_version TEXT, to_version TEXT, plan TEXT NOT NULL,
    started REAL NOT NULL, ended REAL, outcome TEXT, sentence TEXT, seconds TEXT NOT NULL);
CREATE TABLE members (
    host TEXT PRIMARY KEY, rollout TEXT NOT NULL, phase TEXT NOT NULL, safe INTEGER NOT NULL,
    release_before TEXT, release TEXT, before TEXT NOT NULL, at REAL NOT NULL);
CREATE TABLE held (
    pool TEXT NOT NULL, member TEXT NOT NULL, held_by TEXT NOT NULL, admin TEXT NOT NULL, weight INTEGER NOT NULL,
    host TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (pool, member, held_by));
CREATE TABLE events (
    id INTEGER PRIMARY KEY, at REAL NOT NULL, number INTEGER NOT NULL, rollout TEXT NOT NULL, message TEXT NOT NULL);
CREATE TABLE flags (name TEXT PRIMARY KEY, value TEXT NOT NULL, at REAL NOT NULL);
"""
# Made with the first migration, so that a ledger of an earlier release of this collection can have it too.
_MIGRATION = """
CREATE TABLE IF NOT EXISTS migration (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    revision INTEGER NOT NULL, name TEXT NOT NULL, told TEXT NOT NULL, finished REAL)
"""
# Made when it is first needed: a ledger without it is one of a service that never had a canary.
_KEPT = """
CREATE TABLE IF NOT EXISTS kept (
    canary TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (canary, name))
"""


@dataclass(frozen=True)
class MemberEntry:
    """Where a rollout left a member of the service."""

    host: str  # in the inventory
    rollout: str
    phase: str  # one of ``PHASES``
    safe: bool  # whether it may be put back without a controller, when the balancer sees it healthy
    release_before: str | None
    release: str | None  # what it has or is to get
    before: Mapping[str, Any]  # admin and weight to return to, by place
    at: float


@dataclass(frozen=True)
class Held:
    """A member that is held out on this balancer, and what it returns to."""

    pool: str
    member: str
    held_by: str
    setting: Setting
    host: str  # in the inventory; empty where no rollout said
    at: float


@dataclass(frozen=True)
class RolloutEntry:
    """One run."""

    id: str
    number: int  # of its lease
    strategy: str
    owner: str
    from_version: str | None
    to_version: str | None
    plan: Any  # batches, floor
    started: float
    ended: float | None = None  # None: it runs, or it died
    outcome: str | None = None
    sentence: str | None = None
    seconds: Any = None  # how long each phase took, over all members


@dataclass(frozen=True)
class MigrationEntry:
    """How far the last data migration has come, as the runs tell it."""

    revision: int  # the higher one is the newer
    name: str
    told: Any  # what the controller makes of it
    finished: float | None = None  # since when the old version is out of service, by this balancer's clock


class Tables:
    """What stands in the ledger, inside one transaction."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def lease(self) -> Lease | None:
        row = self._one("SELECT * FROM lease")
        if row is None:
            return None
        values = {name: row[name] for name in row.keys() if name != "one"}  # noqa: SIM118 - a row is no mapping
        return Lease(**{**values, "released": bool(row["released"])})

    def set_lease(self, lease: Lease) -> None:
        self._insert("lease", {"one": 1, **asdict(lease), "released": int(lease.released)})

    # -- rollouts ---------------------------------------------------------------

    def rollouts(self, limit: int = KEPT_ROLLOUTS) -> list[RolloutEntry]:
        """The newest first."""
        rows = self._all("SELECT * FROM rollouts ORDER BY number DESC, started DESC LIMIT ?", limit)
        return [
            RolloutEntry(**{**dict(row), "plan": json.loads(row["plan"]), "seconds": json.loads(row["seconds"])})
            for row in rows
        ]

    def interrupted(self) -> RolloutEntry | None:
        """The last rollout, when it never came to its end."""
        last = self.rollouts(1)
        return last[0] if last and last[0].ended is None else None

    def add_rollout(self, entry: RolloutEntry) -> None:
        """Also takes out what is too old to be kept."""
        self._insert("rollouts", {**asdict(entry), "plan": json.dumps(entry.plan), "seconds": json.dumps({})})
        self._run(
            "DELETE FROM rollouts WHERE id NOT IN (SELECT id FROM rollouts ORDER BY number DESC LIMIT ?)", KEPT_ROLLOUTS
        )
        self._run("DELETE FROM events WHERE id <= (SELECT max(id) FROM events) - ?", KEPT_EVENTS)

    def forget_rollout(self, name: str) -> None:
        self._run("DELETE FROM rollouts WHERE id = ?", name)

    def end_rollout(self, name: str, ended: float, outcome: str, sentence: str, seconds: Mapping[str, float]) -> None:
        self._run(
            "UPDATE rollouts SET ended = ?, outcome = ?, sentence = ?, seconds = ? WHERE id = ?",
            *(ended, outcome, sentence, json.dumps(dict(seconds)), name),
        )

    # -- members ----------------------------------------------------------------

    def members(self) -> dict[str, MemberEntry]:
        return {row["host"]: _member(row) for row in self._all("SELECT * FROM members ORDER BY host")}

    def set_member(self, entry: MemberEntry) -> None:
        self._insert("members", {**asdict(entry), "safe": int(entry.safe), "before": json.dumps(dict(entry.before))})

    def remove_member(self, host: str) -> None:
        self._run("DELETE FROM members WHERE host = ?", host)

    # -- what is held out here --------------------------------------------------

    def held(self, pool: str | None = None, held_by: str | None = None) -> list[Held]:
        rows = self._all("SELECT * FROM held ORDER BY pool, member")
        found = [
            Held(
                row["pool"],
                row["member"],
                row["held_by"],
                Setting(Admin(row["admin"]), row["weight"]),
                row["host"],
                row["at"],
            )
            for row in rows
        ]
        return [each for each in found if pool in (None, each.pool) and held_by in (None, each.held_by)]

    def hold(self, entries: Iterable[Held]) -> None:
        for each in entries:
            values = {"admin": each.setting.admin.value, "weight": each.setting.weight, "host": each.host}
            key = {"pool": each.pool, "member": each.member, "held_by": each.held_by}
            self._insert("held", {**key, **values, "at": each.at})

    def let_go(self, pool: str, names: Iterable[str], held_by: str) -> None:
        for name in names:
            self._run("DELETE FROM held WHERE pool = ? AND member = ? AND held_by = ?", pool, name, held_by)

    # -- events and flags -------------------------------------------------------

    def events(self, limit: int = 100) -> list[dict[str, Any]]:
        """The newest last."""
        rows = self._all("SELECT at, number, rollout, message FROM events ORDER BY id DESC LIMIT ?", limit)
        return [dict(row) for row in reversed(rows)]

    def event(self, at: float, number: int, rollout: str, message: str) -> None:
        self._insert("events", {"at": at, "number": number, "rollout": rollout, "message": message[:2000]})

    def flag(self, name: str) -> str | None:
        row = self._one("SELECT value FROM flags WHERE name = ?", name)
        return None if row is None else str(row["value"])

    def set_flag(self, name: str, value: str, at: float) -> None:
        self._insert("flags", {"name": name, "value": value, "at": at})

    def clear_flags(self) -> None:
        """What belongs to one lease; a route outlives it."""
        self._run("DELETE FROM flags WHERE name NOT LIKE 'route:%'")

    def route(self) -> dict[str, Any] | None:
        """Which slot is live, and which one it is about to be; None where no flip was ever begun."""
        text = self.flag("route:slot")
        return None if text is None else dict(json.loads(text))

    def set_route(self, live: str, to: str, number: int, at: float) -> None:
        """``to`` is empty but while a flip is under way."""
        self.set_flag("route:slot", json.dumps({"live": live, "to": to, "number": number}), at)

    # -- the data migration -----------------------------------------------------

    def migration(self) -> MigrationEntry | None:
        """The last one that any run told of."""
        if self._one("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'migration'") is None:
            return None
        row = self._one("SELECT revision, name, told, finished FROM migration")
        return None if row is None else MigrationEntry(**{**dict(row), "told": json.loads(row["told"])})

    def set_migration(self, entry: MigrationEntry) -> None:
        self._run(_MIGRATION)
        self._insert("migration", {"one": 1, **asdict(entry), "told": json.dumps(entry.told)})

    # -- what a canary goes on from ---------------------------------------------

    def keep(self, canary: str, values: Mapping[str, Any], at: float) -> None:
        """Polls, and what else a run must find to go on with this canary; None takes one out. Old canaries go."""
        self._run(_KEPT)
        for name, value in values.items():
            if value is None:
                self._run("DELETE FROM kept WHERE canary = ? AND name = ?", canary, name)
            else:
                self._insert("kept", {"canary": canary, "name": name, "value": json.dumps(value), "at": at})
        self._run(
            "DELETE FROM kept WHERE canary NOT IN (SELECT canary FROM kept GROUP BY canary ORDER BY max(at) DESC LIMIT ?)",
            KEPT_CANARIES,
        )

    def kept(self, canary: str) -> dict[str, Any]:
        """By name, in the order of the names."""
        if self._one("SELECT name FROM sqlite_master WHERE type = 'table' AND name = 'kept'") is None:
            return {}
        rows = self._all("SELECT name, value FROM kept WHERE canary = ? ORDER BY name", canary)
        return {row["name"]: json.loads(row["value"]) for row in rows}

    # -- SQL --------------------------------------------------------------------

    def _insert(self, table: str, values: Mapping[str, Any]) -> None:
        """A row, in the place of one with the same key; table and columns are names of this file's."""
        marks = ", ".join("?" * len(values))
        self._run(f"INSERT OR REPLACE INTO {table} ({', '.join(values)}) VALUES ({marks})", *values.values())

    def _run(self, sql: str, *values: Any) -> sqlite3.Cursor:
        return self._database.execute(sql, values)

    def _all(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        return list(self._run(sql, *values))

    def _one(self, sql: str, *values: Any) -> sqlite3.Row | None:
        return next(iter(self._all(sql, *values)), None)


class Ledger:
    """The ledger of a service on this balancer; nothing is opened or made before it is asked for something."""

    def __init__(self, service_name: object, folder: str | None = None) -> None:
        self.folder = os.path.join(folder or FOLDER, service(service_name, "service"))
        self.path = os.path.join(self.folder, "ledger.db")

    def exists(self) -> bool:
        return os.path.lexists(self.path)

    @contextmanager
    def look(self) -> Iterator[Tables | None]:
        """What stands in it now; None where there is none. Raises ``LedgerBroken``."""
        if not self.exists():
            yield None
            return
        # pylint: disable-next=contextmanager-generator-missing-cleanup  # the transaction ends in a finally of its own
        with self._transaction("DEFERRED") as tables:
            yield tables

    @contextmanager
    def change(self) -> Iterator[Tables]:
        """Change it, alone: on the disk when the block ends, undone when it raises. Raises ``LedgerBroken``.

        A ledger that is not there is made.
        """
        if not _LACKING and not self.exists():
            self._make()
        # pylint: disable-next=contextmanager-generator-missing-cleanup  # the transaction ends in a finally of its own
        with self._transaction("IMMEDIATE") as tables:
            yield tables

    @contextmanager
    def _transaction(self, kind: str) -> Iterator[Tables]:
        if _LACKING:
            raise LedgerBroken(f"This host's Python cannot keep a ledger: {_LACKING}.", "Install the package python3.")
        with self._named_errors():
            database = self._open()
        try:
            with self._named_errors():
                database.execute(f"BEGIN {kind}")
            try:
                yield Tables(database)
            except BaseException as error:
                database.rollback()
                if isinstance(error, sqlite3.Error):
                    raise self._broken(error) from error
                raise
            with self._named_errors():
                database.commit()
        finally:
            database.close()

    def _open(self) -> sqlite3.Connection:
        if os.path.getsize(self.path) == 0:  # SQLite would take it for a new one
            raise LedgerBroken(f"The ledger {self.path} is empty: it was cut off.", _LEFT)
        # rw and not rwc: a file that has gone meanwhile is not made anew, without its tables.
        address = "file:" + self.path.replace("%", "%25").replace("?", "%3f").replace("#", "%23") + "?mode=rw"
        database = sqlite3.connect(address, uri=True, timeout=_LOCK_LIMIT, isolation_level=None)
        try:
            database.row_factory = sqlite3.Row
            database.execute("PRAGMA synchronous = EXTRA")
            application, version = (
                next(database.execute(f"PRAGMA {name}"))[0] for name in ("application_id", "user_version")
            )
            if application != APPLICATION:
                raise LedgerBroken(f"{self.path} is not a ledger of this collection.", _LEFT)
            if version > VERSION:
                raise LedgerBroken(
                    f"The ledger {self.path} is of version {version}, and this collection knows {VERSION}: a newer "
                    "zerodrop.rollout has written it.",
                    "It was left as it is. Use that newer version.",
                )
            problem = next(database.execute("PRAGMA quick_check(1)"))[0]
            if problem != "ok":
                raise LedgerBroken(f"The ledger {self.path} is damaged: {problem}.", _LEFT)
        except BaseException:
            database.close()
            raise
        return database

    def _make(self) -> None:
        """With all its tables or not at all: whoever finds a ledger without them has found a damaged one."""
        with self._named_errors():
            os.makedirs(self.folder, mode=0o755, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=self.folder, prefix=".zerodrop-", suffix=".new")
            os.close(handle)
            try:
                database = sqlite3.connect(temporary, isolation_level=None)
                try:
                    database.execute("PRAGMA synchronous = EXTRA")
                    database.executescript(
                        f"BEGIN; PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION}; {_SCHEMA} COMMIT;"
                    )
                finally:
                    database.close()
                os.chmod(temporary, 0o640)
                try:
                    os.link(temporary, self.path)
                except FileExistsError:
                    pass  # somebody else was faster, and theirs is as good
            finally:
                os.unlink(temporary)
                for leftover in (temporary + "-journal",):
                    if os.path.exists(leftover):
                        os.unlink(leftover)
            folder = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise self._broken(error) from error

    def _broken(self, error: Exception) -> LedgerBroken:
        said = str(error).rstrip(".")
        if "malformed" in said or "not a database" in said or "no such table" in said:
            return LedgerBroken(f"The ledger {self.path} is damaged: {said}.", _LEFT)
        if "full" in said or "No space" in said:
            return LedgerBroken(f"The ledger {self.path} cannot be written: {said}.", "Make room on that disk.")
        if "locked" in said:
            return LedgerBroken(
                f"The ledger {self.path} cannot be had: another program has kept its lock for {_LOCK_LIMIT:g} s.",
                "See who has it open (fuser, lsof).",
            )
        return LedgerBroken(
            f"The ledger {self.path} cannot be read or written: {said}.",
            "Use become; see whether the file system is read-only and whether its disk is full.",
        )


def _member(row: sqlite3.Row) -> MemberEntry:
    return MemberEntry(**{**dict(row), "safe": bool(row["safe"]), "before": json.loads(row["before"])})


_LEFT = "It was left as it is."
