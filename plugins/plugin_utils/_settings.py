# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The settings of a rollout: ``rollout_*`` variables, checked and typed.

What arrives may come from YAML, from ``-e key=value`` or from an AWX survey, so
numbers, booleans and lists are accepted as text too. Everything wrong raises
``BadInput`` with the variable's name before anything is touched.
"""

from __future__ import annotations

import difflib
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, ClassVar, Self
from zoneinfo import ZoneInfo

from ansible_collections.zerodrop.rollout.plugins.module_utils import _names
from ansible_collections.zerodrop.rollout.plugins.module_utils._access_log.nginx import compiled
from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput
from ansible_collections.zerodrop.rollout.plugins.module_utils._route import BLUE, GREEN, Preview
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._calendar import Window, moment, time_zone
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._canary.steps import Step, steps
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._hooks import OF_A_BATCH, Hooks
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._plan import DEFAULT_FLOOR, Amount, Floor
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.migration import NOT_RUN, RAN, STEPS
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.repair import HALVES
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._values import (
    boolean,
    choice,
    items,
    named,
    number,
    optional,
    required_text,
    setting,
    text,
    whole,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._verdict.settings import VerdictSettings
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._work import Work

PREFIX = "rollout_"
# What each pool of rollout_pools may have of its own.
PER_POOL = (
    *("balancers", "pool", "driver", "socket", "master_socket", "lasting"),
    *("nginx_mode", "nginx_config", "nginx_binary", "nginx_pid_file", "nginx_leaving_wait"),
    *("access_log", "access_log_format"),
)
# What each slot of blue/green may have of its own.
PER_SLOT = ("health_url", "archive_base", "archive_unit", "package_unit", "container_unit")
BLUE_GREEN, FLIP_BACK, RECOVER_SLOTS, CONTRACT_SLOTS = "blue_green", "flip_back", "recover_slots", "contract_slots"
ROLLING, MAINTAIN, ROLLBACK, RECOVER, STATUS = "rolling", "maintain", "rollback", "recover", "status"
CONTRACT = "contract"
CANARY, PROMOTE = CANARIES = ("canary", "promote")
KEEP, STOP = "keep", "stop"  # what becomes of a slot that is left
LASTING = ("require", "accept", "never")
FOLLOW, HAND_OVER, SHARED = SESSIONS = ("follow", "hand_over", "shared")
METHODS = ("tasks", "role", "archive", "package", "container")


def statuses(value: Any, name: str) -> tuple[int, ...]:
    return tuple(whole(100, 599)(item, name) for item in items(value, name))


def amounts(value: Any, name: str) -> tuple[Amount, ...]:
    return tuple(Amount.parse(item, name, minimum=1) for item in items(value, name))


def rising_percentages(value: Any, name: str) -> tuple[int, ...]:
    """Such as ``["25%", "50%", "100%"]``; the 100 % at the end is what it comes to anyway, and may be left out."""
    steps = [Amount.parse(item, name, minimum=1) for item in items(value, name)] if value != [] else []
    if not all(step.percent for step in steps) or [s.value for s in steps] != sorted({s.value for s in steps}):
        raise BadInput(f"{name} must be percentages that rise, such as 25% and 50%, got {value!r}.")
    return tuple(step.value for step in steps if step.value < 100)


def paths(value: Any, name: str) -> tuple[str, ...]:
    return tuple(_names.url_path(item, name) for item in items(value, name)) if value != [] else ()


def files(value: Any, name: str) -> tuple[str, ...]:
    found = items(value, name) if value not in ([], "", None) else []
    return tuple(_names.absolute_path(text(item, name), name) for item in found)


def host_names(value: Any, name: str) -> tuple[str, ...]:
    return tuple(required_text(each, name) for each in items(value, name)) if value else ()


def argv(value: Any, name: str) -> tuple[str, ...]:
    """A program and its arguments. One text with blanks in it would be for a shell, and there is none."""
    found = tuple(text(item, name) for item in items(value, name)) if value not in ([], "", None) else ()
    if found and ((not isinstance(value, (list, tuple)) and not str(value).strip().startswith("[")) or not found[0]):
        raise BadInput(
            f"{name} must be a list of a program and its arguments, such as [/usr/local/bin/counts, --pool, shop], "
            f"got {value!r}."
        )
    return found


def log_format(value: Any, name: str) -> str:
    """An nginx log format, with all that is read of it."""
    result = text(value, name)
    if result:
        compiled(result, name)
    return result


def command(value: Any, name: str) -> tuple[str, ...]:
    """A program and its arguments, as a list, or as text that is split as a shell does; no shell ever sees it."""
    if isinstance(value, str):
        try:
            value = shlex.split(value)
        except ValueError as error:
            raise BadInput(f"{name} cannot be split into words: {error}.") from error
    return tuple(text(each, name) for each in items(value, name)) if value else ()


def plan_hash(value: Any, name: str) -> str:
    """As the playbook plan gives it."""
    result = text(value, name)
    if not re.fullmatch(r"[0-9a-f]{6}(-[0-9a-f]{6}){5}", result):
        raise BadInput(f"{name} must be a plan's hash, as the playbook zerodrop.rollout.plan says it, got {value!r}.")
    return result


def percentage(value: Any, name: str) -> Amount:
    amount = Amount.parse(value, name, minimum=0)
    if not amount.percent:
        raise BadInput(f"{name} must be a percentage such as 20%, got {value!r}.")
    return amount


def mapping(value: Any, name: str) -> dict[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value or "{}")
        except ValueError as error:
            raise BadInput(f"{name} is not a JSON object: {error}.") from error
    if not isinstance(value, Mapping):
        raise BadInput(f"{name} must be a mapping, got {value!r}.")
    return dict(value)


def pools(value: Any, name: str) -> tuple[dict[str, Any], ...]:
    """The pools that members are in, outermost first: what each has of its own, checked as the setting of that name."""
    result = []
    for place, item in enumerate(items(value, name), 1):
        where = f"{name} ({place})"
        if not isinstance(item, Mapping):
            raise BadInput(f"{where} must be a mapping with balancers and pool, got {item!r}.")
        known = {each.name: each for each in fields(Settings) if each.name in PER_POOL}
        unknown = sorted(set(map(str, item)) - set(known))
        if unknown:
            raise BadInput(f"{where} has {unknown[0]!r}, which is no setting of a pool: {', '.join(known)}.")
        for wanted in ("balancers", "pool"):
            if item.get(wanted) in (None, ""):
                raise BadInput(f"{where} does not say its {wanted}.")
        result.append({key: known[key].metadata["check"](each, f"{key} of {where}") for key, each in item.items()})
    return tuple(result)


def windows(value: Any, name: str) -> tuple[Window, ...]:
    return tuple(Window.parse(text(item, name), name) for item in items(value, name))


def settlement(value: Any, name: str) -> tuple[str, str]:
    """What became of a step that nobody knows of, such as ``expand ran`` or ``expand not run``."""
    step, _space, what = text(value, name).partition(" ")
    what = " ".join(what.split())
    if step not in STEPS or what not in (RAN, NOT_RUN):
        raise BadInput(
            f"{name} must name a step ({', '.join(STEPS)}) and then say '{RAN}' or '{NOT_RUN}', got {value!r}."
        )
    return step, what


def of_verdict(name: str) -> Any:
    """The setting of this name of the verdict, with its check and its default."""
    known = {each.name: each.metadata for each in fields(VerdictSettings)}[name]

    def convert(value: Any, key: str) -> Any:
        if isinstance(value, str) and value.strip().startswith("{"):
            value = mapping(value, key)
        return known["check"]({key: value}, key, known["default"])

    metadata = {"check": convert}
    if isinstance(known["default"], Mapping):
        return field(default_factory=lambda: known["default"], metadata=metadata)  # pylint: disable=invalid-field-call
    return field(default=known["default"], metadata=metadata)  # pylint: disable=invalid-field-call


def max_failed(value: Any, name: str) -> int | None:
    return None if value is None or value == "" else whole(0)(value, name)


def master_socket(value: Any, name: str) -> str:
    """A path, nothing (the usual one if it is there), or the word none."""
    return "none" if value == "none" else optional(named(_names.absolute_path))(value, name)


@dataclass(frozen=True, kw_only=True)
class Settings(Hooks):
    """Everything a user can set; the roles' ``meta/argument_specs.yml`` is the manual."""

    strategy: ClassVar[str] = ROLLING

    service: str = setting(named(_names.service))
    hosts: str = setting(required_text)
    balancers: str = setting(required_text)
    driver: str = setting(choice("haproxy", "nginx"), "haproxy")
    pool: str = setting(named(_names.pool_name))
    version: str = setting(named(_names.version))
    socket: str = setting(named(_names.absolute_path), "/run/haproxy/admin.sock")
    master_socket: str = setting(master_socket, "")
    lasting: str = setting(choice(*LASTING), "require")
    nginx_mode: str = setting(choice("auto", "reload", "links"), "auto")
    nginx_config: str = setting(named(_names.absolute_path), "/etc/nginx/nginx.conf")
    nginx_binary: str = setting(named(_names.absolute_path), "/usr/sbin/nginx")
    nginx_pid_file: str = setting(optional(named(_names.absolute_path)), "")
    nginx_leaving_wait: float = setting(number(0, 86400), 30.0)
    access_log: tuple[str, ...] = setting(files, ())
    access_log_format: str = setting(log_format, "")
    canary_source: str = setting(choice("auto", "log", "counters", "command"), "auto")
    canary_command: tuple[str, ...] = setting(argv, ())
    canary_restarts: bool = setting(boolean, True)
    pools: tuple[dict[str, Any], ...] = setting(pools, ())
    dead_balancer: str = setting(choice("fail", "skip"), "fail")

    upgrade_tasks: str = setting(text, "")
    upgrade_role: str = setting(text, "")
    upgrade_method: str = setting(optional(choice(*METHODS)), "")
    archive_src: str = setting(text, "")
    archive_checksum: str = setting(text, "")
    archive_base: str = setting(optional(named(_names.absolute_path)), "")
    archive_unit: str = setting(optional(named(_names.unit)), "")
    archive_keep: int = setting(whole(2, 1000), 5)
    package_name: str = setting(optional(named(_names.package)), "")
    package_unit: str = setting(optional(named(_names.unit)), "")
    package_hold: bool = setting(boolean, False)
    package_keep: int = setting(whole(2, 1000), 5)
    package_manager: str = setting(choice("auto", "apt", "dnf"), "auto")
    container_image: str = setting(optional(named(_names.image)), "")
    container_digest: str = setting(optional(named(_names.image_digest)), "")
    container_unit: str = setting(optional(named(_names.unit)), "")
    container_engine: str = setting(choice("auto", "podman", "docker"), "auto")
    container_keep: int = setting(whole(2, 1000), 5)

    batches: tuple[Amount, ...] = setting(amounts, (Amount(1, False), Amount(25, True)))
    join_batches: bool = setting(boolean, False)
    window: int = setting(whole(0, 1000), 0)
    floor: Floor = setting(Floor.parse_floor, DEFAULT_FLOOR)
    floor_wait: float = setting(number(0), 60.0)
    headroom: Amount = setting(percentage, Amount(20, True))
    member_capacity: float | None = setting(number(0.001, 1e9), None)
    zone_bake: float = setting(number(0, 86400), 0.0)
    zone_pause: float = setting(number(0, 86400), 0.0)
    zone_approval: bool = setting(boolean, False)
    max_failed_members: int = setting(whole(0), 0)
    freeze_until: datetime | None = setting(moment, None)
    allowed_hours: tuple[Window, ...] = setting(windows, ())
    time_zone: ZoneInfo = setting(time_zone, ZoneInfo("UTC"))
    override: str = setting(text, "")

    drain_timeout: float = setting(number(0), 300.0)
    on_drain_timeout: str = setting(choice("fail", "cut"), "fail")
    session_grace: float = setting(number(0), 0.0)
    sessions: str = setting(choice(*SESSIONS), FOLLOW)
    session_export: tuple[str, ...] = setting(command, ())
    session_import: tuple[str, ...] = setting(command, ())
    session_timeout: float = setting(number(0.1, 86400), 60.0)
    busy_sockets: str = setting(choice("wait", "note", "ignore"), "wait")
    long_after: float = setting(number(0, 86400), 10.0)
    long_timeout: float | None = setting(number(0, 86400), None)
    on_long_timeout: str = setting(choice("fail", "cut", "wait"), "fail")
    idle_timeout: float | None = setting(number(0, 86400), None)
    on_idle_timeout: str = setting(choice("fail", "cut", "wait"), "fail")

    health_url: str = setting(named(_names.http_url))
    health_status: tuple[int, ...] = setting(statuses, (200,))
    health_version_key: str = setting(text, "")
    health_version_header: str = setting(text, "")
    health_version_in_text: bool = setting(boolean, False)
    health_successes: int = setting(whole(1, 1000), 3)
    health_seconds: float = setting(number(0), 0.0)
    health_timeout: float = setting(number(0.1), 60.0)
    health_interval: float = setting(number(0.01, 60), 0.05)
    health_request_timeout: float = setting(number(0.05, 600), 2.0)
    health_validate_certs: bool = setting(boolean, True)
    health_from_balancer: str = setting(choice("auto", "always", "never"), "auto")
    outside_url: str = setting(optional(named(_names.http_url)), "")
    outside_timeout: float = setting(number(0.1, 86400), 10.0)
    outside_validate_certs: bool = setting(boolean, True)
    warm_up: tuple[str, ...] = setting(paths, ())
    warm_up_count: int = setting(whole(1, 10000), 1)
    warm_up_concurrency: int = setting(whole(1, 64), 1)
    warm_up_timeout: float = setting(number(0.1, 86400), 30.0)

    look_requests: int = setting(whole(0), 4)
    look_seconds: float = setting(number(0), 0.0)
    look_timeout: float = setting(number(0), 5.0)
    look_max_errors: int = setting(whole(0), 0)
    look_max_slower: int = setting(whole(0, 100000), 0)
    ramp: tuple[int, ...] = setting(rising_percentages, ())
    ramp_seconds: float = setting(number(0, 86400), 10.0)
    rollback_share_steps: tuple[int, ...] = setting(rising_percentages, ())

    migration: str = setting(optional(named(_names.version)), "")
    migrate_host: str = setting(text, "")
    expand: Work = setting(Work.parse, Work())
    compat: Work = setting(Work.parse, Work())
    contract: Work = setting(Work.parse, Work())
    contract_after: float = setting(number(0), 3600.0)
    expand_undo: Work = setting(Work.parse, Work())
    sync_back: Work = setting(Work.parse, Work())
    settle: tuple[str, str] | None = setting(settlement, None)
    step_timeout: int = setting(whole(0, 7 * 86400), 3600)

    on_failure: str = setting(choice("rollback", "freeze"), "rollback")
    lease_seconds: float = setting(number(2, 86400), 60.0)
    switch_after: float | None = setting(number(0, 86400), None)
    take_over: bool = setting(boolean, False)
    balancers_removed: tuple[str, ...] = setting(host_names, ())
    status_file: str = setting(text, "")
    metrics_file: str = setting(text, "")
    report_dir: str = setting(required_text, "rollout-reports")
    plan_hash: str = setting(optional(plan_hash), "")
    plan_strategy: str = setting(choice("rolling", "canary"), "rolling")

    witness_url: str = setting(optional(named(_names.http_url)), "")
    witness_rate: float = setting(number(0.1, 10000), 5.0)
    witness_mix: dict[str, Any] = setting(mapping, None)
    max_failed_requests: int | None = setting(max_failed, None)

    @classmethod
    def from_vars(cls, variables: Mapping[str, Any]) -> Self:
        """The settings among these variables; raises ``BadInput``.

        A variable that is empty or absent takes its default. A ``rollout_*``
        variable that is no setting is refused, since it is a typing error.
        """
        known = {PREFIX + each.name: each for each in fields(cls)}
        _refuse_unknown(variables, [*known, *HOST_SETTINGS, *OF_A_STRATEGY])
        values: dict[str, Any] = {}
        variables = _with_outermost_pool(variables)
        for name, each in known.items():
            given = variables.get(name)
            if given is not None and given != "":
                values[each.name] = each.metadata["check"](given, name)
            elif each.default is MISSING and each.default_factory is MISSING:
                raise BadInput(
                    f"{name} is not set.",
                    "Set it for all hosts (group_vars/all, the inventory's variables, or -e).",
                )
        if values.get("witness_mix") is None:
            values["witness_mix"] = {}
        settings = cls(**values)
        settings._check_together()
        return settings

    def _check_method(self) -> None:
        method = self.method
        # What each ready method installs; without it there is nothing to install, and with another method no sense in it.
        named = {"archive": "archive_src", "package": "package_name", "container": "container_image"}
        for each, name in named.items():
            if method == each and not getattr(self, name):
                raise BadInput(f"rollout_{name} is not set, and the upgrade method is {method}.")
            if method != each and getattr(self, name):
                raise BadInput(f"rollout_{name} is set, but the upgrade method is {method}.")
        if method == "archive" and not self.archive_checksum:
            raise BadInput(
                "rollout_archive_checksum is not set: an archive is only installed when it is the one you mean.",
                "Give it as sha256:HEX, from: sha256sum ARCHIVE.",
            )
        if self.container_digest and method != "container":
            raise BadInput(f"rollout_container_digest is set, but the upgrade method is {method}.")
        if method == "container" and not self.container_digest:
            _names.image_tag(self.version)

    def _check_together(self) -> None:
        self._check_method()
        self.check_hooks()
        if sum(map(bool, (self.health_version_key, self.health_version_header, self.health_version_in_text))) > 1:
            raise BadInput(
                "Only one of rollout_health_version_key, rollout_health_version_header and "
                "rollout_health_version_in_text can say where the version stands."
            )
        if self.look_requests and self.look_timeout < self.look_seconds:
            raise BadInput("rollout_look_timeout is shorter than rollout_look_seconds: no look could pass.")
        hooks = [point for point in self.hooks if point in OF_A_BATCH]
        if self.window and hooks:
            raise BadInput(
                f"rollout_window is set, and rollout_hook_{hooks[0]} is for batches, of which a window has none.",
                "Leave one of them out.",
            )
        if self.join_batches and self.window:
            raise BadInput(
                "rollout_window is set, and so is rollout_join_batches, which is for batches.", "Leave one of them out."
            )
        between = (
            ("rollout_look_seconds", self.look_seconds),
            ("rollout_outside_url", self.outside_url),
            ("rollout_ramp", self.ramp),
            ("rollout_zone_bake", self.zone_bake),
            ("rollout_zone_pause", self.zone_pause),
        )
        for name, value in between:
            if self.join_batches and value:
                raise BadInput(
                    f"{name} is set, and so is rollout_join_batches, which leaves no time between a batch that comes "
                    "back and the next one.",
                    "Leave one of them out.",
                )
        if self.health_timeout <= max(self.health_seconds, (self.health_successes - 1) * self.health_interval):
            raise BadInput(
                "rollout_health_timeout is too short for rollout_health_seconds, or for rollout_health_successes "
                "at rollout_health_interval: no member could pass."
            )
        for kind, words, limit, then in (
            ("long", "long-lived work may last", self.long_timeout, self.on_long_timeout),
            ("idle", "idle clients may stay", self.idle_timeout, self.on_idle_timeout),
        ):
            if then != "fail" and limit is None:
                raise BadInput(
                    f"rollout_on_{kind}_timeout is {then}, but rollout_{kind}_timeout is not set.",
                    f"Say how many seconds {words}, or leave both out.",
                )
        if 0 < self.silence < self.lease_seconds:
            raise BadInput(
                f"rollout_switch_after is {self.silence:g}, shorter than rollout_lease_seconds ({self.lease_seconds:g}): a "
                "run counts as alive for as long as its lease lasts.",
                "Lower rollout_lease_seconds as well, or leave rollout_switch_after out.",
            )
        if self.compat and not self.expand:
            raise BadInput(
                "rollout_compat is set without rollout_expand: it sees whether the old version works with what that did."
            )
        for name in ("expand_undo", "sync_back"):
            if getattr(self, name) and not self.expand:
                raise BadInput(
                    f"rollout_{name} is set without rollout_expand: there is nothing that it could take back."
                )
        if (self.canary_source == "command") != bool(self.canary_command):
            raise BadInput(
                f"rollout_canary_source is {self.canary_source}, and rollout_canary_command is "
                f"{'set' if self.canary_command else 'not'}.",
                "Set both to count with a command of yours, or neither.",
            )
        self._check_sessions()
        if self.max_failed_requests is not None and not self.witness_url:
            raise BadInput("rollout_max_failed_requests needs a witness that counts: set rollout_witness_url.")

    def _check_sessions(self) -> None:
        if self.sessions != HAND_OVER:
            return
        for name in ("session_export", "session_import"):
            if not getattr(self, name):
                raise BadInput(
                    f"rollout_sessions is {HAND_OVER}, and rollout_{name} is not set.",
                    "Set both: a program that writes a member's sessions to its standard output, one a line, and one that "
                    "takes them in from its standard input.",
                )
        if self.join_batches:
            raise BadInput(
                f"rollout_sessions is {HAND_OVER}, and rollout_join_batches leaves no time to hand anything over.",
                "Leave one of them out.",
            )

    @property
    def steps(self) -> frozenset[str]:
        """The steps of a data migration that there is work for."""
        return frozenset(step for step in STEPS if getattr(self, step))

    @property
    def silence(self) -> float:
        """After how many seconds without a sign of life the balancers put back by themselves what is safe; 0 is never."""
        return self.lease_seconds if self.switch_after is None else self.switch_after

    @property
    def layers(self) -> tuple[Settings, ...]:
        """These settings for each pool that the members are in, outermost first."""
        return tuple(replace(self, **each) for each in self.pools) or (self,)

    @property
    def longest_drain(self) -> float:
        """How many seconds a drain may take at most, once members are held out."""
        own = ((self.long_timeout, self.on_long_timeout), (self.idle_timeout, self.on_idle_timeout))
        limits = [86400.0 if then == "wait" else limit for limit, then in own if limit is not None]
        return max([self.drain_timeout, *limits])

    @property
    def ready_method(self) -> bool:
        """Whether the members are upgraded by us, not by tasks of the user's."""
        return self.method not in ("tasks", "role")

    @property
    def method(self) -> str:
        """How a member is upgraded: one of ``METHODS``; raises ``BadInput`` when it is not clear."""
        given = [name for name, value in (("tasks", self.upgrade_tasks), ("role", self.upgrade_role)) if value]
        if self.upgrade_method and self.upgrade_method not in given:
            given.append(self.upgrade_method)
        if (
            len(given) != 1
            or (given == ["tasks"] and not self.upgrade_tasks)
            or (given == ["role"] and not self.upgrade_role)
        ):
            raise BadInput(
                "It is not clear how a member is upgraded: set exactly one of rollout_upgrade_tasks (a file of yours), "
                "rollout_upgrade_role (a role of yours) and rollout_upgrade_method (archive, package or container)."
            )
        return given[0]

    @property
    def base(self) -> str:
        return self.archive_base or str(PurePosixPath("/opt") / self.service)

    @property
    def unit(self) -> str:
        given = {"package": self.package_unit, "container": self.container_unit}.get(self.method, self.archive_unit)
        return given or f"{self.service}.service"

    @property
    def names_version(self) -> bool:
        """Whether the health answer says which version runs."""
        return bool(self.health_version_key or self.health_version_header)


def no_version(value: Any, name: str) -> str:
    raise BadInput(
        f"{name} is set to {value!r}, but maintenance leaves every member on the version that it has.",
        "Leave it out, or deploy with the playbook zerodrop.rollout.rolling.",
    )


@dataclass(frozen=True, kw_only=True)
class Maintenance(Settings):
    """The same for a walk through the fleet without any release: what is about one may be set, and has no meaning."""

    strategy: ClassVar[str] = MAINTAIN

    version: str = setting(no_version, "")
    tasks: str = setting(required_text)

    def _check_method(self) -> None:
        """How a release would be installed does not matter here."""

    @property
    def method(self) -> str:
        return "tasks"


def _needs_what_is_there(settings: Settings) -> None:
    """A release is there already, so that an archive need not be named; nor does a digest say which image it is."""
    name = {"package": "package_name", "container": "container_image"}.get(settings.method)
    if name and not getattr(settings, name):
        raise BadInput(f"rollout_{name} is not set, and the upgrade method is {settings.method}.")


def _needs_a_contract(settings: Settings) -> None:
    if not settings.contract:
        raise BadInput("rollout_contract is not set: there is nothing to run.")


def not_to_go_back_to(value: Any, name: str) -> str:
    raise BadInput(
        f"{name} is set to {value!r}, but a rollback goes to the release before.",
        "Leave it out (or give it as an empty text); to go back to another release, name that in rollout_rollback_to.",
    )


@dataclass(frozen=True, kw_only=True)
class Rollback(Settings):
    """The same for the way back of a whole fleet, to a release that its members have had."""

    strategy: ClassVar[str] = ROLLBACK

    version: str = setting(not_to_go_back_to, "")
    rollback_to: str = setting(optional(named(_names.version)), "")
    rollback_batches: tuple[Amount, ...] = setting(amounts, ())

    @classmethod
    def from_vars(cls, variables: Mapping[str, Any]) -> Self:
        """As every strategy's. A member that fails returns to what it has now; the others stay on the old release."""
        settings = super().from_vars(variables)
        batches = settings.rollback_batches or settings.batches
        return replace(settings, batches=batches, on_failure="freeze", container_digest="")

    def to(self, release: str) -> Rollback:
        """When it is known which release they go to."""
        return replace(self, version=release)

    def _check_method(self) -> None:
        _needs_what_is_there(self)


@dataclass(frozen=True, kw_only=True)
class Canary(Settings):
    """The same for a new version that a part of the fleet has first, and that is judged there."""

    strategy: ClassVar[str] = CANARY

    # The verdict takes the place of the look, which knows of no baseline: one error is no reason to go back.
    look_max_errors: int = setting(whole(0), 10**9)

    canary_steps: tuple[Step, ...] = setting(steps, ())
    canary_end: str = setting(choice("promote", "hold"), "promote")
    canary_poll_seconds: float = setting(number(1, 3600), 10.0)
    canary_breaker_seconds: float = setting(number(0.5, 3600), 2.0)
    canary_ask_timeout: float = setting(number(0, 30 * 86400), 3600.0)
    canary_on_ask_timeout: str = setting(choice("roll_back", "promote", "hold"), "roll_back")
    canary_sticky: str = setting(choice("auto", "require"), "auto")
    canary_history: float = setting(number(0, 30 * 86400), 43200.0)

    canary_false_alarm: float = of_verdict("false_alarm")
    canary_missed_regression: float = of_verdict("missed_regression")
    canary_unacceptable: float = of_verdict("unacceptable")
    canary_tolerate: Mapping[str, float] = of_verdict("tolerate")
    canary_min_increase: float = of_verdict("min_increase")
    canary_warmup: float = of_verdict("warmup")
    canary_burst: float = of_verdict("burst")
    canary_min_requests: int = of_verdict("min_requests")
    canary_min_duration: float = of_verdict("min_duration")
    canary_max_duration: float = of_verdict("max_duration")
    canary_weights: Mapping[str, float] = of_verdict("weights")
    canary_on_inconclusive: str = of_verdict("on_inconclusive")
    canary_on_no_data: str = of_verdict("on_no_data")
    canary_guards: bool = of_verdict("guards")

    def _check_together(self) -> None:
        super()._check_together()
        if self.canary_min_duration > self.canary_max_duration:
            raise BadInput(
                f"rollout_canary_min_duration ({self.canary_min_duration:g} s) must not be above "
                f"rollout_canary_max_duration ({self.canary_max_duration:g} s)."
            )
        if self.canary_breaker_seconds > self.canary_poll_seconds:
            raise BadInput(
                f"rollout_canary_breaker_seconds ({self.canary_breaker_seconds:g}) must not be above "
                f"rollout_canary_poll_seconds ({self.canary_poll_seconds:g}): the circuit breaker looks between the polls."
            )
        if self.join_batches:
            raise BadInput(
                "rollout_join_batches is set: it leaves no time between two batches, and a canary is judged there.",
                "Leave it out for the playbook canary.",
            )

    def verdict(self, share: float | None) -> dict[str, Any]:
        """What the verdict is asked with, beside the polls."""
        names = [each.name for each in fields(VerdictSettings) if each.name not in ("interval", "share")]
        found = {name: getattr(self, f"canary_{name}") for name in names}
        found = {name: dict(value) if isinstance(value, Mapping) else value for name, value in found.items()}
        return {**found, "interval": self.canary_poll_seconds, "share": share}


@dataclass(frozen=True, kw_only=True)
class Promotion(Canary):
    """The same for going on with a canary that waits, or whose run is gone."""

    strategy: ClassVar[str] = PROMOTE

    version: str = setting(optional(named(_names.version)), "")

    def to(self, version: str) -> Promotion:
        """When it is known which version the canary has."""
        return replace(self, version=version)

    def _check_method(self) -> None:
        _needs_what_is_there(self)


@dataclass(frozen=True, kw_only=True)
class Overview(Settings):
    """The same for who only looks: a version may be set, and how a member is upgraded need not be."""

    strategy: ClassVar[str] = STATUS

    version: str = setting(optional(named(_names.version)), "")

    def _check_method(self) -> None:
        """How a release would be installed does not matter here."""

    @property
    def method(self) -> str:
        return self.upgrade_method or "tasks"


@dataclass(frozen=True, kw_only=True)
class Recovery(Settings):
    """The same for putting right what a run that died left behind."""

    strategy: ClassVar[str] = RECOVER

    version: str = setting(text, "")  # each member gets its own
    recover_half: str = setting(choice(*HALVES), HALVES[0])

    @classmethod
    def from_vars(cls, variables: Mapping[str, Any]) -> Self:
        """As every strategy's; which version a rollout would go to does not matter here."""
        settings = super().from_vars(variables)
        return replace(settings, version="", container_digest="")

    def _check_method(self) -> None:
        _needs_what_is_there(self)


@dataclass(frozen=True, kw_only=True)
class Contract(Settings):
    """The same for the second half of a data migration, as a run of its own."""

    strategy: ClassVar[str] = CONTRACT

    version: str = setting(optional(named(_names.version)), "")

    @classmethod
    def from_vars(cls, variables: Mapping[str, Any]) -> Self:
        settings = super().from_vars(variables)
        _needs_a_contract(settings)
        return replace(settings, container_digest="")

    def to(self, release: str) -> Contract:
        """When it is known which version serves."""
        return replace(self, version=release)

    def _check_method(self) -> None:
        _needs_what_is_there(self)


def own_settings(value: Any, name: str) -> dict[str, Any]:
    """What is different in one slot: checked as the settings of these names."""
    known = {each.name: each for each in fields(Settings) if each.name in PER_SLOT}
    given = mapping(value, name)
    unknown = sorted(set(map(str, given)) - set(known))
    if unknown:
        raise BadInput(f"{name} has {unknown[0]!r}, which no slot can have of its own: {', '.join(known)}.")
    return {key: known[key].metadata["check"](each, f"{key} of {name}") for key, each in given.items()}


def preview(value: Any, name: str) -> str:
    result = text(value, name)
    Preview.parse(result, name)
    return result


def retirement(value: Any, name: str) -> str:
    """What becomes of the old slot: it is kept, it is stopped, or a tasks file of the user's says."""
    result = text(value, name)
    if result not in (KEEP, STOP) and not result.endswith((".yml", ".yaml")):
        raise BadInput(f"{name} must be one of {KEEP}, {STOP}, or a tasks file (.yml), got {value!r}.")
    return result


def services(value: Any, name: str) -> tuple[str, ...]:
    """The services that flip along, in this order."""
    found = items(value, name) if value not in ([], "", None) else []
    result = tuple(named(_names.service)(each, name) for each in found)
    if len(set(result)) != len(result):
        raise BadInput(f"{name} names a service twice: {', '.join(result)}.")
    return result


def no_pools(value: Any, name: str) -> tuple[dict[str, Any], ...]:
    raise BadInput(f"{name} is set, and blue/green knows one pool for each slot.", "Leave it out.")


@dataclass(frozen=True, kw_only=True)
class BlueGreen(Settings):
    """The same for two slots, of which one is live."""

    strategy: ClassVar[str] = BLUE_GREEN

    hosts: str = setting(text, "")  # those of the slots
    pool: str = setting(optional(named(_names.pool_name)), "")
    pools: tuple[dict[str, Any], ...] = setting(no_pools, ())
    blue: str = setting(required_text)
    green: str = setting(required_text)
    blue_pool: str = setting(optional(named(_names.pool_name)), "")
    green_pool: str = setting(optional(named(_names.pool_name)), "")
    blue_settings: dict[str, Any] = setting(own_settings, None)
    green_settings: dict[str, Any] = setting(own_settings, None)
    route_file: str = setting(optional(named(_names.absolute_path)), "")
    services: tuple[str, ...] = setting(services, ())
    preview: str = setting(preview, "")
    preview_command: tuple[str, ...] = setting(command, ())
    preview_tasks: str = setting(text, "")
    preview_timeout: float = setting(number(0.1, 86400), 60.0)
    bake: float = setting(number(0, 86400), 10.0)
    old_work: str = setting(choice("keep", "cut"), "keep")
    old_work_timeout: float = setting(number(0, 86400), 30.0)
    keep_warm: float = setting(number(0, 86400), 0.0)
    retire: str = setting(retirement, KEEP)

    @classmethod
    def from_vars(cls, variables: Mapping[str, Any]) -> Self:
        settings = super().from_vars(variables)
        own = {BLUE: settings.blue_settings or {}, GREEN: settings.green_settings or {}}
        # What one slot has of its own the other has from the settings of both: each can be told from any of the two.
        base = {name: getattr(settings, name) for slot in own.values() for name in slot}
        return replace(
            settings,
            pool=settings.pool or settings.service,
            blue_pool=settings.pool_in(BLUE),
            green_pool=settings.pool_in(GREEN),
            blue_settings={**base, **own[BLUE]},
            green_settings={**base, **own[GREEN]},
        )

    def _check_together(self) -> None:
        super()._check_together()
        if self.pool_in(BLUE) == self.pool_in(GREEN):
            raise BadInput(f"rollout_blue_pool and rollout_green_pool are both {self.pool_in(BLUE)!r}.")
        if self.service in self.services:
            raise BadInput(
                f"rollout_services has {self.service}, which is rollout_service: name those that flip along."
            )
        for name in ("preview_command", "preview_tasks"):
            if getattr(self, name) and not self.preview:
                raise BadInput(f"rollout_{name} is set, and rollout_preview does not say how the idle slot is reached.")
        if self.dead_balancer == "skip":
            raise BadInput(
                "rollout_dead_balancer is skip: a balancer that is skipped in a flip would go on with the old slot.",
                "Leave it out, and take a balancer that is gone for good out of rollout_balancers.",
            )

    def hosts_in(self, slot: str) -> str:
        return self.blue if slot == BLUE else self.green

    def pool_in(self, slot: str) -> str:
        return (self.blue_pool if slot == BLUE else self.green_pool) or f"{self.pool or self.service}_{slot}"

    def for_slot(self, slot: str) -> Self:
        """The settings as they are in one slot."""
        own = (self.blue_settings if slot == BLUE else self.green_settings) or {}
        return replace(self, pool=self.pool_in(slot), hosts=self.hosts_in(slot), **own)


_NO_PREVIEW: dict[str, Any] = {"preview_command": (), "preview_tasks": ""}


@dataclass(frozen=True, kw_only=True)
class FlipBack(BlueGreen):
    """Back to the slot that was live before, while its members are still there; else it is deployed there anew."""

    strategy: ClassVar[str] = FLIP_BACK

    version: str = setting(not_to_go_back_to, "")
    rollback_to: str = setting(optional(named(_names.version)), "")

    @classmethod
    def from_vars(cls, variables: Mapping[str, Any]) -> Self:
        return replace(
            super().from_vars(variables),
            **_NO_PREVIEW,
            bake=0.0,
            warm_up=(),
            container_digest="",
            retire=KEEP,
        )

    def _check_method(self) -> None:
        _needs_what_is_there(self)

    def to(self, release: str) -> FlipBack:
        return replace(self, version=release)


@dataclass(frozen=True, kw_only=True)
class SlotRecovery(BlueGreen):
    """The same for setting on every balancer which slot the ledgers say is live, and no more."""

    strategy: ClassVar[str] = RECOVER_SLOTS

    version: str = setting(text, "")

    @classmethod
    def from_vars(cls, variables: Mapping[str, Any]) -> Self:
        return replace(super().from_vars(variables), **_NO_PREVIEW, version="", container_digest="", retire=KEEP)

    def _check_method(self) -> None:
        _needs_what_is_there(self)


@dataclass(frozen=True, kw_only=True)
class SlotContract(BlueGreen):
    """The same for the second half of a data migration, as a run of its own, on the slot that is live."""

    strategy: ClassVar[str] = CONTRACT_SLOTS

    version: str = setting(optional(named(_names.version)), "")

    @classmethod
    def from_vars(cls, variables: Mapping[str, Any]) -> Self:
        settings = super().from_vars(variables)
        _needs_a_contract(settings)
        return replace(settings, **_NO_PREVIEW, container_digest="", retire=KEEP)

    def to(self, release: str) -> SlotContract:
        """When it is known which version serves."""
        return replace(self, version=release)

    def _check_method(self) -> None:
        _needs_what_is_there(self)


@dataclass(frozen=True, kw_only=True)
class SlotOverview(BlueGreen):
    """The same for who only looks."""

    version: str = setting(text, "")

    def _check_method(self) -> None:
        """How a release would be installed does not matter here."""

    @property
    def method(self) -> str:
        return self.upgrade_method or "tasks"


_LISTED = (
    *(Settings, Maintenance, Rollback, Recovery, Contract, Canary, Promotion),
    *(BlueGreen, FlipBack, SlotRecovery, SlotContract),
)
STRATEGIES: Mapping[str, type[Settings]] = {each.strategy: each for each in _LISTED}

# The same playbook, where the service has slots.
WITH_SLOTS: Mapping[str, str] = {ROLLBACK: FLIP_BACK, RECOVER: RECOVER_SLOTS, CONTRACT: CONTRACT_SLOTS}

# Read per host, not per rollout; and what the playbooks hand to the user's own tasks.
HOST_SETTINGS = (
    *("rollout_member", "rollout_member_port", "rollout_zone"),
    *("rollout_release", "rollout_previous_release", "rollout_slot"),
)
# A setting of one strategy may stand in an inventory that all of them use.
OF_SLOTS = tuple(
    PREFIX + each
    for each in (
        *("blue", "green", "blue_pool", "green_pool", "blue_settings", "green_settings", "route_file", "services"),
        *(
            "preview",
            "preview_command",
            "preview_tasks",
            "preview_timeout",
            "bake",
            "old_work",
            "old_work_timeout",
            "keep_warm",
            "retire",
        ),
    )
)
OF_A_STRATEGY = (
    *("rollout_tasks", "rollout_rollback_to", "rollout_rollback_batches", "rollout_recover_half"),
    *OF_SLOTS,
    *(PREFIX + each.name for each in fields(Canary) if each.name.startswith("canary_")),
)


def _with_outermost_pool(variables: Mapping[str, Any]) -> Mapping[str, Any]:
    """With ``rollout_pools``, its first pool stands for the settings of a single one."""
    if variables.get("rollout_pools") in (None, ""):
        return variables
    for name in ("rollout_balancers", "rollout_pool"):
        if variables.get(name) not in (None, ""):
            raise BadInput(f"Both {name} and rollout_pools are set.", "Each pool of rollout_pools has its own.")
    first = pools(variables["rollout_pools"], "rollout_pools")[0]
    return {**variables, "rollout_balancers": first["balancers"], "rollout_pool": first["pool"]}


def _refuse_unknown(variables: Mapping[str, Any], known: list[str]) -> None:
    for name in variables:
        if name.startswith(PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise BadInput(
                f"{name} is not a setting of this collection.",
                f"Did you mean {near[0]}?" if near else "Variables that start with rollout_ are reserved for it.",
            )
