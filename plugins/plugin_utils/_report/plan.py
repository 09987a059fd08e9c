# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A plan on a page, and as a part of a report's page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import markupsafe

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._report.scale import lasted
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._report.template import render
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._report.told import folded

_STEPS = {"out": "out", "checked": "checked again", "back": "back"}

_PART = """<p>{{ plan.members }} members, {{ plan.in_service }} in service; at least {{ plan.floor }} stay so. {{ how_long }}</p>
<p>Hash of this plan, for <code>rollout_plan_hash</code>: <code>{{ plan.hash }}</code></p>
<div class="scroll" tabindex="0" role="region" aria-label="Batches of the plan"><table><thead><tr><th scope="col"
class="number">batch</th><th scope="col">members</th><th scope="col"
class="number">in service meanwhile</th></tr></thead>
<tbody>{% for batch in plan.batches %}<tr><td class="number">{{ loop.index }}</td><td class="long">{{ batch.members |
join(", ") }}</td><td class="number">{{ batch.in_service_meanwhile }}</td></tr>
{% endfor %}</tbody></table></div>
{% for number, told in told %}<details><summary>What the balancers will be told for batch {{ number }}</summary><ul class="plain">
{% for place, step, line, names in told %}<li>{{ place }}, {{ step }}: <code>{{ line }}</code>{% if names %} <span
class="soft">for {{ names | join(", ") }}</span>{% endif %}</li>
{% endfor %}</ul></details>
{% endfor %}
<p>{{ back }}</p>
{% if plan.notes %}<ul class="plain">{% for note in plan.notes %}<li class="soft">{{ note }}.</li>{% endfor %}</ul>{% endif %}"""

_PAGE = """{% extends "frame" %}{% block title %}{{ plan.service }}: plan{% endblock %}
{% block page %}<h1>{{ plan.service }}: plan{% if plan.to_version %} from {{ plan.from_version or "an unknown version"
}} to {{ plan.to_version }}{% endif %}</h1>
<section><h2>Plan</h2>{{ part }}</section>{% endblock %}"""


def part(plan: Mapping[str, Any]) -> markupsafe.Markup:
    """The plan as markup, everything in it escaped."""
    values = {"plan": plan, "told": _told(plan), "how_long": how_long(plan["prediction"]), "back": back(plan)}
    return markupsafe.Markup(render("part", values, part=_PART))


def html(plan: Mapping[str, Any]) -> str:
    """The same as a page of its own."""
    return render("plan", {"plan": plan, "part": part(plan)}, plan=_PAGE)


def how_long(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "How long it will take is not known: no earlier rollout of this kind went well."
    least, most = lasted(found["least"]), lasted(found["most"])
    rollouts = "one earlier rollout" if found["rollouts"] == 1 else f"{found['rollouts']} earlier rollouts"
    return f"It will take about {lasted(found['seconds'])}, between {least} and {most}, by {rollouts}."


def back(plan: Mapping[str, Any]) -> str:
    """What a rollback would do."""
    if not plan["to_version"]:
        return ""
    known = sorted({str(release) for release in plan["back"].values() if release is not None})
    unknown = [host for host, release in plan["back"].items() if release is None]
    words = [f"After a failure, what was changed goes back to {' or '.join(known)}."] if known else []
    if unknown:
        words.append(f"No release is known of {', '.join(unknown)}: nothing goes back there.")
    return " ".join(words)


def _told(plan: Mapping[str, Any]) -> list[tuple[int, list[tuple[str, str, str, Any]]]]:
    return [
        (
            number,
            [
                (place, _STEPS.get(step, step), line, names)
                for place, steps in batch["told"].items()
                for step, words in steps.items()
                for line, names in folded(words)
            ],
        )
        for number, batch in enumerate(plan["batches"], 1)
    ]
