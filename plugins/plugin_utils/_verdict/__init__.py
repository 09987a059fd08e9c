# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The verdict on a canary: is it worse than the baseline, judged again and again with a guarantee.

``verdict(params)`` is the whole of it, as a function of plain data: the polls
so far, the hosts' history and the settings. It keeps nothing, so that whoever
has the polls gets the same verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.judge import Decision, Judge
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.past import Archive, present
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.polls import Poll, read_polls
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.sentence import result
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.settings import ERRORS, VerdictSettings

__all__ = ["Archive", "Decision", "Judge", "VerdictSettings", "judge_of", "verdict"]


def verdict(params: Mapping[str, Any]) -> dict[str, Any]:
    """The decision over these polls, its evidence and its sentence; raises ``BadInput``."""
    return result(judge_of(params))


def judge_of(params: Mapping[str, Any], watch: Callable[[Judge, Poll, bool], None] | None = None) -> Judge:
    """The judge when it has seen all polls; ``watch`` is told of each, and whether it counted."""
    known = {each.name for each in fields(VerdictSettings)} | {"polls", "history"}
    unknown = sorted(set(map(str, params)) - known)
    if unknown:
        raise BadInput(f"verdict does not know {', '.join(unknown)}; it knows {', '.join(sorted(known))}.")
    settings = VerdictSettings.from_params(params)
    polls = read_polls(params.get("polls"), settings.interval)
    history = read_polls(params.get("history") or [], settings.interval, "history")
    canaries = frozenset(name for poll in polls for name in poll.canary.names)
    measured = [ERRORS, *(name for name, there in present(polls).items() if there)]
    judge = Judge(settings, measured, Archive(history, canaries))
    for poll in polls:
        before = judge.counted
        judge.see(poll)
        if watch is not None:
            watch(judge, poll, judge.counted > before)
    return judge
