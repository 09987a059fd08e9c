# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""Whether whoever asked for an operation still listens.

A connection that ends does not end what runs behind it: a drain that nobody
waits for would hold members out that nobody puts back. The end of standard
output is seen by looking at it; nothing has to be written.
"""

from __future__ import annotations

import select

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import Unreachable

_STDOUT = 1


def is_gone(handle: int = _STDOUT) -> bool:
    """Whether the other end of standard output was closed; a file or a journal never is."""
    poll = select.poll()
    poll.register(handle, 0)
    return any(event & (select.POLLHUP | select.POLLERR) for _handle, event in poll.poll(0))


def require(what: str) -> None:
    """Raise ``Unreachable`` when nobody listens any more."""
    if is_gone():
        raise Unreachable(f"The connection to the controller ended in the {what}.", lost=True)
