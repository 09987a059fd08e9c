#!/usr/bin/python
# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: health_gate
short_description: Wait until a service is healthy, and runs the version that was meant
version_added: 0.1.0
description:
  - Asks the service for its health, from the managed host, many times a second, until the answer was good O(successes) times
    in a row and for O(seconds). Fails when that does not happen within O(timeout), and says what the last answer was.
  - An answer is good when its status, its version and its text are what is expected.
  - Every probe uses a connection of its own, no proxy, and follows no redirect; a redirect is an answer with its own status.
author:
  - "zerodrop.rollout contributors (@zerodrop)"
extends_documentation_fragment:
  - zerodrop.rollout._attributes
options:
  url:
    description:
      - Where the service tells its health, as the managed host reaches it.
    type: str
    required: true
  status:
    description:
      - The statuses of a good answer.
    type: list
    elements: int
    default: [200]
  version:
    description:
      - The version that the answer must name. Without it, any version is good.
      - With neither O(version_key) nor O(version_header) it must stand in the body or in the header C(X-Version) as a word of
        its own. V(1.0) does not stand in C(11.0.5) or C(1.0.1). A short version, such as V(2), may stand there by
        accident; use O(version_key) then.
    type: str
  version_key:
    description:
      - The answer is JSON and has the version under this key. Dots lead to keys within keys, such as V(build.version).
      - Cannot be used with O(version_header).
    type: str
  version_header:
    description:
      - The answer has the version in this header.
    type: str
  text:
    description:
      - A text that must stand in the answer's first megabyte.
    type: str
  successes:
    description:
      - So many good answers in a row are needed.
    type: int
    default: 3
  seconds:
    description:
      - The answers must have been good for at least so many seconds, without one that was not.
    type: float
    default: 0
  timeout:
    description:
      - The gate fails after so many seconds.
    type: float
    default: 30
  interval:
    description:
      - Seconds from the start of one probe to the start of the next, at least 0.01.
    type: float
    default: 0.1
  request_timeout:
    description:
      - The most seconds that one answer may take, from the connection to its last byte.
    type: float
    default: 2
  validate_certs:
    description:
      - Whether the certificate of an C(https://) URL must be valid.
    type: bool
    default: true
  headers:
    description:
      - Headers that are sent with every probe. Set C(no_log) on the task when one is a secret.
    type: dict
    default: {}
  warm_up:
    description:
      - Paths that are requested with GET once the service is healthy, such as V(["/", "/products?page=1"]), so that the first
        users do not wait for caches and compilers. Each request has a connection of its own, at the host of O(url).
      - A status of 400 or more, or no answer, fails the gate. In check mode nothing is requested.
    type: list
    elements: str
    default: []
  warm_up_port:
    description:
      - The port of the warm-up, where it is not that of O(url).
    type: int
  warm_up_count:
    description:
      - How many times each path of O(warm_up) is requested.
    type: int
    default: 1
  warm_up_concurrency:
    description:
      - How many requests of the warm-up are sent at once.
    type: int
    default: 1
  warm_up_timeout:
    description:
      - How many seconds the whole warm-up may take.
    type: float
    default: 30
attributes:
  check_mode:
    support: full
    details:
      - Nothing was upgraded in check mode, so there is nothing to wait for. One probe is sent and RV(result) is
        V(inconclusive).
  diff_mode:
    support: N/A
    details:
      - It changes nothing.
seealso:
  - module: zerodrop.rollout.release
"""

EXAMPLES = r"""
- name: Wait until the service is healthy
  zerodrop.rollout.health_gate:
    url: http://127.0.0.1:8080/health

- name: Wait until version 2.0 has been healthy for five seconds
  zerodrop.rollout.health_gate:
    url: http://127.0.0.1:8080/health
    version: "2.0"
    version_key: build.version
    seconds: 5
    timeout: 60

- name: A service that knows itself under its public name only
  zerodrop.rollout.health_gate:
    url: https://127.0.0.1:8443/health
    validate_certs: false
    status: [200, 204]
    headers:
      Host: shop.example.com
"""

RETURN = r"""
result:
  description: V(pass), or V(inconclusive) in check mode.
  type: str
  returned: success
  sample: pass
attempts:
  description: How many probes were sent.
  type: int
  returned: success
  sample: 7
waited:
  description: How many seconds the gate took.
  type: float
  returned: success
  sample: 0.631
answer:
  description: The last answer.
  type: dict
  returned: success
  contains:
    status:
      description: Its status, or null when there was none.
      type: int
    version:
      description: The version it named, as far as that is known.
      type: str
    took:
      description: How many seconds it took.
      type: float
  sample:
    status: 200
    version: "2.0"
    took: 0.0018
warm_up:
  description: How many requests the warm-up sent, how many seconds it took, and its slowest answer.
  type: dict
  returned: when O(warm_up) has paths
  sample: {requests: 20, seconds: 0.41, slowest: 0.0803}
reason:
  description: What the probe found, in words.
  type: str
  returned: in check mode
code:
  description: What kind of error it was, V(unhealthy) or V(bad_input).
  type: str
  returned: failure
hint:
  description: What to do about the error.
  type: str
  returned: failure
facts:
  description: With V(unhealthy), the values above under the same names, and in C(answer.reason) what was wrong with the last answer.
  type: dict
  returned: failure
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.zerodrop.rollout.plugins.module_utils._module import run_module
from ansible_collections.zerodrop.rollout.plugins.module_utils._warm_up import gate_and_warm_up


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "status": {"type": "list", "elements": "int", "default": [200]},
            "version": {"type": "str"},
            "version_key": {"type": "str", "no_log": False},
            "version_header": {"type": "str"},
            "text": {"type": "str"},
            "successes": {"type": "int", "default": 3},
            "seconds": {"type": "float", "default": 0},
            "timeout": {"type": "float", "default": 30},
            "interval": {"type": "float", "default": 0.1},
            "request_timeout": {"type": "float", "default": 2},
            "validate_certs": {"type": "bool", "default": True},
            "headers": {"type": "dict", "default": {}},
            "warm_up": {"type": "list", "elements": "str", "default": []},
            "warm_up_port": {"type": "int"},
            "warm_up_count": {"type": "int", "default": 1},
            "warm_up_concurrency": {"type": "int", "default": 1},
            "warm_up_timeout": {"type": "float", "default": 30},
        },
        mutually_exclusive=[("version_key", "version_header")],
        supports_check_mode=True,
    )
    run_module(module, gate_and_warm_up)


if __name__ == "__main__":
    main()
