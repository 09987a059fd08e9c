"""Run ansible-playbook as a user would, and show what it prints as it comes."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from . import output

# Nothing happens there; a header that only these follow is left out with them.
_SILENT = ("included: ", "skipping: ")


def program() -> str:
    """The ansible-playbook of this Python's environment."""
    beside = Path(sys.executable).with_name("ansible-playbook")
    return str(beside) if beside.exists() else shutil.which("ansible-playbook") or "ansible-playbook"


def command(version: str, extras: str) -> list[str]:
    """What a user types, after ansible-playbook."""
    return ["zerodrop.rollout.rolling", "-i", "inventory.yml", "-e", f"rollout_version={version}", "-e", f"@{extras}"]


def typed(folder: Path, arguments: list[str]) -> str:
    """The command line for a shell that stands where the demo was started."""
    where = os.path.relpath(folder)
    return f"cd {shlex.quote(where)} && {os.path.relpath(program(), folder)} {shlex.join(arguments)}"


def run(folder: Path, arguments: list[str]) -> int:
    """Run it in `folder`; returns its exit code."""
    process = subprocess.Popen(
        [program(), *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1"},
    )
    assert process.stdout is not None
    try:
        headers: list[str] = []
        for line in process.stdout:
            text = line.rstrip().rstrip("*").rstrip().replace(f"{folder}/", "")
            if text.startswith(("PLAY [", "TASK [")):
                headers = [*(each for each in headers if text[:4] == "TASK" and each[:4] == "PLAY"), text]
            elif text and not text.startswith(_SILENT):
                for shown in (*headers, text):
                    output.live(shown)
                headers = []
        return process.wait()
    finally:
        # Ctrl-C reaches it too; the hosts must not go before it has let go of them.
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
