"""nginx 1.22, as Debian 12 ships it."""

from __future__ import annotations

from ..recipes import host, with_packages
from . import nginx_config
from .generation import Generation

GENERATION = Generation(
    name="nginx-1.22",
    recipe=with_packages("nginx-1.22", host("bookworm"), nginx_config.PACKAGES, "nginx.service"),
    config_dir="/etc/nginx",
    render=nginx_config.renderer("1.22"),
    ready=nginx_config.ready,
    states=nginx_config.states,
    restore=nginx_config.restorer("1.22"),
)
