# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which release a fleet goes back to, and whether every member still has it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadArtefact, Refused

# What ``member_info`` said, by host: its release, the one before, and those that it keeps.
Infos = Mapping[str, Mapping[str, Any]]


def target(infos: Infos, named: str, last: Mapping[str, Any] | None) -> str:
    """The release that every member is to have: the named one, or the one before the last rollout.

    ``last`` is the last rollout in the ledgers, which knows best. Without one the members must agree: each of them has
    that release, or had it before. Raises ``Refused``.
    """
    if named:
        return named
    if last:
        known = last.get("to_version") if last.get("strategy") == "rollback" else last.get("from_version")
        if known:
            return str(known)
    before = {str(info["previous"]) for info in infos.values() if info.get("previous")}
    fitting = sorted(each for each in before if all(each in (i["release"], i.get("previous")) for i in infos.values()))
    if len(fitting) == 1:
        return fitting[0]
    kept = kept_everywhere(infos)
    rows = "; ".join(
        f"{host} has {info['release'] or 'an unknown release'}, before it {info.get('previous') or 'nothing known'}"
        for host, info in infos.items()
    )
    raise Refused(
        f"It is not clear which release to go back to: {rows}.",
        "Name it in rollout_rollback_to." + (f" Kept everywhere: {', '.join(kept)}." if kept else ""),
    )


def kept_everywhere(infos: Infos) -> list[str]:
    """The releases that every member keeps."""
    kept = [set(info.get("releases") or ()) for info in infos.values()]
    return sorted(set.intersection(*kept)) if kept else []


def refuse_without(infos: Infos, hosts: Iterable[str], release: str) -> None:
    """Raise ``BadArtefact`` where a member that is to go back does not keep the release."""
    lacking = [host for host in hosts if release not in (infos[host].get("releases") or ())]
    if lacking:
        kept = kept_everywhere(infos)
        raise BadArtefact(
            f"{', '.join(lacking)} cannot go back to {release}: it is not kept there any more.",
            f"Kept everywhere: {', '.join(kept)}; name one in rollout_rollback_to."
            if kept
            else f"Deploy {release} with the playbook zerodrop.rollout.rolling.",
        )


def newest_first(hosts: Sequence[str], last: Mapping[str, Any] | None) -> list[str]:
    """Members in the order in which they go back: those that were upgraded last come first."""
    plan = (last or {}).get("plan") or {}
    order = {host: number for number, host in enumerate(host for batch in plan.get("batches") or () for host in batch)}
    place = {host: number for number, host in enumerate(hosts)}
    return sorted(hosts, key=lambda host: (-order.get(host, -1), -place[host]))
