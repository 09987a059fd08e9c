# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Sessions in a member's memory: a program of the user's writes them down, another one takes them in.

What they are is nobody's business but these programs': bytes, of which each line counts as one session. They may hold
secrets, so they pass through memory only, and no message repeats them.
"""

from __future__ import annotations

import base64
import os
import subprocess
import zlib
from collections.abc import Mapping
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils import _params
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput, TimedOut, UpgradeFailed

MOST = 64 << 20  # bytes of one member


def sessions_export(params: Mapping[str, Any], check: bool) -> dict[str, Any]:
    """What the program has written to its standard output, packed, and how many lines that is."""
    if check:
        return {"changed": False, "sessions": 0, "packed": ""}
    data = _run(params, b"")
    if len(data) > MOST:
        raise BadInput(f"The sessions of this member are {len(data)} bytes, and at most {MOST} can be handed over.")
    count = len([line for line in data.splitlines() if line.strip()])
    if params.get("only_count"):
        return {"changed": False, "sessions": count, "packed": ""}
    return {"changed": False, "sessions": count, "packed": base64.b64encode(zlib.compress(data, 1)).decode("ascii")}


def sessions_import(params: Mapping[str, Any], check: bool) -> dict[str, Any]:
    """The program gets what another member's has written, on its standard input."""
    if check:
        return {"changed": False}
    try:
        data = zlib.decompress(base64.b64decode(str(params.get("packed") or ""), validate=True))
    except (ValueError, zlib.error):
        raise BadInput("packed is not what sessions_export returns.") from None
    _run(params, data)
    return {"changed": True}


def _run(params: Mapping[str, Any], given: bytes) -> bytes:
    argv = [str(word) for word in _params.items(params, "command")]
    if not argv:
        raise BadInput("command must be a program and its arguments.")
    limit = _params.number(params, "timeout", 60.0, 0.1, 86400.0)
    own = {"ROLLOUT_MEMBER": str(params.get("member") or "")}
    try:
        done = subprocess.run(  # pylint: disable=ansible-bad-function  # also runs where there is no module
            argv, input=given, capture_output=True, timeout=limit, env={**os.environ, **own}, check=False
        )
    except subprocess.TimeoutExpired:
        raise TimedOut(f"{argv[0]} did not end within {limit:g} s.") from None
    except OSError as error:
        raise UpgradeFailed(f"{argv[0]} cannot be run: {error.strerror}.") from None
    if done.returncode:
        said = " ".join(done.stderr.decode("utf-8", "replace").split())[-300:]
        raise UpgradeFailed(f"{argv[0]} ended with {done.returncode}: {said or 'it said nothing'}.")
    return done.stdout
