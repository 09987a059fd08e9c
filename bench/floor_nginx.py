"""What the floor does on an nginx: edit, ``nginx -t``, reload, and wait. Sent to the balancer as a program.

As safe as what it is compared with: a change holds when every worker that is not leaving is new, and a member is
drained when all older workers are gone, so that nothing they took can reach it any more.
"""

from __future__ import annotations

_COMMON = """
import json, os, re, signal, subprocess, sys, time
P = json.loads(sys.argv[1])
def text(path):
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""
def workers():
    master = text("/run/nginx.pid").strip()
    found = {}
    for pid in text("/proc/%s/task/%s/children" % (master, master)).split():
        title = text("/proc/%s/cmdline" % pid)
        if title.startswith("nginx: worker process"):
            found[pid] = "shutting down" in title
    return found
def limit(since, what):
    if time.monotonic() - since > P["limit"]:
        sys.exit(what)
def change(edit):
    old = workers()
    path = P["config"]
    before = after = text(path)
    for address in P["addresses"]:
        after = re.sub(r"(?m)^(\\s*server %s\\b[^;\\n]*?)( down)?;" % re.escape(address), edit, after)
    with open(path + ".new", "w") as file:
        file.write(after)
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".new", path)
    if subprocess.run(["/usr/sbin/nginx", "-t", "-q"]).returncode:
        sys.exit("nginx -t fails")
    os.kill(int(text("/run/nginx.pid")), signal.SIGHUP)
    since = time.monotonic()
    while True:
        now = workers()
        serving = {pid for pid, leaves in now.items() if not leaves}
        if serving and not serving & set(old):
            return old
        limit(since, "the reload did not come about")
        time.sleep(0.01)
"""

# Held out, and nothing in flight any more.
DRAIN = (
    _COMMON
    + """
old = change(r"\\1 down;")
since = time.monotonic()
while any(os.path.exists("/proc/" + pid) for pid in old):
    limit(since, "still busy")
    time.sleep(0.02)
"""
)

# Back in service, when told so: nginx has no checks that could be waited for.
RETURN = (
    _COMMON
    + """
if sys.stdin.readline() != "go\\n":
    sys.exit("not told to go on")
change(r"\\1;")
"""
)
