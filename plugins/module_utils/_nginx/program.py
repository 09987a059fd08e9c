# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""nginx's program: its version, its test of the configuration, and what it writes about errors."""

from __future__ import annotations

import re
import subprocess
from typing import NamedTuple

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    BadReply,
    InvalidConfiguration,
    Unreachable,
)

_VERSION = re.compile(r"^nginx version: [^/\s]+/([0-9]{1,4})\.([0-9]{1,4})\.([0-9]{1,4})", re.MULTILINE)
_OPTION = re.compile(r"--(pid-path|error-log-path|conf-path|prefix)=('[^']*'|\S+)")
_ERROR = re.compile(r"^\S+ \S+ \[(emerg|alert|crit)\] ([0-9]{1,10})#[0-9]{1,10}: (.{1,400})", re.MULTILINE)
_TEST_LIMIT = 60.0
_COMMENT = re.compile(r"(?m)^\s*#.*$|\s#.*$")


class Build(NamedTuple):
    version: tuple[int, int, int]
    options: dict[str, str]  # compiled in: prefix, conf-path, pid-path, error-log-path

    @property
    def text(self) -> str:
        return ".".join(map(str, self.version))


class Dump(NamedTuple):
    """What in the whole configuration says how far open connections tell what is in flight."""

    countable: bool  # each client's connection is one request at most, and all clients come by TCP
    lingering: bool  # old workers take one more request of each idle client
    retries: bool  # a connection that is refused is tried elsewhere


def build_of(text: str) -> Build:
    """What ``nginx -V`` says; raises ``BadReply``."""
    found = _VERSION.search(text)
    if not found:
        raise BadReply(f"`nginx -V` does not tell its version: {text[:200]!r}.")
    major, minor, patch = (int(number) for number in found.groups())
    return Build((major, minor, patch), {name: value.strip("'") for name, value in _OPTION.findall(text)})


def errors_of(log: str) -> list[tuple[int, str]]:
    """The grave lines of an error log: who wrote each, and what."""
    return [(int(pid), f"[{level}] {words}") for level, pid, words in _ERROR.findall(log)]


def dump_of(text: str) -> Dump:
    """What ``nginx -T`` prints. Seen too much is safe here, seen too little is not: words are enough."""
    text = _COMMENT.sub("", text)
    many = re.search(r"\b(http2|http3|quic|auth_request|mirror|grpc_pass|\w+_by_lua\w*|js_\w+|perl)\b", text)
    local = re.search(r"\blisten\s+[\"']?unix:", text)
    off = re.search(r"\b(proxy|fastcgi|uwsgi|scgi|grpc|memcached)_next_upstream\s+[\"']?off\b", text)
    lingering = re.search(r"\bkeepalive_min_timeout\s+[\"']?0*[1-9]", text)
    return Dump(countable=not many and not local, lingering=bool(lingering), retries=not off)


class Program:
    """The nginx program with one configuration."""

    def __init__(self, binary: str, config: str) -> None:
        self._binary = binary
        self._config = config
        self._build: Build | None = None

    def build(self) -> Build:
        if self._build is None:
            self._build = build_of(self._run("-V").stderr)
        return self._build

    def test(self, what_it_means: str, hint: str) -> Dump:
        """Raise ``InvalidConfiguration`` unless nginx would take the files as they are; what they say, else."""
        return dump_of(self.whole(what_it_means, hint))

    def whole(self, what_it_means: str, hint: str) -> str:
        """The same, with the text of all files, each after a line that names it."""
        done = self._run("-T", "-c", self._config)
        if done.returncode != 0:
            words = [line for line in done.stderr.splitlines() if line.strip()][-3:]
            raise InvalidConfiguration(
                f"`nginx -t -c {self._config}` fails: {' | '.join(words) or f'exit code {done.returncode}'}. "
                f"{what_it_means}",
                hint,
            )
        return done.stdout

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(  # pylint: disable=ansible-bad-function  # also runs where there is no module
                [self._binary, *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=_TEST_LIMIT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Unreachable(
                f"`{self._binary} {' '.join(arguments)}` does not end within {_TEST_LIMIT:g} s.",
                "A name in the configuration may not resolve in time.",
            ) from None
        except OSError as error:
            raise Unreachable(
                f"The program {self._binary} cannot be run: {error.strerror}.",
                "Say where nginx is (nginx_binary, rollout_nginx_binary).",
            ) from None
