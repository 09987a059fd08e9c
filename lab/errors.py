"""What the lab raises when it cannot do what it was asked."""

from __future__ import annotations


class LabError(Exception):
    """A failure with a message a user can act on."""
