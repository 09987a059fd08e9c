# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two libraries that speak the protocols, and a clear error when they are missing.

h11 and wsproto do no I/O of their own, so nothing can retry behind the witness's back.
"""

from __future__ import annotations

try:
    import h11
    import wsproto
    import wsproto.connection
    import wsproto.events
    import wsproto.utilities
except ImportError as exc:
    # Nothing uses them before need_libraries() has said that they are missing.
    h11 = wsproto = None  # type: ignore[assignment]
    IMPORT_ERROR: ImportError | None = exc
else:
    IMPORT_ERROR = None

__all__ = ["IMPORT_ERROR", "MissingLibraryError", "h11", "need_libraries", "wsproto"]


class MissingLibraryError(RuntimeError):
    """h11 or wsproto is not installed where the witness runs."""


def need_libraries() -> None:
    """Raise one clear line when the witness cannot speak HTTP here."""
    if IMPORT_ERROR is not None:
        raise MissingLibraryError(
            f"the witness needs h11 and wsproto ({IMPORT_ERROR}); install them with: python3 -m pip install h11 wsproto"
        )
