# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a member gets another release: what each upgrade method asks of the members, and refuses beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    BadArtefact,
    BadInput,
    Refused,
    UpgradeFailed,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._plan import Plan
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Call, Remote
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout import staging
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.going_back import refuse_without
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import Record
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import (
    CONTRACT,
    CONTRACT_SLOTS,
    FLIP_BACK,
    PROMOTE,
    RECOVER,
    RECOVER_SLOTS,
    ROLLBACK,
    Settings,
)

RESTART_LIMIT = 60.0
_INSTALL_LIMIT = 600.0
_LOCK_LIMIT = 60.0

# What they install is kept on the members.
_WITHOUT_A_SOURCE = (ROLLBACK, RECOVER, FLIP_BACK, RECOVER_SLOTS, CONTRACT, CONTRACT_SLOTS)

Infos = Mapping[str, Mapping[str, Any]]  # what ``member_info`` said, by host


class Method:
    """Tasks or a role of the user's: the rollout itself brings and switches nothing."""

    knows_release = False  # whether the member's host tells its release without a record or its health answer

    def source(self, settings: Settings, folders: Sequence[str]) -> str:
        """What the members will be given, checked before any host is touched."""
        return ""

    def look(self, settings: Settings) -> dict[str, Any]:
        """What ``member_info`` needs to know beside the service and its health."""
        return {}

    def refuse(self, settings: Settings, plan: Plan, infos: Infos) -> None:
        """Raise when a member of the plan would have no way back."""

    def artefact(self, settings: Settings, infos: Infos) -> str:
        """What exactly the version stands for, where that is known before anything is fetched."""
        return ""

    def to_stage(self, settings: Settings, plan: Plan, infos: Infos) -> list[str]:
        """The members that something must be brought to."""
        return []

    def stage(self, settings: Settings, remote: Remote, record: Record, source: str, check: bool) -> list[str]:
        """Bring it to them; returns those that were changed. Raises the first member's error."""
        return []

    def switch(self, settings: Settings, release: str | None, protect: list[str]) -> Call:
        """The call that gives a drained member this release."""
        raise NotImplementedError


class Archive(Method):
    """Releases side by side in a folder, and a link to the current one."""

    knows_release = True

    def source(self, settings: Settings, folders: Sequence[str]) -> str:
        return "" if _is_there(settings) else staging.find_archive(settings, folders)

    def look(self, settings: Settings) -> dict[str, Any]:
        return {"base": settings.base, "unit": settings.unit}

    def refuse(self, settings: Settings, plan: Plan, infos: Infos) -> None:
        if settings.strategy == PROMOTE and _is_there(settings):
            lacking = [
                host for batch in plan.batches for host in batch if settings.version not in infos[host]["releases"]
            ]
            if lacking:
                raise BadArtefact(
                    f"{', '.join(lacking)} does not have {settings.version}, and rollout_archive_src is not set.",
                    "Set rollout_archive_src and rollout_archive_checksum, as for the canary.",
                )
        if settings.strategy == ROLLBACK:
            refuse_without(infos, [host for batch in plan.batches for host in batch], settings.version)
        for batch in plan.batches:
            for host in batch:
                release, kept = infos[host]["release"], infos[host]["releases"]
                if release is not None and release not in kept:
                    raise BadArtefact(
                        f"{host} runs {release}, but its release store {settings.base} does not have it complete: "
                        "there would be no way back.",
                        f"Stage {release} there first (module zerodrop.rollout.release, state staged).",
                    )

    def to_stage(self, settings: Settings, plan: Plan, infos: Infos) -> list[str]:
        if _is_there(settings):
            return []
        wanted = {"version": settings.version, "checksum": settings.archive_checksum.lower()}
        return [host for batch in plan.batches for host in batch if wanted not in infos[host]["staged"]]

    def stage(self, settings: Settings, remote: Remote, record: Record, source: str, check: bool) -> list[str]:
        return staging.stage(settings, remote, record, source, check)

    def switch(self, settings: Settings, release: str | None, protect: list[str]) -> Call:
        params = {
            "base": settings.base,
            "version": release,
            "unit": settings.unit,
            "restart": True,
            "keep": settings.archive_keep,
            "protect": protect,
            "restart_timeout": RESTART_LIMIT,
            "will_be_staged": True,  # only asked in check mode, when nothing has been staged
        }
        return Call("release_switch", params, 2 * RESTART_LIMIT)  # time to tell why a restart failed


def _is_there(settings: Settings) -> bool:
    """Whether the release is on the members already, and needs no archive: a canary was brought to all of them at once."""
    return settings.strategy in _WITHOUT_A_SOURCE or (settings.strategy == PROMOTE and not settings.archive_src)


class Package(Method):
    """A package at a version, of apt or dnf."""

    knows_release = True

    def look(self, settings: Settings) -> dict[str, Any]:
        return {
            "package": settings.package_name,
            "manager": settings.package_manager,
            "unit": settings.unit,
            "hold": settings.package_hold,
        }

    def refuse(self, settings: Settings, plan: Plan, infos: Infos) -> None:
        # Of every member, not of the plan's only: what is half installed may be the very version that is wanted.
        broken = [host for host, info in infos.items() if not info["whole"]]
        if broken:
            info = infos[broken[0]]
            raise UpgradeFailed(
                f"{', '.join(broken)}: {info['manager']} was interrupted in {settings.package_name}.", info["unbroken"]
            )
        free = [host for host, info in infos.items() if info["cannot_hold"]]
        if free:
            raise BadInput(
                f"{', '.join(free)}: rollout_package_hold is set, and {infos[free[0]]['manager']} cannot hold a package "
                f"there: {infos[free[0]]['cannot_hold']}",
                "Install its plugin versionlock, or leave rollout_package_hold out.",
            )

    def to_stage(self, settings: Settings, plan: Plan, infos: Infos) -> list[str]:
        # The present version as well: staging keeps it, or says that there is no way back.
        if settings.strategy in (RECOVER, RECOVER_SLOTS):
            return []
        return [host for batch in plan.batches for host in batch]

    def stage(self, settings: Settings, remote: Remote, record: Record, source: str, check: bool) -> list[str]:
        params = {
            "package": settings.package_name,
            "manager": settings.package_manager,
            "version": settings.version,
            "timeout": _INSTALL_LIMIT,
            "lock_timeout": _LOCK_LIMIT,
        }
        limit = 2 * _INSTALL_LIMIT + _LOCK_LIMIT
        replies = remote.run({host: Call("package_stage", params, limit) for host in record.to_stage}, check)
        staging.raise_first(replies)
        return [host for host, reply in replies.items() if reply.changed] if not check else []

    def switch(self, settings: Settings, release: str | None, protect: list[str]) -> Call:
        params = {
            "package": settings.package_name,
            "manager": settings.package_manager,
            "version": release,
            "unit": settings.unit,
            "hold": settings.package_hold,
            "keep": settings.package_keep,
            "protect": protect,
            "timeout": _INSTALL_LIMIT,
            "lock_timeout": _LOCK_LIMIT,
            "restart_timeout": RESTART_LIMIT,
            "will_be_staged": True,
        }
        return Call("package_switch", params, _INSTALL_LIMIT + _LOCK_LIMIT + 2 * RESTART_LIMIT)


class Container(Method):
    """A container's image, by its digest."""

    knows_release = True

    def look(self, settings: Settings) -> dict[str, Any]:
        return {"engine": settings.container_engine, "unit": settings.unit}

    def refuse(self, settings: Settings, plan: Plan, infos: Infos) -> None:
        deaf = [host for host, info in infos.items() if not info["reads_file"]]
        if deaf:
            raise BadInput(
                f"{', '.join(deaf)}: {settings.unit} does not read {infos[deaf[0]]['file']}, so no rollout can say "
                "which image it runs.",
                f"Give the unit 'EnvironmentFile={infos[deaf[0]]['file']}' in its [Service] section, and "
                "'${ROLLOUT_IMAGE}' where its image stands.",
            )
        digests = _digests(settings, infos)
        if len(set(digests.values()) | {settings.container_digest} - {""}) > 1:
            given = (
                f", and rollout_container_digest is {settings.container_digest}" if settings.container_digest else ""
            )
            shown = ", ".join(f"{digest} on {host}" for host, digest in digests.items())
            raise Refused(
                f"The version {settings.version} stands for different images: {shown}{given}. A release never changes.",
                "Give the image another version.",
            )

    def artefact(self, settings: Settings, infos: Infos) -> str:
        known = settings.container_digest or next(iter(_digests(settings, infos).values()), "")
        return f"{settings.container_image}@{known}" if known else ""

    def to_stage(self, settings: Settings, plan: Plan, infos: Infos) -> list[str]:
        if settings.strategy in (RECOVER, RECOVER_SLOTS):
            return []
        return [host for batch in plan.batches for host in batch]  # the present image must be there as well

    def stage(self, settings: Settings, remote: Remote, record: Record, source: str, check: bool) -> list[str]:
        params = {
            "service": settings.service,
            "engine": settings.container_engine,
            "image": settings.container_image,
            "version": settings.version,
            "timeout": _INSTALL_LIMIT,
        }
        if not record.artefact and record.to_stage:
            # The tag is asked for once, by one member: all others are told the digest.
            first = record.to_stage[0]
            replies = remote.run({first: Call("container_resolve", params, _INSTALL_LIMIT)}, check)
            staging.raise_first(replies)
            digest = replies[first].result["digest"]
            record.artefact = f"{settings.container_image}@{digest}" if digest else ""
            record.save()
        if record.artefact:
            record.notes.append(f"{settings.version} is {record.artefact}")
        params["digest"] = record.artefact.partition("@")[2] or None
        limit = 2 * _INSTALL_LIMIT
        replies = remote.run({host: Call("container_stage", params, limit) for host in record.to_stage}, check)
        staging.raise_first(replies)
        return [host for host, reply in replies.items() if reply.changed] if not check else []

    def switch(self, settings: Settings, release: str | None, protect: list[str]) -> Call:
        params = {
            "service": settings.service,
            "engine": settings.container_engine,
            "version": release,
            "unit": settings.unit,
            "keep": settings.container_keep,
            "protect": protect,
            "timeout": _INSTALL_LIMIT,
            "restart_timeout": RESTART_LIMIT,
            "will_be_staged": True,
        }
        return Call("container_switch", params, _INSTALL_LIMIT + 3 * RESTART_LIMIT)


def _digests(settings: Settings, infos: Infos) -> dict[str, str]:
    """What the version stands for on each member that has been on it, by host."""
    return {
        host: each["checksum"]
        for host, info in infos.items()
        for each in info["staged"]
        if each["version"] == settings.version
    }


_METHODS: Mapping[str, Method] = {"archive": Archive(), "package": Package(), "container": Container()}
_USERS = Method()


def method_of(settings: Settings) -> Method:
    """What the rollout's upgrade method does."""
    return _METHODS.get(settings.method, _USERS)
