# SPDX-License-Identifier: GPL-3.0-or-later

"""The shortest configuration, with a release as an archive: what tests of a rollout begin with."""

from __future__ import annotations

from collections.abc import Mapping

LINES: Mapping[str, str] = {
    "rollout_service": "shop",
    "rollout_hosts": "shop",
    "rollout_balancers": "lb",
    "rollout_pool": "shop",
    "rollout_version": "2.0",
    "rollout_health_url": "http://127.0.0.1/health",
    "rollout_upgrade_method": "archive",
    "rollout_archive_src": "shop.tgz",
    "rollout_archive_checksum": "sha256:00",
}
