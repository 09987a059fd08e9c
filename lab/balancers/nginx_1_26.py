"""nginx 1.26, as Debian 13 ships it."""

from __future__ import annotations

from ..recipes import host, with_packages
from . import nginx_config
from .generation import Generation

GENERATION = Generation(
    name="nginx-1.26",
    recipe=with_packages("nginx-1.26", host("trixie"), nginx_config.PACKAGES, "nginx.service"),
    config_dir="/etc/nginx",
    render=nginx_config.renderer("1.26"),
    ready=nginx_config.ready,
    states=nginx_config.states,
    restore=nginx_config.restorer("1.26"),
)
