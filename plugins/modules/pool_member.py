#!/usr/bin/python
# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pool_member
short_description: Drain, hold out, put back or weigh members of a load balancer's pool
version_added: 0.1.0
description:
  - Brings one or many members of a pool, on the load balancer of this host, into one state, and waits until they are in it.
  - A member is drained when nothing is in flight on it. That is measured on the balancer every few milliseconds, not slept,
    and summed over all its processes, those included that still serve old connections after a reload.
  - A member that is put back gets new work only after the balancer's own health checks have passed again.
  - Every change is read back. A reload of the balancer in the meantime is seen, and the change is made again.
  - All members are validated before the first is touched. When something goes wrong after that, the members go back to what
    they were.
author:
  - "zerodrop.rollout contributors (@zerodrop)"
extends_documentation_fragment:
  - zerodrop.rollout._attributes
  - zerodrop.rollout._attributes.changing_module
  - zerodrop.rollout._balancer
options:
  pools:
    description:
      - The pools that the members are in, outermost first, where they are in more than one. Each is a mapping with C(balancers)
        (a group or a pattern) and C(pool), and may have its own O(driver), O(socket), O(master_socket), O(lasting),
        O(nginx_config), O(nginx_binary), O(nginx_pid_file) and O(nginx_leaving_wait), as in C(rollout_pools).
      - Members are taken out of the outermost first, and put back into the innermost first. When one pool fails, what was
        changed in the others is undone.
      - Use it instead of O(pool) and O(balancers), with O(hosts) where the pools name the members differently.
    type: raw
  pool:
    description:
      - The pool, such as a C(backend) of HAProxy. Required without O(pools).
    type: str
  members:
    description:
      - The names of the members, each once. A name that the pool does not have is an error, and then nothing is changed.
      - Required without O(hosts).
    type: list
    elements: str
  hosts:
    description:
      - The members as hosts of the inventory, instead of O(members). Each is found in the pool by its name, or by its address
        (C(ansible_host)) and the variable C(rollout_member_port), or by the variable C(rollout_member), as in a rollout.
      - It takes O(balancers) or O(pools).
    type: list
    elements: str
  state:
    description:
      - V(drained) holds the members out (C(maint) in HAProxy) and waits until nothing is in flight on them. What is in
        flight goes on meanwhile. Only then is it safe to stop the service.
      - V(out) is the same without the wait.
      - V(draining) stops new work but for clients that are tied to a member, by a cookie for example (C(drain) in HAProxy),
        and does not wait. A member that is out already stays out.
      - V(ready) lets the balancer check the members afresh, still without work, waits until it sees them healthy, and then
        puts them back. A member without a check of the balancer is put back at once, so see to its health before.
      - When it is not given, only O(weight) is set.
    type: str
    choices: [drained, draining, out, ready]
  weight:
    description:
      - The weight that the members get. HAProxy takes V(0) to V(256).
      - When it is not given, the weight stays as it is.
      - It applies before new work does when O(state=ready).
    type: int
  service:
    description:
      - The service whose members these are. What each member returns to is then kept on the balancer, in C(/var/lib/zerodrop),
        from before it is taken out, and O(state=ready) puts it back to that, its weight too. A member that was out already
        before it was taken out stays out.
      - A rollout that begins meanwhile leaves these members out. While one works on the service, none is taken out.
      - Cannot be used with O(weight) when O(state=ready).
    type: str
  floor:
    description:
      - How many members of the pool must stay in service on this balancer, as a number or as a percentage of the pool, such as
        V(50%), which is rounded up. Checked against the live state immediately before
        a member is taken out. If too few would stay, nothing is changed and the module fails.
      - In service is a member that is ready, not down, not a backup and has a weight above 0.
      - There is no floor when it is not given.
    type: str
  wait_for_floor:
    description:
      - For how many seconds to wait until O(floor) allows the change.
    type: float
    default: 0
  session_grace:
    description:
      - For how many seconds clients that are tied to a member may go on using it before it is held out. They are then moved
        to another member; with V(0) this happens at once.
      - Used with O(state=drained) and O(state=out).
      - Give it some seconds where HAProxy's C(on-marked-down shutdown-sessions) is set for the members, as that ends what is
        in flight in the moment a member is held out.
    type: float
    default: 0
  drain_timeout:
    description:
      - For how many seconds to wait, from holding the members out, until nothing is in flight on them.
    type: float
    default: 60
  drain_samples:
    description:
      - How many times in a row nothing must be in flight for a member to be drained.
    type: int
    default: 3
  poll_interval:
    description:
      - Seconds between two looks at the balancer. It looks less often by itself where a look is expensive, as with thousands
        of members.
    type: float
    default: 0.02
  on_drain_timeout:
    description:
      - What to do when something is still in flight after O(drain_timeout).
      - V(fail) puts the members back to what they were and fails, and says who is busy with what.
      - V(cut) ends what is left, and returns how much that was. Idle clients of a worker that leaves after a reload go with
        that worker; where it serves something else besides, they are not waited for, and returned as C(undecided).
    type: str
    choices: [fail, cut]
    default: fail
  long_after:
    description:
      - From how many seconds on a request counts as long-lived, such as a download. WebSockets and the sessions of a TCP pool
        always do. HAProxy tells them apart; for other balancers all work is short.
    type: float
    default: 10
  long_timeout:
    description:
      - For how many seconds long-lived work may last, from holding the members out.
      - When it is not given, O(drain_timeout) and O(on_drain_timeout) hold for it too.
    type: float
  on_long_timeout:
    description:
      - What to do with long-lived work after O(long_timeout), whatever O(on_drain_timeout) says of short requests.
      - V(fail) puts the members back to what they were and fails. V(cut) ends it, and returns how much that was, by kind.
        V(wait) waits until it ends by itself.
    type: str
    choices: [fail, cut, wait]
    default: fail
  idle_timeout:
    description:
      - For how many seconds idle clients of a process that leaves after a reload may hold up the drain, from holding the
        members out. Their next request may still be sent to any member that was in service before the reload.
      - When it is not given, O(drain_timeout) and O(on_drain_timeout) hold for them too.
    type: float
  on_idle_timeout:
    description:
      - What to do with such clients after O(idle_timeout).
      - V(fail) puts the members back to what they were and fails. V(wait) waits until they leave. V(cut) ends the process that
        leaves as soon as it serves nothing else, and returns how many clients that were as the kind C(idle), once, at the first
        of the members.
    type: str
    choices: [fail, cut, wait]
    default: fail
  busy_sockets:
    description:
      - What to do with busy connections from a balancer's host that the members themselves still have when their pools have
        nothing in flight any more, such as those of another pool or another program there. Connections that a balancer says
        it keeps idle do not count.
      - V(wait) waits until they are gone, for O(drain_timeout) at most; then O(on_drain_timeout) says whether the members are put
        back to what they were and the module fails, or only says them. V(note) says them. V(ignore) does not ask the members.
      - Used with O(hosts) and O(state=drained), as the members' hosts are asked.
    type: str
    choices: [wait, note, ignore]
    default: ignore
  health_timeout:
    description:
      - For how many seconds to wait with O(state=ready) until the balancer sees the members healthy. Those that it does not
        are held out again, and the module fails.
    type: float
    default: 60
  health:
    description:
      - What a balancer asks of the members itself before O(state=ready), from its own host, at the address and the port that it
        has for each. The options of M(zerodrop.rollout.health_gate), of which C(url) gives the path and the C(Host).
      - Without it a balancer that checks no member, as nginx, puts back what it does not reach.
    type: dict
  health_from_balancer:
    description:
      - With V(auto) only members that the balancer does not check by itself are asked for O(health), with V(always) all, and with
        V(never) none.
    type: str
    choices: [auto, always, never]
    default: auto
notes:
  - Members that were out before are not touched by O(state=drained). RV(before) says what they were, so that putting back can
    leave them out.
  - Where a member has an agent check, it is switched off when the member is taken out, as its word could put the member
    back, and switched on again when the member is put back.
  - A reload of HAProxy forgets what was set at run time. It is seen and mended while this module runs, not after.
  - A worker of HAProxy that leaves after a reload takes no more commands. Idle clients that it keeps, as it does with
    C(option idle-close-on-response), may still be sent to any member that was in service before the reload. So a member is
    drained only when such clients are gone, which C(timeout http-keep-alive) limits.
  - Holding a member out with a weight of 0 is not the same, as clients that are tied to it still reach it.
seealso:
  - module: zerodrop.rollout.pool_info
"""

EXAMPLES = r"""
- name: Take two members out, and wait until they serve nothing
  zerodrop.rollout.pool_member:
    pool: shop
    members: [web1, web2]
    state: drained
    floor: 3
  become: true

- name: Put them back when HAProxy sees them healthy
  zerodrop.rollout.pool_member:
    pool: shop
    members: [web1, web2]
    state: ready
    health_timeout: 30
  become: true

- name: Take a member out of every balancer of the fleet, in one step
  zerodrop.rollout.pool_member:
    balancers: "{{ groups['lb'] }}"
    pool: shop
    members: [web1]
    state: drained
  run_once: true

- name: Take the hosts of a batch out of HAProxy, and then out of the nginx behind it
  zerodrop.rollout.pool_member:
    pools:
      - {balancers: edge, pool: shop}
      - {balancers: lb, pool: shop, driver: nginx}
    hosts: "{{ ansible_play_batch }}"
    state: drained
  run_once: true

- name: Let sessions end for five minutes, and then cut what is left after another minute
  zerodrop.rollout.pool_member:
    pool: shop
    members: [web1]
    state: drained
    session_grace: 300
    drain_timeout: 60
    on_drain_timeout: cut
  become: true

- name: Give one member less work
  zerodrop.rollout.pool_member:
    pool: shop
    members: [web1]
    weight: 10
  become: true
"""

RETURN = r"""
balancers:
  description: The result of each balancer, by its name in the inventory; the values below then stand in there.
  returned: when O(balancers) is given
  type: dict
undone:
  description: For each balancer on which a change had to be undone, whether that went well.
  returned: when O(balancers) is given and one of them failed
  type: dict
pool:
  description: The pool.
  returned: success
  type: str
  sample: shop
before:
  description: What was set for each member before.
  returned: success
  type: dict
  sample: {web1: {admin: ready, weight: 100}}
after:
  description: What is set for each member now, or would be in check mode.
  returned: success
  type: dict
  sample: {web1: {admin: out, weight: 100}}
identity_before:
  description: Names the process of the balancer that served when the module began.
  returned: when O(state) is given
  type: str
  sample: "812@1767268800"
identity:
  description: Names the process of the balancer that serves now.
  returned: when O(state) is given
  type: str
  sample: "812@1767268800"
reloads_seen:
  description: How many reloads of the balancer happened meanwhile, after each of which the change was made again.
  returned: when O(state) is given
  type: int
  sample: 0
members:
  description:
    - For each member that was taken out, C(in_flight_at_start), C(waited) (seconds until it served nothing), C(cut) (how
      much was ended at a limit), C(cut_kinds) (the same by kind, C(request), C(long_request), C(websocket), C(tcp), or
      C(idle) for clients of a leaving process, or C(unknown) where the balancer cannot tell) and C(undecided) (idle clients
      of older workers that were not waited for).
    - After a O(session_grace), C(tied) with the C(requests) that clients tied to the member sent meanwhile, and those of its
      last second (C(at_end)), where the balancer counts them.
    - For each member that was put back, C(health), C(checked) (whether the balancer has a check of its own) and C(waited).
  returned: when O(state) is given
  type: dict
  sample: {web1: {cut: 0, cut_kinds: {}, in_flight_at_start: 4, undecided: 0, waited: 0.041}}
busy_sockets:
  description: By host and balancer, connections that were still busy on a member when it was let go.
  returned: with O(busy_sockets=wait) and O(busy_sockets=note)
  type: dict
  sample: {web1: {lb1: 1}}
notes:
  description: Who has a connection to a member without any balancer, in words.
  returned: with O(busy_sockets=wait) and O(busy_sockets=note)
  type: list
  elements: str
  sample: []
return_to:
  description: What the members return to, or have returned to.
  returned: when O(service) is given
  type: dict
  sample: {web1: {admin: ready, weight: 100}}
cut_work:
  description: The first 50 pieces of work that were ended at a limit, each with its member, client, age and kind.
  returned: when members are taken out
  type: list
  elements: dict
  sample: []
capacity:
  description: How many members of the pool were in service before, and how many without those that were taken out.
  returned: when members are taken out
  type: dict
  sample: {after: 5, before: 6}
code:
  description: >-
    The kind of the error, for a playbook to tell them apart: V(bad_input), V(unreachable), V(permission_denied),
    V(unknown_pool), V(unknown_member), V(refused), V(bad_reply), V(changed_by_other), V(timed_out), V(floor), V(unhealthy)
    or V(invalid_configuration).
  returned: failure
  type: str
hint:
  description: What to do about it.
  returned: failure
  type: str
facts:
  description: >-
    What is known about it. After V(timed_out), C(busy) and C(work) say who is busy with what; C(undone) says whether the
    members are back in the state they had.
  returned: failure
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.zerodrop.rollout.plugins.module_utils._argspec import POOL_MEMBER
from ansible_collections.zerodrop.rollout.plugins.module_utils._module import run_module
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool_operations import pool_member


def main() -> None:
    module = AnsibleModule(argument_spec=dict(POOL_MEMBER), supports_check_mode=True)
    run_module(module, pool_member)


if __name__ == "__main__":
    main()
