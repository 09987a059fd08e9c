#!/usr/bin/python
# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: verdict
short_description: Judge a canary against its baseline, as often as you like, with a guarantee
version_added: 0.1.0
description:
  - Takes what the members did from poll to poll and says whether the canary is to be promoted or rolled back, or that this
    cannot be told yet.
  - At most O(false_alarm) of good releases are rolled back by chance, and at most O(missed_regression) of releases that are
    O(unacceptable) times worse are promoted early, however often it is asked. C(docs/verdict.md) says what that rests on and
    what it cannot see.
  - Nothing is kept between two calls. The same polls give the same verdict.
author:
  - "zerodrop.rollout contributors (@zerodrop)"
options:
  polls:
    description:
      - What happened since the canary's members have the new version, oldest first. Counts are those since the poll before.
      - Each poll has C(at), the time when it was taken in seconds from any moment, later than that of the poll before; and
        C(members). C(skip) says why a poll must not count, such as a reload of a balancer or a change of weights; C(partial)
        what a poll has not seen, such as a balancer that did not answer. Neither may be the latest when a canary is promoted.
      - Each member has C(name), C(arm) (V(canary) with the new version, V(baseline) with the old one), C(requests) and C(errors),
        how many of these failed.
      - A member may have C(latency), a list of counts for the buckets of a histogram of response times, fastest first;
        C(restarts), how often the service restarted by itself; and C(host_seconds), for how long it could have, which is the
        time since the poll before where it is left out. One of these stands with all members or with none.
      - Anything else is refused, and so are negative counts, and more errors than requests.
    type: list
    elements: dict
    required: true
  history:
    description:
      - Polls of the same members from before, when all had the old version; an hour at least, better twelve.
      - It says how much the hosts differ by nature. Without it, hosts are taken to be alike.
    type: list
    elements: dict
    default: []
  false_alarm:
    description: The share of releases no worse than the old one that may be rolled back by chance; between 0 and 0.5.
    type: float
    default: 0.01
  missed_regression:
    description: The share of releases O(unacceptable) times worse that may be promoted early; between 0 and 0.5.
    type: float
    default: 0.05
  unacceptable:
    description: The increase that must be ruled out before a promotion.
    type: float
    default: 2.0
  tolerate:
    description:
      - Increases up to this are never a reason to roll back.
      - A number for all metrics, or a dictionary with C(errors) and C(latency).
    type: raw
    default: {errors: 1.0, latency: 1.1}
  min_increase:
    description: A smaller measured increase never rolls back.
    type: float
    default: 1.2
  warmup:
    description: Seconds after the canary's first request that do not count.
    type: float
    default: 60
  interval:
    description: Seconds from poll to poll; used for the first one only, which has none before it.
    type: float
    default: 10
  burst:
    description: The loudest stretch of this many seconds is ignored; a blip is no verdict.
    type: float
    default: 60
  min_requests:
    description: Requests of the canary before it can be promoted.
    type: int
    default: 200
  min_duration:
    description: Seconds before it can be promoted.
    type: float
    default: 300
  max_duration:
    description: Seconds after which the verdict is V(inconclusive) instead of V(wait).
    type: float
    default: 1800
  weights:
    description:
      - How the metrics share the evidence, as a dictionary. One that is not measured leaves its part to the others.
    type: dict
    default: {errors: 0.5, slow: 0.3, restarts: 0.2}
  on_inconclusive:
    description: What RV(next) is to be then. V(ask) leaves it to whoever reads it.
    type: str
    choices: [ask, promote, roll_back]
    default: ask
  on_no_data:
    description: Whether missing data is waited for until O(max_duration), or inconclusive at once.
    type: str
    choices: [wait, inconclusive]
    default: wait
  guards:
    description:
      - Whether the warm-up, the members' history, the loudest stretch and the noise between hosts are taken into account. Each
        can only make a decision harder to reach.
    type: bool
    default: true
  share:
    description:
      - The percentage of the traffic that the canary is meant to get, between 0 and 100.
      - Where it gets less than half or more than one and a half times of that, there is no verdict until it is right.
    type: raw
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
- name: Judge the canary
  zerodrop.rollout.verdict:
    warmup: 0
    polls:
      - at: 10
        members:
          - {name: web1, arm: canary, requests: 300, errors: 150}
          - {name: web2, arm: baseline, requests: 2700, errors: 3}
      - at: 20
        members:
          - {name: web1, arm: canary, requests: 310, errors: 161}
          - {name: web2, arm: baseline, requests: 2650, errors: 2}
  register: judged

- name: Say it
  ansible.builtin.debug:
    msg: "{{ judged.decision }}, {{ judged.sentence }}"
"""

RETURN = r"""
decision:
  description: The verdict.
  type: str
  returned: success
  sample: roll_back
  choices: [promote, roll_back, wait, inconclusive, no_data]
next:
  description: What to do; O(on_inconclusive) where the decision is V(inconclusive), and otherwise the decision.
  type: str
  returned: success
  sample: roll_back
rule:
  description:
    - Which rule made the decision. V(circuit_breaker), V(evidence), V(max_duration), V(min_duration), V(warm-up), V(share), or
      V(data) where polls do not show all, or the arm that has no requests, V(canary) or V(baseline).
  type: str
  returned: success
  sample: evidence
sentence:
  description: The verdict for people, with the counts, the ratio and the guarantee.
  type: str
  returned: success
  sample: >-
    ROLL BACK: canary 31 of 9,800 requests failed, baseline 95 of 88,400: 2.9x (at least 1.36x, 99 %). Evidence 13,600 : 1,
    needed 126 : 1; a release that is no worse reaches that at any time with probability below 1 %.
log_evidence:
  description: The natural logarithm of the evidence after every poll, by direction, then by metric and C(combined).
  type: dict
  returned: success
  sample: {roll_back: {errors: [-0.29, 0.54], combined: [-0.29, 0.54]}, promote: {errors: [0.1, 0.2], combined: [0.1, 0.2]}}
needed:
  description: The evidence at which each decision falls, to 1.
  type: dict
  returned: success
  sample: {roll_back: 126.0, promote: 26.0}
metrics:
  description:
    - For each metric the events and requests (or host-seconds) of both arms, the C(ratio) of their rates with C(at_least) and
      C(at_most), the C(margin) up to which an increase is no reason, the C(discount) and the C(weight).
    - The bounds are given for errors, or for the metric that led to a roll back.
  type: dict
  returned: success
discount:
  description: By metric, how much more the baseline's hosts differ than by chance; the evidence is divided by it.
  type: dict
  returned: success
  sample: {errors: 1.12}
polls:
  description: How many polls counted, and how many did not, by reason.
  type: dict
  returned: success
  sample: {counted: 54, skipped: {warm-up: 6}}
seconds:
  description: How long the canary has had traffic.
  type: float
  returned: success
  sample: 600.0
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.zerodrop.rollout.plugins.module_utils._argspec import VERDICT


def main() -> None:
    module = AnsibleModule(argument_spec=dict(VERDICT), supports_check_mode=True)
    module.fail_json(msg="This module runs on the controller, as an action; it cannot run on a host.")


if __name__ == "__main__":
    main()
