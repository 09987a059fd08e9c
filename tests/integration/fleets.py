# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Labs behind nginx, and what is the same for all tests of them."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import lab

from .rig import COLLECTIONS, Rig, ansible_playbook

# Requests on kept connections that a reload may cost clients before 1.27.4. Four is what a calm machine shows at
# most; on a busy one a client sends late and several at once.
IDLE_A_RELOAD = 12

# keepalive_min_timeout must be longer than clients leave a connection idle before they use it again. Where the load is
# shared out to several balancers that is several seconds.
PATIENT_CLIENTS = "10s"


def keeps_idle_clients(version: str) -> bool:
    """Whether this nginx has a cure for what a reload does to idle clients (1.27.4)."""
    return tuple(map(int, version.split("."))) >= (1, 28)


def nginx_description(version: str, **more: Any) -> lab.Description:
    patient = PATIENT_CLIENTS if more.get("balancers", 1) > 1 else "2s"
    return lab.Description(
        **{
            "prefix": f"i{os.getpid()}-n{version.replace('.', '')}",
            "members": 6,
            "nginx": version,
            "keepalive_min_timeout": patient if keeps_idle_clients(version) else None,
            **more,
        }
    )


def reloads_in(rig: Rig, balancer: str) -> int:
    """How many reloads nginx itself has logged."""
    log = rig.root(balancer) / "var/log/nginx/error.log"
    return log.read_text(encoding="utf-8", errors="replace").count("signal 1 (SIGHUP) received")


def prepare_links(up: lab.Lab, *options: str) -> str:
    """Run the role on the balancers; what Ansible said."""
    program = ansible_playbook()
    assert program is not None
    done = subprocess.run(
        [
            str(program.with_name("ansible")),
            *("lb", "-i", str(up.inventory), "-m", "include_role", "-a", "name=zerodrop.rollout.nginx_links"),
            *("-e", "nginx_links_pool=shop", *options),
        ],
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS), "ANSIBLE_NOCOLOR": "true"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
