# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``index.html``: many rollouts on one page, with their trends."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._report.page import MOODS, moment, title
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._report.scale import lasted, percent, top
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._report.template import render

_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}\Z")  # what else would be a link to anywhere
DRAWN = 60  # rollouts of a service, the latest, that its trends show
_KEPT = (
    *("rollout_id", "service", "strategy", "from_version", "to_version", "outcome", "check", "started"),
    *("duration_seconds", "requests_total", "requests_failed", "sentence"),
)

_TEMPLATE = """{% extends "frame" %}
{% block title %}Rollouts{% endblock %}
{% block page %}
<h1>Rollouts</h1>
{% if not services %}<p>There is none yet.</p>{% endif %}
{% for service in services %}<section><h2>{{ service.name }}</h2>
<dl class="facts">{% for name, value in service.facts %}<div><dt>{{ name }}</dt><dd>{{ value }}</dd></div>{% endfor %}</dl>
{% if service.bars | length > 1 %}<figure><figcaption>How long they took, up to {{ service.most }}; the latest on the right</figcaption>
<div class="trend" role="img" aria-label="{{ service.words }}">{% for bar in service.bars %}<i class="{{ bar.kind }}"
style="height:{{ bar.height }}%" title="{{ bar.words }}"></i>{% endfor %}</div>
<ul class="legend"><li><i class="back"></i>succeeded</li><li><i class="drain"></i>rolled back or frozen</li><li><i
class="fail"></i>failed</li></ul></figure>{% endif %}
<div class="scroll" tabindex="0" role="region" aria-label="Rollouts of {{ service.name }}"><table><thead><tr><th
scope="col">started</th><th scope="col">what</th><th scope="col">outcome</th><th scope="col"
class="number">took</th><th scope="col" class="number">requests</th><th scope="col" class="number">failed</th><th
scope="col">in words</th></tr></thead>
<tbody>{% for row in service.rows %}<tr><td>{% if row.id %}<a href="{{ row.id }}/report.html">{{ row.started }}</a>{%
else %}{{ row.started }}{% endif %}</td><td>{{ row.title }}</td><td class="{{ row.mood }}">{{ row.outcome }}</td><td
class="number">{{ row.took }}</td><td class="number">{{ row.requests }}</td><td class="number">{{ row.failed
}}</td><td class="long">{{ row.sentence }}</td></tr>
{% endfor %}</tbody></table></div></section>
{% endfor %}{% endblock %}"""


@dataclass(frozen=True)
class Service:
    """What the page says of one service."""

    name: str
    facts: tuple[tuple[str, str], ...]
    bars: tuple[Mapping[str, str], ...]
    most: str
    words: str
    rows: tuple[Mapping[str, str], ...]


def entry(report: Mapping[str, Any]) -> dict[str, Any]:
    """What the index keeps of a report."""
    return {name: report[name] for name in _KEPT}


def html(entries: Iterable[Mapping[str, Any]]) -> str:
    """The page; the latest rollouts first, by service."""
    by_service: dict[str, list[Mapping[str, Any]]] = {}
    for each in sorted(entries, key=lambda each: str(each["rollout_id"]), reverse=True):
        by_service.setdefault(str(each["service"]), []).append(each)
    services = [_service(name, rows) for name, rows in sorted(by_service.items())]
    return render("index", {"services": services}, index=_TEMPLATE)


def _service(name: str, rows: Sequence[Mapping[str, Any]]) -> Service:
    real = [each for each in rows if not each["check"] and each["outcome"] != "refused"]
    well = [each for each in real if each["outcome"] == "succeeded"]
    seconds = sorted(float(each["duration_seconds"]) for each in well)
    back = sum(each["outcome"] in ("rolled_back", "frozen") for each in real)
    failed = sum(each["outcome"] == "failed" for each in real)
    facts = [
        ("rollouts", f"{len(real):,}"),
        ("succeeded", f"{len(well):,}"),
        ("rolled back or frozen", f"{back:,}"),
        ("failed", f"{failed:,}"),
        ("requests", f"{sum(int(each['requests_total']) for each in real):,}"),
        ("failed requests", f"{sum(int(each['requests_failed']) for each in real):,}"),
    ]
    if seconds:
        facts.insert(1, ("took, half of them at most", lasted(seconds[(len(seconds) - 1) // 2])))
    drawn = list(reversed(real[:DRAWN]))
    most = top(max([float(each["duration_seconds"]) for each in drawn], default=1.0))
    bars = tuple(
        {
            "kind": {"good": "back", "warn": "drain"}.get(MOODS.get(each["outcome"], ""), "fail"),
            "height": percent(float(each["duration_seconds"]), most),
            "words": f"{moment(each['started'])}: {title(each)}, {lasted(float(each['duration_seconds']))}",
        }
        for each in drawn
    )
    words = f"The last {len(drawn)} rollouts took up to {lasted(most)}."
    return Service(name, tuple(facts), bars, lasted(most), words, tuple(_row(each) for each in rows))


def _row(each: Mapping[str, Any]) -> dict[str, str]:
    return {
        "id": each["rollout_id"] if _ID.match(each["rollout_id"]) else "",
        "started": moment(each["started"]),
        "title": title(each),
        "mood": MOODS.get(each["outcome"], "bad"),
        "outcome": each["outcome"].replace("_", " ") + (" (dry run)" if each["check"] else ""),
        "took": lasted(float(each["duration_seconds"])),
        "requests": f"{each['requests_total']:,}",
        "failed": f"{each['requests_failed']:,}",
        "sentence": each["sentence"],
    }
