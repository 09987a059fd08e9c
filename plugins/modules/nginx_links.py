#!/usr/bin/python
# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: nginx_links
short_description: Prepare a pool of nginx so that members are switched without a reload
version_added: 0.1.0
description:
  - Generates two files from an C(upstream) of nginx, and a table of links on the disk that nginx reads for each request. By
    turning links, M(zerodrop.rollout.pool_member) and a rollout take members in and out without a reload.
  - One of the files stands in the C(http) block. The other is to be included in each location that passes requests to the
    pool, instead of its C(proxy_pass). That is yours to do.
  - Reloads nginx once when a file has changed, and sees that the reload came about. What cannot be finished is undone.
  - Members that are out of service stay so when this runs again. Run it again when the servers of the upstream have changed.
author:
  - "zerodrop.rollout contributors (@zerodrop)"
extends_documentation_fragment:
  - zerodrop.rollout._attributes
options:
  pool:
    description:
      - The C(upstream). Its servers have an address each, no name that leads to several, and none of them is a C(backup).
    type: str
    required: true
  key:
    description:
      - What a client is known by, as one or more of nginx's variables. Requests with the same value go to the same member while
        it is in service.
      - By default it is what the upstream has. With C(ip_hash) it is C($remote_addr), with C(hash) the key of that, and without
        either C($request_id), with which nginx's own round robin serves while all members are in service.
      - An upstream with C(least_conn) or C(sticky) is refused without a key, since no connections are counted.
    type: str
  scheme:
    description:
      - How members are spoken to.
    type: str
    choices: [http, https]
    default: http
  keepalive_timeout:
    description:
      - How long an idle connection to a member is kept, where any is. It cannot be told from one in use, so no drain is
        shorter than this.
    type: str
    default: 20ms
  http_file:
    description:
      - The file for the C(http) block, which must include it.
      - Default is V(/etc/nginx/conf.d/zerodrop-POOL.conf).
    type: str
  location_file:
    description:
      - The file to be included in locations.
      - Default is V(/etc/nginx/zerodrop/POOL.conf).
    type: str
  nginx_config:
    description:
      - The main file of nginx's configuration. Default is V(/etc/nginx/nginx.conf).
    type: str
  nginx_binary:
    description:
      - The nginx program. Default is V(/usr/sbin/nginx).
    type: str
  nginx_pid_file:
    description:
      - The file with the process number of nginx's master. By default it is the one that the configuration names.
    type: str
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details:
      - The two files. The links are too many to be shown.
requirements:
  - nginx 1.22 or newer
"""

EXAMPLES = r"""
- name: Prepare the pool shop
  zerodrop.rollout.nginx_links:
    pool: shop
"""

RETURN = r"""
files:
  description: The file for the C(http) block and the one for locations.
  returned: success
  type: list
  elements: str
  sample: [/etc/nginx/conf.d/zerodrop-shop.conf, /etc/nginx/zerodrop/shop.conf]
table:
  description: The folder of the links.
  returned: success
  type: str
  sample: /var/lib/zerodrop/nginx/shop/0f3a4c5d6e7f
members:
  description: The state and the weight of each member, by its address in the upstream.
  returned: success
  type: dict
  sample: {"10.0.0.1:8080": {"admin": "ready", "weight": 1}}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.zerodrop.rollout.plugins.module_utils._module import run_module
from ansible_collections.zerodrop.rollout.plugins.module_utils._nginx_links import nginx_links


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "pool": {"type": "str", "required": True},
            "key": {"type": "str", "no_log": False},
            "scheme": {"type": "str", "choices": ["http", "https"], "default": "http"},
            "keepalive_timeout": {"type": "str", "default": "20ms"},
            "http_file": {"type": "str"},
            "location_file": {"type": "str"},
            "nginx_config": {"type": "str"},
            "nginx_binary": {"type": "str"},
            "nginx_pid_file": {"type": "str"},
        },
        supports_check_mode=True,
    )
    run_module(module, nginx_links)


if __name__ == "__main__":
    main()
