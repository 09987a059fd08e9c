# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A user with a session: cookies that are kept, and sessions that were lost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

_COOKIES_KEPT = 50


@dataclass(slots=True)
class User:
    """One user. Keeps every cookie (that of a balancer too) and watches the one of the session."""

    cookie: str
    jar: dict[str, str] = field(default_factory=dict)

    @property
    def session(self) -> str:
        return self.jar.get(self.cookie, "")

    def header(self) -> str:
        """The Cookie header; empty for a user who has none yet."""
        return "; ".join(f"{name}={value}" for name, value in self.jar.items())

    def answered(self, sent: str, cookies: Iterable[str]) -> bool:
        """Take in the cookies of a good answer to a request that showed the session ``sent``.

        True when the session was lost: the service took it away or gave another one. Several
        requests of one user that find out together are one loss.
        """
        lost = False
        for line in cookies:
            name, _mark, value = (part.strip() for part in line.partition(";")[0].partition("="))
            if name == self.cookie:
                if self.session != sent:
                    continue
                lost = lost or (bool(sent) and value != sent)
            if not value:
                self.jar.pop(name, None)
            elif name in self.jar or len(self.jar) < _COOKIES_KEPT:
                self.jar[name] = value
        return lost
