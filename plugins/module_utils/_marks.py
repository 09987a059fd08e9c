# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.

"""What members that we hold out are to return to, kept on the balancer itself.

A balancer's runtime state does not say who took a member out, or what it was
before. Without that a run that was killed would leave a member out for good,
since the next one would take its state for an operator's. So before a member is
held out, what it is to return to is on the disk beside the balancer, and it is
removed when the member is back.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import InvalidConfiguration, PermissionDenied
from ansible_collections.zerodrop.rollout.plugins.module_utils._files import replace_json
from ansible_collections.zerodrop.rollout.plugins.module_utils._names import pool_name, service
from ansible_collections.zerodrop.rollout.plugins.module_utils._pool import Admin, Pool, Setting

FOLDER = "/var/lib/zerodrop"

# Who holds them out: a rollout, which takes up what it left, or an operator, whose members no rollout puts back.
BY_ROLLOUT, BY_HAND = "held-out", "drained"


class Marks:
    """The marks of one service on one pool of this balancer; a missing file is no mark."""

    def __init__(
        self, service_name: object, pool: object, folder: str | None = None, held_by: str = BY_ROLLOUT
    ) -> None:
        self._folder = folder or FOLDER
        # A colon is legal in a pool's name and in no service's, so that no two files can be the same.
        name = f"{service(service_name, 'service')}:{pool_name(pool)}.{held_by}.json"
        self.path = os.path.join(self._folder, name)

    def read(self) -> dict[str, Setting]:
        """By member; raises ``InvalidConfiguration`` for a file that cannot be understood, and leaves it."""
        try:
            with open(self.path, encoding="utf-8") as file:
                data = json.load(file)
            return {name: Setting(Admin(one["admin"]), int(one["weight"])) for name, one in data.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidConfiguration(
                f"{self.path}, which says what members return to, cannot be read: {error}.",
                "See which members are out of service and put them back by hand, then remove it.",
            ) from error

    def returning_to(self, pool: Pool, names: Iterable[str]) -> dict[str, Setting]:
        """What each member is to return to: what it is now, or what it was before we held it out."""
        marks = self.read()
        found = {}
        for name in names:
            member = pool.member(name)
            ours = member.admin is not Admin.READY and name in marks
            found[name] = marks[name] if ours else member.setting
        return found

    def add(self, settings: Mapping[str, Setting]) -> None:
        self._write({**self.read(), **settings})

    def remove(self, names: Iterable[str]) -> None:
        gone = set(names)
        marks = self.read()
        if gone & set(marks):
            self._write({name: one for name, one in marks.items() if name not in gone})

    def _write(self, marks: Mapping[str, Setting]) -> None:
        data = {name: {"admin": one.admin.value, "weight": one.weight} for name, one in marks.items()}
        try:
            if data:
                replace_json(self.path, data, 0o640)
            else:
                os.unlink(self.path)
        except OSError as error:
            raise PermissionDenied(
                f"{self.path}, which says what members return to, cannot be written: {error}.",
                "Use become, and see whether the disk is full.",
            ) from error
