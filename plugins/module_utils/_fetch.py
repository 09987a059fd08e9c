# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Fetches an artefact over HTTP into a file, within limits of time and size."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
import urllib.error
import urllib.request
from typing import IO, Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadArtefact, Unreachable
from ansible_collections.zerodrop.rollout.plugins.module_utils._http import (
    Left,
    LimitedSocket,
    address,
    left_until,
    tls_context,
)

_CHUNK = 256 * 1024


def fetch(url: str, into: IO[bytes], timeout: float, max_bytes: int, validate_certs: bool) -> None:
    """Writes what the URL answers; raises ``Unreachable`` or ``BadArtefact``.

    Proxies from the environment are used and redirects followed: what comes is
    checked by its checksum, wherever it comes from.
    """
    where = address(url, "the source")
    scheme = "https" if where.secure else "http"
    request = urllib.request.Request(
        f"{scheme}://{where.headers['Host']}{where.path}", headers={"User-Agent": "zerodrop-release"}
    )
    if "Authorization" in where.headers:
        # Not sent to where a redirect leads.
        request.add_unredirected_header("Authorization", where.headers["Authorization"])
    left = left_until(time.monotonic() + timeout, time.monotonic)
    opener = urllib.request.build_opener(_Http(left), _Https(left, tls_context(validate_certs)), _OnlyHttp)
    try:
        with opener.open(request, timeout=timeout) as answer:
            _copy(answer, into, max_bytes, where.shown)
    except urllib.error.HTTPError as error:
        error.close()
        raise BadArtefact(
            f"{where.shown} answers with status {error.code}.",
            "Is the version published, and may this host read it?",
        ) from error
    except socket.timeout as error:
        raise _too_slow(where.shown, timeout) from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, socket.timeout):
            raise _too_slow(where.shown, timeout) from error
        raise Unreachable(f"{where.shown} cannot be fetched: {error.reason}.") from error
    except (http.client.HTTPException, ConnectionError, ssl.SSLError) as error:
        raise Unreachable(f"{where.shown} cannot be fetched: {str(error) or type(error).__name__}.") from error


def _copy(answer: http.client.HTTPResponse, into: IO[bytes], max_bytes: int, shown: str) -> None:
    size = 0
    while True:
        part = answer.read1(_CHUNK)
        if not part:
            break
        size += len(part)
        if size > max_bytes:
            raise BadArtefact(f"{shown} has more than {max_bytes} bytes.", "Raise max_bytes if that is meant.")
        into.write(part)
    if answer.length:
        raise Unreachable(f"{shown} was cut off: {answer.length} bytes are missing.", "Run it again.")


def _too_slow(shown: str, timeout: float) -> Unreachable:
    return Unreachable(f"{shown} was not fetched within {timeout:g} s.", "Raise the timeout if the network is slow.")


class _OnlyHttp(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if not newurl.startswith(("http://", "https://")):
            fp.close()
            raise urllib.error.URLError(f"it leads to {newurl.split(':')[0]!r}, which is not HTTP")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Http(urllib.request.HTTPHandler):
    def __init__(self, left: Left) -> None:
        super().__init__()
        self._left = left

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        left = self._left

        class Connection(http.client.HTTPConnection):
            def connect(self) -> None:
                self.timeout = left()
                super().connect()
                self.sock = LimitedSocket(self.sock, left)

        return self.do_open(Connection, req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, left: Left, context: ssl.SSLContext) -> None:
        super().__init__(context=context)
        self._left = left
        self._tls = context

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        left = self._left

        class Connection(http.client.HTTPSConnection):
            def connect(self) -> None:
                self.timeout = left()
                super().connect()
                self.sock = LimitedSocket(self.sock, left)

        return self.do_open(Connection, req, context=self._tls)
