"""HAProxy 3.0, as Debian 13 ships it."""

from __future__ import annotations

from ..recipes import host, with_packages
from . import haproxy_config, haproxy_socket
from .generation import Generation

GENERATION = Generation(
    name="haproxy-3.0",
    recipe=with_packages("haproxy-3.0", host("trixie"), ("haproxy",), "haproxy.service"),
    config_dir="/etc/haproxy",
    render=haproxy_config.render,
    ready=haproxy_socket.ready,
    states=haproxy_socket.states,
    restore=haproxy_socket.restore,
)
