# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``make verdict``: every cell in full, as a table; ends with 1 where one is outside its band."""

from __future__ import annotations

import os
import sys
import time
from multiprocessing import Pool

from .cells import CELLS


def one(index: int) -> tuple[str, list[str]]:
    cell = CELLS[index]
    since = time.monotonic()
    found = cell.run(cell.runs)
    after = f"{found.after:.0f} s" if found.after else "-"
    promoted_after = f"{found.promoted_after:.0f} s" if found.promoted_after else "-"
    row = f"| {cell.name} | {cell.runs} | {found.rolled_back:.2f} | {after} | {found.promoted:.2f} | {promoted_after} |"
    print(f"{row}  ({time.monotonic() - since:.0f} s)", file=sys.stderr, flush=True)
    return row, [f"{cell.name}: {each}" for each in cell.problems(found)]


def main() -> int:
    with Pool(int(os.environ.get("ZERODROP_PROCESSES", "0")) or os.cpu_count()) as pool:
        rows = pool.map(one, range(len(CELLS)), chunksize=1)
    print("| world | runs | rolled back, % | median | promoted, % | median |")
    print("|---|---|---|---|---|---|")
    for row, _problems in rows:
        print(row)
    problems = [each for _row, found in rows for each in found]
    for each in problems:
        print(f"OUTSIDE ITS BAND: {each}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
