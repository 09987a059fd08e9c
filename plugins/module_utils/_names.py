# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Names and addresses that users type, checked before they are used anywhere.

What passes here is safe as one word on a runtime socket, as one path component
and as one token of a configuration file.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput

# HAProxy's own rule for names of proxies and servers (is_char_class "ident").
_BALANCER_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,255}\Z")
# nginx has no names for servers: a member is called by its address there.
_SERVER_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?|unix:(?!.*\.\./)/[A-Za-z0-9_./:@-]{1,106})\Z")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]{0,127}\Z")
_SERVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")
_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._-]{1,127}\Z")  # Debian policy 5.6.7, and what rpm's packages are called
# The grammar of image references that all engines share. A tag is a version, but for + and ~.
_IMAGE = re.compile(
    r"(?=.{3,255}\Z)(?:localhost|[a-z0-9][a-z0-9-]*(?:\.[a-z0-9-]+)+|[a-z0-9][a-z0-9.-]*:[0-9]{1,5}|\[[0-9a-f:]+\](?::[0-9]{1,5})?)(?::[0-9]{1,5})?"
    r"(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)+\Z"
)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")
_UNIT = re.compile(r"[A-Za-z0-9:_.\\@-]{1,255}\Z")


def shown(value: object) -> str:
    """A value as a message may repeat it: what stands in a URL before its host or in its query may be a secret."""
    if not isinstance(value, str):
        return repr(value)
    return repr(re.sub(r"(?s)\?.*", "?...", re.sub(r"(?s)\A([A-Za-z][A-Za-z0-9+.-]*:)?(/*).*@", r"\1\2***@", value)))


def _text(what: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise BadInput(f"{what} must be a non-empty text, got {value!r}.")
    return value


def pool_name(value: object, what: str = "the pool's name") -> str:
    """A backend's or upstream's name; raises ``BadInput``."""
    return _balancer_name(value, what)


def member_name(value: object, what: str = "the member's name") -> str:
    """A server's name in a pool, or its address where servers have no names; raises ``BadInput``."""
    if isinstance(value, str) and _SERVER_ADDRESS.match(value):
        return value
    return _balancer_name(value, what)


def _balancer_name(value: object, what: str) -> str:
    text = _text(what, value)
    if not _BALANCER_NAME.match(text):
        raise BadInput(
            f"{what} {text!r} has characters that no balancer allows in a name.",
            "Letters, digits and _ . : - are allowed.",
        )
    return text


def version(value: object, what: str = "rollout_version") -> str:
    """A release's version, usable as one path component; raises ``BadInput``."""
    text = _text(what, value)
    if not _VERSION.match(text) or ".." in text:
        raise BadInput(
            f"{what} {text!r} is not a version.",
            "It starts with a letter or digit; letters, digits and . _ + ~ - may follow, but no '..', "
            "slash, space or line break.",
        )
    return text


def service(value: object, what: str = "rollout_service") -> str:
    """A service's name, usable in file names; raises ``BadInput``."""
    text = _text(what, value)
    if not _SERVICE.match(text):
        raise BadInput(
            f"{what} {text!r} is not a name for a service.",
            "It starts with a letter or digit; letters, digits and _ . - may follow, at most 64.",
        )
    return text


def package(value: object, what: str = "the package's name") -> str:
    """The name of a package of apt or dnf; raises ``BadInput``."""
    text = _text(what, value)
    if not _PACKAGE.match(text):
        raise BadInput(
            f"{what} {text!r} is not the name of a package.",
            "It has letters, digits and + . _ -, and its version stands in rollout_version.",
        )
    return text


def image(value: object, what: str = "the image's name") -> str:
    """An image's name with its registry, without tag and digest; raises ``BadInput``."""
    text = _text(what, value)
    if not _IMAGE.match(text):
        raise BadInput(
            f"{what} {text!r} is not the name of an image with its registry.",
            "It is such as registry.example.com/shop or docker.io/library/nginx, without a tag or a digest: the tag "
            "is rollout_version, and the digest may be given in rollout_container_digest.",
        )
    return text


def image_digest(value: object, what: str = "the image's digest") -> str:
    """An image's digest; raises ``BadInput``."""
    text = _text(what, value)
    if not _DIGEST.match(text):
        raise BadInput(f"{what} {text!r} is not a digest.", "It is sha256: and 64 hexadecimal digits.")
    return text


def image_tag(value: object, what: str = "rollout_version") -> str:
    """A version that names an image's tag; raises ``BadInput``."""
    text = version(value, what)
    if not _TAG.match(text):
        raise BadInput(
            f"{what} {text!r} is not the tag of an image.",
            "Tags have no + and no ~. With rollout_container_digest any version may be the image's name.",
        )
    return text


def unit(value: object, what: str = "the unit's name") -> str:
    """A systemd unit's name; raises ``BadInput``."""
    text = _text(what, value)
    if not _UNIT.match(text) or text.startswith("-"):
        raise BadInput(f"{what} {text!r} is not the name of a systemd unit.")
    return text


def absolute_path(value: object, what: str) -> str:
    """An absolute path without ``..`` or control characters; raises ``BadInput``."""
    text = _text(what, value)
    if not text.startswith("/") or ".." in text.split("/") or re.search(r"[\x00-\x1f\x7f]", text):
        raise BadInput(f"{what} {text!r} must be an absolute path without '..'.")
    return text


def url_path(value: object, what: str) -> str:
    """The path of a URL, with or without a query; raises ``BadInput``."""
    text = _text(what, value)
    if not re.match(r"/[!-~]{0,2047}\Z", text) or "#" in text:
        raise BadInput(
            f"{what} {text!r} is not a path of a URL.",
            "It starts with /, such as /products?page=1, and has neither spaces nor # nor letters outside ASCII "
            "(write those as %XX).",
        )
    return text


def http_url(value: object, what: str) -> str:
    """An ``http://`` or ``https://`` URL with a host; raises ``BadInput``."""
    text = _text(what, value)
    if re.search(r"[\x00-\x20\x7f]", text):
        raise BadInput(f"{what} {shown(text)} has a space or a control character in it.")
    try:
        parts = urlsplit(text)
        port_is_valid = parts.port is None or 0 < parts.port < 65536
    except ValueError:
        parts, port_is_valid = urlsplit(""), False
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_valid:
        raise BadInput(
            f"{what} {shown(text)} is not a URL.",
            "It starts with http:// or https:// and names a host, such as http://127.0.0.1:8080/health.",
        )
    return text
