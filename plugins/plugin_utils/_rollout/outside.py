# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The view from outside: the service as its users reach it, asked from the controller."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import Unhealthy
from ansible_collections.zerodrop.rollout.plugins.module_utils._health import Answer, Probe, Prober
from ansible_collections.zerodrop.rollout.plugins.module_utils._http import address
from ansible_collections.zerodrop.rollout.plugins.module_utils._package import upstream
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import Record
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import Settings

_ROW = 3  # good answers in a row, each on a connection of its own
_PAUSE = 0.1  # seconds after an answer that was not good
_GOOD = list(range(200, 400))


def url_of(settings: Settings) -> str:
    """Where users reach the service, as far as that was said."""
    return settings.outside_url or settings.witness_url


def before(settings: Settings, serving: Sequence[str], notes: list[str], probe: Probe | None = None) -> bool | None:
    """Whether it answers well before anything is touched; None where it is not asked.

    Raises ``Unhealthy`` where it was asked for by name, does not, and members serve: the first batch could only fail.
    """
    if not url_of(settings):
        return None
    reason = _ask(settings, probe or _prober(settings), frozenset(), min(settings.outside_timeout, 3.0))
    if reason and settings.outside_url and serving:
        raise Unhealthy(
            f"{reason} Its members {', '.join(serving)} are healthy and in service.",
            "Put rollout_outside_url right, or leave it out.",
        )
    if reason:
        notes.append(f"{reason} So the view from outside decides nothing in this rollout")
    return not reason


def now(settings: Settings, record: Record, probe: Probe | None = None) -> str:
    """Why it does not answer well now, in one of the versions that run; empty when it does, or is not asked."""
    if record.outside_well is None:
        return ""
    releases = {record.to_version, *(member.release_before for member in record.members.values())}
    known = frozenset(word for each in releases if each for word in (each, upstream(each)) if word)
    return _ask(settings, probe or _prober(settings), known, settings.outside_timeout)


def _prober(settings: Settings) -> Prober:
    params = {
        "url": url_of(settings),
        "status": _GOOD,
        "version_key": settings.health_version_key or None,
        "version_header": settings.health_version_header or None,
        "validate_certs": settings.outside_validate_certs,
    }
    return Prober(params, time.monotonic)


def _ask(settings: Settings, probe: Probe, known: frozenset[str], limit: float) -> str:
    """Why it did not answer well often enough in a row within the limit; empty when it did."""
    deadline = time.monotonic() + limit
    shown = address(url_of(settings), "the URL").shown  # without a password
    row = 0
    while True:
        answer = probe(settings.health_request_timeout)
        reason = answer.reason or _wrong_version(answer, known)
        row = 0 if reason else row + 1
        if row >= _ROW:
            return ""
        if time.monotonic() >= deadline:
            return f"{shown} does not answer well from outside: {reason or 'not often enough in a row'}."
        if reason:
            time.sleep(_PAUSE)


def _wrong_version(answer: Answer, known: frozenset[str]) -> str:
    """A version that neither the rollout nor the members before it know; not every page names one."""
    if not known or answer.version is None or answer.version in known:
        return ""
    return f"it answers as version {answer.version}, which is none of {', '.join(sorted(known))}"
