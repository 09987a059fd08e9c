# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A program on a host that stays and answers one request after another.

Starting an interpreter costs a host several times what most operations do, so
a step that asks the same hosts again and again keeps it. It ends with its
connection, so a controller that dies leaves nothing behind.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import Unreachable
from ansible_collections.zerodrop.rollout.plugins.plugin_utils import _program


class Session:
    """One such program; ``command`` runs it and connects it to standard input and output."""

    def __init__(self, command: Sequence[str | bytes], operation: str, params: Mapping[str, Any]) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as this; no pipe, since ssh's master may keep it
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said)
        self._known = {operation}
        self._opening = _program.opening(operation, params)
        self.proven = False  # whether it has ever answered

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, operation: str, params: Mapping[str, Any], check: bool) -> dict[str, Any]:
        """The answer to one request, as ``_program.answer`` gives it; raises ``Unreachable`` when there is none."""
        stdin, stdout = self._process.stdin, self._process.stdout
        line = _program.request(operation, params, check, self._known)
        try:
            if stdin is None or stdout is None:
                raise BrokenPipeError
            stdin.write(self._opening + line)
            stdin.flush()
            self._opening = b""
            for output in stdout:
                if output.startswith(_program.MARK.encode()):
                    self.proven = True
                    return _program.answer(output)
        except (OSError, ValueError):
            pass
        raise Unreachable(f"the connection ended before the answer{self._last_words()}")

    def _last_words(self) -> str:
        self._said.seek(0)
        lines = self._said.read().decode("utf-8", "replace").strip().splitlines()
        return f" ({lines[-1]})" if lines else ""

    def end(self) -> None:
        """End its input, and so the program; does not wait for it."""
        if self._process.stdin is not None:
            try:
                self._process.stdin.close()
            except OSError:
                pass

    def leave(self) -> None:
        """Let it end by itself, with its input: nobody waits for dozens of hosts to take down what has done its work."""
        self.end()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._said.close()

    def close(self, at_once: bool = False) -> None:
        """End it and wait: with its input, or at once when it is stuck."""
        if at_once:
            self._process.kill()
        self.end()
        try:
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if not at_once and self._process.stdout is not None:  # else a thread may still be reading it
            self._process.stdout.close()
        self._said.close()
