# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What Apache's balancer-manager and server-status say, as data.

The page is read, not its XML form: only the page tells who has a health check.
Columns are found by their headings, since modules add some.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from html.parser import HTMLParser
from urllib.parse import parse_qs, urlsplit

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadReply

_NEEDED = ("Worker URL", "Route", "Factor", "Status", "Elected", "Busy")
_SCHEME = "balancer://"
_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,255}\Z")


@dataclass(frozen=True)
class Worker:
    """One member's row."""

    name: str  # its route where that names it alone, else host:port
    url: str  # as the manager wants it back
    host: str
    port: int
    factor: float
    flags: frozenset[str]  # Init, Ok, Drn, Dis, Stop, Err, HcFl, Stby, Spar, Ign
    elected: int
    busy: int
    checked: bool  # by mod_proxy_hcheck


@dataclass(frozen=True)
class Balancer:
    """One balancer and its members."""

    name: str
    nonce: str  # what changes must quote; drawn anew whenever the shared state is
    workers: tuple[Worker, ...]


@dataclass(frozen=True)
class Page:
    """The whole page."""

    version: str
    persisted: bool  # BalancerPersist On
    balancers: tuple[Balancer, ...]


@dataclass(frozen=True)
class Leaving:
    """The processes that finish what they have, after a reload."""

    processes: int
    requests: int


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.text = ""
        self.found: list[tuple[str, str, list[list[tuple[str, str]]]]] = []  # name, nonce, rows of (text, link)
        self._in_heading = False
        self._row: list[tuple[str, str]] | None = None
        self._cell: str | None = None
        self._link = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "h3":
            self._in_heading = True
        elif tag == "tr":
            self._row = []
            if self.found:
                self.found[-1][2].append(self._row)
        elif tag in ("td", "th"):
            self._cell, self._link = "", ""
        elif tag == "a":
            self._link = dict(attrs).get("href") or ""
            if self._in_heading:
                name, nonce = _quoted(self._link, "b"), _quoted(self._link, "nonce")
                self.found.append((name, nonce, []))

    def handle_endtag(self, tag: str) -> None:
        if tag == "h3":
            self._in_heading = False
        elif tag == "tr":
            self._row = None
        elif tag in ("td", "th") and self._row is not None and self._cell is not None:
            self._row.append((self._cell.strip(), self._link))
            self._cell = None

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._cell is not None:
            self._cell += data


def page(answer: str) -> Page:
    """The manager's page; raises ``BadReply``."""
    reader = _Reader()
    try:
        reader.feed(answer)
        reader.close()
    except (AssertionError, ValueError) as error:  # html.parser's words for a broken declaration
        raise _strange(f"the page cannot be read ({error})") from None
    version = re.search(r"Server Version: (Apache(?:/[0-9][0-9.]*)?)", reader.text)
    if version is None or "Load Balancer Manager" not in reader.text:
        raise _strange("the page is not the manager's")
    return Page(
        version=version.group(1),
        persisted="Balancer changes will be persisted" in reader.text,
        balancers=tuple(_balancer(*one) for one in reader.found),
    )


def _balancer(name: str, nonce: str, rows: list[list[tuple[str, str]]]) -> Balancer:
    columns: dict[str, int] = {}
    workers: list[dict[str, tuple[str, str]]] = []
    for row in rows:
        heads = [text for text, _link in row]
        if "Worker URL" in heads:
            columns = {head: index for index, head in enumerate(heads)}
            missing = [head for head in _NEEDED if head not in columns]
            if len(columns) != len(heads):
                raise _strange(f"the members of {name!r} have two columns of one name")
            if missing:
                raise _strange(f"the members of {name!r} have no column {missing[0]!r}")
        elif columns and row and "nonce=" in row[0][1]:
            if len(row) != len(columns):
                raise _strange(f"a member of {name!r} has {len(row)} cells for {len(columns)} columns")
            workers.append({head: row[index] for head, index in columns.items()})
    routes = [worker["Route"][0] for worker in workers]
    found = tuple(_worker(worker, routes) for worker in workers)
    names = [worker.name for worker in found]
    twice = [each for each in names if names.count(each) > 1]
    if twice:
        raise _strange(f"the balancer {name!r} has {twice[0]!r} twice")
    return Balancer(name.removeprefix(_SCHEME), nonce, found)


def _worker(cells: dict[str, tuple[str, str]], routes: list[str]) -> Worker:
    shown, link = cells["Worker URL"]
    url = _quoted(link, "w") or shown
    try:
        parts = urlsplit(shown)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme in ("https", "wss") else 80)
    except ValueError:
        raise _strange(f"{shown!r} is not a member's URL") from None
    route = cells["Route"][0]
    own = bool(_NAME.match(route)) and routes.count(route) == 1
    return Worker(
        name=route if own else f"{host}:{port}",
        url=url,
        host=host,
        port=port,
        factor=_factor(cells["Factor"][0]),
        flags=frozenset(cells["Status"][0].split()),
        elected=_count(cells["Elected"][0]),
        busy=_count(cells["Busy"][0]),
        checked=cells.get("HC Method", ("NONE", ""))[0].upper() not in ("", "NONE"),
    )


def leaving(answer: str) -> Leaving | None:
    """From ``server-status?auto``: what old processes still do; None where it does not tell (other than mpm_event)."""
    fields = dict(line.split(": ", 1) for line in answer.splitlines() if ": " in line)
    if "Stopping" not in fields or "Scoreboard" not in fields:
        return None
    return Leaving(_count(fields["Stopping"].strip()), fields["Scoreboard"].count("G"))


def _quoted(link: str, key: str) -> str:
    try:
        return parse_qs(urlsplit(link).query).get(key, [""])[0]
    except ValueError:
        return ""


def _count(text: str) -> int:
    if not re.match(r"[0-9]{1,20}\Z", text):
        raise _strange(f"{text[:40]!r} is not a number")
    return int(text)


def _factor(text: str) -> float:
    if not re.match(r"[0-9]{1,9}(\.[0-9]{1,9})?\Z", text):
        raise _strange(f"{text[:40]!r} is not a load factor")
    return float(text)


def _strange(what: str) -> BadReply:
    return BadReply(
        f"The answer of Apache's balancer-manager cannot be understood: {what}.",
        "Is manager_url a location with 'SetHandler balancer-manager'?",
    )
