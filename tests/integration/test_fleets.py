# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rollouts in a row behind every kind of fleet; ``make fleets`` runs them, since they take a quarter of an hour."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import lab

from .conftest import PATIENT
from .fleets import IDLE_A_RELOAD, PATIENT_CLIENTS, nginx_description, prepare_links, reloads_in
from .rig import ROOT, Rig

ROLLOUTS = int(os.environ.get("ZERODROP_ROLLOUTS", "10"))
KINDS = ("haproxy", "nginx")  # outermost first
RESULTS = ROOT / ".build" / "fleets"

pytestmark = [
    pytest.mark.lab,
    pytest.mark.slow,
    pytest.mark.timeout(180 + 90 * ROLLOUTS),
    pytest.mark.skipif(not os.environ.get("ZERODROP_FLEETS"), reason="make fleets runs these"),
]


@dataclass(frozen=True)
class Kind:
    """One kind of fleet, and the settings it needs beside the seven lines."""

    description: lab.Description
    settings: Mapping[str, Any] = field(default_factory=dict)
    idle_a_reload: int = 0  # closed kept connections that each reload may cost
    links: bool = False


def _haproxy(balancers: int, version: str = "2.6") -> Kind:
    prefix = f"f{os.getpid()}-h{balancers}"
    return Kind(
        lab.Description(prefix=prefix, members=6, balancers=balancers, haproxy=version, pool_lines=PATIENT),
    )


def _nginx(version: str, balancers: int = 1, joined: bool = False) -> Kind:
    description = nginx_description(version, balancers=balancers)
    idle = 0 if description.keepalive_min_timeout else IDLE_A_RELOAD
    return Kind(description, {"rollout_join_batches": joined}, idle)


def _links(version: str, balancers: int = 1) -> Kind:
    """Without reloads; connections to members are kept, as newer versions do by themselves."""
    description = nginx_description(version, balancers=balancers, nginx_links=True, upstream_keepalive=8)
    return Kind(description, {"rollout_nginx_mode": "links"}, links=True)


def _mixed(*generations: str) -> Kind:
    """Members behind balancers of two kinds: drained on HAProxy first, and put back on nginx first."""
    names = {kind: [f"lb{i}" for i, each in enumerate(generations, 1) if each.startswith(kind)] for kind in KINDS}
    layers = [{"balancers": ":".join(names[kind]), "pool": "shop", "driver": kind} for kind in KINDS]
    description = lab.Description(
        prefix=f"f{os.getpid()}-m{len(generations)}",
        members=6,
        balancers=len(generations),
        mixed=generations,
        check_timeout_s=5,  # the lines of PATIENT are HAProxy's, and these balancers are not all of one kind
        keepalive_min_timeout=PATIENT_CLIENTS,
    )
    return Kind(description, {"rollout_pools": layers, "rollout_pool": None, "rollout_balancers": None})


FLEETS = {
    "haproxy, 1 balancer": _haproxy(1),
    "haproxy, 2 balancers": _haproxy(2),
    "haproxy, 4 balancers": _haproxy(4),
    "nginx 1.22 by links": _links("1.22"),
    "nginx 1.22 by links, 2 balancers": _links("1.22", 2),
    "nginx 1.22 by links, 4 balancers": _links("1.22", 4),
    "nginx 1.30 by links": _links("1.30"),
    "nginx 1.22": _nginx("1.22"),
    "nginx 1.22, joined batches": _nginx("1.22", joined=True),
    "nginx 1.22, 2 balancers": _nginx("1.22", 2),
    "nginx 1.26": _nginx("1.26"),
    "nginx 1.30": _nginx("1.30"),
    "nginx 1.30, 2 balancers": _nginx("1.30", 2),
    "nginx 1.30, 4 balancers": _nginx("1.30", 4),
    "haproxy before nginx": _mixed("haproxy-2.6", "nginx-1.30"),
    "2 haproxy before 2 nginx": _mixed("haproxy-2.6", "haproxy-2.6", "nginx-1.30", "nginx-1.30"),
}


@pytest.mark.parametrize("kind", FLEETS.values(), ids=FLEETS.keys())
def test_rollouts_in_a_row(
    kind: Kind, request: pytest.FixtureRequest, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with lab.running(kind.description, tmp_path_factory.mktemp("lab") / "fleet") as up:
        rig = Rig(up, tmp_path)
        if kind.links:
            prepare_links(up)
        nginx = [host.name for host in up.balancers if up.generation(host).name.startswith("nginx")]
        before = sum(reloads_in(rig, name) for name in nginx)
        seconds = []
        with rig.watch() as watch, rig.load(rate=300) as load:
            for number in range(ROLLOUTS):
                version = f"{2 + number % 2}.{number}"
                run = rig.rollout(rig.archive(version), kind.settings, rollout_batches=[2])
                assert run.rc == 0, str(run)
                assert rig.current() == rig.all_on(version)
                assert rig.in_service() == set(rig.hosts)
                seconds.append(run.seconds)
        reloads = sum(reloads_in(rig, name) for name in nginx) - before
        assert load.posts is not None
        _write(
            request.node.callspec.id,
            {
                "rollouts": ROLLOUTS,
                "seconds": [round(each, 1) for each in seconds],
                "requests": load.total("requests_total"),
                "failed": load.total("failed"),
                "closed_idle": load.total("closed_idle"),
                "reloads": reloads,
                "posts": load.posts.sent,
                "posts_twice": len(load.posts.executed_twice),
                "least_in_service": watch.least,
            },
        )
        load.assert_nothing_lost(at_least=200 * ROLLOUTS, closed_idle=kind.idle_a_reload * reloads)
        assert not load.posts.executed_twice
        assert watch.least >= 4


def _write(name: str, figures: Mapping[str, Any]) -> None:
    """What was measured, for people."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(figures) + "\n", encoding="utf-8")
