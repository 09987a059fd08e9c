# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The verdict in one sentence for people: counts, ratio, guarantee, and what it could not see."""

from __future__ import annotations

from math import exp
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.comparison import Comparison
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.judge import Decision, Judge
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.settings import ERRORS, SLOW
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.slow import Slow

NOISY = 2.0  # a discount from here on is worth a word
_EVENTS = {ERRORS: "{} of {} requests failed", SLOW: "{} of {} requests were slow"}


def sentence(judge: Judge, decision: Decision, rule: str) -> str:
    head = decision.value.replace("_", " ").upper()
    return " ".join([f"{head}: {_reason(judge, decision, rule)}", *_remarks(judge, rule)])


def _reason(judge: Judge, decision: Decision, rule: str) -> str:
    settings = judge.settings
    if rule == "circuit_breaker":
        failed, of = judge.breaker.tripped or (0, 0)
        return (
            f"the circuit breaker tripped: {_count(failed)} of the canary's latest {_count(of)} requests failed, "
            "while the baseline served."
        )
    if rule in ("canary", "baseline"):
        since = "0 requests" if judge.started is None or rule == "baseline" else f"0 requests for {_since(judge)}"
        end = f" after {_minutes(judge.elapsed)}" if decision is Decision.INCONCLUSIVE and judge.elapsed else ""
        return f"the {rule} has had {since}{end} (weight 0? health down? counters that stand still?). Absence of data is no success."
    if rule == "data":
        blind = judge.at - (judge.unseen_since or judge.at)
        return f"polls do not show all of the traffic, for {_minutes(blind)} now: {judge.unseen.rstrip('.')}. What is not seen is not promoted."
    if rule == "share":
        return (
            f"the canary gets {judge.share_now() or 0.0:.1f} % of the requests, where {settings.share:g} % were set. "
            "Until the share is right there is no verdict."
        )
    if rule == "warm-up":
        return f"the canary has had traffic for {judge.elapsed:.0f} s; the first {settings.warmup:g} s do not count."
    if decision is Decision.ROLL_BACK:
        lead = judge.lead()
        evidence = judge.trail.roll_back["combined"][-1]
        return (
            f"{_counts(judge, lead, settings.false_alarm)} Evidence {_odds(evidence)}, needed "
            f"{settings.needed_to_roll_back:,.0f} : 1; a release that is no worse reaches that at any time with "
            f"probability below {_percent(settings.false_alarm)}."
        )
    promote = judge.trail.promote["combined"][-1]
    if decision is Decision.PROMOTE:
        return (
            f"{_counts(judge, ERRORS)} An increase of {settings.unacceptable:g}x or more is ruled out "
            f"(evidence {_odds(promote)}, needed {settings.needed_to_promote:,.0f} : 1; a release that is that much worse "
            f"reaches it early with probability below {_percent(settings.missed_regression)})."
        )
    after = f"after {_minutes(judge.elapsed)}, " if decision is Decision.INCONCLUSIVE else ""
    if rule == "min_duration":
        return (
            f"{_counts(judge, ERRORS)} Nothing speaks against it, but {settings.min_duration:g} s and "
            f"{_count(settings.min_requests)} requests of the canary are asked for; it has had {judge.elapsed:.0f} s and "
            f"{_count(judge.counted_requests)}."
        )
    return (
        f"{after}{_counts(judge, ERRORS)} Neither is shown: evidence that it is worse "
        f"{_odds(judge.trail.roll_back['combined'][-1])} of {settings.needed_to_roll_back:,.0f} : 1, that it is not "
        f"{settings.unacceptable:g}x worse {_odds(promote)} of {settings.needed_to_promote:,.0f} : 1."
    )


def _counts(judge: Judge, name: str, risk: float | None = None) -> str:
    metric = judge.metrics[name]
    comparison: Comparison = metric.lead if isinstance(metric, Slow) else metric
    counts = comparison.counts
    if name in _EVENTS:
        words = _EVENTS[name]
        text = f"canary {words.format(_count(counts.x_c), _count(counts.n_c))}, baseline {_count(counts.x_b)} of {_count(counts.n_b)}"
    else:
        text = (
            f"canary restarted {_count(counts.x_c)} times in {_count(counts.n_c)} host-seconds, "
            f"baseline {_count(counts.x_b)} in {_count(counts.n_b)}"
        )
    ratio = comparison.ratio
    if ratio is None:
        return f"{text}."
    least, most = comparison.bounds()
    if risk is not None and least is not None:
        return f"{text}: {ratio:.1f}x (at least {least:.2f}x, {_percent(1 - risk)})."
    return f"{text}: {ratio:.1f}x" + (f" (at most {most:.2f}x)." if most is not None else ".")


def _remarks(judge: Judge, rule: str) -> list[str]:
    if not judge.settings.guards or not judge.counted or rule == "circuit_breaker":
        return []
    found = []
    noisy = {name: metric.discount for name, metric in judge.metrics.items() if metric.discount >= NOISY}
    if noisy:
        name = max(noisy, key=lambda each: noisy[each])
        found.append(
            f"NOISY: baseline hosts differ {noisy[name]:.1f} times more than chance in {name}; the evidence is discounted by that."
        )
    errors = judge.metrics[ERRORS]
    if isinstance(errors, Comparison) and not errors.past.used:
        found.append(
            f"The history has too few errors ({errors.past.events}) to know how hosts differ by nature."
            if errors.past.events
            else "Without a history, hosts are taken to be alike."
        )
    if judge.few_hosts:
        found.append("With fewer than two baseline hosts, noise between hosts is not seen.")
    return found


def _since(judge: Judge) -> str:
    last = max((at for at, n_c, _n_b in judge.recent if n_c), default=judge.at)
    return f"{judge.at - last:.0f} s" if judge.at > last else "a while"


def _odds(log_evidence: float) -> str:
    if log_evidence > 50:
        return "more than 1e21 : 1"
    value = exp(log_evidence)
    return f"{value:,.0f} : 1" if value >= 10 else f"{value:.2g} : 1"


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _percent(share: float) -> str:
    return f"{100 * share:g} %"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"


def result(judge: Judge) -> dict[str, Any]:
    """What the module returns."""
    decision, rule = judge.decide()
    settings = judge.settings
    bounded = judge.lead() if decision is Decision.ROLL_BACK else ERRORS
    return {
        "changed": False,
        "decision": decision.value,
        "rule": rule,
        "next": settings.on_inconclusive if decision is Decision.INCONCLUSIVE else decision.value,
        "sentence": sentence(judge, decision, rule),
        "log_evidence": {"roll_back": judge.trail.roll_back, "promote": judge.trail.promote},
        "needed": {"roll_back": settings.needed_to_roll_back, "promote": settings.needed_to_promote},
        "metrics": {
            name: {
                **metric.to_dict(bounded=name == bounded),
                "weight": judge.weights.get(name, 0.0),
                "discount": round(metric.discount, 4),
            }
            for name, metric in judge.metrics.items()
        },
        "discount": {name: round(metric.discount, 4) for name, metric in judge.metrics.items()},
        "polls": {"counted": judge.counted, "skipped": dict(judge.skipped)},
        "seconds": judge.elapsed,
    }
