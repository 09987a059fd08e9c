# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Whether a pool's state outlives a reload of HAProxy, and the lines of its servers kept in step where no state file is."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
from collections.abc import Mapping, Sequence

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    InvalidConfiguration,
    Refused,
    RolloutError,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._files import (
    LOCK_FOLDER,
    changed_lines,
    configuration_lock,
    replace,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._haproxy import config, persist
from ansible_collections.zerodrop.rollout.plugins.module_utils._haproxy.replies import ANY_DRAIN, ANY_MAINT, ServerState

REQUIRE, ACCEPT, NEVER = "require", "accept", "never"
CHOICES = (REQUIRE, ACCEPT, NEVER)

_LOCK_LIMIT = 60.0
_ADDRESS = re.compile(r"(?:ipv[46]@)?(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<any>[0-9A-Fa-f.:]+)):(?P<port>[0-9]{1,5})\Z")
_CHOICE = (
    "Let HAProxy keep its state ('server-state-file' in its global section and 'load-server-state-from-file global' in "
    "its defaults), or give each server a line that may be written; or set lasting (rollout_lasting) to accept, if "
    "nobody reloads this HAProxy meanwhile."
)


def state_file(texts: Mapping[str, str], pool: str) -> persist.StateFile | None:
    """The file of a pool whose configuration reads one."""
    try:
        return persist.state_file(texts.values(), pool)
    except persist.NotKept:
        return None


def keep_lines(pid: int, pool: str, out: Mapping[str, bool], required: bool) -> list[str]:
    """Write `disabled` on the lines of servers that are held out, and take it away from those that come back; the lines that changed.

    Nothing is reloaded. A server that has no line, or lines that may not be written, are left alone unless this is
    required; raises ``InvalidConfiguration`` and ``Refused``, with all files as they were.
    """
    adds = any(out.values())
    try:
        launch = persist.launch_of(pid)
        texts = launch.texts()
    except persist.NotKept as error:
        if adds and required:
            raise _undone(pool, error) from None
        return []
    try:
        if _is_to_be_changed(texts, pool, adds):
            return _edit(launch, pool, out)
    except (persist.NotKept, RolloutError) as error:
        if adds and not required:
            return []
        raise error if isinstance(error, RolloutError) else _undone(pool, error) from None
    return []


def would_keep_lines(pid: int, pool: str, names: Sequence[str]) -> list[str]:
    """The lines that would change if these servers were held out; none where that cannot be told."""
    try:
        texts = persist.launch_of(pid).texts()
        if not _is_to_be_changed(texts, pool, True):
            return []
        return changed_lines(texts, config.edit(texts, pool, dict.fromkeys(names, True)))
    except (persist.NotKept, RolloutError):
        return []


def _undone(pool: str, reason: persist.NotKept) -> Refused:
    return Refused(f"A reload of HAProxy would undo what is changed in {pool}: {reason}.", _CHOICE, pool=pool)


def _edit(launch: persist.Launch, pool: str, out: Mapping[str, bool]) -> list[str]:
    launch.refuse_other_files()
    with configuration_lock("haproxy", launch.files[0], _LOCK_LIMIT):
        texts = launch.texts()  # again: another change may have gone before
        lines = config.server_lines(texts, pool)
        new = config.edit(texts, pool, out)
        if new:
            launch.refuse_read_only(new)
            # What comes without our mark was there before; whatever else is wrong is no reason to leave the mark.
            if any(out.values()):
                _test(launch, texts, pool)
            _write(launch, texts, new)
    lacking = [name for name, held in out.items() if held and name not in lines]
    if lacking:
        raise persist.NotKept(_no_line(lacking))
    return changed_lines(texts, new)


def _is_to_be_changed(texts: Mapping[str, str], pool: str, adds: bool) -> bool:
    if adds:
        return state_file(texts, pool) is None
    return any(config.OURS in text for text in texts.values())


def _test(launch: persist.Launch, texts: Mapping[str, str], pool: str) -> None:
    """Raise ``InvalidConfiguration`` unless HAProxy takes its files with any servers of the pool held out.

    They are tested with all of them held out. A test takes a tenth of a second or more, so one that passed is
    remembered for as long as neither the files nor the program change.
    """
    everyone = config.edit(texts, pool, dict.fromkeys(config.server_lines(texts, pool), True))
    key = launch.fingerprint({**texts, **everyone})
    name = hashlib.sha256(f"{launch.files[0]}\0{pool}".encode("utf-8", "surrogateescape")).hexdigest()[:16]
    memory = f"{LOCK_FOLDER}/haproxy-{name}.tested"
    try:
        with open(memory, encoding="ascii") as file:
            if file.read() == key:
                return
    except (OSError, ValueError):
        pass
    complaint = launch.complaint(everyone)
    if complaint:
        raise InvalidConfiguration(
            f"HAProxy would not take its configuration with this change: {complaint}. The files are as they were.",
            "Mend the configuration until `haproxy -c` passes, then run this again.",
        )
    try:
        replace(memory, key.encode("ascii"), mode=0o600)
    except OSError:
        pass  # then it is tested again


def _write(launch: persist.Launch, texts: Mapping[str, str], new: Mapping[str, str]) -> None:
    if launch.texts() != dict(texts):
        raise Refused("HAProxy's configuration was changed by somebody else in this moment; nothing was written.")
    try:
        launch.replace(new)
    except OSError as error:
        launch.replace({path: texts[path] for path in new})
        raise Refused(
            f"{error.filename} cannot be written: {error.strerror}. The files are as they were.",
            "See that the disk is writable and not full.",
        ) from None


def _no_line(names: Sequence[str]) -> str:
    shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    return f"{shown} has no line of its own in the configuration (a server-template, or added at run time)"


def why_not(pid: int, pool: str, servers: Sequence[ServerState], choice: str) -> str:
    """Why a reload of this HAProxy would not leave the pool as it is; empty when it would."""
    if choice == NEVER:
        return f"A reload of HAProxy undoes what is changed in {pool}: lasting (rollout_lasting) is never."
    try:
        launch = persist.launch_of(pid)
        texts = launch.texts()
        launch.refuse_other_files()
        reasons = _reasons(launch, texts, pool, servers)
    except (persist.NotKept, InvalidConfiguration) as error:
        reasons = [str(error).rstrip(".")]
    if not reasons:
        return ""
    return f"A reload of HAProxy would not leave {pool} as it is: {'; '.join(reasons)}. {_CHOICE}"


def _reasons(launch: persist.Launch, texts: Mapping[str, str], pool: str, servers: Sequence[ServerState]) -> list[str]:
    lines = config.server_lines(texts, pool)
    reasons = []
    file = state_file(texts, pool)
    if file is None:
        lacking = [server.name for server in servers if server.name not in lines]
        if lacking:
            reasons.append(_no_line(lacking))
        launch.refuse_read_only({line.file for each in lines.values() for line in each})
        complaint = launch.complaint()
        if complaint:
            reasons.append(f"HAProxy would not take its configuration: {complaint}")
    elif not os.access(os.path.dirname(file.path), os.W_OK):
        reasons.append(f"this user may not write its state file {file.path}")
    for server in servers:
        own = lines.get(server.name, [])
        if len(own) != 1:
            continue
        if own[0].disabled_by_hand and file is None and not server.admin_bits & (ANY_MAINT | ANY_DRAIN):
            reasons.append(f"{server.name} serves, but is disabled at {own[0].place}")
        elsewhere = _differs(own[0].address, server)
        if elsewhere:
            wins = ", and its state file wins over its configuration" if file else ""
            reasons.append(f"{server.name} is at {elsewhere}, but {own[0].address} at {own[0].place}{wins}")
    return reasons


def _differs(address: str, server: ServerState) -> str:
    """The address that a server has now, where the configuration names another one."""
    found = _ADDRESS.match(address)
    if not found:
        return ""
    try:
        named = ipaddress.ip_address(found.group("six") or found.group("any"))
        live = ipaddress.ip_address(server.address)
    except ValueError:
        return ""
    same = named == live and int(found.group("port")) == server.port
    return "" if same else f"{server.address}:{server.port}"
