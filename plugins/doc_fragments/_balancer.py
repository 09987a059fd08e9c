# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this doc fragment is **PRIVATE** to the collection. It can have breaking changes at any time.

from __future__ import annotations


class ModuleDocFragment:
    # How to reach the balancer; mirrors module_utils/_argspec.py.
    DOCUMENTATION = r"""
options:
  balancers:
    description:
      - The balancers of a fleet, as hosts of the inventory. All are then reached at once, in one step, from the controller;
        which host the task itself runs for does not matter, so give it O(ignore:run_once=true) or run it for C(localhost).
      - When one of them refuses or cannot be reached, what was changed on the others is undone, and the task fails.
      - RV(ignore:balancers) in the result then has the result of each by its name.
      - When it is not given, the module works on the balancer of the task's own host.
    type: list
    elements: str
  driver:
    description:
      - The kind of balancer that runs on this host.
    type: str
    choices: [haproxy, nginx, apache]
    default: haproxy
  socket:
    description:
      - The path of HAProxy's runtime socket. The socket needs C(level admin) for every change, and the user of the task
        (see C(become)) needs the right to open it.
      - Only UNIX sockets are used. HAProxy's runtime interface is never encrypted over TCP, whatever its configuration says.
      - Default is V(/run/haproxy/admin.sock).
    type: str
  master_socket:
    description:
      - The path of HAProxy's master socket (C(haproxy -W -S PATH)). Through it the workers that still serve old
        connections after a reload are seen.
      - When it is not given, V(/run/haproxy-master.sock) is used if it is there and may be opened.
      - When it is given, it must answer. An empty text switches it off.
      - Without it only the current worker is looked at. What older workers still serve is then not counted, and
        a change made in the very moment of a reload may be missed.
    type: str
  lasting:
    description:
      - Whether a change must outlive a reload and a restart of HAProxy. Its state file is kept in step where its configuration
        reads one (C(server-state-file) with C(load-server-state-from-file)). Where it does not, C(disabled) is written on the line
        of a server that is held out, with a comment that names this collection, and taken away when the server comes back. Nothing
        else of the file changes, C(haproxy -c) must take it, and nothing is reloaded.
      - V(require) refuses a change that cannot be made to last, as with C(server-template) or a file that may not be written.
      - V(accept) makes it last where that is possible, and goes on where it is not.
      - V(never) writes no file. A reload then brings back what was held out.
      - Changes of nginx last in any case. Weights outlive a reload of HAProxy only with a state file.
    type: str
    choices: [require, accept, never]
    default: accept
  manager_url:
    description:
      - The address of Apache's balancer manager, as it is reached on the balancer itself.
    type: str
  nginx_mode:
    description:
      - How nginx is told of a change. V(reload) edits the C(upstream) and reloads; V(links) turns links on the disk that
        nginx reads for each request, in a pool that M(zerodrop.rollout.nginx_links) has prepared.
      - V(auto) takes V(links) where the pool is prepared, and V(reload) elsewhere.
    type: str
    choices: [auto, reload, links]
    default: auto
  nginx_config:
    description:
      - The main file of nginx's configuration, as nginx is started with. Servers are changed where they stand, in this
        file or in one that it includes, and nothing else in it is.
      - Default is V(/etc/nginx/nginx.conf).
    type: str
  nginx_binary:
    description:
      - The nginx program that runs with this configuration. It tests every change before and after it is written.
      - Default is V(/usr/sbin/nginx).
    type: str
  nginx_pid_file:
    description:
      - The file with the process number of nginx's master.
      - When it is not given, it is the one that the configuration names, or else the one that is built into nginx.
    type: str
  nginx_leaving_wait:
    description:
      - How many seconds at most to wait for the end of nginx's older workers where it cannot be seen what they still have to do.
        That is so with HTTP/2, HTTP/3, UNIX sockets to listen on, C(auth_request), C(mirror), gRPC and scripts.
      - After that, a member without any open connection counts as drained if nginx may try another server
        (C(proxy_next_upstream)), and if C(keepalive_min_timeout) is not set.
      - Set it to longer than the longest upload takes.
    type: float
    default: 30
requirements:
  - HAProxy 2.6 or newer, or nginx 1.22 or newer, on the host of the task
notes:
  - Runs on the balancer itself and speaks to its sockets directly; C(socat) or C(nc) are not needed.
  - With nginx a member is called by its address, as in C(server 10.0.0.1:8080;). Where the pool is not prepared for
    links every change is a reload, and counts only when all workers that are not leaving are new.
"""
