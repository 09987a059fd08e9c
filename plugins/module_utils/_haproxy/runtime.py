# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""One UNIX socket of HAProxy: a line goes out, an answer comes back.

There is no status code in an answer and no end mark but the end of the
connection, so each question has a connection of its own. UNIX sockets only:
HAProxy accepts ``ssl`` on a TCP socket without a warning and then speaks in
clear, so a TCP socket is never safe.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import stat

from ansible_collections.zerodrop.rollout.plugins.module_utils._drivers.base import Clock
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import (
    BadInput,
    BadReply,
    PermissionDenied,
    RolloutError,
    Unreachable,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._names import absolute_path

ANSWER_LIMIT = 5.0  # seconds for one answer, the longest seen on a busy machine was 0.6
RELOAD_LIMIT = 3.0  # seconds to get through while a process re-executes itself; 0.3 with 5,000 servers
_RETRY_PAUSE = 0.01
_LARGEST_ANSWER = 64 * 1024 * 1024
_LONGEST_LINE = 8 * 1024  # half of the smallest buffer; a longer line is dropped as a whole by newer versions
_LONGEST_PATH = 107  # of a UNIX socket's address on Linux

# The last line of defence: whatever the callers checked, nothing but this reaches the socket.
_COMMAND = re.compile(r"[A-Za-z0-9_.:/@!% -]+\Z")

_BUSY = (errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE, errno.EAGAIN, errno.ENOTCONN)


class RuntimeSocket:
    """A runtime or master socket of HAProxy."""

    def __init__(self, path: str, what: str, clock: Clock, answer_limit: float = ANSWER_LIMIT) -> None:
        self.path = _unix_path(path, what)
        self._what = what
        self._clock = clock
        self._answer_limit = answer_limit

    def ask(self, *commands: str) -> str:
        """Send the commands as one line, return the whole answer.

        A socket that refuses or drops the connection is asked again for a
        moment, as happens while HAProxy reloads. So a command may be executed
        twice: all commands of this collection set a state, none counts.
        """
        line = self._line(commands)
        deadline = self._clock.now() + RELOAD_LIMIT
        while True:
            try:
                answer = self._ask_once(line)
                reason = "closes the connection without an answer"
            except OSError as error:
                if isinstance(error, socket.timeout):
                    raise Unreachable(
                        f"{self._title()} accepts the connection but does not answer within {self._answer_limit:g} s.",
                        "HAProxy may be hung or stopped, or this is another program's socket.",
                        socket=self.path,
                    ) from None
                if error.errno not in _BUSY:
                    raise self._cannot_open(error) from None
                answer, reason = "", f"cannot be used: {os.strerror(error.errno or 0)}"
                if not stat.S_ISSOCK(self._mode()):
                    raise Unreachable(f"{self._title()} is not a socket.", socket=self.path) from None
            if answer:
                return answer
            if self._clock.now() >= deadline:
                raise Unreachable(
                    f"{self._title()} {reason}.", "HAProxy is not running, or not behind this socket.", socket=self.path
                )
            self._clock.sleep(_RETRY_PAUSE)

    def _line(self, commands: tuple[str, ...]) -> bytes:
        for command in commands:
            if not _COMMAND.match(command):
                raise BadInput(f"{command!r} has characters that must not reach a runtime socket.")
        line = ";".join(commands)
        if len(line) > _LONGEST_LINE:
            raise BadInput(f"A line of {len(line)} characters is too long for a runtime socket.")
        return (line + "\n").encode("ascii")

    def _ask_once(self, line: bytes) -> str:
        deadline = self._clock.now() + self._answer_limit
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(self._answer_limit)
            connection.connect(self.path)
            connection.sendall(line)
            # The master's socket answers and then waits for more until its client has said that it is done.
            connection.shutdown(socket.SHUT_WR)
            chunks: list[bytes] = []
            size = 0
            while True:
                chunk = connection.recv(262144)
                if not chunk:
                    return b"".join(chunks).decode("utf-8", "replace")
                chunks.append(chunk)
                size += len(chunk)
                if size > _LARGEST_ANSWER:
                    raise BadReply(f"{self._title()} answers with more than {_LARGEST_ANSWER} bytes.")
                if self._clock.now() > deadline:
                    raise socket.timeout()

    def _title(self) -> str:
        return f"{self._what} {self.path}"

    def _mode(self) -> int:
        try:
            return os.stat(self.path).st_mode
        except OSError as error:
            raise self._cannot_open(error) from None

    def _cannot_open(self, error: OSError) -> RolloutError:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return Unreachable(
                f"{self._title()} does not exist.",
                "Is HAProxy running here, and does its configuration (or its command line, for the master socket) "
                "name this path?",
                socket=self.path,
            )
        if error.errno in (errno.EACCES, errno.EPERM):
            return PermissionDenied(
                f"{self._title()} may not be opened by this user.",
                "Use become, or give the user a group that may open the socket.",
                socket=self.path,
            )
        return Unreachable(f"{self._title()} cannot be used: {error.strerror or error}.", socket=self.path)


def _unix_path(value: object, what: str) -> str:
    text = value if isinstance(value, str) else ""
    if "@" in text or re.search(r":\d+\Z", text):
        raise BadInput(
            f"{what} {text!r} is a network address.",
            "Only UNIX sockets are used: HAProxy's runtime interface is not encrypted over TCP, whatever its "
            "configuration says. Run on the balancer itself, with the path of its socket.",
        )
    path = absolute_path(value, what)
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise BadInput(f"{what} {path!r} is longer than the {_LONGEST_PATH} bytes that a UNIX socket's path may have.")
    return path
