#!/usr/bin/python
# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pool_info
short_description: Show the pools of a load balancer and how busy their members are
version_added: 0.1.0
description:
  - Reads one pool of the load balancer on this host, or all of them. For each member it returns what was asked of it, what
    the balancer's health checks say of it, its weight, and what it is serving at this moment.
  - What a member is serving is summed over all processes of the balancer, those included that still serve old connections
    after a reload.
author:
  - "zerodrop.rollout contributors (@zerodrop)"
extends_documentation_fragment:
  - zerodrop.rollout._attributes
  - zerodrop.rollout._attributes.info_module
  - zerodrop.rollout._balancer
options:
  pool:
    description:
      - The pool to show, such as a C(backend) of HAProxy. An unknown one is an error.
      - All pools are shown when it is not given.
    type: str
  rights:
    description:
      - Also make sure that this user could change the pool, and fail otherwise. Nothing is changed to find out.
      - Also tell in RV(lasting) whether what is changed would outlive a reload.
    type: bool
    default: false
seealso:
  - module: zerodrop.rollout.pool_member
"""

EXAMPLES = r"""
- name: Look at the pool
  zerodrop.rollout.pool_info:
    pool: shop
  register: shop
  become: true

- name: Go on only while three members serve
  ansible.builtin.assert:
    that: shop.pools[0].members | selectattr('in_service') | length >= 3

- name: Make sure that we may change what we see
  zerodrop.rollout.pool_info:
    pool: shop
    socket: /var/lib/haproxy/admin.sock
    rights: true
  become: true
"""

RETURN = r"""
balancers:
  description: The result of each balancer, by its name in the inventory; the values below then stand in there.
  returned: when O(balancers) is given
  type: dict
capabilities:
  description: What this balancer can do.
  returned: success
  type: dict
  contains:
    version:
      description: Its version.
      type: str
      sample: 2.6.12-1+deb12u4
    runtime_changes:
      description: Whether changes need no reload.
      type: bool
    exact_in_flight:
      description: Whether RV(pools[].members[].in_flight) is exact. Without a master socket it is not.
      type: bool
    checks_health:
      description: Whether the balancer can check members by itself.
      type: bool
    max_weight:
      description: The greatest weight.
      type: int
      sample: 256
    notes:
      description: What is missing in this version and with these rights, and what that means.
      type: list
      elements: str
lasting:
  description:
    - Of each pool, why a reload or a restart of the balancer by somebody else would not leave it as it is, and what to do about
      it. Empty where it would.
  returned: when O(rights) is true
  type: dict
  sample: {shop: ""}
pool_names:
  description: The names of all pools.
  returned: success
  type: list
  elements: str
  sample: [shop, static]
pools:
  description: The pools that were asked for.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The pool's name.
      type: str
    identity:
      description: Names the process that serves now. Another value means a reload or a restart.
      type: str
      sample: "812@1767268800"
    queued:
      description: Requests that wait for any member.
      type: int
    rate:
      description: Requests in the last second, V(-1) where the balancer does not tell.
      type: int
    leaving:
      description: How many older processes of the balancer still serve.
      type: int
    members:
      description: The members, in the order of the configuration.
      type: list
      elements: dict
      contains:
        name:
          description: The member's name.
          type: str
        address:
          description: Its IP address, or V(unix).
          type: str
        port:
          description: Its port, V(0) for a UNIX socket.
          type: int
        admin:
          description: >-
            What was asked of it: V(ready), V(drain) (no new work but for clients that are tied to it) or V(out) (no new work
            at all).
          type: str
        health:
          description: >-
            What the balancer's checks say: V(up), V(down), V(starting), V(stopping), or V(unchecked) where it has no check.
          type: str
        weight:
          description: Its weight.
          type: int
        in_flight:
          description: Requests or connections it is serving now, all processes of the balancer summed.
          type: int
        queued:
          description: Requests that wait for this very member.
          type: int
        undecided:
          description: >-
            Idle clients of older processes of the balancer, after a reload, whose next request may still go to it.
          type: int
        limit:
          description: Most requests that the balancer gives it at once, V(0) where it has no limit.
          type: int
        backup:
          description: Whether it serves only when the others do not.
          type: bool
        in_service:
          description: Whether it takes new work now. Backups do not count.
          type: bool
        counters:
          description: Totals since the balancer's process started. Errors are a lower bound.
          type: dict
          sample: {errors: 0, redispatches: 0, requests: 1204, responses_5xx: 0, retries: 0}
        detail:
          description: The balancer's own words, for people. Differs between balancers.
          type: dict
          sample: {admin_bits: 0, agent: none, check_status: L7OK, status: UP, throttle: "", tracked_by: ""}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.zerodrop.rollout.plugins.module_utils._argspec import POOL_INFO
from ansible_collections.zerodrop.rollout.plugins.module_utils._module import run_module
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_operations import pool_read


def main() -> None:
    module = AnsibleModule(argument_spec=dict(POOL_INFO), supports_check_mode=True)
    run_module(module, pool_read)


if __name__ == "__main__":
    main()
