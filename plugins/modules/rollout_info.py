#!/usr/bin/python
# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: rollout_info
short_description: How a service stands, as data
version_added: 0.1.0
description:
  - Asks every member, the service on it, every balancer and every ledger, and changes nothing. What cannot be read is part of
    the answer.
  - It knows what the playbook C(zerodrop.rollout.status) knows, but does not fail where something needs a look.
  - All settings are C(rollout_*) variables; the role P(zerodrop.rollout.rollout#role) documents them. Neither
    C(rollout_version) nor how a member is upgraded is needed.
author:
  - "zerodrop.rollout contributors (@zerodrop)"
options: {}
attributes:
  check_mode:
    description: Can run in check mode and return what would happen without changing anything.
    support: full
  diff_mode:
    description: Returns details on what has changed.
    support: none
notes:
  - Runs on the controller only; the host of the task is not contacted.
seealso:
  - module: zerodrop.rollout.phase
"""

EXAMPLES = r"""
- name: See how the service stands
  zerodrop.rollout.rollout_info:
  register: seen

- name: Go on only where nothing needs a look
  ansible.builtin.assert:
    that: not seen.rollout.attention
    fail_msg: "{{ seen.rollout.drift | join('; ') }}"
"""

RETURN = r"""
rollout:
  description: How the service stands.
  type: dict
  returned: success
  contains:
    service:
      description: The service.
      type: str
    versions:
      description: The versions that its members have.
      type: list
      elements: str
    runs:
      description: Whether a run works on it.
      type: bool
    lease:
      description: Whose the lease is or was, since when and for how long; null when nobody ever had it.
      type: dict
    members:
      description: For each member the release, the version that is installed and the one that answers, whether it is healthy, its phase in
        the ledger, and how each balancer sees it.
      type: dict
    drift:
      description: What does not fit together, in words.
      type: list
      elements: str
    attention:
      description: Whether anything does not.
      type: bool
    rollouts:
      description: The last runs, the latest first.
      type: list
      elements: dict
    events:
      description: The last things that people should know.
      type: list
      elements: dict
"""

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    module.fail_json(msg="This module runs on the controller, as an action; it cannot run on a host.")


if __name__ == "__main__":
    main()
