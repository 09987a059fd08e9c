# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``python -m tests.fuzz SECONDS``: atheris on every target, the seconds shared out; the findings stay in ``FOLDER``."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

from tests.fuzz.targets import TARGETS, seeds

FOLDER = Path(".build/fuzz")


def fuzz(target: str) -> None:
    """In a process of its own: libFuzzer ends it."""
    atheris = importlib.import_module("atheris")  # only here: the rest needs none
    atheris.instrument_all()
    atheris.Setup([sys.argv[0], *sys.argv[3:]], TARGETS[target])
    atheris.Fuzz()


def main(seconds: int) -> int:
    found = 0
    for target in TARGETS:
        corpus = FOLDER / target / "corpus"
        corpus.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(seeds(target)):
            (corpus / f"seed-{number}").write_bytes(seed)
        limits = [f"-max_total_time={seconds // len(TARGETS)}", "-max_len=4096", "-timeout=10", "-print_final_stats=1"]
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz", "--target", target, *limits]
            + [f"-artifact_prefix={FOLDER / target}/", str(corpus)],
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
        )
        executed = re.search(r"number_of_executed_units: *(\d+)", done.stderr)
        print(f"{target:16} {executed.group(1) if executed else '?':>9} executions, exit {done.returncode}", flush=True)
        if done.returncode:
            found += 1
            print(done.stderr[-3000:])
    return 1 if found else 0


if __name__ == "__main__":
    if sys.argv[1] == "--target":
        fuzz(sys.argv[2])
    else:
        sys.exit(main(int(sys.argv[1])))
