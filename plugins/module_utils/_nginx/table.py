# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The table of links on the disk that tells nginx which server gets the requests of each slot.

It lies under ``/var/lib``, so that it outlives a reload, a restart and a reboot. A link is replaced in one step, so
at every moment each slot leads somewhere. Which members are in service is read off the links themselves; beside them
are only the weights.
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    InvalidConfiguration,
    PermissionDenied,
    TimedOut,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._files import replace_json, take_lock
from ansible_collections.zerodrop.rollout.plugins.module_utils._nginx import links

ROOT = "/var/lib/zerodrop/nginx"

_EVEN, _SLOTS = "even", "slots"  # the folders that `live` may lead to

_TOO_YOUNG = 50_000_000  # nanoseconds: within a tick of the clock two changes may bear one time
_LOCK_LIMIT = 60.0
_BECOME = "Become root on the balancer."
_PREPARE = "Run the role nginx_links on this balancer, which makes the table."


class Weights(NamedTuple):
    """One server's."""

    home: int  # as the configuration has it
    now: int  # whether in service or not
    serves: bool = True


class Table:
    """The table of one pool, for these servers (addresses and their weights in the configuration, in its order)."""

    def __init__(self, root: str, pool: str, servers: Mapping[str, int]) -> None:
        self.folder = links.folder_of(root, pool, servers)
        self._servers = dict(servers)
        self._weights = tuple(servers.values())
        self._slots = links.slots_for(len(servers))
        self._seen: tuple[int, list[str]] | None = None  # the keys of the slots, and their folder's time

    @property
    def _state(self) -> str:
        return f"{self.folder}/weights.json"

    def exists(self) -> bool:
        return os.path.exists(self._state)

    def read(self) -> dict[str, Weights]:
        """By address; raises ``InvalidConfiguration`` for a table that is not whole."""
        _even, now = self._kept()
        serving = set(range(len(now)))
        if self._live() == _SLOTS:
            owners = [links.owner_of(key, self._weights) for key in self._keys()]
            if None in owners:
                raise InvalidConfiguration(f"{self.folder}/slots/{owners.index(None)} leads to no key.", _PREPARE)
            serving = {owner for owner in owners if owner is not None}
        return {
            address: Weights(home, now[address], place in serving)
            for place, (address, home) in enumerate(self._servers.items())
        }

    def holds(self, weights: Mapping[str, Weights], even: bool | None = None) -> bool:
        """Whether every link is as these weights want it. A change that was broken off holds none."""
        if not any(row.serves for row in weights.values()):
            return False
        was_even, now = self._kept()
        even = was_even if even is None else even
        wanted = _live_for(weights, even)
        return (
            (was_even, now) == (even, {address: row.now for address, row in weights.items()})
            and self._live() == wanted
            and (wanted == _EVEN or self._keys() == self._meant(weights))
        )

    def write(self, weights: Mapping[str, Weights], even: bool | None = None) -> None:
        """Bring the table to these weights, of which one serves at least. Raises ``PermissionDenied``.

        ``even`` says whether nginx's own round robin may serve while all are in service.
        """
        kept = self._kept() if self.exists() else None
        even = bool(kept and kept[0]) if even is None else even
        live = _live_for(weights, even)
        data = even, {address: row.now for address, row in weights.items()}
        try:
            self._make_folders()
            # The weights first: a change that was broken off is seen, and made again, by the links.
            if kept != data:
                replace_json(self._state, {"even": even, "weights": data[1]}, 0o644)
            if live == _SLOTS:
                self._turn_slots(self._meant(weights))
            if self._live_or_none() != live:
                self._link(live, f"{self.folder}/live")
        except OSError as error:
            raise PermissionDenied(
                f"{error.filename} cannot be written: {error.strerror}.", f"{_BECOME} See that the disk is not full."
            ) from None
        if not self.holds(weights, even):
            raise InvalidConfiguration(
                f"The table in {self.folder} is another one than was just written.",
                "See who else works on this balancer, then run this again.",
            )

    def _meant(self, weights: Mapping[str, Weights]) -> list[str]:
        rows = [weights[address] for address in self._servers]
        owners = links.deal(self._weights, [row.now if row.serves else 0 for row in rows], self._slots)
        return links.keys_for(owners, self._weights)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Let one change of this table at a time go on."""
        try:
            handle = os.open(f"{self.folder}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise PermissionDenied(f"{self.folder}/lock cannot be had: {error.strerror}.", _BECOME) from None
        try:
            if not take_lock(handle, _LOCK_LIMIT):
                raise TimedOut(f"Another change of {self.folder} has been going on for {_LOCK_LIMIT:g} s.")
            yield
        finally:
            os.close(handle)

    def check_rights(self, users: Sequence[tuple[int, frozenset[int]]]) -> None:
        """Raise ``PermissionDenied`` unless we may change it and these users, each with its groups, may read it."""
        for path in (self.folder, f"{self.folder}/{_SLOTS}", f"{self.folder}/keys"):
            if not os.access(path, os.W_OK | os.X_OK):
                raise PermissionDenied(f"{path} may not be written.", _BECOME)
        path = f"{self.folder}/slots"
        while path != "/":
            found = os.stat(path)
            for uid, groups in users:
                if not _may_pass(found, uid, groups):
                    raise PermissionDenied(
                        f"nginx's workers (user {uid}) may not pass through {path}, so each request would fail.",
                        f"Allow it: chmod o+x {path}",
                    )
            path = os.path.dirname(path)

    def _make_folders(self) -> None:
        """Whatever the umask: nginx's workers pass through these folders, and no others are touched."""
        for name in ("", f"/keys/{_EVEN}", f"/{_SLOTS}", f"/{_EVEN}"):
            os.makedirs(self.folder + name, mode=0o755, exist_ok=True)
        for path in (
            os.path.dirname(self.folder),
            *(f"{self.folder}{name}" for name in ("", "/keys", "/slots", "/even")),
        ):
            os.chmod(path, 0o755)
        for slot in range(self._slots):
            if not os.path.lexists(f"{self.folder}/{_EVEN}/{slot}"):
                self._link(f"../keys/{_EVEN}", f"{self.folder}/{_EVEN}/{slot}")

    def _turn_slots(self, keys: Sequence[str]) -> None:
        """Each in one step; while it is going on, some lead where they led before."""
        for slot, key in enumerate(keys):
            path = f"{self.folder}/{_SLOTS}/{slot}"
            if _target(path) != key:
                os.makedirs(f"{self.folder}/keys/{key}", mode=0o755, exist_ok=True)
                self._link(f"../keys/{key}", path)

    def _link(self, target: str, path: str) -> None:
        temporary = f"{self.folder}/.new"
        if os.path.lexists(temporary):  # of a change that was broken off
            os.unlink(temporary)
        os.symlink(target, temporary)
        os.replace(temporary, path)

    def _live_or_none(self) -> str | None:
        return _target(f"{self.folder}/live")

    def _live(self) -> str:
        found = self._live_or_none()
        if found not in (_EVEN, _SLOTS):
            raise InvalidConfiguration(f"{self.folder}/live leads nowhere: each request fails.", _PREPARE)
        return found

    def _keys(self) -> list[str]:
        """The key of each slot; read again only where the folder's time has changed or is too young to tell."""
        folder = f"{self.folder}/{_SLOTS}"
        time_of = os.stat(folder).st_mtime_ns if os.path.isdir(folder) else 0
        if self._seen is not None and self._seen[0] == time_of:
            return self._seen[1]
        now = time.time_ns()
        found = [_target(f"{folder}/{slot}") for slot in range(self._slots)]
        if None in found:
            raise InvalidConfiguration(f"{folder}/{found.index(None)} is missing: some requests fail.", _PREPARE)
        keys = [key for key in found if key is not None]
        self._seen = (time_of, keys) if now - time_of > _TOO_YOUNG else None
        return keys

    def _kept(self) -> tuple[bool, dict[str, int]]:
        try:
            with open(self._state, encoding="utf-8") as file:
                data = json.load(file)
            return bool(data["even"]), {address: int(data["weights"][address]) for address in self._servers}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidConfiguration(f"{self._state} cannot be read: {error}.", _PREPARE) from None


def _live_for(weights: Mapping[str, Weights], even: bool) -> str:
    return _EVEN if even and all(row.serves and row.now == row.home for row in weights.values()) else _SLOTS


def _target(path: str) -> str | None:
    """The last part of where a link leads; None where there is none."""
    try:
        return os.path.basename(os.readlink(path))
    except PermissionError:
        raise PermissionDenied(f"{path} may not be read.", _BECOME) from None
    except OSError:
        return None


def _may_pass(found: os.stat_result, uid: int, groups: frozenset[int]) -> bool:
    if uid == 0:
        return True
    if found.st_uid == uid:
        return bool(found.st_mode & stat.S_IXUSR)
    if found.st_gid in groups:
        return bool(found.st_mode & stat.S_IXGRP)
    return bool(found.st_mode & stat.S_IXOTH)
