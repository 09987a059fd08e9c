# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``report.html``: one rollout on one page, from its report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import markupsafe

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._report.charts import Chart, Mark, charts
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._report.plan import part
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._report.scale import clock, lasted, percent, time_marks
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._report.template import render
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._report.timeline import WELL, Group, groups
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._report.told import folded

MANY = 60  # lanes, from which on they are thin
MOODS: Mapping[str, str] = {
    "succeeded": "good",
    "rolled_back": "warn",
    "frozen": "warn",
    "refused": "warn",
    "failed": "bad",
}


@dataclass(frozen=True)
class Row:
    """A line of the table of members."""

    name: str
    state: str
    well: bool
    release: str
    seconds: tuple[str, ...]
    out: str
    cut: int
    remark: str


@dataclass(frozen=True)
class Page:
    """What the template shows beside the report itself."""

    title: str
    mood: str
    outcome: str
    started: str
    work: str
    facts: tuple[tuple[str, str], ...]
    faults: tuple[tuple[str, str], ...]
    groups: tuple[Group, ...]
    many: bool
    moments: tuple[Mark, ...]
    charts: tuple[Chart, ...]
    evidence: markupsafe.Markup
    plan: str
    phases: tuple[str, ...]
    rows: tuple[Row, ...]
    told: tuple[tuple[str, tuple[tuple[str, list[tuple[str, Sequence[str]]]], ...]], ...]
    batches: tuple[str, ...]
    settings: tuple[tuple[str, str], ...]


def html(report: Mapping[str, Any], evidence: str = "") -> str:
    """The page of a report; ``evidence`` is a canary's picture, as ``evidence_svg`` draws it."""
    return render("report", {"r": report, "page": _page(report, evidence)})


def _page(report: Mapping[str, Any], evidence: str) -> Page:
    many = len(report["members"]) > MANY
    drawn = bool(report["events"]) and not report["check"]
    names = ("drain", "upgrade", "gate", "look")
    return Page(
        title=title(report),
        mood=MOODS.get(report["outcome"], "bad"),
        outcome=report["outcome"].replace("_", " ") + (" (dry run)" if report["check"] else ""),
        started=moment(report["started"]),
        work="maintenance" if report["strategy"] == "maintain" else "upgrade",
        facts=tuple(_facts(report)),
        faults=tuple(_faults(report)),
        groups=tuple(groups(report)) if drawn else (),
        many=many,
        moments=_moments(float(report["duration_seconds"])),
        charts=tuple(charts(report)),
        evidence=markupsafe.Markup(evidence),
        plan=part(report["plan"]) if report.get("plan") else "",
        phases=names,
        rows=tuple(_row(host, member, names) for host, member in report["members"].items()),
        told=tuple(_told(report)),
        batches=tuple(", ".join(batch) for batch in report["batches"]),
        settings=tuple((name, _value(value)) for name, value in sorted(report.get("settings", {}).items())),
    )


def title(report: Mapping[str, Any]) -> str:
    """What it was, in a few words."""
    before, after = report["from_version"], report["to_version"]
    if report["strategy"] == "maintain":
        return "maintenance"
    if report["strategy"] == "recover":
        return "recovery"
    kind = "rollback" if report["strategy"] == "rollback" else "rollout"
    return f"{kind} from {before} to {after}" if before else f"{kind} of {after}"


def moment(iso: str) -> str:
    """A time of day as people read it."""
    return iso[:19].replace("T", " ") + " UTC"


def _moments(span: float) -> tuple[Mark, ...]:
    return tuple(Mark(percent(at, span), clock(at)) for at in time_marks(span) if at <= span * 0.97)


def _facts(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = [
        ("took", lasted(float(report["duration_seconds"]))),
        ("members", f"{len(report['members']):,}"),
        ("batches", f"{len(report['batches']):,}"),
        ("must stay in service", f"{report['floor']:,}"),
    ]
    counted = report["requests_source"] == "witness" or not report["balancers"]["not_counted"]
    if report["outcome"] != "refused" and not report["check"]:
        who = "witness" if report["requests_source"] == "witness" else "balancers"
        if counted or report["requests_total"]:
            facts += [
                (f"requests, by the {who}", f"{report['requests_total']:,}"),
                ("failed", f"{report['requests_failed']:,}"),
            ]
        else:
            facts.append(("requests", "nobody counted"))
        facts.append(("two versions side by side", lasted(float(report["mixed_versions_seconds"]))))
    if report["witness"] and report["witness"]["closed_idle"]:
        facts.append(("closed while idle", f"{report['witness']['closed_idle']:,}"))
    return facts


def _faults(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """In the order in which a reader asks: why it stopped, who had trouble, what was taken back, what else there is."""
    found: list[tuple[str, str]] = []
    stop = report["stop"]
    if stop:
        about = f" ({', '.join(stop['members'])})" if stop["members"] else ""
        found.append(("bad", f"Stopped in phase {stop['phase']}{about}: {stop['message']}"))
        if stop["hint"]:
            found.append(("", stop["hint"]))
    said = stop["message"] if stop else ""
    found += [
        ("bad" if member["state"] not in WELL else "warn", f"{host}: {member['trouble']}")
        for host, member in report["members"].items()
        if member["trouble"] and member["trouble"] not in said
    ]
    if stop and report["outcome"] != "refused":
        found += [("", f"Taken back: {', '.join(batch)}") for batch in report["back_batches"]]
        if not report["back_batches"]:
            found.append(("", "Nothing was taken back."))
    found += [("warn", f"{name} could not be reached, and was left out.") for name in report["skipped_balancers"]]
    found += [("soft", f"{note}.") for note in report["notes"]]
    return found


def _row(host: str, member: Mapping[str, Any], names: Sequence[str]) -> Row:
    before, now = member["from"], member["to"]
    release = f"{before or '?'} to {now or '?'}" if before != now else str(now or "not known")
    look = member["look"] + (f": {member['look_reason']}" if member["look_reason"] else "")
    return Row(
        host,
        member["state"].replace("_", " "),
        member["state"] in WELL,
        release,
        tuple(f"{member['seconds'][name]:.1f} s" if name in member["seconds"] else "" for name in names),
        f"{member['out_of_service_seconds']:.1f} s" if member["out_of_service_seconds"] else "",
        member["cut"],
        "; ".join(part for part in (look, member["trouble"]) if part),
    )


def _told(
    report: Mapping[str, Any],
) -> list[tuple[str, tuple[tuple[str, list[tuple[str, Sequence[str]]]], ...]]]:
    return [
        (name, tuple((f"{float(entry['at']):.1f} s", folded(entry["words"])) for entry in entries))
        for name, entries in report.get("told", {}).items()
    ]


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
