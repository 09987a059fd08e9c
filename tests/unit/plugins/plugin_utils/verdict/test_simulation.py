# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The guarantees by simulation, with a fixed seed; ``make verdict`` runs every cell in full."""

from __future__ import annotations

import pytest

from tests.verdict.cells import CELLS, Cell
from tests.verdict.trials import trial


@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell.quick], ids=lambda cell: cell.name)
def test_cell(cell: Cell) -> None:
    found = cell.run(cell.quick)
    assert not cell.problems(found), found


def test_the_same_seed_gives_the_same_runs() -> None:
    cell = next(cell for cell in CELLS if cell.name == "2x worse, 500/s")
    assert trial(cell.world, cell.rule, 5, seed=7) == trial(cell.world, cell.rule, 5, seed=7)
