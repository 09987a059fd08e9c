# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run is told, checked before anything is sent."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.zerodrop.rollout.plugins.module_utils._names import shown
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness.schedule import Kind

DEFAULT_DURATION = 3600.0
MAX_DURATION = 86400.0
MAX_RATE = 10000.0

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
_HOST_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_\-]*)(\.[A-Za-z0-9_\-]+)*\.?\Z")
_PLAIN = re.compile(r"[\x21-\x7e]+\Z")
_HEADER_VALUE = re.compile(r"[\x20-\x7e\t]*\Z")
# The witness speaks for these itself; a second value would break the framing.
_OWN_HEADERS = frozenset(
    {
        "connection",
        "content-length",
        "transfer-encoding",
        "upgrade",
        "cookie",
        "expect",
        "content-type",
    }
)


class SettingsError(ValueError):
    """A setting that cannot be used. The message is one line and names the setting."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a URL points."""

    secure: bool
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"

    @property
    def shown(self) -> str:
        """The URL for reports: its query may hold a secret, so only its presence is shown."""
        path, mark, _query = self.path.partition("?")
        return f"{'https' if self.secure else 'http'}://{self.authority}{path}{'?...' if mark else ''}"


def parse_url(url: object) -> Target:
    """Check a URL and take it apart."""
    if not isinstance(url, str) or not url:
        raise SettingsError("url: must be given, for example http://shop.example.com/")
    if not _PLAIN.match(url):
        raise SettingsError("url: has a space, a newline or another character that must be %-encoded")
    if not re.match(r"https?://", url, re.IGNORECASE):
        raise SettingsError(f"url: must start with http:// or https://, got {shown(url)}")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:  # its words may repeat a part of a password
        raise SettingsError(f"url: its host or its port is none, got {shown(url)}") from None
    if "@" in parts.netloc:
        raise SettingsError("url: must not hold a user or password; use the setting headers instead")
    if parts.fragment:
        raise SettingsError("url: must not have a fragment (#...)")
    literal = "[" in parts.netloc or re.fullmatch(r"[0-9.]+", host)
    if not (_is_address(host) if literal else _HOST_NAME.match(host)):
        raise SettingsError(f"url: {_short(host)} is not a host name or an address")
    if port is not None and not 1 <= port <= 65535:
        raise SettingsError(f"url: port must be 1 to 65535, got {port}")
    secure = parts.scheme.lower() == "https"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(secure, host, port if port is not None else (443 if secure else 80), path)


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessSettings:
    """One run of the witness. Only ``url`` and ``rate`` are needed."""

    url: str
    rate: float
    """Requests per second, on a fixed schedule."""
    duration: float = DEFAULT_DURATION
    """Seconds of sending. A run that is told to stop earlier stops; one that is forgotten ends."""
    max_requests: int | None = None
    mix: Mapping[Kind, float] = field(default_factory=lambda: {Kind.KEEPALIVE: 0.8, Kind.CLOSE: 0.2})
    """Share of each kind of client; shares need not add up to 1."""
    timeout: float = 10.0
    """Seconds a request may take, over what its kind is expected to take."""
    late_after: float = 1.0
    """A good answer is late when it ends this long after its schedule, over what is expected."""
    version_header: str = "X-Version"
    host_header: str = "X-Host"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Headers added to each request, such as an authorization. Never written anywhere."""

    slow_path: str = "/slow/3"
    slow_seconds: float | None = None
    """What a slow request is expected to take; by default the number at the end of its path."""
    stream_path: str = "/stream/262144"
    stream_bytes: int | None = None
    """What a stream is expected to bring; by default the first number in its path."""
    stream_seconds: float = 1.0
    """What a stream is expected to take."""
    session_path: str = "/session"
    session_cookie: str = "SHOPSESSION"
    sessions: int = 8
    """How many users with a session there are."""
    post_path: str = "/orders"
    websocket_path: str = "/ws"
    websocket_hold: float = 1.5
    """Seconds a WebSocket is held. Long ones block a drain, so it is short by default."""
    websocket_every: float = 0.25
    max_websockets: int = 100

    keepalive_connections: int = 16
    """How many keep-alive clients there are; the one longest idle is used next."""
    max_in_flight: int = 1000
    """Requests at the same time; one that is due beyond that is counted as not sent."""
    dumb: bool = False
    """Do not look whether an idle connection was closed before using it."""
    grace: float = 5.0
    """Seconds to wait for what is under way when told to stop."""
    ca_file: str | None = None
    insecure: bool = False

    log: str | None = None
    summary: str | None = None
    status: str | None = None
    die_with_parent: int | None = None

    def __post_init__(self) -> None:
        target = parse_url(self.url)
        for name, low, high in (
            ("rate", 0.0, MAX_RATE),
            ("duration", 0.0, MAX_DURATION),
            ("timeout", 0.0, 3600.0),
            ("late_after", 0.0, 3600.0),
            ("websocket_hold", 0.0, 3600.0),
            ("websocket_every", 0.0, 3600.0),
        ):
            _number(name, getattr(self, name), above=low, most=high)
        _number("grace", self.grace, least=0.0, most=600.0)
        _number("stream_seconds", self.stream_seconds, least=0.0, most=3600.0)
        if self.slow_seconds is not None:
            _number("slow_seconds", self.slow_seconds, least=0.0, most=3600.0)
        for name, most in (
            ("sessions", 10000),
            ("max_websockets", 10000),
            ("keepalive_connections", 10000),
            ("max_in_flight", 60000),
        ):
            _whole(name, getattr(self, name), least=1, most=most)
        if self.max_requests is not None:
            _whole("max_requests", self.max_requests, least=1, most=int(MAX_RATE * MAX_DURATION))
        if self.stream_bytes is not None:
            _whole("stream_bytes", self.stream_bytes, least=0, most=1 << 40)
        if self.die_with_parent is not None:
            _whole("die_with_parent", self.die_with_parent, least=1, most=1 << 30)
        object.__setattr__(self, "mix", parse_mix(self.mix))
        for name in ("slow_path", "stream_path", "session_path", "post_path", "websocket_path"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value.startswith("/") or not _PLAIN.match(value):
                raise SettingsError(f"{name}: must be a path that starts with /, got {_short(value)}")
        for name in ("version_header", "host_header", "session_cookie"):
            value = getattr(self, name)
            if not isinstance(value, str) or not _TOKEN.match(value):
                raise SettingsError(f"{name}: must be a plain name, got {_short(value)}")
        _check_headers(self.headers)
        for name in ("dumb", "insecure"):
            if not isinstance(getattr(self, name), bool):
                raise SettingsError(f"{name}: must be true or false, got {_short(getattr(self, name))}")
        self._check_files(target)

    def _check_files(self, target: Target) -> None:
        if not target.secure and (self.ca_file is not None or self.insecure):
            name = "insecure" if self.insecure else "ca_file"
            raise SettingsError(f"{name}: is for https only, and url is http")
        if self.insecure and self.ca_file is not None:
            raise SettingsError("insecure: checks no certificate, so it cannot go with ca_file")
        if self.ca_file is not None and not _readable_file(self.ca_file):
            raise SettingsError(f"ca_file: {_short(self.ca_file)} is not a file that can be read")
        taken: dict[str, str] = {}
        for name in ("log", "summary", "status"):
            value = getattr(self, name)
            if value is None:
                continue
            if not isinstance(value, str) or not value or "\0" in value:
                raise SettingsError(f"{name}: must be the path of a file, got {_short(value)}")
            path = Path(value)
            if path.is_dir():
                raise SettingsError(f"{name}: {_short(value)} is a directory, not a file")
            if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
                raise SettingsError(f"{name}: cannot write in the directory of {_short(value)}")
            other = taken.setdefault(os.path.realpath(value), name)
            if other != name:
                raise SettingsError(f"{name}: is the same file as {other}")

    @property
    def target(self) -> Target:
        return parse_url(self.url)

    @property
    def expected_slow(self) -> float:
        if self.slow_seconds is not None:
            return self.slow_seconds
        match = re.search(r"/(\d{1,4}(?:\.\d{1,6})?)(?:\?.*)?\Z", self.slow_path)
        return float(match[1]) if match else 0.0

    @property
    def expected_stream_bytes(self) -> int | None:
        if self.stream_bytes is not None:
            return self.stream_bytes
        match = re.search(r"/(\d{1,12})(?=[/?]|\Z)", self.stream_path)
        return int(match[1]) if match else None

    def expected(self, kind: Kind) -> float:
        """Seconds a request of this kind takes when all is well and the network costs nothing."""
        if kind is Kind.SLOW:
            return self.expected_slow
        if kind is Kind.STREAM:
            return self.stream_seconds
        if kind is Kind.WEBSOCKET:
            return self.websocket_hold
        return 0.0

    @classmethod
    def from_mapping(cls, data: object) -> WitnessSettings:
        """Settings from parsed JSON or YAML."""
        if not isinstance(data, Mapping):
            raise SettingsError("settings: must be a JSON object")
        known = {item.name for item in dataclasses.fields(cls)}
        for name in data:
            if name not in known:
                raise SettingsError(f"settings: {_short(name)} is not a setting of the witness")
        for name in ("url", "rate"):
            if data.get(name) is None:
                raise SettingsError(f"{name}: must be given")
        return cls(**data)

    @classmethod
    def from_file(cls, path: str) -> WitnessSettings:
        """Settings from a JSON file."""
        return cls.from_mapping(read_json(path, "settings"))


def read_json(path: str, name: str) -> Any:
    """Parsed content of a JSON file; an error that names the setting."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not UTF-8 text"
        raise SettingsError(f"{name}: cannot read {_short(path)}: {reason}") from None
    except json.JSONDecodeError as exc:
        raise SettingsError(f"{name}: {_short(path)} is not JSON: {exc}") from None


def parse_mix(mix: object) -> dict[Kind, float]:
    """Check the shares of the kinds of client."""
    kinds = ", ".join(Kind)
    if not isinstance(mix, Mapping) or not mix:
        raise SettingsError(f"mix: must map kinds to shares; the kinds are {kinds}")
    shares: dict[Kind, float] = {}
    for name, share in mix.items():
        try:
            kind = Kind(name)
        except ValueError:
            raise SettingsError(f"mix: {_short(name)} is not a kind; the kinds are {kinds}") from None
        _number(f"mix: share of {kind}", share, above=0.0, most=1e9)
        shares[kind] = float(share)
    return shares


def _check_headers(headers: object) -> None:
    if not isinstance(headers, Mapping):
        raise SettingsError("headers: must map names to values")
    for name, value in headers.items():
        if not isinstance(name, str) or not _TOKEN.match(name):
            raise SettingsError(f"headers: {_short(name)} is not a header name")
        if name.lower() in _OWN_HEADERS:
            raise SettingsError(f"headers: {name} is set by the witness itself")
        # The value may be a secret, so the message does not repeat it.
        if not isinstance(value, str) or not _HEADER_VALUE.match(value):
            raise SettingsError(f"headers: the value of {name} must be text without newlines")


def _number(name: str, value: object, *, above: float | None = None, least: float | None = None, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise SettingsError(f"{name}: must be a number, got {_short(value)}")
    if above is not None and value <= above:
        raise SettingsError(f"{name}: must be greater than {above:g}, got {_short(value)}")
    if least is not None and value < least:
        raise SettingsError(f"{name}: must be at least {least:g}, got {_short(value)}")
    if value > most:
        raise SettingsError(f"{name}: must be at most {most:g}, got {_short(value)}")


def _whole(name: str, value: object, *, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise SettingsError(f"{name}: must be a whole number, got {_short(value)}")
    if not least <= value <= most:
        raise SettingsError(f"{name}: must be {least} to {most}, got {_short(value)}")


def _readable_file(path: object) -> bool:
    return isinstance(path, str) and os.path.isfile(path) and os.access(path, os.R_OK)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return "%" not in host  # a zone has no place in a Host header


def _short(value: object) -> str:
    """A value as one short line for a message."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
