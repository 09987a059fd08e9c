# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bring the archive of a release to the members before any of them is drained."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Sequence

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadArtefact, RolloutError
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import Call, Remote, Reply
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import Record
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import Settings

_STAGE_LIMIT = 1800.0
_ALGORITHMS = {"sha256": 64, "sha384": 96, "sha512": 128}  # and how many hexadecimal digits each has


def find_archive(settings: Settings, folders: Sequence[str]) -> str:
    """The archive as the members will be given it: a URL, or the path of a file here whose checksum fits.

    Raises ``BadArtefact`` before any host is touched.
    """
    source = settings.archive_src
    algorithm, _colon, wanted = settings.archive_checksum.partition(":")
    digits = len(wanted) if not set(wanted.lower()) - set("0123456789abcdef") else 0
    if _ALGORITHMS.get(algorithm) != digits:
        raise BadArtefact(
            f"rollout_archive_checksum {settings.archive_checksum!r} is not a checksum.",
            "Give it as sha256:HEX, from: sha256sum ARCHIVE.",
        )
    if source.startswith(("http://", "https://")):
        return source
    paths = [os.path.abspath(os.path.join(folder, os.path.expanduser(source))) for folder in folders]
    path = next((each for each in paths if os.path.isfile(each)), None)
    if path is None:
        raise BadArtefact(
            f"rollout_archive_src {source!r} was not found. Looked for: {', '.join(dict.fromkeys(paths))}."
        )
    with open(path, "rb") as file:
        digest = hashlib.new(algorithm)
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    found = digest.hexdigest()
    if found != wanted.lower():
        raise BadArtefact(
            f"The checksum of {path} is {algorithm}:{found}, not the one in rollout_archive_checksum, {settings.archive_checksum}.",
            "It is another file than the one that was meant, or it is damaged.",
        )
    return path


def stage(settings: Settings, remote: Remote, record: Record, archive: str, check: bool) -> list[str]:
    """Unpack the release beside the running one on every member that lacks it; returns those members.

    Raises the first member's error; the others may then have the release staged, which harms nothing.
    """
    if check:
        return []
    is_url = archive.startswith(("http://", "https://"))
    incoming = {host: f"/tmp/zerodrop-{secrets.token_hex(16)}" for host in record.to_stage}
    if not is_url:
        raise_first(remote.copy_to(archive, incoming))
    calls = {}
    for host in record.to_stage:
        params = {
            "base": settings.base,
            "version": settings.version,
            "source": archive if is_url else incoming[host],
            "checksum": settings.archive_checksum,
            "remove_source": not is_url,
        }
        calls[host] = Call("release_stage", params, _STAGE_LIMIT)
    replies = remote.run(calls)
    raise_first(replies)
    return [host for host, reply in replies.items() if reply.changed]


def raise_first(replies: dict[str, Reply]) -> None:
    """Raise the first host's error, if one failed."""
    for host, reply in replies.items():
        if reply.error is not None:
            error: RolloutError = reply.error
            error.message = error.message if host in error.message else f"{host}: {error.message}"
            raise error
