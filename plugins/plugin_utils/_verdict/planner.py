# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a canary can show, before the first member changes: how long until a regression is found, in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log, sqrt
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils import _params
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.history import quantile
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.settings import VerdictSettings

MIXTURE = 0.5  # what a mean over guesses costs against the right guess, as a logarithm
PROMOTE_GAIN = 0.4  # what a poll's steps add on the way over the threshold
NOISE = 1.15  # the discount of hosts that differ by chance alone
# The loudest minute, which is left out, in standard deviations above a usual one; in a run that takes long it is less loud.
LOUD, LATE = 2.0, 0.6
OTHERS = (10.0, 25.0, 50.0)  # percent of the traffic that are offered beside the one that was asked for


@dataclass(frozen=True)
class Traffic:
    """What is known beforehand."""

    rate: float  # requests per second, all members
    share: float  # of the canary, 0 to 1
    errors: float  # of the baseline, 0 to 1
    history: float = 43200.0  # seconds


def seconds_to_find(traffic: Traffic, increase: float, settings: VerdictSettings, chance: float = 0.8) -> float | None:
    """After how long a canary that is ``increase`` x worse is rolled back with this probability; None: never."""
    f, guards = traffic.share, settings.guards
    margin = settings.tolerated("errors") * (_history_margin(traffic, settings) if guards else 1.0)
    beyond = increase / margin
    if beyond <= 1.0:
        return None
    share = margin * f / (margin * f + 1.0 - f)
    mean = 1.0 - share + share * beyond
    others = (1.0 - f) / f
    drift = increase * log(beyond / mean) - others * log(mean)
    spread = increase * log(beyond / mean) ** 2 + others * log(mean) ** 2
    needed = log(settings.needed_to_roll_back) + MIXTURE
    return _seconds(traffic, drift, spread, needed, chance, settings)


def seconds_to_promote(traffic: Traffic, settings: VerdictSettings, chance: float = 0.8) -> float:
    """After how long a canary that is as good as the baseline is promoted with this probability."""
    f, r = traffic.share, settings.unacceptable
    s_b = 1.0 / (f * r + 1.0 - f)
    s_c = r * s_b
    others = (1.0 - f) / f
    drift = -log(s_c) + s_c - 1.0 + others * (-log(s_b) + s_b - 1.0)
    spread = log(s_c) ** 2 + others * log(s_b) ** 2
    needed = log(settings.needed_to_promote) - PROMOTE_GAIN
    return max(_seconds(traffic, drift, spread, needed, chance, settings), settings.min_duration)


def _seconds(
    traffic: Traffic, drift: float, spread: float, needed: float, chance: float, settings: VerdictSettings
) -> float:
    """When evidence that drifts and spreads so, for each error that a healthy canary makes, has passed the threshold."""
    per_second = traffic.rate * traffic.share * traffic.errors
    if not settings.guards:
        return _events(drift, spread, needed, chance) / per_second
    burst = settings.burst * per_second
    loudest = drift * burst + (LOUD - LATE * quantile(chance)) * sqrt(spread * burst)
    return _events(drift, spread, needed * NOISE + loudest, chance) / per_second + settings.warmup


def _events(drift: float, spread: float, needed: float, chance: float) -> float:
    z = quantile(chance)
    root = (z * sqrt(spread) + sqrt(z * z * spread + 4.0 * drift * needed)) / (2.0 * drift)
    return root * root


def _history_margin(traffic: Traffic, settings: VerdictSettings) -> float:
    """How much worse the canary's hosts may always have been, after a history of that length in which they were not."""
    events = traffic.history * traffic.rate * traffic.errors
    canary, baseline = events * traffic.share, events * (1.0 - traffic.share)
    if canary < 1.0:
        return 1.0
    return exp(quantile(1.0 - settings.false_alarm / 5.0) * sqrt(1.0 / canary + 1.0 / baseline))


def plan(params: dict[str, Any]) -> dict[str, Any]:
    """What a canary of this share shows, in a sentence; raises ``BadInput``.

    ``rate`` (requests per second), ``share`` and ``errors`` (percent),
    ``increase`` (2), ``chance`` (80, percent), ``history`` (seconds; 12 hours),
    and the verdict's settings.
    """
    own = {"rate", "errors", "increase", "chance", "history"}
    settings = VerdictSettings.from_params({name: value for name, value in params.items() if name not in own})
    if settings.share is None:
        raise BadInput("share must be a percentage of the traffic between 0 and 100, got none.")
    rate = _params.number(params, "rate", 0.0, 0.001, 1e9)
    errors = _params.number(params, "errors", 0.0, 0.0, 99.0)
    increase = _params.number(params, "increase", 2.0, 1.01, 1000.0)
    chance = _params.number(params, "chance", 80.0, 1.0, 99.0)
    history = _params.number(params, "history", 43200.0, 0.0, 1e9)
    if not errors:
        return {
            "seconds": None,
            "promote_seconds": None,
            "enough": False,
            "sentence": "The history has no errors: an increase cannot be given as a multiple of none, and none can be ruled out. "
            "Only the circuit breaker and the first errors of the canary will tell.",
        }
    shares = [settings.share, *(each for each in OTHERS if each > settings.share)]
    found = {
        each: seconds_to_find(Traffic(rate, each / 100, errors / 100, history), increase, settings, chance / 100)
        for each in shares
    }
    promote = seconds_to_promote(Traffic(rate, settings.share / 100, errors / 100, history), settings, chance / 100)
    first = found[settings.share]
    enough = first is not None and first <= settings.max_duration
    what = "a doubling" if increase == 2.0 else f"an increase to {increase:g} times"
    if first is None:
        text = f"{what} is never found: the history lets hosts differ by as much."
    else:
        text = f"{what} is found in {_time(first)} with {chance:g} % probability"
        more = [f"{each:g} % canary: {_time(seconds)}" for each, seconds in list(found.items())[1:] if seconds]
        text += "".join(f"; {each}" for each in more) + "."
    sentence = (
        f"{rate:g} requests/s, {settings.share:g} % canary, {errors:g} % errors: {text} "
        f"A release that is as good is promoted in {_time(promote)}."
    )
    if not enough:
        sentence += f" The {_time(settings.max_duration)} that are set (max_duration) cannot tell."
    return {"seconds": first, "promote_seconds": promote, "enough": enough, "by_share": found, "sentence": sentence}


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
