# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What can go wrong, as exceptions.

Every error carries a stable ``code`` (for playbooks and tests), a message that
says what happened and what it means, and an optional ``hint`` that says what to
do. They are raised anywhere and turned into a module failure in one place,
``_module.py``; between a host and the controller they travel as ``to_dict()``.
"""

from __future__ import annotations

from typing import Any


class RolloutError(Exception):
    """Base of all errors of this collection."""

    code = "error"

    def __init__(self, message: str, hint: str = "", **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.facts = facts

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()

    def to_dict(self) -> dict[str, Any]:
        """The error as plain data: ``code``, ``message``, ``hint``, ``facts``."""
        return {
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "facts": self.facts,
        }


class BadInput(RolloutError):
    """A setting is wrong; nothing was touched."""

    code = "bad_input"


class Unreachable(RolloutError):
    """A host, a socket or a process does not answer."""

    code = "unreachable"


class PermissionDenied(RolloutError):
    """It answers, but does not let us do this."""

    code = "permission_denied"


class UnknownPool(RolloutError):
    """The balancer has no such pool."""

    code = "unknown_pool"


class UnknownMember(RolloutError):
    """The pool has no such member, or more than one fits."""

    code = "unknown_member"


class Refused(RolloutError):
    """The balancer (or a rule of ours) said no, in words that are passed on."""

    code = "refused"


class BadReply(RolloutError):
    """The answer cannot be understood; what it was meant to confirm is unknown."""

    code = "bad_reply"


class InvalidConfiguration(RolloutError):
    """A configuration on disk is not valid or does not fit what was asked."""

    code = "invalid_configuration"


class ChangedByOther(RolloutError):
    """Somebody else changed the state between our read and our write."""

    code = "changed_by_other"


class TimedOut(RolloutError):
    """A limit was reached; ``facts`` say what was left."""

    code = "timed_out"


class FloorBroken(RolloutError):
    """Going on would leave less capacity in service than the floor."""

    code = "floor"


class Unhealthy(RolloutError):
    """A member did not pass its health gate in time."""

    code = "unhealthy"


class BadArtefact(RolloutError):
    """A release's archive is missing, unsafe or not the one that was meant."""

    code = "bad_artefact"


class UpgradeFailed(RolloutError):
    """A release could not be installed or started on a member."""

    code = "upgrade_failed"


class HookFailed(RolloutError):
    """The user's own tasks at a point of the rollout failed."""

    code = "hook_failed"


class LeaseHeld(RolloutError):
    """Another run works on this service."""

    code = "lease_held"


class LeaseLost(RolloutError):
    """This run may change nothing any more: its lease ended, or another run has it."""

    code = "lease_lost"


class Stopped(RolloutError):
    """Somebody asked the run to stop."""

    code = "stopped"


class LedgerBroken(RolloutError):
    """The ledger on a balancer cannot be read or written; it was left as it is."""

    code = "ledger"


class RouteDiffers(RolloutError):
    """What is live and what the disk says differ, or balancers differ from each other."""

    code = "route_differs"


class Cancelled(RolloutError):
    """Somebody ended the run before its end."""

    code = "cancelled"


class Judged(RolloutError):
    """A verdict or an operator sent a new version back."""

    code = "verdict"


_BY_CODE = {
    error.code: error
    for error in (
        RolloutError, BadInput, Unreachable, PermissionDenied, UnknownPool, UnknownMember,
        Refused, BadReply, InvalidConfiguration, ChangedByOther, TimedOut, FloorBroken,
        Unhealthy, BadArtefact, UpgradeFailed, LeaseHeld, LeaseLost, Stopped, LedgerBroken, Cancelled, RouteDiffers, Judged,
    )
}  # fmt: skip


def from_dict(data: dict[str, Any]) -> RolloutError:
    """The error that ``to_dict()`` described."""
    error = _BY_CODE.get(data.get("code", ""), RolloutError)
    return error(data.get("message", "unknown error"), data.get("hint", ""), **data.get("facts", {}))
