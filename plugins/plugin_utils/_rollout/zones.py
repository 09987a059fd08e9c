# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Between two zones: the one that is done bakes under its traffic, and must be well after it."""

from __future__ import annotations

import time

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import Unhealthy
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._plan import bake_seconds
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.preflight import member_calls
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.step import Step
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.witness import too_many_failed
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import MAINTAIN, ROLLING

_LOOK = 1.0


def bake(step: Step) -> None:
    """Wait before the first batch of another zone; the rollout stops where the zone before does not stay well."""
    record, settings = step.record, step.settings
    if step.batch.back or step.check or record.stop is not None or settings.strategy not in (ROLLING, MAINTAIN):
        return  # a way back is in a hurry
    zones = {member.host: member.zone for member in record.members.values()}
    seconds = bake_seconds(record.batches, step.batch.hosts, zones, settings.zone_bake, settings.zone_pause)
    if not seconds:
        return
    since, deadline = record.now(), time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(_LOOK, left))
        step.fleet.run(step.fleet.notes())  # renews the lease, and hears whether the run is asked to stop
        too_many = too_many_failed(settings, record)
        if too_many is not None:
            record.halt("witness", too_many, [])
            return
        if record.stop_asked:
            return
    before = record.batches[record.batches.index(list(step.batch.hosts)) - 1]
    zone = zones[before[0]]
    hosts = [host for host, each in zones.items() if each == zone and record.members[host].state == "finished"]
    replies = step.remote.run(member_calls(settings, hosts), False)
    for host in hosts:
        reply = replies[host]
        if reply.ok and reply.result["healthy"]:
            continue
        reason = reply.error.message if reply.error is not None else reply.result["reason"]
        step.set_aside(
            record.members[host],
            "bake",
            Unhealthy(f"{host} did not stay well in the bake of its zone {zone}: {reason}."),
        )
    record.event("bake", hosts, since, f"the zone {zone or 'without a name'} baked for {record.now() - since:.1f} s")
