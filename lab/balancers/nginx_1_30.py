"""nginx 1.30, as the Debian in the making ships it."""

from __future__ import annotations

from ..recipes import host, with_newer, with_packages
from . import nginx_config
from .generation import Generation

GENERATION = Generation(
    name="nginx-1.30",
    recipe=with_packages(
        "nginx-1.30", with_newer(host("trixie"), "trixie", "sid"), nginx_config.PACKAGES, "nginx.service", "sid"
    ),
    config_dir="/etc/nginx",
    render=nginx_config.renderer("1.30"),
    ready=nginx_config.ready,
    states=nginx_config.states,
    restore=nginx_config.restorer("1.30"),
)
