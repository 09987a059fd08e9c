#!/usr/bin/python
# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: phase
short_description: Run one phase of a rollout for the whole fleet
version_added: 0.1.0
description:
  - The steps that the playbooks of this collection consist of. Each runs on the controller, for the coordinator of a batch,
    and reaches every balancer or every member of the batch at once.
  - It is documented so that a playbook of your own can put tasks between the phases; the shipped playbooks are the example.
    To drain, gate or install outside a rollout use M(zerodrop.rollout.pool_member), M(zerodrop.rollout.health_gate) and
    M(zerodrop.rollout.release).
  - All settings are C(rollout_*) variables; the role P(zerodrop.rollout.rollout#role) documents them.
author:
  - "zerodrop.rollout contributors (@zerodrop)"
options:
  name:
    description:
      - Which phase.
      - V(roll_out) looks at every balancer and member and plans the batches. With a ready method it then brings the release
        to the members and runs every batch, and the way back if it stops. With tasks of the user's own it changes nothing, and
        the phases that follow are for one batch each, with those tasks between them.
      - V(plan) looks at the same, changes nothing, and says what would be done.
      - V(judge) judges a canary before the next batch begins, for as long as that takes.
      - V(drain) takes the batch out of every balancer and waits until nothing is in flight.
      - V(upgraded) sees what the user's own tasks left.
      - V(gate) waits until the batch is healthy on its own hosts and for every balancer.
      - V(put_back) gives the batch new work, as before, and looks at it under traffic.
      - V(preview) says whether tasks of the user's are to look at the idle slot now; of blue/green only.
      - V(flip) has the idle slot previewed, flips to it, and looks at it under traffic; of blue/green only.
      - V(decide_back) plans the way back of a rollout that stopped.
      - V(report) ends the rollout with one sentence, C(report.json) and artifacts.
      - V(status) looks at hosts, service, balancers and ledgers and says how they stand.
      - V(stop) asks the run that works on the service to end after the batch in hand.
    type: str
    required: true
    choices: [roll_out, plan, judge, drain, upgraded, gate, put_back, preview, flip, decide_back, report, status, stop]
  strategy:
    description:
      - How the fleet is walked through, for O(name=roll_out); the phases that follow know it.
      - V(rolling) brings every member to C(rollout_version).
      - V(maintain) runs C(rollout_tasks) on every member and leaves each on the version that it has.
      - V(rollback) brings every member back to the release before, or to C(rollout_rollback_to).
      - V(recover) puts right what a run that died left behind.
      - V(canary) brings C(rollout_version) to a part of the members first, and judges it there.
      - V(promote) goes on with a canary.
      - V(blue_green) brings the slot that is not live to C(rollout_version), and the traffic to it.
      - V(contract) is the second half of a data migration, as a run of its own.
      - V(flip_back) is V(rollback), V(recover_slots) is V(recover), and V(contract_slots) is V(contract), of a service with slots.
    type: str
    choices: [rolling, maintain, rollback, recover, contract, blue_green, flip_back, recover_slots, contract_slots, canary, promote]
    default: rolling
attributes:
  check_mode:
    description: Can run in check mode and return what would happen without changing anything.
    support: full
  diff_mode:
    description: Returns details on what has changed.
    support: none
notes:
  - Runs on the controller only; the host of the task is not contacted.
"""

EXAMPLES = r"""
- name: Drain the batch
  zerodrop.rollout.phase:
    name: drain
  register: drained
  run_once: true
"""

RETURN = r"""
msg:
  description: What the phase did, in a sentence or a few lines.
  type: raw
  returned: always
  sample: web1, web2 drained in 0.12 s
plan:
  description: The path of the rollout's record, the upgrade method and the batches as rows for M(ansible.builtin.add_host).
  type: dict
  returned: for O(name=roll_out) and O(name=decide_back); for O(name=plan) the plan as data
  sample: {path: rollout-reports/20261123T090000Z-a1b2c3/record.json, method: archive, batches: 3, hosts: [], serial: [1]}
members:
  description: The members of the batch that are drained and ready to be upgraded.
  type: list
  elements: str
  returned: for the phases of a batch
  sample: [web1, web2]
hash:
  description: The hash of the plan, for C(rollout_plan_hash).
  type: str
  returned: for O(name=plan)
stopped:
  description: Whether the rollout has stopped, so that batches which have not begun must not.
  type: bool
  returned: for the phases of a batch
outcome:
  description: How the rollout ended.
  type: str
  returned: for O(name=report)
  sample: succeeded
report:
  description: The path of C(report.json).
  type: str
  returned: for O(name=report)
status:
  description: How the service stands; C(attention) says whether anything does not fit together, and C(drift) what.
  type: dict
  returned: for O(name=status)
"""

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {
                "type": "str",
                "required": True,
                "choices": [
                    "roll_out",
                    "plan",
                    "judge",
                    "drain",
                    "upgraded",
                    "gate",
                    "put_back",
                    "preview",
                    "flip",
                    "decide_back",
                    "report",
                    "status",
                    "stop",
                ],
            },
            "strategy": {
                "type": "str",
                "choices": [
                    "rolling",
                    "maintain",
                    "rollback",
                    "recover",
                    "contract",
                    "blue_green",
                    "flip_back",
                    "recover_slots",
                    "contract_slots",
                    "canary",
                    "promote",
                ],
                "default": "rolling",
            },
        },
        supports_check_mode=True,
    )
    module.fail_json(msg="This module runs on the controller, as an action; it cannot run on a host.")


if __name__ == "__main__":
    main()
