# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the pages look: light and dark as the reader's system has it, on a phone, and on paper."""

from __future__ import annotations

STYLE = r"""
:root { color-scheme: light dark; --ground: #fbfbfa; --card: #ffffff; --line: #dcdcd8; --text: #1d1f21; --soft: #5b5f63;
  --good: #1a6b3c; --bad: #b3261e; --warn: #8a5300; --link: #0b57a4; --track: #e4f0e8;
  --out: #c9ccd1; --drain: #b08900; --upgrade: #2f6fb5; --gate: #7a4fb0; --back: #2e8b57;
  --v0: #7fa8d6; --v1: #e0a04a; --v2: #8fbf7f; --v3: #c58fc0; --nobody: #b9bcc0; --fail: #c62828; }
@media (prefers-color-scheme: dark) { :root { --ground: #16181a; --card: #1f2225; --line: #3a3f44; --text: #e8e9ea;
  --soft: #a9aeb4; --good: #6fd198; --bad: #ff8a80; --warn: #f0bd62; --link: #8ab8ef; --track: #22382b;
  --out: #50565d; --drain: #d8ae2a; --upgrade: #5e9fe6; --gate: #ac85dd; --back: #4fb880;
  --v0: #4f7fb3; --v1: #c98a35; --v2: #6b9c5b; --v3: #a06d9b; --nobody: #6b7076; --fail: #ff6b61; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 72rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 0 0 .75rem; }
h3 { font-size: 1rem; margin: 1rem 0 .25rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: 1rem; margin: 1rem 0; }
p { margin: .25rem 0 .75rem; overflow-wrap: anywhere; }
a { color: var(--link); }
.sentence { font-size: 1.1rem; white-space: pre-line; }
.outcome { display: inline-block; padding: .1rem .6rem; border: 2px solid; border-radius: 1rem; font-weight: 600; }
.good { color: var(--good); } .bad { color: var(--bad); } .warn { color: var(--warn); } .soft { color: var(--soft); }
dl.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(8rem, 1fr)); gap: .75rem; margin: 0; }
dl.facts dt { color: var(--soft); font-size: .85rem; } dl.facts dd { margin: 0; font-weight: 600; overflow-wrap: anywhere; }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1rem; margin: 0 0 .5rem; padding: 0; list-style: none; font-size: .85rem; }
.legend i { display: inline-block; width: .9em; height: .9em; margin-right: .35em; vertical-align: -.1em; border-radius: 2px; }
.lane { display: grid; grid-template-columns: 8rem 1fr; align-items: center; column-gap: .5rem; break-inside: avoid; }
.lane b { font-weight: 400; font-size: .8rem; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.lane b.bad { font-weight: 600; }
.track { position: relative; height: 1rem; background: var(--track); margin: 1px 0; overflow: hidden; border-radius: 2px; }
.many .track { height: .6rem; margin: 0; border-radius: 0; } .many b { font-size: .7rem; line-height: 1; }
.track i { position: absolute; top: 0; bottom: 0; min-width: 1px; }
.track i.out { background: var(--out); } .track i:not(.out) { top: 20%; bottom: 20%; }
.many summary { padding: 0; list-style: none; }
.many summary b::before { content: "\25B8  "; }
.many [open] > summary b::before { content: "\25BE  "; }
.many summary .track { height: 1rem; margin: 1px 0; display: block; }
.many summary b { font-size: .8rem; line-height: 1.2; }
.group { font-size: .8rem; color: var(--soft); margin: .5rem 0 .1rem; break-after: avoid; }
.bg-out { background: var(--out); } .drain { background: var(--drain); } .upgrade { background: var(--upgrade); }
.gate { background: var(--gate); } .back { background: var(--back); } .bg-in { background: var(--track); }
.times { position: relative; overflow: hidden; height: 1.4rem; margin-left: 8.5rem; font-size: .75rem; color: var(--soft); }
.times span { position: absolute; border-left: 1px solid var(--line); padding-left: .2rem; white-space: nowrap; }
figure { margin: 0 0 1.5rem; break-inside: avoid; }
figcaption { font-weight: 600; margin-bottom: .25rem; }
.plot { display: grid; grid-template-columns: 8rem 1fr; column-gap: .5rem; }
.scale { position: relative; font-size: .75rem; color: var(--soft); }
.scale span { position: absolute; right: 0; transform: translateY(50%); }
.chart { position: relative; height: 10rem; border: solid var(--line); border-width: 0 0 1px 1px; }
.chart svg { position: absolute; inset: 0; width: 100%; height: 100%; }
.chart path { fill: none; stroke-width: 2px; vector-effect: non-scaling-stroke; }
.chart .failures i { position: absolute; top: 0; bottom: 0; width: 2px; background: var(--fail); }
path.v0 { fill: var(--v0); } path.v1 { fill: var(--v1); } path.v2 { fill: var(--v2); } path.v3 { fill: var(--v3); }
path.nobody { fill: var(--nobody); }
path.p50, path.members { stroke: var(--upgrade); } path.p99 { stroke: var(--v1); } path.hosts { stroke: var(--soft); stroke-dasharray: 2 3; }
path.floor { stroke: var(--fail); stroke-dasharray: 6 4; }
i.v0 { background: var(--v0); } i.v1 { background: var(--v1); } i.v2 { background: var(--v2); } i.v3 { background: var(--v3); }
i.nobody { background: var(--nobody); } i.p50, i.members { background: var(--upgrade); } i.p99 { background: var(--v1); }
i.hosts { background: var(--soft); } i.floor, i.fail { background: var(--fail); }
.trend { display: flex; align-items: flex-end; height: 8rem; gap: 2px; border-bottom: 1px solid var(--line); margin-bottom: .5rem; }
.trend i { flex: 1 1 0; max-width: 2rem; min-height: 2px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .85rem; }
th, td { text-align: left; padding: .25rem .5rem; border-bottom: 1px solid var(--line); vertical-align: top; }
td { overflow-wrap: break-word; } td.number, th.number { text-align: right; white-space: nowrap; }
td.long { min-width: 12rem; }
details > summary { cursor: pointer; padding: .25rem 0; }
code, pre { font: .8rem/1.45 ui-monospace, monospace; overflow-wrap: anywhere; white-space: pre-wrap; }
ul.plain { list-style: none; margin: 0; padding: 0; } ul.plain li { margin: .15rem 0; }
.evidence svg { max-width: 100%; height: auto; }
@media (max-width: 40rem) { main { padding: .5rem; } section { padding: .75rem; }
  .lane, .plot { grid-template-columns: 4.5rem 1fr; } .times { margin-left: 5rem; } .sentence { font-size: 1rem; } }
@media print { :root { color-scheme: light; } @page { margin: 1.2cm; } body { background: #fff; font-size: 11pt; }
  main { max-width: none; padding: 0; } section { border: 0; padding: 0; border-radius: 0; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } .scroll { overflow: visible; } tr { break-inside: avoid; } }
"""
