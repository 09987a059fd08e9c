# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What must hold for any bytes: each target takes some and fails, or does not.

A reader may refuse with an error of ours; any other exception is a finding, and
so is a name that means more on a socket, in a form or in a file than one word.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._apache import manager
from ansible_collections.zerodrop.rollout.plugins.module_utils._drivers.apache import ApacheDriver
from ansible_collections.zerodrop.rollout.plugins.module_utils._drivers.haproxy import HAProxyDriver
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    BadInput,
    InvalidConfiguration,
    RolloutError,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._haproxy import config, persist, replies
from ansible_collections.zerodrop.rollout.plugins.module_utils._nginx.edits import edit
from ansible_collections.zerodrop.rollout.plugins.module_utils._nginx.tokens import decode, encode
from ansible_collections.zerodrop.rollout.plugins.module_utils._nginx.upstreams import Server, Settings, of_text

SEEDS = Path(__file__).with_name("seeds")


def nginx_editor(data: bytes) -> None:
    """A configuration is refused, or changed where it was meant and nowhere else."""
    if not data:
        return
    flags, text = data[0], decode(data[1:])
    if encode(text) != data[1:]:
        raise AssertionError("the text is not the bytes")
    wanted = Settings(bool(flags & 1), bool(flags & 2), ("", "7", "65535", "1")[flags >> 2 & 3])
    context = ("main", "http", "stream", "http")[flags >> 4 & 3]
    try:
        before = _servers(text, context)
        if not before:
            return
        chosen = before[(flags >> 6) % len(before)]
        new = edit(of_text(text, context=context), {chosen: wanted}).get("nginx.conf", text)
    except InvalidConfiguration:
        return
    after = _servers(new, context)
    number = before.index(chosen)
    if new[: chosen.start] != text[: chosen.start] or new[after[number].end :] != text[chosen.end :]:
        raise AssertionError("something beside the line was changed")
    for index, (old, now) in enumerate(zip(before, after, strict=True)):
        if (old.address, old.upstream, old.backup) != (now.address, now.upstream, now.backup):
            raise AssertionError("a server became another")
        if index != number and old.settings != now.settings:
            raise AssertionError("another server was changed")
    said = after[number].settings
    if (said.down, said.drain, int(said.weight or 1)) != (wanted.down, wanted.drain, int(wanted.weight or 1)):
        raise AssertionError("the change does not say what was meant")


def _servers(text: str, context: str) -> list[Server]:
    return [server for upstream in of_text(text, context=context).upstreams for server in upstream.servers]


def haproxy_editor(data: bytes) -> None:
    """A configuration is refused, or our mark is all that comes and goes, on the lines that were meant."""
    if not data:
        return
    text = config.decode(data[1:])
    if config.encode(text) != data[1:]:
        raise AssertionError("the text is not the bytes")
    try:
        persist.state_file([text], "shop")
    except persist.NotKept:
        pass
    try:
        before = config.server_lines({"f": text}, "shop")
        if not before:
            return
        name = list(before)[data[0] % len(before)]
        held = config.edit({"f": text}, "shop", {name: True}).get("f", text)
        back = config.edit({"f": held}, "shop", {name: False}).get("f", held)
    except InvalidConfiguration:
        return
    after = config.server_lines({"f": held}, "shop")
    if not all(line.ours for line in after[name]) or list(before) != list(after):
        raise AssertionError("a server was not held out, or became another")
    for other in before:
        if other != name and before[other] != after[other]:
            raise AssertionError("another server was changed")
    without = [line.place for line in before[name] if line.ours]
    if held.count(config.MARK) - text.count(config.MARK) != len(before[name]) - len(without):
        raise AssertionError("something beside the mark was written")
    if not without and back != text:
        raise AssertionError("it does not come back as it was")


def haproxy_replies(data: bytes) -> None:
    """Every reader of HAProxy's answers takes any answer, or refuses it."""
    text = data.decode("utf-8", "replace")
    readers: tuple[Callable[[str], Any], ...] = (
        replies.process, replies.current_connections, replies.level, replies.pools, replies.split, replies.processes,
        replies.sessions, lambda answer: replies.servers_state(answer, "shop"), _statistics,
        lambda answer: replies.refusal("set server shop/s1 state maint", answer),
    )  # fmt: skip
    for read in readers:
        try:
            read(text)
        except RolloutError:
            pass
    if text.strip() and replies.refusal("set server shop/s1 state maint", text) is None:
        raise AssertionError("words were taken for success")


def _statistics(answer: str) -> None:
    statistics = replies.Statistics(answer)
    for name in statistics.rows:
        statistics.busy(name)


class _Socket:
    """A runtime socket that keeps what it is told, and answers like an HAProxy with one server."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.path = "/socket"

    def ask(self, *commands: str) -> str:
        self.lines += commands
        return (SEEDS / "haproxy_replies" / "show-servers-state").read_text(encoding="utf-8")


def commands(data: bytes) -> None:
    """A name of a pool or a member never becomes more than one word of one command, or it is refused."""
    pool, _separator, member = data.decode("utf-8", "surrogateescape").partition("/")
    for operation in ("drain", "hold_out", "prepare_return", "put_back"):
        driver = HAProxyDriver("/socket", None)
        spy = _Socket()
        driver._socket = spy  # type: ignore[assignment]
        try:
            getattr(driver, operation)(pool, [member])
        except BadInput:
            if spy.lines:
                raise AssertionError("something was sent before the name was refused") from None
            continue
        except RolloutError:
            pass
        for line in spy.lines:
            if any(char in line for char in "\n;<\\\"'") or not line.isprintable() or len(line.split(" ")) > 6:
                raise AssertionError(f"more than one command: {line!r}")
    _form(pool, member)


def _form(pool: str, member: str) -> None:
    driver = ApacheDriver("http://127.0.0.1:1/balancer-manager")
    sent: list[Mapping[str, str]] = []
    worker = SimpleNamespace(name=member, url="http://127.0.0.1:1", flags=frozenset({"Drn"}), checked=False)
    page = SimpleNamespace(balancers=(SimpleNamespace(name=pool, nonce="n", workers=(worker,)),))
    driver._page = lambda: page  # type: ignore[assignment, method-assign, return-value]
    driver._send = sent.append  # type: ignore[assignment, method-assign]
    driver._clock = SimpleNamespace(sleep=lambda seconds: None)  # type: ignore[assignment]
    try:
        driver.drain(pool, [member])
    except BadInput:
        if sent:
            raise AssertionError("something was sent before the name was refused") from None
        return
    for fields in sent:
        if fields["b"] != pool or set("&=;#% \r\n") & set(pool):
            raise AssertionError(f"a pool's name is more than a value: {pool!r}")


def apache_manager(data: bytes) -> None:
    """The manager's page is understood or refused; no two members have one name."""
    text = data.decode("utf-8", "replace")
    try:
        page = manager.page(text)
    except RolloutError:
        page = manager.Page("", False, ())
    for balancer in page.balancers:
        names = [worker.name for worker in balancer.workers]
        if len(set(names)) != len(names) or any(worker.busy < 0 for worker in balancer.workers):
            raise AssertionError("members that cannot be")
    try:
        manager.leaving(text)
    except RolloutError:
        pass


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    "apache_manager": apache_manager,
    "commands": commands,
    "haproxy_editor": haproxy_editor,
    "haproxy_replies": haproxy_replies,
    "nginx_editor": nginx_editor,
}


def seeds(target: str) -> list[bytes]:
    """What fuzzing begins with: real answers, and configurations of every kind; those that are no text as base64."""
    found = sorted((SEEDS / target).iterdir())
    return [base64.b64decode(path.read_bytes()) if path.suffix == ".base64" else path.read_bytes() for path in found]
