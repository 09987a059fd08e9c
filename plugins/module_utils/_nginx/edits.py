# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Changes of servers in upstreams: new texts in which nothing else is different, byte for byte.

A line is never deleted: that would move other clients' sessions. The only thing ever written is ``down``, ``drain``
and a weight made of digits, and every new text is read again to see that it says what was meant and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput, UnknownMember
from ansible_collections.zerodrop.rollout.plugins.module_utils._nginx.tokens import (
    Source,
    Word,
    shown,
    statements,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._nginx.upstreams import (
    Configuration,
    Server,
    Settings,
    Upstream,
    is_weight,
)


class _Splice(NamedTuple):
    start: int
    end: int
    text: str


def edit(configuration: Configuration, wanted: Mapping[Server, Settings]) -> dict[str, str]:
    """The new texts of the files that change, by their paths; none when everything is as wanted.

    Settings that a server had before, given back, restore its text (but a `down` that an operator wrote and that was
    taken away comes back at the end of its line). Raises ``BadInput`` for settings that are none,
    ``UnknownMember`` for a server that is not in this configuration, and ``InvalidConfiguration`` for a line that
    cannot be changed, such as one that another upstream includes too.
    """
    checked = {server: _checked(server, settings) for server, settings in wanted.items()}
    _refuse_shared_lines(configuration, checked)
    by_source: dict[str, dict[int, tuple[Server, Settings]]] = {}
    for server, settings in checked.items():
        if settings != server.settings:
            by_source.setdefault(server.source, {})[server.start] = server, settings
    return {name: _rewrite(configuration.sources[name], changes) for name, changes in by_source.items()}


def leaves_none_in_service(upstream: Upstream, wanted: Mapping[Server, Settings]) -> bool:
    """Whether nothing would be left to send a new client to. nginx takes such a file and answers 502."""
    return not any(wanted.get(server, server.settings).in_service for server in upstream.servers)


def _checked(server: Server, settings: Settings) -> Settings:
    if not all(isinstance(flag, bool) for flag in settings[:2]):
        raise BadInput(f"down and drain of {shown(server.address)} must be true or false.")
    weight = settings.weight
    if isinstance(weight, int) and not isinstance(weight, bool):
        # The text in the file stays when it means the same.
        weight = server.settings.weight if weight == server.weight else str(weight)
    if weight != "" and not is_weight(weight):
        raise BadInput(f"The weight of {shown(server.address)} must be a whole number from 1 on.")
    return Settings(settings.down, settings.drain, weight)


def _refuse_shared_lines(configuration: Configuration, wanted: Mapping[Server, Settings]) -> None:
    places: dict[tuple[str, int], list[Server]] = {(server.source, server.start): [] for server in wanted}
    known = set()
    for upstream in configuration.upstreams:
        for server in upstream.servers:
            sharing = places.get((server.source, server.start))
            if sharing is not None:
                sharing.append(server)
                known.add(server)
    for server, settings in wanted.items():
        if server not in known:
            raise UnknownMember(f"{server.source}:{server.line}: the server {shown(server.address)} is not there.")
        for other in places[server.source, server.start]:
            if wanted.get(other, other.settings) != settings:
                raise configuration.sources[server.source].invalid(
                    server.start,
                    f"the server {shown(server.address)} of upstream {shown(server.upstream)} is also number "
                    f"{other.position} of upstream {shown(other.upstream)}, which includes the same line.",
                    "Give each upstream servers of its own, or change both alike.",
                )


def _rewrite(source: Source, changes: Mapping[int, tuple[Server, Settings]]) -> str:
    changed = [directive for directive in source.all_directives() if directive.start in changes]
    splices: list[_Splice] = []
    meant: dict[int, list[str]] = {}  # what the changed lines shall say, by their first place
    inside: set[int] = set()
    for directive in changed:
        server, settings = changes[directive.start]
        words = directive.words
        if server.down and server.drain and _last_flag(words) == "drain":
            raise source.invalid(
                directive.start,
                f"the server {shown(server.address)} has first down and then drain, and nginx may obey only the last.",
                "Leave one of them.",
            )
        splices += _splices(source.text, words, settings)
        meant[directive.start] = _meant(words, settings)
        inside.update(word.start for word in words)
    expected = []
    for start, said in statements(source):
        if start in meant:
            expected += meant[start]
        elif start not in inside:
            expected.append(said)
    text = _spliced(source.text, splices)
    if [said for _start, said in statements(Source(source.name, text))] != expected:
        raise source.invalid(changed[0].start, "this line is written so that it cannot be changed safely.")
    return text


def _splices(text: str, words: Sequence[Word], settings: Settings) -> list[_Splice]:
    splices = []
    # A server has one state in nginx, so the last of `drain` and `down` may be the one that counts: drain comes first.
    places = {"drain": words[1].end, "down": words[-1].end}
    for flag, wanted in (("drain", settings.drain), ("down", settings.down)):
        found = [i for i, word in enumerate(words) if i > 1 and word.value == flag]
        if wanted and not found:
            splices.append(_Splice(places[flag], places[flag], " " + flag))
        elif not wanted:
            splices += [_without(text, words, i) for i in found]
    weights = [i for i, word in enumerate(words) if i > 1 and word.value.startswith("weight=")]
    if not settings.weight:
        splices += [_without(text, words, i) for i in weights]
    elif not weights:
        splices.append(_Splice(words[-1].end, words[-1].end, f" weight={settings.weight}"))
    else:
        last = words[weights[-1]]
        start = text.index("weight=", last.start) + len("weight=")
        splices.append(_Splice(start, start + len(last.value) - len("weight="), str(settings.weight)))
    return splices


def _without(text: str, words: Sequence[Word], index: int) -> _Splice:
    """Take a word away, and the space before it unless a comment stands there."""
    before, word = words[index - 1], words[index]
    gap = text[before.end : word.start]
    return _Splice(before.end if not gap.strip(" \t\r\n") else word.start, word.end, "")


def _meant(words: Sequence[Word], settings: Settings) -> list[str]:
    """What the line shall say. Found without looking at the splices, to be compared with what they give."""
    values = [word.value for word in words]
    parameters = [value for value in values[2:] if value not in ("down", "drain") or _is_on(settings, value)]
    if settings.drain and "drain" not in parameters:
        parameters.insert(0, "drain")
    if settings.down and "down" not in parameters:
        parameters.append("down")
    weight = f"weight={settings.weight}"
    places = [i for i, value in enumerate(parameters) if value.startswith("weight=")]
    if not settings.weight:
        parameters = [value for value in parameters if not value.startswith("weight=")]
    elif places:
        parameters[places[-1]] = weight
    else:
        parameters.append(weight)
    return ["=" + value for value in values[:2] + parameters]


def _is_on(settings: Settings, flag: str) -> bool:
    return settings.down if flag == "down" else settings.drain


def _last_flag(words: Sequence[Word]) -> str:
    return [word.value for word in words if word.value in ("down", "drain")][-1]


def _spliced(text: str, splices: Iterable[_Splice]) -> str:
    parts, place = [], 0
    for splice in sorted(splices, key=lambda one: one[:2]):
        parts += [text[place : splice.start], splice.text]
        place = splice.end
    return "".join([*parts, text[place:]])
