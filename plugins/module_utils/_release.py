# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The release store on a member, and the switch from one release to another.

::

    BASE/releases/VERSION/   one complete release each, with its .release.json
    BASE/current             -> releases/VERSION
    BASE/.switch.json        the last switch: from, to, and whether the restart is still due
    BASE/.incoming/          what is half done; also the lock

Whatever has a name outside of ``.incoming`` is complete and on the disk: things
are made in there and come out by a rename.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import hashlib
import json
import os
import pwd
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import IO, Any, NamedTuple

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    BadArtefact,
    BadInput,
    InvalidConfiguration,
    PermissionDenied,
    Refused,
    RolloutError,
    TimedOut,
    UpgradeFailed,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._files import take_lock
from ansible_collections.zerodrop.rollout.plugins.module_utils._names import absolute_path, http_url
from ansible_collections.zerodrop.rollout.plugins.module_utils._names import unit as checked_unit
from ansible_collections.zerodrop.rollout.plugins.module_utils._names import version as checked_version
from ansible_collections.zerodrop.rollout.plugins.module_utils._params import flag, items, number, text, whole
from ansible_collections.zerodrop.rollout.plugins.module_utils._systemd import (
    Run,
    Unit,
    require_unit,
    restart,
    run_command,
    unit_state,
)

_RECORD = ".release.json"
_RESERVED = frozenset({_RECORD})
_SWITCH = ".switch.json"
_RECORD_BYTES = 64 * 1024
_CHUNK = 1024 * 1024
_DIGESTS = {"sha256": 64, "sha384": 96, "sha512": 128}
_MODE = re.compile(r"0[0-7]{3}\Z")
_LARGEST = 2**50


class Release(NamedTuple):
    """One release in the store."""

    version: str
    checksum: str
    unpacked_at: str

    def to_dict(self) -> dict[str, Any]:
        return {"version": self.version, "unpacked_at": self.unpacked_at, "checksum": self.checksum}


class Switch(NamedTuple):
    """The last switch. Written before ``current`` changes, so that an interrupted one can be finished."""

    before: str | None
    after: str | None
    earlier: str | None  # what was before ``before``: the previous release, should the switch not have happened
    restart_due: bool

    def previous(self, current: str | None) -> str | None:
        if current is None:
            return None
        if current == self.after:
            return self.before
        return self.earlier if current == self.before else None


class Store:
    """The files of one release store."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.base = absolute_path(params.get("base"), "base").rstrip("/")
        if not self.base:
            raise BadInput("base is the root directory; a release store needs a directory of its own.")
        self.releases = os.path.join(self.base, "releases")
        self.link = os.path.join(self.base, "current")
        self.incoming = os.path.join(self.base, ".incoming")

    def path(self, version: str) -> str:
        return os.path.join(self.releases, version)

    def current(self) -> str | None:
        """The version that ``current`` names; raises ``InvalidConfiguration`` for what we did not make."""
        try:
            target = os.readlink(self.link)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno != errno.EINVAL:  # EINVAL: it is no link
                raise
            raise InvalidConfiguration(
                f"{self.link} is no link; a release store's 'current' is a link to one of its releases.",
                f"Move it away, for example to {self.base}/before-zerodrop, or choose another base.",
            ) from None
        folder, version = os.path.split(os.path.normpath(os.path.join(self.base, target)))
        try:
            if os.path.realpath(folder) != os.path.realpath(self.releases):
                raise BadInput("elsewhere")
            return checked_version(version)
        except BadInput:
            raise InvalidConfiguration(
                f"{self.link} leads to {target!r}, which is not a release in {self.releases}.",
                "Remove the link, or choose another base: the store does not take over what others have made.",
            ) from None

    def find(self, version: str) -> Release | None:
        """A complete release of this store.

        A release without our record counts when it is in use or was until the
        last switch: others installed it before this collection came, and it is
        the way back.
        """
        data = _read_json(os.path.join(self.path(version), _RECORD))
        if data.get("version") != version:
            in_use = version in (self.current(), self.last_switch().before)
            return Release(version, "", "") if in_use and os.path.isdir(self.path(version)) else None
        return Release(version, str(data.get("checksum", "")), str(data.get("unpacked_at", "")))

    def all(self) -> list[Release]:
        """Every complete release, newest first."""
        try:
            names = os.listdir(self.releases)
        except FileNotFoundError:
            return []
        found = [self.find(name) for name in names]
        return sorted((each for each in found if each), key=lambda each: (each.unpacked_at, each.version), reverse=True)

    def last_switch(self) -> Switch:
        data = _read_json(os.path.join(self.base, _SWITCH))
        return Switch(data.get("before"), data.get("after"), data.get("earlier"), bool(data.get("restart_due")))

    def record_switch(self, switch: Switch) -> None:
        """Outlives this process at once, and a power cut with the next ``point_to``: after one, all units start anew."""
        path = os.path.join(self.incoming, "switch")
        _write_json(path, switch._asdict())
        os.replace(path, os.path.join(self.base, _SWITCH))

    def point_to(self, version: str) -> None:
        """Replaces ``current`` in one step: at every moment it leads to a complete release."""
        path = os.path.join(self.incoming, "current")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        os.symlink(os.path.join("releases", version), path)
        os.replace(path, self.link)
        _sync_directory(self.base)

    def prune(self, keep: int, protect: set[str]) -> tuple[list[str], list[str]]:
        """Removes all but the newest ``keep`` releases; returns what is gone and what would not go."""
        pruned, stuck = [], []
        for version in self.surplus(keep, protect):
            try:
                grave = tempfile.mkdtemp(prefix="pruned-", dir=self.incoming)
                os.rename(self.path(version), os.path.join(grave, "release"))
            except OSError as error:
                stuck.append(f"Release {version} could not be removed: {error.strerror or error}.")
                continue
            pruned.append(version)
            # What stays here has lost its name, and the next run sweeps it away.
            shutil.rmtree(grave, ignore_errors=True)
        return pruned, stuck

    def surplus(self, keep: int, protect: set[str]) -> list[str]:
        return [each.version for each in self.all()[keep:] if each.version not in protect]

    @contextlib.contextmanager
    def locked(self, timeout: float) -> Iterator[None]:
        """Alone in the store. Folders that were made for it go again when nothing came of them."""
        made = []
        try:
            for folder, mode in ((self.base, 0o755), (self.releases, 0o755), (self.incoming, 0o700)):
                made += _make_directories(folder, mode)
            handle = os.open(self.incoming, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                _lock(handle, timeout, self.base)
                yield
            finally:
                os.close(handle)
        except BaseException:
            for folder in reversed(made):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)
            raise

    def sweep(self, source: str) -> None:
        """Removes what a killed run left behind; the lock says that nobody works on it."""
        for name in os.listdir(self.incoming):
            path = os.path.join(self.incoming, name)
            if f"{os.path.realpath(source)}/".startswith(f"{os.path.realpath(path)}/"):
                continue  # uploaded right here, to be on the same disk
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path, ignore_errors=True)
            else:
                os.unlink(path)


def release_info(params: Mapping[str, Any], check: bool, run: Run = run_command) -> dict[str, Any]:
    """What the store holds and which release is current. Changes nothing.

    ``params``: ``base``, and ``unit`` to learn its state as well.
    """
    store = Store(params)
    unit = text(params, "unit")
    with _clear_errors(store.base):
        current = store.current()
        switch = store.last_switch()
        result: dict[str, Any] = {
            "changed": False,
            "current": current,
            "previous": switch.previous(current),
            "restart_due": switch.restart_due,
            "releases": [each.to_dict() for each in store.all()],
        }
    if unit:
        result["unit"] = unit_state(checked_unit(unit), run).to_dict()
    return result


def release_stage(params: Mapping[str, Any], check: bool) -> dict[str, Any]:
    """Puts a release into the store, complete or not at all.

    ``params``: ``base``, ``version``, ``source`` (a file on this host or a URL),
    ``checksum``, ``remove_source``, ``owner``, ``group``, ``mode``,
    ``strip_components``, ``timeout``, ``max_bytes``, ``max_entries``, ``validate_certs``.
    """
    store = Store(params)
    version = checked_version(params.get("version"), "version")
    source = _source(params)
    local = source.startswith("/")
    checksum = _checksum(params)
    remove_source = flag(params, "remove_source", False) and local and not check
    started = time.monotonic()
    try:
        with _clear_errors(store.base):
            result = _stage(store, version, source, checksum, params, check)
    finally:
        if remove_source:
            with contextlib.suppress(OSError):
                os.unlink(source)
    result.update(version=version, path=store.path(version), checksum=checksum)
    result["seconds"] = round(time.monotonic() - started, 3)
    return result


def _stage(
    store: Store, version: str, source: str, checksum: str, params: Mapping[str, Any], check: bool
) -> dict[str, Any]:
    # Only a run that has something to unpack pays for these imports; every look at a member would otherwise.
    from ansible_collections.zerodrop.rollout.plugins.module_utils._archive import Limits, unpack

    timeout = number(params, "timeout", 300, 0.1, 86400)
    limits = Limits(
        whole(params, "max_entries", Limits().entries, 1, _LARGEST),
        whole(params, "max_bytes", Limits().size, 1, _LARGEST),
    )
    strip = whole(params, "strip_components", 0, 0, 100)
    owner = _owner(params)
    mode = _mode(params)
    if _is_staged(store, version, checksum):
        return {"changed": False}
    if check:
        if source.startswith("/"):
            with _local(source) as artefact:
                _verify(artefact, checksum, source)
                unpack(artefact, None, limits, strip, _RESERVED)
        return {"changed": True}
    with store.locked(timeout):
        if _is_staged(store, version, checksum):  # by whoever held the lock
            return {"changed": False}
        store.sweep(source)
        work = tempfile.mkdtemp(prefix="stage-", dir=store.incoming)
        try:
            tree = os.path.join(work, "release")
            with _artefact(source, work, timeout, limits.size, params) as artefact:
                before = _mark(artefact)
                _verify(artefact, checksum, source)
                os.mkdir(tree, 0o700)
                contents = unpack(artefact, tree, limits, strip, _RESERVED)
                if _mark(artefact) != before:
                    raise BadArtefact(
                        f"{source} was written to while it was unpacked.", "Stage a file that is complete."
                    )
            now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            record = Release(version, checksum, now)
            _write_json(os.path.join(tree, _RECORD), {**record.to_dict(), "entries": contents.entries})
            _finish_tree(tree, owner, mode)
            os.rename(tree, store.path(version))
            _sync_directory(store.releases)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return {"changed": True, "entries": contents.entries, "bytes": contents.size}


def release_switch(params: Mapping[str, Any], check: bool, run: Run = run_command) -> dict[str, Any]:
    """Makes a staged release the current one, restarts the unit, and removes old releases.

    ``params``: ``base``, ``version``, ``unit``, ``restart``, ``keep``,
    ``protect`` (versions that stay), ``restart_timeout``. In check mode
    ``will_be_staged`` says that the release would be there by then.
    """
    store = Store(params)
    version = checked_version(params.get("version"), "version")
    unit = text(params, "unit")
    unit = checked_unit(unit) if unit else None
    restarts = flag(params, "restart", True) and unit is not None
    keep = whole(params, "keep", 5, 1, 10000)
    protect = {checked_version(each, "protect") for each in items(params, "protect")}
    limit = number(params, "restart_timeout", 60, 0.1, 86400)
    started = time.monotonic()
    with _clear_errors(store.base):
        if check:
            lock: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        else:
            _require_staged(store, version)  # before the lock, which makes folders
            lock = store.locked(limit)
        with lock:
            if not (check and flag(params, "will_be_staged", False)):
                _require_staged(store, version)
            before = store.current()
            last = store.last_switch()
            found = require_unit(unit, run) if unit else None
            switches = before != version
            due = restarts and (switches or last.restart_due or not (found and found.active))
            result: dict[str, Any] = {
                "changed": switches or due,
                "before": before,
                "after": version,
                "pruned": [],
                "restarted": due,
                "diff": {"before": {"current": before}, "after": {"current": version}},
            }
            previous = before if switches else last.previous(before)
            spared = protect | {each for each in (version, before, previous) if each}
            if check:
                result["pruned"] = store.surplus(keep, spared) if result["changed"] else []
            elif result["changed"]:
                result.update(_switch(store, version, before, last, found if due else None, limit, run))
                result["pruned"], stuck = store.prune(keep, spared)
                if stuck:
                    result["warnings"] = stuck
    result["previous"] = previous
    result["seconds"] = round(time.monotonic() - started, 3)
    return result


def _switch(
    store: Store, version: str, before: str | None, last: Switch, unit: Unit | None, limit: float, run: Run
) -> dict[str, Any]:
    switch = last
    if before != version:
        # A restart that was due stays due, also when this switch does without one.
        switch = Switch(before, version, last.previous(before), unit is not None or last.restart_due)
        store.record_switch(switch)
        store.point_to(version)
    elif unit and not last.restart_due:
        switch = last._replace(restart_due=True)
        store.record_switch(switch)
    if unit is None:
        return {}
    try:
        state = restart(unit, limit, run)
    except UpgradeFailed as error:
        error.facts.update(before=before, current=version)
        raise
    store.record_switch(switch._replace(restart_due=False))
    return {"unit": state.to_dict()}


def release(params: Mapping[str, Any], check: bool, run: Run = run_command) -> dict[str, Any]:
    """Staged, or staged and current: what the module ``release`` does.

    ``params``: those of ``release_stage`` and ``release_switch``, and ``state``.
    """
    state = text(params, "state") or "current"
    if state not in ("staged", "current"):
        raise BadInput(f"state must be staged or current, got {state!r}.")
    store = Store(params)
    staged: dict[str, Any] = {"changed": False}
    if text(params, "source"):
        staged = release_stage(params, check)
    elif state == "staged":
        raise BadInput("source is needed to stage a release.")
    result = {"changed": staged["changed"], "staged": staged["changed"], "version": params["version"]}
    if state == "current":
        switched = release_switch({**params, "will_be_staged": staged["changed"]}, check, run)
        result.update(switched, changed=staged["changed"] or switched["changed"])
    else:
        with _clear_errors(store.base):
            current = store.current()
        result.update(before=current, after=current, pruned=[], restarted=False, seconds=staged["seconds"])
        result["diff"] = {"before": {"staged": not staged["changed"]}, "after": {"staged": True}}
    # Not "path": Ansible would add the directory's own "mode", "state" and more to the result.
    result["directory"] = store.path(params["version"])
    info = release_info({"base": params["base"]}, check)
    result.update(previous=info["previous"] if not check else result.get("previous"), releases=info["releases"])
    return result


def _source(params: Mapping[str, Any]) -> str:
    source = params.get("source")
    if isinstance(source, str) and not source.startswith("/"):
        return http_url(source, "source")
    return absolute_path(source, "source")


def _checksum(params: Mapping[str, Any]) -> str:
    value = text(params, "checksum")
    if value is None:
        raise BadInput(
            "checksum is needed: without it nobody knows whether this is the artefact that was meant.",
            "Give it as sha256:HEX, such as 'sha256sum FILE' prints it.",
        )
    kind, _colon, digest = value.partition(":")
    if kind not in _DIGESTS or not re.match(r"[0-9a-fA-F]+\Z", digest) or len(digest) != _DIGESTS[kind]:
        raise BadInput(
            f"checksum {value!r} is not a checksum.",
            "It is sha256:, sha384: or sha512: and then the hexadecimal digits.",
        )
    return f"{kind}:{digest.lower()}"


def _mode(params: Mapping[str, Any]) -> int:
    mode = text(params, "mode") or "0755"
    if not _MODE.match(mode):
        raise BadInput(f"mode {mode!r} is not a mode.", "It has four octal digits in quotes, such as '0750'.")
    if int(mode, 8) & 0o500 != 0o500:
        raise BadInput(f"mode {mode!r} would keep the owner out of the release.")
    return int(mode, 8)


def _owner(params: Mapping[str, Any]) -> tuple[int, int]:
    """User and group as numbers; -1 leaves them as they are."""
    return (
        _account(text(params, "owner"), "owner", lambda name: pwd.getpwnam(name).pw_uid),
        _account(text(params, "group"), "group", lambda name: grp.getgrnam(name).gr_gid),
    )


def _account(name: str | None, what: str, find: Any) -> int:
    if name is None:
        return -1
    try:
        return int(name) if name.isdecimal() else int(find(name))
    except KeyError:
        raise BadInput(f"{what} {name!r} does not exist on this host.", "Create the account first.") from None


def _is_staged(store: Store, version: str, checksum: str) -> bool:
    found = store.find(version)
    if found is None:
        if os.path.lexists(store.path(version)):
            raise Refused(
                f"{store.path(version)} is there, but it was not staged by this collection.",
                "Move it away, or give the release another version.",
            )
        return False
    if found.checksum == checksum:
        return True
    if found.checksum.partition(":")[0] != checksum.partition(":")[0]:
        raise Refused(
            f"Release {version} was staged with the checksum {found.checksum}; whether {checksum} is the same "
            "artefact cannot be told.",
            "Give the checksum of the kind it was staged with.",
        )
    raise Refused(
        f"Release {version} is there already, with other content: it was staged with the checksum "
        f"{found.checksum}, not {checksum}. A release never changes.",
        f"Publish the new content under a new version; or, if {version} is not in use, remove {store.path(version)}.",
    )


def _require_staged(store: Store, version: str) -> None:
    if store.find(version) is not None:
        return
    if os.path.lexists(store.path(version)):
        raise UpgradeFailed(
            f"{store.path(version)} was not staged by this collection, or its {_RECORD} is gone.",
            "Move it away and stage the version again.",
        )
    staged = ", ".join(each.version for each in store.all()) or "none"
    raise UpgradeFailed(f"Release {version} is not staged in {store.base}; staged: {staged}.", "Stage it first.")


@contextlib.contextmanager
def _local(source: str) -> Iterator[IO[bytes]]:
    try:
        # Not blocking: a pipe of that name must not hold us.
        handle = os.open(source, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        raise BadArtefact(f"{source} is not there.", "Was it copied to this host, under this name?") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise BadArtefact(f"{source} is not a file.")
    with open(handle, "rb") as file:
        yield file


@contextlib.contextmanager
def _artefact(source: str, work: str, timeout: float, max_bytes: int, params: Mapping[str, Any]) -> Iterator[IO[bytes]]:
    """The artefact, opened; fetched first where it is elsewhere."""
    if source.startswith("/"):
        with _local(source) as file:
            yield file
        return
    from ansible_collections.zerodrop.rollout.plugins.module_utils._fetch import fetch

    with open(os.path.join(work, "artefact"), "w+b") as file:
        fetch(source, file, timeout, max_bytes, flag(params, "validate_certs", True))
        file.flush()
        yield file


def _mark(file: IO[bytes]) -> tuple[int, int, int]:
    """Changes with every write to the file; its owner cannot set the ctime back."""
    facts = os.fstat(file.fileno())
    return facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def _verify(file: IO[bytes], checksum: str, source: str) -> None:
    kind = checksum.partition(":")[0]
    digest = hashlib.new(kind)
    file.seek(0)
    while True:
        data = file.read(_CHUNK)
        if not data:
            break
        digest.update(data)
    found = f"{kind}:{digest.hexdigest()}"
    if found != checksum:
        shown = source.partition("?")[0].rpartition("@")[2] if not source.startswith("/") else source
        raise BadArtefact(
            f"The checksum of {shown} is {found}, not {checksum}: this is not the artefact that was meant.",
            "Publish the artefact again or correct the checksum; nothing was unpacked.",
        )


def _finish_tree(tree: str, owner: tuple[int, int], mode: int) -> None:
    """Owner and mode, and everything on the disk: after the rename it counts as complete."""
    for folder, folders, files in os.walk(tree, topdown=False):
        for name in files + [each for each in folders if os.path.islink(os.path.join(folder, each))]:
            path = os.path.join(folder, name)
            if owner != (-1, -1):
                os.chown(path, *owner, follow_symlinks=False)
            if not os.path.islink(path):
                _sync(path, os.O_RDONLY)
        if owner != (-1, -1):
            os.chown(folder, *owner)
        if folder == tree:
            os.chmod(tree, mode)
        _sync_directory(folder)


def _sync(path: str, flags: int) -> None:
    handle = os.open(path, flags | os.O_NOFOLLOW)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_directory(path: str) -> None:
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def _make_directories(path: str, mode: int) -> list[str]:
    """Makes a directory and those above it; returns the ones that were not there, outermost first."""
    made = []
    while not os.path.isdir(path):
        made.append(path)
        path = os.path.dirname(path)
    made.reverse()
    for folder in made:
        os.mkdir(folder, mode)
        os.chmod(folder, mode)
    return made


def _lock(handle: int, timeout: float, base: str) -> None:
    if not take_lock(handle, timeout):
        raise TimedOut(
            f"Another run has been working on {base} for {timeout:g} s.",
            "Wait for it to end; 'lsof' on its .incoming names the process.",
        )


def _read_json(path: str) -> dict[str, Any]:
    """A small record of ours; empty when it is not there or not ours."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            data = json.loads(file.read(_RECORD_BYTES).decode("utf-8"))
    except (ValueError, RecursionError):
        return {}
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR):
            return {}
        raise
    return data if isinstance(data, dict) else {}


def _write_json(path: str, data: Mapping[str, Any]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        json.dump(data, file, sort_keys=True)
        file.write("\n")
        file.flush()
        os.fchmod(file.fileno(), 0o644)
        os.fsync(file.fileno())


@contextlib.contextmanager
def _clear_errors(base: str) -> Iterator[None]:
    """Errors of the file system in words."""
    try:
        yield
    except RolloutError:
        raise
    except OSError as error:
        where = error.filename if isinstance(error.filename, str) else base
        reason = error.strerror or str(error)
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise PermissionDenied(f"{where}: {reason}.", "Use 'become', or give this user the directory.") from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UpgradeFailed(
                f"There is no room left for the release in {base}: {reason}. What was written was removed again.",
                "Make room, or keep fewer releases.",
            ) from error
        if error.errno == errno.EXDEV:
            raise UpgradeFailed(
                f"releases/ and .incoming/ in {base} are on different file systems, so no rename between them is atomic.",
                "Mount the file system on the base itself.",
            ) from error
        raise UpgradeFailed(f"{where}: {reason}.", "The release store could not be read or written.") from error
