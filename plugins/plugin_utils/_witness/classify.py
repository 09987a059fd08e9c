# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of one request: the outcome classes, and the rules that choose one."""

from __future__ import annotations

import errno
import socket
import ssl
from enum import StrEnum


class Outcome(StrEnum):
    """The class of one request. Its value is the word in logs, summaries and status files."""

    OK = "ok"
    LATE = "late"
    HTTP_4XX = "http_4xx"
    HTTP_5XX = "http_5xx"
    REFUSED = "refused"
    RESET = "reset"
    CUT = "cut"
    CLOSED_IDLE = "closed_idle"
    TIMED_OUT = "timed_out"
    UNREACHABLE = "unreachable"
    DNS = "dns"
    BAD_ANSWER = "bad_answer"
    # These two say nothing about the service: the witness was full, or was told to stop.
    NOT_SENT = "not_sent"
    INTERRUPTED = "interrupted"


UNCOUNTED = frozenset({Outcome.NOT_SENT, Outcome.INTERRUPTED})
"""Scheduled, but with no fate to judge: counted apart from the requests."""

FAILED = frozenset(Outcome) - UNCOUNTED - {Outcome.OK, Outcome.LATE, Outcome.CLOSED_IDLE}
"""Failed requests. ``closed_idle`` is shown beside them, never among them."""

ANSWERED_OK = frozenset({Outcome.OK, Outcome.LATE})
"""A good answer arrived, on time or not."""

TIMED = frozenset({Outcome.OK, Outcome.LATE, Outcome.HTTP_4XX, Outcome.HTTP_5XX, Outcome.TIMED_OUT})
"""Outcomes whose latency means something; a refusal in 0.1 ms would flatter the percentiles."""

# The witness ran out of descriptors, ports or memory: not the service's fault.
_OWN_FAULT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL})


def of_status(status: int) -> Outcome:
    """Class of a complete answer. Redirects are answers; the witness never follows them."""
    if status >= 500:
        return Outcome.HTTP_5XX
    if status >= 400:
        return Outcome.HTTP_4XX
    return Outcome.OK


def of_connect_error(exc: BaseException) -> Outcome:
    """Class of a connection that could not be opened."""
    if isinstance(exc, socket.gaierror):
        return Outcome.DNS
    if isinstance(exc, ConnectionRefusedError):
        return Outcome.REFUSED
    if isinstance(exc, TimeoutError):
        return Outcome.TIMED_OUT
    if isinstance(exc, ConnectionResetError | BrokenPipeError | ConnectionAbortedError):
        return Outcome.RESET
    if isinstance(exc, ssl.SSLEOFError):
        return Outcome.CUT
    if isinstance(exc, ssl.SSLError):
        return Outcome.BAD_ANSWER
    if isinstance(exc, OSError) and exc.errno in _OWN_FAULT:
        return Outcome.NOT_SENT
    return Outcome.UNREACHABLE


def of_loss(*, reused: bool, answer_begun: bool, error: BaseException | None) -> Outcome:
    """Class of a connection that ended before its answer was complete.

    Only a reused connection that ends before the first byte is ``closed_idle``: that is where a
    client may have lost a race with an idle timeout, and where browsers repeat a GET.
    """
    if reused and not answer_begun:
        return Outcome.CLOSED_IDLE
    return Outcome.CUT if error is None or isinstance(error, ssl.SSLError) else Outcome.RESET
