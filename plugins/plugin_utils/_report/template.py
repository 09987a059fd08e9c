# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The markup of the pages. Everything in braces is escaped, but for what a module of ours says is markup."""

from __future__ import annotations

from typing import Any

import jinja2

from ansible_collections.zerodrop.rollout.plugins.plugin_utils._report.style import STYLE

# Nothing is fetched and nothing is run, whatever a report should hold.
_FRAME = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>{% block title %}{% endblock %}</title>
<style>{{ style | safe }}</style>
</head>
<body>
<main>
{% block page %}{% endblock %}
</main>
</body>
</html>
"""

_MACROS = """{% macro legend(entries) %}<ul class="legend">{% for kind, words in entries %}<li><i class="{{ kind
}}"></i>{{ words }}</li>{% endfor %}</ul>{% endmacro %}
{% macro times(moments) %}<div class="times" aria-hidden="true">{% for each in moments %}<span style="left:{{ each.at
}}%">{{ each.words }}</span>{% endfor %}</div>{% endmacro %}
{% macro chart(each, moments) %}<figure>
<figcaption>{{ each.title }}</figcaption>
{{ legend(each.legend) }}
<div class="plot"><div class="scale" aria-hidden="true">{% for row in each.rows %}<span style="bottom:{{ row.at }}%">{{ row.words }}</span>{% endfor %}</div>
<div class="chart" role="img" aria-label="{{ each.words }}"><svg viewBox="0 0 1000 200" preserveAspectRatio="none"
aria-hidden="true">{% for shape in each.shapes %}<path class="{{ shape.kind }}" d="{{ shape.path }}"/>{% endfor
%}</svg>
{% if each.failures %}<div class="failures">{% for mark in each.failures %}<i style="left:{{ mark.at }}%" title="{{
mark.words }}"></i>{% endfor %}</div>{% endif %}</div></div>
{{ times(moments) }}
<p class="soft">{{ each.words }}</p>
</figure>{% endmacro %}"""

_REPORT = """{% extends "frame" %}{% import "macros" as m %}
{% block title %}{{ r.service }}: {{ page.title }}{% endblock %}
{% block page %}
<header>
<h1>{{ r.service }}: {{ page.title }}</h1>
<p><span class="outcome {{ page.mood }}">{{ page.outcome }}</span> <span class="soft">{{ page.started }} &middot; {{ r.rollout_id }}</span></p>
<p class="sentence">{{ r.sentence }}</p>
</header>

<section aria-label="In numbers"><dl class="facts">
{% for name, value in page.facts %}<div><dt>{{ name }}</dt><dd>{{ value }}</dd></div>
{% endfor %}</dl></section>

{% if page.faults %}<section><h2>What went wrong, and what was done</h2>
<ul class="plain">{% for mood, text in page.faults %}<li class="{{ mood }}">{{ text }}</li>{% endfor %}</ul></section>{% endif %}

{% if page.groups %}<section><h2>Timeline</h2>
{{ m.legend([("bg-in", "in service"), ("bg-out", "out of service"), ("drain", "drain"), ("upgrade", page.work),
("gate", "gate"), ("back", "put back and look")]) }}
<div class="{{ 'many' if page.many else 'few' }}">
{% for group in page.groups %}{% if page.many %}<details><summary class="lane"><b{% if not group.well %} class="bad"{%
endif %}>{{ group.title }}</b><span class="track" role="img" aria-label="Like {{ group.lanes[0].words }}">{% for bar
in group.lanes[0].bars %}<i class="{{ bar.kind }}" style="left:{{ bar.left }}%;width:{{ bar.width }}%"></i>{% endfor
%}</span></summary>{% else %}<p class="group">{{ group.title }}</p>{% endif %}

{% for lane in group.lanes %}<div class="lane"><b{% if not lane.well %} class="bad"{% endif %} title="{{ lane.name
}}">{{ lane.name }}</b><div class="track" role="img" aria-label="{{ lane.words }}" title="{{ lane.words }}">{% for bar
in lane.bars %}<i class="{{ bar.kind }}" style="left:{{ bar.left }}%;width:{{ bar.width }}%"></i>{% endfor
%}</div></div>
{% endfor %}{% if page.many %}</details>{% endif %}{% endfor %}</div>
{{ m.times(page.moments) }}
{% if page.many %}<p class="soft">Each batch is shown by its first member; open it for a lane of each.</p>{% endif %}</section>{% endif %}

{% if page.charts %}<section><h2>Traffic and capacity</h2>
{% for each in page.charts %}{{ m.chart(each, page.moments) }}
{% endfor %}{% if not r.get("series") %}<p class="soft">No witness ran: requests and latency were not seen second by second.</p>{% endif %}</section>{% endif %}

{% if page.evidence %}<section class="evidence"><h2>The canary's evidence</h2>{{ page.evidence }}</section>{% endif %}

{% if r.members %}<section><h2>Members</h2><details{% if not page.many %} open{% endif %}><summary>{{ r.members |
length }} members</summary><div class="scroll" tabindex="0" role="region" aria-label="Members"><table>
<thead><tr><th scope="col">member</th><th scope="col">state</th><th scope="col">release</th>{% for phase in
page.phases %}<th scope="col" class="number">{{ phase }}</th>{% endfor %}<th scope="col"
class="number">out of service</th><th scope="col" class="number">cut</th><th
scope="col">look, trouble</th></tr></thead>
<tbody>{% for row in page.rows %}<tr><th scope="row">{{ row.name }}</th><td{% if not row.well %} class="bad"{% endif
%}>{{ row.state }}</td><td>{{ row.release }}</td>{% for each in row.seconds %}<td class="number">{{ each }}</td>{%
endfor %}<td class="number">{{ row.out }}</td><td class="number">{{ row.cut }}</td><td class="long">{{ row.remark
}}</td></tr>
{% endfor %}</tbody></table></div></details></section>{% endif %}

{% if page.told %}<section><h2>What each balancer was told</h2>
{% for balancer, entries in page.told %}<details><summary>{{ balancer }} ({{ entries | length
}} changes)</summary><div class="scroll" tabindex="0" role="region" aria-label="What {{ balancer }} was told"><table>
<thead><tr><th scope="col" class="number">at</th><th scope="col">in its own words</th></tr></thead>
<tbody>{% for at, lines in entries %}<tr><td class="number">{{ at }}</td><td>{% for line, names in lines %}<code>{{
line }}</code>{% if names %} <span class="soft">for {{ names | join(", ") }}</span>{% endif %}<br>{% endfor
%}</td></tr>
{% endfor %}</tbody></table></div></details>
{% endfor %}</section>{% endif %}

<section><h2>Settings and plan</h2>
{{ page.plan }}{% if page.batches and not page.plan %}<p>At least {{ r.floor }} members stay in service.</p><ol>{% for
batch in page.batches %}<li>{{ batch }}</li>{% endfor %}</ol>{% endif %}
{% if page.settings %}<div class="scroll" tabindex="0" role="region" aria-label="Settings"><table><thead><tr><th
scope="col">setting</th><th scope="col">value</th></tr></thead>
<tbody>{% for name, value in page.settings %}<tr><th scope="row"><code>{{ name }}</code></th><td><code>{{ value
}}</code></td></tr>{% endfor %}</tbody></table></div>
<p class="soft">Those that are not the default. Users, passwords and queries of URLs are left out.</p>{% else
%}<p>Nothing is known of the settings.</p>{% endif %}</section>
<footer><p class="soft">Made by zerodrop.rollout from <a href="report.json">report.json</a>, which has the same facts for programs.</p></footer>
{% endblock %}"""


def environment(**templates: str) -> jinja2.Environment:
    """An environment that escapes everything and knows no host, no variable and no file."""
    made = jinja2.Environment(
        loader=jinja2.DictLoader({"frame": _FRAME, "macros": _MACROS, "report": _REPORT, **templates}),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    made.globals["style"] = STYLE
    return made


def render(name: str, values: dict[str, Any], **templates: str) -> str:
    return environment(**templates).get_template(name).render(values)
