# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""The health gate: a member counts as healthy only after it has shown it, here and now.

Probed on the member's own host with a fresh connection each time, without
proxies and without following redirects, so that the answer is the member's own.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
import time
from collections.abc import Mapping
from typing import Any, Callable, NamedTuple

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput, Unhealthy
from ansible_collections.zerodrop.rollout.plugins.module_utils._http import (
    LimitedSocket,
    address,
    connect,
    left_until,
    tls_context,
)
from ansible_collections.zerodrop.rollout.plugins.module_utils._params import flag, items, number, text, whole

_BODY_LIMIT = 1024 * 1024
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LONGEST = 86400.0
_TOKEN = "A-Za-z0-9_+~"  # with . and -, what a version is made of

Clock = Callable[[], float]


class Answer(NamedTuple):
    """What one probe found. ``reason`` is empty when healthy."""

    status: int | None
    version: str | None
    took: float
    reason: str

    @property
    def healthy(self) -> bool:
        return not self.reason

    def to_dict(self) -> dict[str, Any]:
        return {"status": self.status, "version": self.version, "took": round(self.took, 4)}


# Seconds that the probe may take -> what it found.
Probe = Callable[[float], Answer]


class Prober:
    """Sends one probe at a time and judges its answer."""

    def __init__(self, params: Mapping[str, Any], clock: Clock) -> None:
        self.address = address(params.get("url"), "the health URL")
        self._clock = clock
        # Another place to ask, as a balancer has it; at another port nothing is known but that it must take connections.
        at = items(params, "at")
        self._host, self._port = (str(at[0]), int(at[1])) if at else (self.address.host, self.address.port)
        self._only_connects = self._port != self.address.port
        self.shown = self.address.shown if not at else f"{self._host} port {self._port} ({self.address.shown})"
        self._status = tuple(
            whole({"status": each}, "status", 0, 100, 599) for each in (items(params, "status") or [200])
        )
        self._version = text(params, "version")
        also = text(params, "version_also")
        self._accepted = tuple(each for each in (self._version, also) if each is not None)
        self._key = text(params, "version_key")
        self._header = text(params, "version_header")
        self._text = text(params, "text")
        if self._key and self._header:
            raise BadInput("Only one of version_key and version_header can say where the version stands.")
        if self._header and not _HEADER_NAME.match(self._header):
            raise BadInput(f"version_header {self._header!r} is not the name of a header.")
        self._headers = {"User-Agent": "zerodrop-health", "Accept": "*/*", "Connection": "close"}
        self._headers.update(self.address.headers)
        for name, value in _headers(params).items():
            self._headers = {each: old for each, old in self._headers.items() if each.lower() != name.lower()}
            self._headers[name] = value
        validate_certs = flag(params, "validate_certs", True)
        self._tls = tls_context(validate_certs) if self.address.secure else None

    def __call__(self, limit: float) -> Answer:
        started = self._clock()
        status: int | None = None
        version: str | None = None
        reason = ""
        try:
            if self._only_connects:
                connect(self._host, self._port, left_until(started + limit, self._clock)).close()
            else:
                status, headers, body = self._ask(started + limit)
                version = self._found(headers, body)
                reason = self._judge(status, headers, body, version)
        except socket.timeout:
            reason = f"no answer within {limit:.3g} s"
        except http.client.RemoteDisconnected:
            reason = "connection closed without an answer"
        except ConnectionRefusedError:
            reason = "connection refused"
        except (ConnectionResetError, BrokenPipeError):
            reason = "connection reset"
        except http.client.IncompleteRead:
            reason = "the answer was cut off"
        except http.client.HTTPException as error:
            reason = f"the answer is not HTTP ({type(error).__name__})"
        except ssl.SSLCertVerificationError as error:
            reason = f"the certificate is not valid: {error.verify_message}"
        except ssl.SSLError as error:
            reason = f"TLS failed: {error.reason or error}"
        except socket.gaierror:
            reason = f"the name {self._host} cannot be resolved"
        except OSError as error:
            reason = error.strerror or str(error)
        return Answer(status, version, self._clock() - started, reason)

    def _ask(self, deadline: float) -> tuple[int, http.client.HTTPMessage, bytes]:
        where = self.address
        left = left_until(deadline, self._clock)
        sock = connect(self._host, self._port, left)
        connection = http.client.HTTPConnection(where.host, where.port)
        try:
            if self._tls is not None:
                sock.settimeout(left())
                sock = self._tls.wrap_socket(sock, server_hostname=where.host)
            connection.sock = LimitedSocket(sock, left)
            connection.request("GET", where.path, headers=self._headers)
            answer = connection.getresponse()
            with answer:
                return answer.status, answer.headers, _body(answer)
        finally:
            connection.close()
            sock.close()

    def _judge(self, status: int, headers: http.client.HTTPMessage, body: bytes, version: str | None) -> str:
        if status not in self._status:
            to = f" (leads to {headers['Location'][:200]!r})" if 300 <= status < 400 and headers["Location"] else ""
            return f"status {status}, not {' or '.join(map(str, self._status))}{to}"
        if self._text is not None and self._text not in body.decode("utf-8", "replace"):
            return f"the answer does not contain {self._text!r}"
        if self._version is not None and version not in self._accepted:
            if version is not None:
                return f"answers as version {version}, not {self._version}"
            where = ""
            if self._key:
                where = f" under {self._key}"
            elif self._header:
                where = f" in the header {self._header}"
            return f"the answer names no version{where}, {self._version} is expected"
        return ""

    def _found(self, headers: http.client.HTTPMessage, body: bytes) -> str | None:
        """The version that the answer names, as far as it can be known."""
        if self._key:
            return _in_json(body, self._key)
        if self._header:
            return _clean(headers[self._header])
        if self._version is None:
            return None
        named = _clean(headers["X-Version"])
        said = body.decode("utf-8", "replace")
        for each in self._accepted:
            if names_version(named or "", each) or names_version(said, each):
                return each
        return named or _in_json(body, "version")


def health_probe(params: Mapping[str, Any], check: bool, clock: Clock = time.monotonic) -> dict[str, Any]:
    """One probe. An unhealthy member is a result here, not an error.

    ``params`` are those of ``health_gate``; ``request_timeout`` limits the probe.
    ``version`` in the result is what the answer names under ``version_key`` or
    ``version_header``; without either it is only known when ``version`` was asked for.
    """
    answer = Prober(params, clock)(number(params, "request_timeout", 2, 0.001, 600))
    return {"changed": False, "healthy": answer.healthy, "reason": answer.reason, **answer.to_dict()}


def health_gate(
    params: Mapping[str, Any],
    check: bool,
    clock: Clock = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    probe: Probe | None = None,
) -> dict[str, Any]:
    """Waits until the member was healthy ``successes`` times in a row and for ``seconds``.

    ``params``: ``url``, ``at`` (host and port to connect to instead of the URL's), ``status``, ``version``, ``version_key``,
    ``version_also`` (the same version in other words), ``version_header``, ``text``, ``successes``, ``seconds``, ``timeout``,
    ``interval``, ``request_timeout``, ``validate_certs``, ``headers``.
    Changes nothing. Raises ``Unhealthy`` at the deadline. In check mode nothing
    was upgraded, so it sends one probe, tells what it found and waits for nothing.
    """
    successes = whole(params, "successes", 3, 1, 10000)
    seconds = number(params, "seconds", 0, 0, _LONGEST)
    timeout = number(params, "timeout", 30, 0.01, _LONGEST)
    interval = number(params, "interval", 0.1, 0.01, 600)
    request_timeout = number(params, "request_timeout", 2, 0.001, 600)
    if seconds >= timeout or (successes - 1) * interval >= timeout:
        raise BadInput(
            f"The health gate can never pass: {successes} successes at intervals of {interval:g} s and {seconds:g} s "
            f"of health do not fit into a timeout of {timeout:g} s.",
            "Raise the timeout, or ask for less.",
        )
    prober = Prober(params, clock)
    ask = probe or prober

    if check:
        answer = ask(request_timeout)
        return _result("inconclusive", 1, answer.took, answer, reason=answer.reason or "one probe is not enough")

    started = clock()
    deadline = started + timeout
    attempts = row = 0
    healthy_since = started
    said: Answer | None = None
    while True:
        begun = clock()
        rest = deadline - begun
        answer = ask(min(request_timeout, rest))
        now = clock()
        attempts += 1
        # A probe that our own deadline cut short tells less than the one before it.
        if said is None or answer.status is not None or answer.took < rest:
            said = answer
        if answer.healthy and now <= deadline:
            if not row:
                healthy_since = now
            row += 1
            if row >= successes and now - healthy_since >= seconds:
                return _result("pass", attempts, now - started, answer)
        else:
            row = 0
        following = max(now, begun + interval)
        if following >= deadline:
            raise _unhealthy(prober.shown, said, row, attempts, now - started, timeout)
        if following > now:
            sleep(following - now)


def _result(result: str, attempts: int, waited: float, answer: Answer, **more: Any) -> dict[str, Any]:
    return {
        "changed": False,
        "result": result,
        "attempts": attempts,
        "waited": round(waited, 3),
        "answer": answer.to_dict(),
        **more,
    }


def _unhealthy(url: str, said: Answer, row: int, attempts: int, waited: float, timeout: float) -> Unhealthy:
    if said.reason:
        why = f"last answer: {said.reason}"
    else:
        why = f"it answers well now ({row} in a row), but not for long enough"
    return Unhealthy(
        f"{url} did not become healthy within {timeout:g} s ({attempts} probes); {why}.",
        _hint(said),
        url=url,
        result="fail",
        attempts=attempts,
        waited=round(waited, 3),
        answer={**said.to_dict(), "reason": said.reason},
    )


def _hint(said: Answer) -> str:
    if not said.reason:
        return "It may be unsteady, or it starts slowly: look at its log, or raise the timeout."
    if said.reason == "connection refused":
        return "Nothing listens there: look at the service's log, and whether host and port of the URL are right."
    if said.reason.startswith("no answer"):
        return "It may hang or be overloaded: look at its log, or raise the limit for one request."
    if "version" in said.reason:
        return "Was it restarted after the upgrade, and is this the service that was upgraded?"
    return "Look at the service's log."


def names_version(where: str, version: str) -> bool:
    """Whether the text names the version as a whole word: 1.0 is not in 11.0.5 or 1.0.1."""
    if version not in where:
        return False
    # "v1.0" is version 1.0, and the full stop of "This is 1.0." ends a sentence.
    pattern = rf"(?<![{_TOKEN}.-])v?{re.escape(version)}(?![{_TOKEN}-]|\.[{_TOKEN}-])"
    return re.search(pattern, where) is not None


def _in_json(body: bytes, key: str) -> str | None:
    """The value under a dotted key, as it is written: the number 1.10 stays 1.10."""
    try:
        value = json.loads(body.decode("utf-8-sig"), parse_float=str, parse_int=str)
    except (ValueError, RecursionError):
        return None
    for part in key.split("."):
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return _clean(value) if isinstance(value, str) else None


def _clean(value: str | None) -> str | None:
    """One line of printable text that is fit for messages."""
    return _CONTROL.sub(" ", value).strip()[:200] or None if value is not None else None


def _headers(params: Mapping[str, Any]) -> dict[str, str]:
    headers = params.get("headers") or {}
    if not isinstance(headers, Mapping):
        raise BadInput("headers must be a dictionary of names and values.")
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER_NAME.match(name):
            raise BadInput(f"{name!r} is not the name of a header.")
        # The value is not shown: it may be a secret.
        if not str(value).isascii() or _CONTROL.search(str(value)):
            raise BadInput(f"The value of the header {name} has characters that a header cannot have.")
    return {name: str(value) for name, value in headers.items()}


def _body(answer: http.client.HTTPResponse) -> bytes:
    parts = []
    size = 0
    while size < _BODY_LIMIT:
        part = answer.read(_BODY_LIMIT - size)
        if not part:
            break
        parts.append(part)
        size += len(part)
    # read() with a size does not say that the peer stopped before the announced length.
    if size < _BODY_LIMIT and answer.length:
        raise http.client.IncompleteRead(b"", answer.length)
    return b"".join(parts)
