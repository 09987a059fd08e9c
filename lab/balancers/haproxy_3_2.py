"""HAProxy 3.2, as the Debian in the making ships it."""

from __future__ import annotations

from ..recipes import host, with_newer, with_packages
from . import haproxy_config, haproxy_socket
from .generation import Generation

GENERATION = Generation(
    name="haproxy-3.2",
    recipe=with_packages(
        "haproxy-3.2", with_newer(host("trixie"), "trixie", "sid"), ("haproxy",), "haproxy.service", "sid"
    ),
    config_dir="/etc/haproxy",
    render=haproxy_config.render,
    ready=haproxy_socket.ready,
    states=haproxy_socket.states,
    restore=haproxy_socket.restore,
)
