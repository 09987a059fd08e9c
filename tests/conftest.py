# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What all tests share."""

from __future__ import annotations

from hypothesis import settings

# A property that takes long on a busy machine is not wrong; the examples are the same in every run of CI.
settings.register_profile("zerodrop", deadline=None, print_blob=True)
if settings.get_current_profile_name() == "default":
    settings.load_profile("zerodrop")
