# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Members of an nginx upstream, in and out without a reload: the configuration and the table. No input or output.

nginx gives each request a slot, and reads a link on the disk that has the slot's name (``$realpath_root``). The link
leads to a key, and ``hash`` turns the key into a server. So whoever turns links decides who gets new requests, at once
and for any set of members. nginx reads the link when it has the whole request and connects in the same breath.

While all members are in service at their own weights, the links lead to no key, and ``hash`` without a key is nginx's
own round robin. That is not so where clients are tied to a member: these have their slots always.

``hash`` is the one of Cache::Memcached, on which nginx's documentation pins it. A request that fails is tried at the
server that the key leads to next: so keys are chosen whose second server is in service too.
"""

from __future__ import annotations

import bisect
import functools
import hashlib
import ipaddress
import itertools
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput, Refused
from ansible_collections.zerodrop.rollout.plugins.module_utils._nginx.upstreams import HTTP, Server, Upstream

PREFIX = "zerodrop_"
MAX_MEMBERS = 256

_POOL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}\Z")
_RANDOM = "$request_id"  # a request is known by nothing that lasts
_KEY = re.compile(r"\$[A-Za-z0-9_]{1,64}(?:[:.-]?\$[A-Za-z0-9_]{1,64}){0,7}\Z")
_TIME = re.compile(r"[0-9]{1,6}(?:ms|s|m)?\Z")
_PARAMETER = re.compile(r"(?:max_fails|max_conns)=[0-9]{1,9}\Z|fail_timeout=[0-9]{1,6}(?:ms|s|m|h)?\Z")
_LEFT_OUT = re.compile(r"down\Z|weight=")  # the table says who is out, and each server has one weight
_CARRIED = ("keepalive", "keepalive_requests", "keepalive_time", "keepalive_timeout", "zone")
_SLOTS = (200, 500, 1000, 2000, 5000)  # a hundredth of a percent is the finest that split_clients knows
_SLOTS_EACH = 16
_CHOICES = 16  # keys for each server, to choose among by what is second
_KEYS_TRIED = 100_000
_KEYS_ENOUGH = 8_000
_LENGTHS = 23
_KEEPALIVE_DEFAULT_SINCE = (1, 29, 7)
_KEEPALIVE_DEFAULT = "32"


class Names(NamedTuple):
    """What the configuration of a pool calls its parts."""

    upstream: str
    variable: str  # without the dollar

    @property
    def key(self) -> str:
        return f"${self.variable}_key"

    @property
    def slot(self) -> str:
        return f"${self.variable}_slot"


class Wishes(NamedTuple):
    """What is asked of the generated configuration."""

    key: str = ""  # what a client is known by; empty: as the upstream has it
    scheme: str = "http"
    keepalive_timeout: str = "20ms"

    @classmethod
    def checked(cls, key: str, scheme: str, keepalive_timeout: str) -> Wishes:
        """Raises ``BadInput``: these words come to stand in a configuration."""
        if key and not _KEY.match(key):
            raise BadInput(
                f"The key {key[:80]!r} is none.", "It is one or more of nginx's variables, such as $request_id."
            )
        if scheme not in ("http", "https"):
            raise BadInput(f"The scheme must be http or https, got {scheme[:20]!r}.")
        if not _TIME.match(keepalive_timeout):
            raise BadInput(f"{keepalive_timeout[:20]!r} is no time; 1s or 500ms is one.")
        return cls(key, scheme, keepalive_timeout)


class Generated(NamedTuple):
    """The files for one pool, the folder of the table that they read, and whether it may lead to no key."""

    http: str
    location: str
    folder: str
    even: bool


def names_of(pool: str) -> Names:
    """Raises ``BadInput`` for an upstream whose name cannot be part of other names."""
    if not _POOL.match(pool):
        raise BadInput(
            f"The upstream {pool[:80]!r} cannot be switched by links: its name may have letters, digits and _ . - only."
        )
    plain = re.sub(r"[^A-Za-z0-9_]", "_", pool)
    if plain != pool:  # two names must not become one
        plain += "_" + hashlib.sha256(pool.encode()).hexdigest()[:6]
    return Names(PREFIX + pool, PREFIX + plain)


def is_generated(upstream: Upstream) -> bool:
    """Whether this upstream is one of ours, and so no pool of its own."""
    key = upstream.directive("hash") or ("",)
    return upstream.name.startswith(PREFIX) and key[0].startswith("$" + PREFIX)


def folder_of(root: str, pool: str, servers: Mapping[str, int]) -> str:
    """Where the table of these servers (addresses and weights) is: others, or another order, have another one.

    So a table can never be read by a configuration that it was not made for.
    """
    words = [str(slots_for(len(servers))), *(f"{address} {weight}" for address, weight in servers.items())]
    return f"{root}/{pool}/{hashlib.sha256(chr(10).join(words).encode()).hexdigest()[:12]}"


def slots_for(count: int) -> int:
    """How many slots requests are dealt to: enough for each of so many members to get its share to some 6 %."""
    return next((slots for slots in _SLOTS if slots >= count * _SLOTS_EACH), _SLOTS[-1])


def generate(
    upstream: Upstream, literal: Mapping[str, str], root: str, wishes: Wishes, version: tuple[int, int, int]
) -> Generated:
    """The configuration for an upstream; ``literal`` has the address to write for each server's.

    Raises ``Refused`` for an upstream whose working cannot be kept.
    """
    names = names_of(upstream.name)
    key = wishes.key or _key_of(upstream)
    servers = _servers(upstream, literal)
    folder = folder_of(root, upstream.name, {literal[server.address]: server.weight for server in upstream.servers})
    slots = slots_for(len(upstream.servers))
    share = f"{100 / slots:.2f}%"
    lines = [
        f"# For the upstream {upstream.name}, by zerodrop.rollout's role nginx_links, which makes it anew. Do not edit.",
        f'split_clients "{key}" {names.slot} {{',
        *(f"    {share} {slot};" for slot in range(slots - 1)),
        f"    * {slots - 1};",
        "}",
        f"map $realpath_root {names.key} {{",
        "    volatile;",
        f'    "~/keys/(?<{names.variable}_found>k[0-9]+)$" ${names.variable}_found;',
        '    default "";',
        "}",
        f"upstream {names.upstream} {{",
        f"    hash {names.key};",
        *(f"    {line};" for line in servers + _carried(upstream, names, wishes, version)),
        "}",
    ]
    location = [
        f"# For a location that passes requests to {upstream.name}; see its other file.",
        f"root {root_of(folder, names)};",
        f"proxy_pass {wishes.scheme}://{names.upstream};",
    ]
    return Generated("\n".join(lines) + "\n", "\n".join(location) + "\n", folder, key == _RANDOM)


def root_of(folder: str, names: Names) -> str:
    """Where nginx reads the link of a request."""
    return f"{folder}/live/{names.slot}"


def _key_of(upstream: Upstream) -> str:
    hint = "Set nginx_links_key, such as $request_id to spread requests at random, or stay with reloads."
    if upstream.sticky is not None:
        raise Refused(f"The upstream {upstream.name!r} is sticky by cookies of nginx, which links cannot keep.", hint)
    if upstream.method in ("round_robin", "random") and not upstream.method_parameters:
        return _RANDOM
    if upstream.method == "ip_hash":
        return "$remote_addr"
    if upstream.method == "hash" and upstream.method_parameters:
        if _KEY.match(upstream.method_parameters[0]):
            return upstream.method_parameters[0]
        raise Refused(
            f"The upstream {upstream.name!r} hashes {upstream.method_parameters[0][:80]!r}, which cannot be kept.", hint
        )
    words = " ".join((upstream.method, *upstream.method_parameters))
    raise Refused(
        f"The upstream {upstream.name!r} is balanced by {words[:80]!r}: with links no connections are counted.", hint
    )


def _servers(upstream: Upstream, literal: Mapping[str, str]) -> list[str]:
    if upstream.context != HTTP:
        raise Refused(f"The upstream {upstream.name!r} is in the stream part; links are read for HTTP only.")
    if not 2 <= len(upstream.servers) <= MAX_MEMBERS:
        raise Refused(
            f"The upstream {upstream.name!r} has {len(upstream.servers)} servers; links switch 2 to {MAX_MEMBERS}."
        )
    seen: dict[str, Server] = {}
    lines = []
    for server in upstream.servers:
        first = seen.setdefault(literal[server.address], server)
        if first is not server:
            raise Refused(f"The upstream {upstream.name!r} has {literal[server.address]} twice; links switch it once.")
        kept = [text for text in server.parameters if not _LEFT_OUT.match(text)]
        odd = [text for text in kept if not _PARAMETER.match(text)]
        if odd:
            raise Refused(
                f"The server {server.address} of {upstream.name!r} has {odd[0][:80]!r}, which links cannot keep."
            )
        weight = [f"weight={server.weight}"] if server.weight != 1 else []
        lines.append(" ".join(["server", literal[server.address], *weight, *kept]))
    return lines


def _carried(upstream: Upstream, names: Names, wishes: Wishes, version: tuple[int, int, int]) -> list[str]:
    """What stands in the upstream beside its servers and its method."""
    lines: list[str] = []
    for words in upstream.directives:
        if words[0] in (upstream.method, "sticky", "keepalive_timeout"):
            continue
        if words[0] not in _CARRIED or any(not re.match(r"[A-Za-z0-9_]{1,64}\Z", word) for word in words):
            raise Refused(f"The upstream {upstream.name!r} has {' '.join(words)[:80]!r}, which links cannot keep.")
        if words[0] == "zone":
            words = ("zone", names.upstream, *words[2:])
            if len(words) < 3:
                raise Refused(
                    f"The zone of {upstream.name!r} has its size in another upstream.", "Give it a size of its own."
                )
        lines.append(" ".join(words))
    kept = upstream.keepalive
    if kept is None and version >= _KEEPALIVE_DEFAULT_SINCE:
        lines.append(f"keepalive {_KEEPALIVE_DEFAULT}")
    if kept or (kept is None and version >= _KEEPALIVE_DEFAULT_SINCE):
        # A connection that is kept cannot be told from one in use, so no drain ends before this is over.
        lines.append(f"keepalive_timeout {wishes.keepalive_timeout}")
    return lines


def literal_of(server: Server, addresses: Sequence[str]) -> str:
    """A server's address without a name, for ``server``; raises ``Refused`` unless it is exactly one."""
    if server.socket:
        return server.address
    found = sorted(set(addresses))
    if len(found) != 1 or server.port is None:
        raise Refused(
            f"The server {server.address} of {server.upstream!r} has {len(found)} addresses; links switch one.",
            "Write the address of each server.",
        )
    host = found[0] if ipaddress.ip_address(found[0]).version == 4 else f"[{found[0]}]"
    return f"{host}:{server.port}"


# --- the table ---


def picks(key: str, weights: tuple[int, ...], wanted: int = 2) -> tuple[int, ...]:
    """Which servers of these weights nginx's ``hash`` leads to with this key, the first one first."""
    ends = _ends(weights)
    found: list[int] = []
    total = 0
    for attempt in range(20):
        text = (str(attempt) if attempt else "") + key
        total += (zlib.crc32(text.encode()) >> 16) & 0x7FFF
        place = bisect.bisect_right(ends, total % ends[-1])
        if place not in found:
            found.append(place)
        if len(found) == wanted:
            break
    return tuple(found)


@functools.lru_cache(maxsize=8)
def _ends(weights: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(itertools.accumulate(weights))


@functools.lru_cache(maxsize=8)
def _keys(weights: tuple[int, ...]) -> tuple[tuple[tuple[str, int], ...], ...]:
    """For each server its keys, each with the server that is second; raises ``Refused`` where some have none."""
    found: list[list[tuple[str, int]]] = [[] for _unused in weights]
    each = -(-_CHOICES // max(1, len(weights) - 1))  # of one second server, so that there are several to choose among
    for number in range(_KEYS_TRIED):
        if number % 100 == 0 and (number >= _KEYS_ENOUGH or all(len(own) >= _CHOICES for own in found)) and all(found):
            break
        # Of many lengths: between keys of one length the second server follows from the first.
        key = f"k{'0' * (number % _LENGTHS)}{number}"
        places = picks(key, weights)
        if len(places) == 2:
            own = found[places[0]]
            if len(own) < _CHOICES and sum(second == places[1] for _key, second in own) < each:
                own.append((key, places[1]))
    if not all(found):
        raise Refused(
            "The weights of the upstream's servers are too far apart for links: "
            f"the smallest is {min(weights)} of {sum(weights)} in all.",
            "Let none be smaller than a thousandth of all.",
        )
    return tuple(map(tuple, found))


def quotas(weights: Sequence[int], slots: int) -> list[int]:
    """So many slots for each weight: none for 0, at least one for all others, and all slots in sum."""
    whole = sum(weights)
    exact = [slots * weight / whole for weight in weights]
    found = [max(1, int(one)) if weight else 0 for one, weight in zip(exact, weights)]
    order = sorted(range(len(weights)), key=lambda i: (found[i] - exact[i], i))
    while (left := slots - sum(found)) > 0:
        for i in [i for i in order if weights[i]][:left]:
            found[i] += 1
    while (over := sum(found) - slots) > 0:
        for i in sorted(range(len(found)), key=lambda i: -found[i])[:over]:
            if found[i] > 1:
                found[i] -= 1
    return found


def deal(home: Sequence[int], now: Sequence[int], slots: int) -> list[int]:
    """Which server owns each slot: by the weights of ``now``, 0 for one that is out.

    As few slots as can be are elsewhere than with the weights of ``home``, and they return there: with a key that is
    tied to clients, only those of a member that is out move, and come back to it.
    """
    target = quotas(now, slots)
    owners = [server for server, quota in enumerate(quotas(home, slots)) for _unused in range(quota)]
    left = list(target)
    free = []
    for slot, server in enumerate(owners):
        if left[server]:
            left[server] -= 1
        else:
            free.append(slot)
    # Evenly among each other, so that no run of slots goes to one server.
    takers = sorted((turn / need, server) for server, need in enumerate(left) for turn in range(1, need + 1))
    for slot, (_turn, server) in zip(free, takers):
        owners[slot] = server
    return owners


def keys_for(owners: Sequence[int], weights: tuple[int, ...]) -> list[str]:
    """The key of each slot: it leads to the owner first, and then to another server that is in service, if any is."""
    serving = set(owners)
    found = []
    for slot, owner in enumerate(owners):
        own = _keys(weights)[owner]
        turned = own[slot % len(own) :] + own[: slot % len(own)]
        found.append(next((key for key, second in turned if second in serving), turned[0][0]))
    return found


def owner_of(key: str, weights: tuple[int, ...]) -> int | None:
    """The server that a slot with this key is given to; None for what is no key of ours."""
    return picks(key, weights, 1)[0] if re.match(r"k[0-9]{1,40}\Z", key) else None
