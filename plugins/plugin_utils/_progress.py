# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a terminal shows of a rollout while it runs: lines, made of its record and of what the witness says. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ENVIRONMENT = "ZERODROP_ROLLOUT_PROGRESS"  # names the file in which a run says where its record is

_AFTER = {"drain": "upgrade", "upgrade": "gate", "maintenance": "gate", "gate": "put back"}
_AT_REST = {
    "untouched": "waits",
    "finished": "done",
    "rolled_back": "rolled back",
    "failed": "FAILED",
    "lost": "LOST",
    "left_out": "LEFT OUT",
}
_BAR = 24
_FEWEST_MEMBERS = 3


@dataclass(frozen=True)
class _Work:
    """What a member is at."""

    words: str
    since: float | None  # None: it is at rest
    counts: float  # how much of its way is behind it


def lines(record: Mapping[str, Any], witness: Mapping[str, Any], now: float, width: int, height: int) -> list[str]:
    """A line for each member of the batch in hand, then the others as far as they fit, a bar, and the traffic."""
    batches = record["back_batches"] or record["batches"]
    if not batches:
        return []
    last = {host: event for event in record["events"] for host in event["members"]}
    back = bool(record["back_batches"])
    work = {host: _work(member, last.get(host), back) for host, member in record["members"].items()}
    order = [host for batch in batches for host in batch]
    number = next((n for n, batch in enumerate(batches) if any(_is_open(work[host]) for host in batch)), None)
    done = sum(work[host].counts for host in order)
    head = [host for batch in batches if any(work[host].since is not None for host in batch) for host in batch]
    evidence = _evidence(record.get("canary") or {})
    room = max(_FEWEST_MEMBERS, height - 4 - bool(evidence))
    shown = [*head, *(host for host in order if host not in head)][:room]
    shown.sort(key=order.index)
    longest = max(len(host) for host in shown)
    found = [_member(host.ljust(longest), work[host], now) for host in shown]
    if len(order) > len(shown):
        found.append(f"  and {len(order) - len(shown)} more")
    which = f"batch {number + 1} of {len(batches)}" if number is not None else f"{len(batches)} of {len(batches)}"
    way = "way back" if back else record["strategy"]
    found.append(f"{way} {gauge(done, len(order))} {which}, {now:.0f} s")
    found.append(evidence)
    found.append(_traffic(record, witness))
    return [_cut(each, width) for each in found if each]


def gauge(done: float, whole: int) -> str:
    """How much of it is done."""
    share = max(0.0, min(1.0, done / whole)) if whole else 1.0
    full = int(share * _BAR)
    return f"[{'#' * full}{'.' * (_BAR - full)}] {share:4.0%}"


def _is_open(work: _Work) -> bool:
    return work.since is not None or work.counts < 1


def _work(member: Mapping[str, Any], event: Mapping[str, Any] | None, back: bool) -> _Work:
    state, since = member["state"], member["out_at"]
    if since is None or state in ("finished", "rolled_back", "lost", "left_out") or (state == "failed" and not back):
        over = state == "rolled_back" if back else state in ("finished", "failed", "lost", "left_out", "rolled_back")
        words = _AT_REST.get(state, state)
        return _Work(f"{words}: {member['trouble']}" if member["trouble"] else words, None, float(over))
    ended = event["at"] + event["seconds"] if event else since
    phase = _AFTER.get(event["phase"], "drain") if event and ended > since else "drain"
    behind = ("drain", "upgrade", "gate", "put back").index(phase) / 4
    return _Work(phase, max(since, ended if phase != "drain" else since), behind)


def _member(name: str, work: _Work, now: float) -> str:
    return (
        f"  {name}  {work.words}"
        if work.since is None
        else f"  {name}  {work.words} {max(0.0, now - work.since):.1f} s"
    )


def _evidence(canary: Mapping[str, Any]) -> str:
    """How a canary stands that is judged."""
    found = canary.get("evidence")
    if not found:
        return ""
    (bad, of), (bad_b, of_b) = found["canary"], found["baseline"]
    parts = [
        f"{word} {found['odds'][way]:,.3g} of {found['needed'][way]:,.0f}"
        for way, word in (("roll_back", "worse"), ("promote", "fine"))
    ]
    return (
        f"canary {canary['step'] + 1}/{len(canary['steps'])} {found['decision'].replace('_', ' ')}: {', '.join(parts)} to 1; "
        f"failed {bad:,.0f} of {of:,.0f}, baseline {bad_b:,.0f} of {of_b:,.0f}"
    )


def _traffic(record: Mapping[str, Any], witness: Mapping[str, Any]) -> str:
    parts = []
    if witness:
        parts.append(f"{int(witness.get('requests_total', 0)):,} requests, {int(witness.get('failed', 0)):,} failed")
    if record["stop"]:
        parts.append(f"STOPPED in phase {record['stop']['phase']}: {record['stop']['message']}")
    return "; ".join(parts)


def _cut(line: str, width: int) -> str:
    """On one line of the terminal, and nothing in it that a terminal would obey."""
    plain = "".join(char if char.isprintable() else " " for char in line)
    return plain if len(plain) <= width else plain[: max(0, width - 1)] + "\N{HORIZONTAL ELLIPSIS}"


def erase(count: int) -> str:
    """Take away so many lines above the cursor."""
    return f"\x1b[{count}F\x1b[J" if count else ""


def block(drawn: Sequence[str]) -> str:
    """The lines, with the cursor below them."""
    return "".join(f"{each}\n" for each in drawn)
