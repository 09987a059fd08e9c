#!/usr/bin/python
# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pool_route
short_description: Say or set which of two pools gets the traffic of a service
version_added: 0.1.0
description:
  - Blue/green on a load balancer. A service has two slots, C(blue) and C(green), each with a pool of its own. One of them is
    live. This module reads which one, or flips to the other.
  - What runs and what the disk says are read apart. Where they differ the module fails, and nothing is changed.
  - HAProxy reads a map, which is changed at run time in every process that serves, and in its file. nginx looks for a flag on
    the disk with each request, or reads an included file at a reload.
  - A flip is refused where the pool that is to be live is not there, or has no member that can serve.
  - With O(balancers), all of them prepare first, then flip in one moment, and are read back. When one fails, all return to what
    they were.
author:
  - "zerodrop.rollout contributors (@zerodrop)"
extends_documentation_fragment:
  - zerodrop.rollout._attributes
  - zerodrop.rollout._balancer
options:
  service:
    description:
      - The service's name. The balancers' ledgers, and the files of the route, are called by it.
    type: str
    required: true
  blue_pool:
    description:
      - The pool of the slot C(blue), such as a C(backend) of HAProxy or an C(upstream) of nginx.
    type: str
    required: true
  green_pool:
    description:
      - The pool of the slot C(green).
    type: str
    required: true
  slot:
    description:
      - The slot that is to be live. Without it the route is only read.
      - With O(prepare) it is the one that is live at first, V(blue) by default.
    type: str
    choices: [blue, green]
  prepare:
    description:
      - Write the files of the route where they are not there. What is live stays so. RV(lines) then says what the balancer's
        configuration needs, which is yours to add.
    type: bool
    default: false
  mode:
    description:
      - How nginx is told of a flip, for O(prepare). V(flags) needs no reload. V(reload) replaces the file that locations include,
        tests, reloads, and waits until every worker is new.
    type: str
    choices: [flags, reload]
    default: flags
  preview:
    description:
      - What sets the requests apart that reach the slot which is not live, as C(header:NAME=VALUE), C(cookie:NAME=VALUE),
        C(host:NAME) or C(port:NUMBER).
    type: str
  route_file:
    description:
      - HAProxy's map, or the file that nginx's locations include.
      - Default is V(/etc/haproxy/zerodrop/SERVICE.map) or V(/etc/nginx/zerodrop/SERVICE.route).
    type: str
  route_flags:
    description:
      - The folder for nginx's flags.
      - Default is V(/var/lib/zerodrop/nginx/routes).
    type: str
attributes:
  check_mode:
    description: Can run in check mode and return what would happen without changing anything.
    support: full
  diff_mode:
    description: Returns details on what has changed.
    support: full
seealso:
  - module: zerodrop.rollout.pool_member
"""

EXAMPLES = r"""
- name: Prepare every balancer
  zerodrop.rollout.pool_route:
    balancers: "{{ groups['lb'] }}"
    service: shop
    blue_pool: shop_blue
    green_pool: shop_green
    prepare: true
  run_once: true

- name: Flip to green
  zerodrop.rollout.pool_route:
    balancers: "{{ groups['lb'] }}"
    service: shop
    blue_pool: shop_blue
    green_pool: shop_green
    slot: green
  run_once: true
"""

RETURN = r"""
live:
  description: The slot that gets new requests. Empty where it is none of the two, or not the same in all processes.
  returned: without O(prepare)
  type: str
  sample: green
kept:
  description: The slot that a reload or a restart would bring.
  returned: without O(prepare)
  type: str
  sample: green
trouble:
  description: What does not fit together; empty where all does.
  returned: when it is only read
  type: str
before:
  description: The slot that was live before.
  returned: with O(slot)
  type: str
  sample: blue
spread_ms:
  description: How many milliseconds lay between the flips of the first and the last balancer, by their own clocks.
  returned: with O(balancers) and O(slot)
  type: float
lines:
  description: The lines that the balancer's configuration needs.
  returned: with O(prepare)
  type: list
  elements: str
balancers:
  description: The result of each balancer, by its name in the inventory.
  returned: when O(balancers) is given
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.zerodrop.rollout.plugins.module_utils._argspec import POOL_ROUTE
from ansible_collections.zerodrop.rollout.plugins.module_utils._module import run_module
from ansible_collections.zerodrop.rollout.plugins.module_utils._route_operations import pool_route


def main() -> None:
    module = AnsibleModule(argument_spec=dict(POOL_ROUTE), supports_check_mode=True)
    run_module(module, pool_route)


if __name__ == "__main__":
    main()
