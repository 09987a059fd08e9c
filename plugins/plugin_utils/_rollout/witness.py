# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The witness beside a rollout: started by preflight, asked by every batch, ended by the report.

It is a process of its own, since a playbook's steps come and go. It ends by
itself when the playbook does.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput, Refused
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import Record
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import Settings

_PACKAGE = "ansible_collections.zerodrop.rollout.plugins.plugin_utils._witness"
_COLLECTIONS = Path(__file__).parents[6]  # the folder that holds ansible_collections
_LONGEST_SECONDS = 6 * 3600
_ENDS_WITHIN = 20.0


def check_witness(settings: Settings) -> None:
    """Raise ``BadInput`` when a witness is wanted and cannot run here."""
    if not settings.witness_url:
        return
    lacking = [name for name in ("h11", "wsproto") if importlib.util.find_spec(name) is None]
    if lacking:
        raise BadInput(
            f"rollout_witness_url is set, but the witness needs {' and '.join(lacking)} for the Python that runs Ansible.",
            f"Install it: {sys.executable} -m pip install {' '.join(lacking)}.",
        )


def start_witness(settings: Settings, record: Record, playbook_pid: int) -> None:
    """Start it; ``playbook_pid`` is the process it must not outlive. Raises ``Refused``."""
    if not settings.witness_url:
        return
    folder = Path(record.path).parent
    summary, status = folder / "witness.json", folder / "witness-status.json"
    wanted = {
        "url": settings.witness_url,
        "rate": settings.witness_rate,
        "duration": _LONGEST_SECONDS,
        "summary": str(summary),
        "status": str(status),
        "log": str(folder / "witness.log"),
        "die_with_parent": playbook_pid,
    }
    if settings.witness_mix:
        wanted["mix"] = settings.witness_mix
    # Through a pipe, since everybody on this host may read what a process was started with, and a URL may hold a secret.
    command = [sys.executable, "-m", _PACKAGE, "--settings", "/dev/stdin", "--quiet"]
    output = folder / "witness.out"
    with output.open("wb") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(_COLLECTIONS)},
        )
        with suppress(BrokenPipeError):  # what it says before it ends is said below
            process.stdin.write(json.dumps(wanted).encode())  # type: ignore[union-attr]  # a pipe, see above
            process.stdin.close()  # type: ignore[union-attr]
    record.witness = {"pid": process.pid, "summary": str(summary), "status": str(status)}
    deadline = time.monotonic() + 10
    while not status.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise Refused(f"The witness did not start: {output.read_text(errors='replace').strip()[-500:]}")
        time.sleep(0.02)


def failed_so_far(record: Record) -> int:
    """Failed requests that the witness has counted until now; 0 where none runs."""
    try:
        status = json.loads(Path(record.witness["status"]).read_text(encoding="utf-8"))
    except (KeyError, OSError, ValueError):
        return 0
    return int(status.get("failed", 0))


def too_many_failed(settings: Settings, record: Record) -> Refused | None:
    """Why the rollout must stop by ``rollout_max_failed_requests``, if it must."""
    failed = failed_so_far(record)
    if settings.max_failed_requests is None or failed <= settings.max_failed_requests:
        return None
    return Refused(
        f"The witness has seen {failed} failed requests, and rollout_max_failed_requests is "
        f"{settings.max_failed_requests}.",
        "The witness's log beside the report names each of them.",
    )


def end_witness(record: Record) -> dict[str, Any] | None:
    """End it and return its summary; None where none ran or it left no summary."""
    pid = record.witness.get("pid")
    if not pid:
        return None
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        pass
    path = Path(record.witness["summary"])
    deadline = time.monotonic() + _ENDS_WITHIN
    while time.monotonic() < deadline:
        try:
            summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return summary
        except (OSError, ValueError):
            time.sleep(0.02)
    return None
