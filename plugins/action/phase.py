# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One phase of a rollout, run on the controller for the whole fleet."""

from __future__ import annotations

import gc
import json
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from ansible import constants as C

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import RolloutError
from ansible_collections.zerodrop.rollout.plugins.module_utils._route import SLOTS
from ansible_collections.zerodrop.rollout.plugins.plugin_utils import _grace, _keeper
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._controller_action import ControllerAction
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._hooks import BEFORE_ROLLOUT, POINTS
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._inventory import hosts_of
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._remote import GRACE_SECONDS, Remote
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout import (
    ahead,
    bake,
    cancel,
    ending,
    foresight,
    hooks,
    migrating,
    migration,
    overview,
    preflight,
    switch,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout import canary as canary_of
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout import lease as lease_of
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout import status as looking
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.fleet import Fleet
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.flipping import Flip
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.lookout import Lookout
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.methods import method_of
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.owner import name_processes, owner
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.record import LeaseRecord, Record
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.roll import (
    BACK,
    DRAIN,
    FORWARD,
    GATE,
    PUT_BACK,
    UPGRADE,
    name_of,
    roll,
    run_phase,
    stage,
    watch,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.slot_phases import phases_of
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.slots import plan_slots
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.step import Batch, Outcome
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.users_upgrade import (
    find_role,
    find_tasks,
    has_collection,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.witness import (
    check_witness,
    end_witness,
    start_witness,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._settings import (
    KEEP,
    PREFIX,
    PROMOTE,
    ROLLBACK,
    ROLLING,
    STOP,
    STRATEGIES,
    WITH_SLOTS,
    BlueGreen,
    Contract,
    FlipBack,
    Maintenance,
    Overview,
    Promotion,
    Rollback,
    Settings,
    SlotContract,
    SlotOverview,
)

_PAUSE = 0.2
_grace.install()  # this is loaded in the playbook's own process before a task is forked
# What is there now stays to the end: no fork has to go through it, and neither has the end of the process (0.1 s).
gc.freeze()


class ActionModule(ControllerAction):
    """Hands each phase what it needs and turns what comes back into a task's result."""

    def takes(self) -> Mapping[str, Any]:
        return {
            "name": {"type": "str", "required": True, "choices": list(_PHASES)},
            "strategy": {"type": "str", "choices": list(STRATEGIES), "default": ROLLING},
            "step": {"type": "str", "choices": list(migration.STEPS)},
            "point": {"type": "str", "choices": list(POINTS)},
        }

    def work(self, arguments: dict[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
        self._strategy: str = arguments["strategy"]
        self._step = str(arguments["step"] or "")
        self._point = str(arguments["point"] or "")
        self._vars = dict(variables)
        if self._vars.get("rollout_blue"):
            self._strategy = WITH_SLOTS.get(self._strategy, self._strategy)
        self._check = bool(self._task.check_mode)
        self._remote = Remote(self._vars, self._task, self._play_context, self._templar)
        _end_with_parent()
        result = _PHASES[arguments["name"]](self)
        if result["msg"] and not result.get("failed"):
            # One plain line per phase, with or without a callback plugin that shows results.
            self._display.display(result["msg"])
        return result

    # -- the whole of it, as far as no tasks of the user's are needed ------------

    def _roll_out(self) -> dict[str, Any]:
        """Preflight, and with a ready method every batch after it, over the same lasting connections."""
        variables = self._own_variables()
        with Remote(self._vars, self._task, self._play_context, self._templar, lasting=True) as remote:
            asked = self._order(variables)
            if asked:
                return asked
            try:
                record, settings, source = self._planned(variables, remote)
            except RolloutError as error:
                return self._refused(variables, error)
            record.save()
            plan = {
                "path": record.path,
                "kept": _keep(record, {"settings": variables, "source": source}),
                "refused": "",
                "method": settings.method,
                "batches": len(record.batches),
                "upgrade": record.upgrade,
                "slots": bool(record.slots and record.batches),
                "migrate": migrating.rows(settings, record),
                "canary": bool(record.canary),
                "hooks": list(record.hooks),
                "hooked": hooks.in_batches(record.hooks),
                **self._as_hosts(record, FORWARD),
            }
            waits = settings.ready_method and (BEFORE_ROLLOUT in record.hooks or bool(plan["hooked"]))
            plan["later"] = bool(waits and record.batches)
            summary = foresight.text(record.plan) if record.plan else preflight.summary(record)
            first = migrating.to_run_before(settings, record)
            if first or waits or not settings.ready_method or not record.batches:
                words = f"\n  first, on {record.migrate_on}: {', '.join(first)}" if first else ""
                if not first and not record.batches:
                    plan["end"] = self._end_of(settings, remote, record, plan)
                return {"changed": bool(record.slots.get("repaired")), "msg": summary + words, "plan": plan}
            self._display.display(summary)
            with record.at_work():
                changed = self._roll(settings, remote, record, source)
                plan["end"] = self._end_of(settings, remote, record, plan)
        return self._rolled(record, changed, plan)

    def _roll_on(self) -> dict[str, Any]:
        """Every batch of a ready method, where steps of a data migration or a hook came before.

        With hooks between the phases only the release is brought to the members, and a play runs the batches.
        """
        record, settings = self._open()
        plan = self._facts()
        if not settings.ready_method or not record.batches or record.rolled or record.stop is not None:
            return {"msg": ""}
        with self._lasting(GRACE_SECONDS) as remote, record.at_work():
            if plan["hooked"]:
                changed = stage(
                    settings, remote, record, str(_kept(plan)["source"]), self._check, self._display.display
                )
                record.rolled = True
                record.save()
                return self._rolled(record, bool(changed), plan)
            changed = self._roll(settings, remote, record, str(_kept(plan)["source"]))
        return self._rolled(record, changed, plan)

    @staticmethod
    def _rolled(record: Record, changed: bool, plan: dict[str, Any]) -> dict[str, Any]:
        if record.stop is None:
            return {"changed": changed, "msg": "", "plan": plan}  # each phase has said what it did
        return {
            "changed": changed,
            "failed": True,
            "msg": record.stop.message,
            "code": record.stop.code,
            "plan": plan,
        }

    def _order(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """A run that judges a canary is told what is wanted of it; empty where there is none, and this one does it."""
        orders = {PROMOTE: "promote", ROLLBACK: "rollback"}
        if self._strategy not in orders:
            return {}
        try:
            changed, said = looking.order(
                *self._beside(variables), orders[self._strategy], owner(self._vars, os.getppid()), self._check
            )
        except RolloutError:
            return {}  # what is wrong is said by the look at the whole fleet
        if not said:
            return {}
        plan = {"path": "", "asked": said, "refused": "", "method": "", "batches": 0, "hosts": [], "serial": [1]}
        return {"changed": changed, "msg": "", "plan": plan}

    def _beside(self, variables: Mapping[str, Any]) -> tuple[Settings, list[str], Remote]:
        """Who looks at a service from beside: the settings, the balancers' hosts, and the way to them."""
        names = {PREFIX + each.name for each in fields(Overview)}
        settings = Overview.from_vars({name: value for name, value in variables.items() if name in names})
        machines = {host for layer in settings.layers for host in hosts_of(layer.balancers, self._loader, self._vars)}
        return settings, sorted(machines), self._remote

    def _begin(self, settings: Settings, remote: Remote, record: Record, again: Callable[[str], Record]) -> Record:
        """Have the lease, and the plan in every ledger; the plan is made anew where somebody else had the lease meanwhile."""
        playbook, keeper = os.getppid(), 0
        record.save()
        if record.batches or migrating.rows(settings, record):
            keeper = self._start_keeper(settings, record.path)
        process = name_processes([playbook, os.getpid(), *([keeper] if keeper else [])])
        lease: LeaseRecord | None = None
        try:
            lease, waited, lacking = lease_of.take(
                settings, remote, record, owner(self._vars, playbook), process, self._display.display
            )
            if waited or (record.unended and settings.steps):
                record, path = again(record.rollout_id), record.path
                record.path = path
            record.lease, record.keeper = lease, keeper
            record.notes.extend(note for note in lacking if note not in record.notes)
            canary_of.take_up(record)
            if record.canary and self._strategy == PROMOTE:
                record.canary["order"] = {"order": "promote", "by": lease.request["owner"]}
            lease_of.begin(Fleet(settings, remote, record, self._check))
            record.save()
            if isinstance(settings, BlueGreen):
                Flip(settings, remote, record, self._check, self._display.display).repair()
            if record.batches:
                start_witness(settings, record, playbook)
        except BaseException:
            record.lease = lease
            lease_of.give_back(Fleet(settings, remote, record, self._check))
            if keeper:
                _keeper.end(keeper)
            raise
        return record

    def _start_keeper(self, settings: Settings, path: str) -> int:
        """Have somebody renew the lease, and put members back if this playbook ends too early."""

        def act(why: str) -> str:
            _keeper.quiet(self._display)
            record = Record.load(path)
            with record.at_work():
                record = Record.load(path)
                with self._lasting(2.0) as remote:
                    cancel.cancel(settings, remote, record, why)
                    return _close(settings, remote, record)[0]

        def open_remote(grace: float) -> Remote:
            _keeper.quiet(self._display)
            return self._lasting(grace)

        renew, look_out = lease_of.Renewal(path, open_remote), Lookout(path, open_remote)

        def meanwhile() -> None:
            renew()
            look_out()

        return _keeper.start(os.getppid(), act, meanwhile)

    def _lasting(self, grace: float) -> Remote:
        return Remote(self._vars, self._task, self._play_context, self._templar, lasting=True, grace=grace)

    def _roll(self, settings: Settings, remote: Remote, record: Record, source: str) -> bool:
        record.rolled = True
        try:
            changed = roll(settings, remote, record, source, self._check, self._display.display)
            record.counted = ending.balancer_counts(settings, record, remote)
        except Exception as error:  # whatever it is, the report must say where every member stands
            self._display.vvv(traceback.format_exc())
            record.halt("roll", RolloutError(f"unexpected: {type(error).__name__}: {error}"), [])
            changed = True
        record.save()
        return changed

    def _own_variables(self) -> dict[str, Any]:
        return {name: self._templar.template(value) for name, value in self._vars.items() if name.startswith(PREFIX)}

    def _refused(self, variables: Mapping[str, Any], error: RolloutError) -> dict[str, Any]:
        record = self._refusal(variables, error)
        plan = {"path": record.path, "refused": str(error), "method": "", "batches": 0, "hosts": [], "serial": [1]}
        return {"msg": preflight.refused(error), "code": error.code, "plan": plan}

    def _planned(
        self, variables: Mapping[str, Any], remote: Remote, ahead_only: bool = False
    ) -> tuple[Record, Settings, str]:
        """The rollout, and what a ready method installs from; that is read, and its checksum taken, once."""
        settings = STRATEGIES[self._strategy].from_vars(variables)
        check_witness(settings)
        upgrade = source = ""
        if isinstance(settings, Maintenance):
            upgrade = self._find_tasks(settings.tasks, "rollout_tasks")
        elif settings.method == "tasks":
            upgrade = self._find_tasks(settings.upgrade_tasks, "rollout_upgrade_tasks")
        elif settings.method == "role":
            upgrade = find_role(settings.upgrade_role, self._folders(), C.DEFAULT_ROLES_PATH)
        else:
            source = method_of(settings).source(settings, self._folders())

        def look(rollout_id: str = "") -> Record:
            if isinstance(settings, BlueGreen):
                found = plan_slots(
                    settings,
                    {slot: hosts_of(settings.hosts_in(slot), self._loader, self._vars) for slot in SLOTS},
                    hosts_of(settings.balancers, self._loader, self._vars),
                    self._vars["hostvars"],
                    remote,
                    upgrade,
                    self._check,
                    rollout_id,
                )
            else:
                found = preflight.preflight(
                    settings,
                    hosts_of(settings.hosts, self._loader, self._vars),
                    [hosts_of(layer.balancers, self._loader, self._vars) for layer in settings.layers],
                    self._vars["hostvars"],
                    remote,
                    upgrade,
                    self._check,
                    rollout_id,
                )
            ahead.check_plan(settings, found)
            return found

        tasks = self._step_tasks(settings)
        found_hooks = hooks.find(settings, self._strategy, self._find_tasks, has_collection)
        # The hosts take longer to answer than this does; it has to be over before anything forks.
        making = threading.Thread(target=switch.program)
        making.start()
        try:
            record = look()
        finally:
            making.join()
        preflight.make_folder(settings, record)
        if ahead_only or self._check:
            if not isinstance(settings, BlueGreen):
                record.plan = ahead.look_ahead(_settled(settings, record), remote, record)
        elif record.batches or record.unended or migrating.rows(settings, record):
            record = self._begin(settings, remote, record, look)
        record.step_tasks = tasks
        if not self._check and (record.batches or migrating.rows(settings, record)):
            record.hooks, record.hooks_may_fail = found_hooks, list(settings.hooks_may_fail)
        return record, _settled(settings, record), source

    def _step_tasks(self, settings: Settings) -> dict[str, str]:
        """The tasks files of a migration's steps, found before anything is touched."""
        given = {step: getattr(settings, step).tasks for step in settings.steps}
        if isinstance(settings, BlueGreen):
            given.update(
                preview_tasks=settings.preview_tasks, retire="" if settings.retire in (KEEP, STOP) else settings.retire
            )
        return {step: self._find_tasks(name, f"rollout_{step}") for step, name in given.items() if name}

    def _find_tasks(self, name: str, setting: str) -> str:
        return find_tasks(name, self._folders(), setting)

    def _refusal(self, variables: Mapping[str, Any], error: RolloutError) -> Record:
        """What is left of a rollout that never began, so that the report can tell."""
        record = Record.refused(variables, error, self._strategy)
        try:
            preflight.make_folder_in(str(variables.get("rollout_report_dir") or "rollout-reports"), record)
            record.save()
        except (RolloutError, OSError):
            record.path = ""
        return record

    def _folders(self) -> list[str]:
        """Where a user's relative path may be meant from: here, the inventory, the playbook."""
        # The implicit localhost has no inventory of its own; any other host has.
        hosts = [self._vars["hostvars"][name] for name in self._vars["groups"]["all"][:1]]
        inventories = [variables.get("inventory_dir") for variables in [self._vars, *hosts]]
        folders = [os.getcwd(), *inventories, self._vars.get("playbook_dir")]
        return list(dict.fromkeys(str(folder) for folder in folders if folder))

    def _as_hosts(self, record: Record, direction: str) -> dict[str, Any]:
        """The batches as rows for ``add_host``, and the play's ``serial``.

        Each batch is its coordinator, then its members, for the user's own
        tasks; with a ready method there is nothing for a play to do.
        """
        if record.method not in ("tasks", "role") and not hooks.in_batches(record.hooks):
            return {"hosts": [], "serial": [1]}
        batches = record.batches if direction == FORWARD else record.back_batches
        rows: list[dict[str, Any]] = []
        serial = []
        for number, batch in enumerate(batches, 1):
            name = name_of(direction, number, batches)
            rows.append({"name": name, "coordinator": True, "release": "", "previous": ""})
            for host in batch:
                member = record.members[host]
                releases = [record.to_version or member.release_before, member.release_before]
                release, previous = releases if direction == FORWARD else reversed(releases)
                rows.append({"name": host, "coordinator": False, "release": release, "previous": previous})
            serial.append(1 + len(batch))
        return {"hosts": rows, "serial": serial or [1]}

    # -- a batch ----------------------------------------------------------------

    def _batch_phase(self, run: Any) -> dict[str, Any]:
        record, settings = self._open()
        coordinator = str(self._vars["ansible_play_batch"][0])
        direction, number = coordinator.split(" ")[:2]
        batches = record.batches if direction == FORWARD else record.back_batches
        batch = Batch(tuple(batches[int(number) - 1]), back=direction == BACK)
        phases = phases_of(settings, self._remote, record, batch, self._check)
        with record.at_work():
            outcome: Outcome = run_phase(phases, run)
        result: dict[str, Any] = {
            "changed": outcome.changed,
            "msg": f"{coordinator}: {outcome.message}" if outcome.message else "",
            "members": [member.host for member in phases.members("drained", *(["failed"] if batch.back else []))],
            "stopped": (record.stop is not None or bool(record.canary.get("end"))) and not batch.back,
        }
        if outcome.error is not None:
            result.update(failed=True, code=outcome.error.code)
        return result

    def _judge(self) -> dict[str, Any]:
        """Where there is a canary: the steps that are to be judged before this batch."""
        number = int(str(self._vars["ansible_play_batch"][0]).split(" ")[1])
        return self._batch_phase(lambda phases: bake.judge(phases, number - 1, self._display.display))

    def _drain(self) -> dict[str, Any]:
        return self._batch_phase(DRAIN)

    def _upgrade(self) -> dict[str, Any]:
        """Of a ready method whose phases have hooks between them."""
        return self._batch_phase(UPGRADE)

    def _drained(self) -> dict[str, Any]:
        """Who is to be upgraded, after the hooks."""
        return self._batch_phase(lambda _phases: Outcome(""))

    def _upgraded(self) -> dict[str, Any]:
        coordinator = self._vars["ansible_play_batch"][0]
        hostvars = self._vars["hostvars"]
        failures = {}
        for host in self._vars["ansible_play_batch"][1:]:
            failure = hostvars[host].get("__rollout_failure") or {}
            if failure.get("batch") == coordinator:
                failures[host] = str(failure.get("msg"))
        alive = list(self._vars["ansible_play_hosts"])
        return self._batch_phase(lambda phases: phases.users_upgrade_ended(alive, failures))

    def _gate(self) -> dict[str, Any]:
        return self._batch_phase(GATE)

    def _put_back(self) -> dict[str, Any]:
        return self._batch_phase(PUT_BACK)

    def _plan(self) -> dict[str, Any]:
        with Remote(self._vars, self._task, self._play_context, self._templar, lasting=True) as remote:
            record, _settings, _source = self._planned(self._own_variables(), remote, ahead_only=True)
        path = ahead.write_plan(record, record.plan)
        stats = {"rollout_plan_hash": record.plan["hash"], "rollout_plan": path}
        return {
            "msg": f"{foresight.text(record.plan)}\nPlan: {path}",
            "hash": record.plan["hash"],
            "plan": record.plan,
            "ansible_stats": {"data": stats, "per_host": False, "aggregate": True},
        }

    # -- hooks ------------------------------------------------------------------

    def _hook(self) -> dict[str, Any]:
        """What the user's own tasks at a point are told, and which they are."""
        record, _settings = self._open()
        batch, hosts = self._batch_in_hand(record)
        begins = self._point in ("before_verdict", "before_drain") and not batch.startswith(BACK)
        over = begins and (record.stop is not None or bool(record.canary.get("end")))
        return {
            "msg": "",
            "hooks": [] if over else record.hooks.get(self._point, []),
            "facts": hooks.facts(record, self._point, batch, hosts),
            "since": record.now(),
        }

    def _hooked(self) -> dict[str, Any]:
        """What became of them, and what follows."""
        record, settings = self._open()
        failure = self._vars.get("__rollout_hook_failure") or {}
        asked = self._vars.get("__rollout_hook") or {}
        said = str(failure["msg"]) if failure.get("since") == asked.get("since", 0) and failure else ""
        batch, hosts = self._batch_in_hand(record)
        phases = None
        if hosts:
            part = Batch(tuple(hosts), back=batch.startswith(BACK))
            phases = phases_of(settings, self._remote, record, part, self._check)
        with record.at_work():
            message, error = hooks.ended(record, self._point, said, phases)
            record.save()
        return {"msg": message} if error is None else {"msg": str(error), "failed": True, "code": error.code}

    def _batch_in_hand(self, record: Record) -> tuple[str, list[str]]:
        """Which batch the play works on, and its members; nothing outside of one."""
        name = str(self._vars["ansible_play_batch"][0])
        direction, _space, number = name.partition(" ")
        batches = {FORWARD: record.batches, BACK: record.back_batches}.get(direction)
        if not batches or " of " not in number:
            return "", []
        return name, list(batches[int(number.split(" ")[0]) - 1])

    # -- the steps of a data migration ------------------------------------------

    def _begin_step(self) -> dict[str, Any]:
        """Whether a step runs now, where, and what; every ledger knows before it begins."""
        record, settings = self._open()
        with record.at_work():
            fleet = Fleet(settings, self._remote, record, self._check)
            begun = migrating.begin(fleet, self._step, list(self._vars["ansible_play_hosts"]))
            record.save()
        found = migrating.migration_of(record)
        result: dict[str, Any] = {
            "changed": begun.run,
            "msg": begun.message,
            "run": begun.run,
            "host": migrating.runs_on(record),
            "tasks": record.step_tasks.get(self._step, ""),
            "command": list(begun.work.command),
            "release": found.to_versions[-1] if found else "",
            "previous": (found.from_version if found else None) or "",
            "since": record.now(),
            "timeout": settings.step_timeout,
        }
        if begun.error is not None:
            result.update(failed=True, code=begun.error.code)
        return result

    def _end_step(self) -> dict[str, Any]:
        """Keep what became of the step that was begun just before."""
        begun = self._vars.get("__rollout_step_begun") or {}
        if not begun.get("run"):
            return {"msg": ""}
        record, settings = self._open()
        said = self._vars["hostvars"][migrating.runs_on(record)].get("__rollout_step_result") or {}
        result = said if said.get("step") == self._step and said.get("since") == begun["since"] else {}
        with record.at_work():
            fleet = Fleet(settings, self._remote, record, self._check)
            message, error = migrating.end(fleet, self._step, result, float(begun["since"]))
            record.save()
        return {"msg": message} if error is None else {"msg": message, "failed": True, "code": error.code}

    # -- beside -----------------------------------------------------------------

    def _status(self) -> dict[str, Any]:
        variables = self._own_variables()
        if variables.get("rollout_blue"):
            return self._status_of_slots(SlotOverview.from_vars(variables), variables)
        settings = Overview.from_vars(variables)
        layers = [hosts_of(layer.balancers, self._loader, self._vars) for layer in settings.layers]
        hosts = hosts_of(settings.hosts, self._loader, self._vars)
        data = looking.status(settings, hosts, layers, self._vars["hostvars"], self._remote)
        if settings.status_file:
            looking.write(data, settings.status_file)
        stats = {"rollout_status": data}
        return {
            "msg": overview.text(data),
            "status": data,
            "ansible_stats": {"data": stats, "per_host": False, "aggregate": True},
        }

    def _status_of_slots(self, slots: SlotOverview, variables: Mapping[str, Any]) -> dict[str, Any]:
        balancers = hosts_of(slots.balancers, self._loader, self._vars)
        found = {}
        for slot in SLOTS:
            own = {**variables, "rollout_hosts": slots.hosts_in(slot), "rollout_pool": slots.pool_in(slot)}
            settings = Overview.from_vars({name: value for name, value in own.items() if name != "rollout_pools"})
            hosts = hosts_of(settings.hosts, self._loader, self._vars)
            found[slot] = looking.status(settings, hosts, [balancers], self._vars["hostvars"], self._remote)
        data = looking.with_slots(slots, found, balancers, self._remote)
        if slots.status_file:
            looking.write(data, slots.status_file)
        return {
            "msg": data.pop("text"),
            "status": data,
            "ansible_stats": {"data": {"rollout_status": data}, "per_host": False, "aggregate": True},
        }

    def _stop(self) -> dict[str, Any]:
        variables = self._own_variables()
        if variables.get("rollout_blue"):
            variables.setdefault("rollout_hosts", variables["rollout_blue"])
            variables.setdefault("rollout_pool", variables.get("rollout_service"))
        settings = Overview.from_vars(variables)
        machines = {host for layer in settings.layers for host in hosts_of(layer.balancers, self._loader, self._vars)}
        by = owner(self._vars, os.getppid())
        changed, message = looking.ask_to_stop(settings, sorted(machines), self._remote, by, self._check)
        return {"changed": changed, "msg": message}

    # -- after ------------------------------------------------------------------

    def _preview(self) -> dict[str, Any]:
        """Whether tasks of the user's are to look at the idle slot now, before the flip."""
        nothing: dict[str, Any] = {"msg": "", "run": False}
        if not self._facts().get("path"):
            return nothing
        record, settings = self._open()
        if not isinstance(settings, BlueGreen) or not record.step_tasks.get("preview_tasks") or self._check:
            return nothing
        if record.stop is not None or any(each.state != "finished" for each in record.members.values()):
            return nothing
        return {
            "msg": "",
            "run": True,
            "tasks": record.step_tasks["preview_tasks"],
            "slot": record.slots["idle"],
            "release": record.to_version,
            "previous": record.from_version or "",
        }

    def _flip(self) -> dict[str, Any]:
        """Preview, flip and what follows, once the idle slot is ready; nothing where there is nothing to flip."""
        if not self._facts().get("path"):
            return {"msg": ""}
        record, settings = self._open()
        if not isinstance(settings, BlueGreen):
            return {"msg": ""}
        if record.stop is not None:
            return {"msg": ""}
        with record.at_work(), self._lasting(60.0) as remote:
            flip = Flip(settings, remote, record, self._check, self._display.display)
            flip.previewed = self._vars.get("__rollout_previewed") or {}
            try:
                changed = flip.run()
            except Exception as error:  # whatever it is, the report must say which slot is live
                self._display.vvv(traceback.format_exc())
                record.halt("flip", RolloutError(f"unexpected: {type(error).__name__}: {error}"), [])
                changed = True
            record.save()
        retiring = record.slots.get("retiring", [])
        row = {"coordinator": False, "release": record.from_version or "", "previous": ""}
        result: dict[str, Any] = {
            "changed": changed,
            "msg": "",
            "retire": [{**row, "name": host} for host in retiring],
            "retire_tasks": record.step_tasks.get("retire", ""),
        }
        if record.stop is not None:
            result.update(failed=True, code=record.stop.code, msg=record.stop.message)
        return result

    def _note_retired(self, record: Record) -> None:
        """What the user's own tasks have made of the old slot."""
        hosts = record.slots.get("retiring", [])
        said = {host: self._vars["hostvars"][host].get("__rollout_retired") for host in hosts}
        bad = [
            f"{host}: {words}" if words else f"{host}: they did not end"
            for host, words in said.items()
            if words != "ok"
        ]
        if bad:
            record.notes.append(f"the tasks that retire {record.slots['live']} failed: {'; '.join(bad)}")
        elif hosts:
            record.event("retire", hosts, record.now(), f"{', '.join(hosts)} retired by your tasks")

    def _decide_back(self) -> dict[str, Any]:
        record, settings = self._open()
        if record.batches:
            batch = Batch(tuple(record.batches[-1]), back=False)
            with record.at_work():
                watch(phases_of(settings, self._remote, record, batch, self._check), self._display.display)
        message = ending.decide_back(settings, record)
        record.save()
        facts = {**self._facts(), **self._as_hosts(record, BACK)}
        return {"msg": message, "plan": facts}

    def _report(self) -> dict[str, Any]:
        facts = self._facts()
        if facts.get("asked"):
            return {"msg": facts["asked"], "outcome": "asked", "sentence": facts["asked"]}
        if not facts.get("path"):
            message = facts.get("refused", "the rollout never began")
            return {"msg": message, "outcome": "refused", "sentence": message}
        if facts.get("end"):
            return dict(facts["end"])
        record = Record.load(facts["path"])
        settings = _settings_of(record, facts) if "kept" in facts else None
        self._note_retired(record)
        return self._ended(settings, self._remote, record)

    def _end_of(self, settings: Settings, remote: Remote, record: Record, plan: Mapping[str, Any]) -> dict[str, Any]:
        """End it over the connections that are open, for the report to say; empty where more comes before the report."""
        if plan["migrate"] or plan["slots"]:
            return {}
        try:
            return self._ended(settings, remote, record)
        except Exception:  # whatever it is, the report tries again
            self._display.vvv(traceback.format_exc())
            return {}

    def _ended(self, settings: Settings | None, remote: Remote, record: Record) -> dict[str, Any]:
        """The report is written, every ledger knows how it ended, and nothing of the run is left."""
        if settings is None or (record.stop is not None and record.stop.phase == "preflight"):
            end_witness(record)
            data = ending.refusal_report(record)
            if settings is not None and record.lease is not None:
                ending.tell_ledgers(Fleet(settings, remote, record, self._check), data)
            message, data, path = _written(record, data)
        else:
            Fleet(settings, remote, record, self._check).revive()
            message, data, path = _close(settings, remote, record)
        if record.keeper:
            _keeper.end(record.keeper)
        stats = {f"rollout_{name}": data[name] for name in ending.STATS}
        stats["rollout_report"] = path
        return {
            "msg": message,
            "outcome": data["outcome"],
            "sentence": data["sentence"],
            "report": path,
            "ansible_stats": {"data": stats, "per_host": False, "aggregate": True},
        }

    def _facts(self) -> dict[str, Any]:
        """What preflight left for all later steps, whichever host they run for; empty when it did not end."""
        return dict(self._vars["hostvars"]["localhost"].get("__rollout_begun", {}).get("plan", {}))

    def _open(self) -> tuple[Record, Settings]:
        facts = self._facts()
        record = Record.load(facts["path"])
        return record, _settings_of(record, facts)


def _keep(record: Record, what: Mapping[str, Any]) -> str:
    """Put the settings where later steps find them: a file that only this user can read, and that goes with the playbook.

    A task's result is shown with -v and kept by AWX, and settings may hold secrets.
    """
    path = Path(C.DEFAULT_LOCAL_TMP) / f"{record.rollout_id}.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps(what, default=str), encoding="utf-8")
    return str(path)


def _kept(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What ``_keep`` kept: ``settings``, and the ``source`` that a ready method installs from."""
    kept: dict[str, Any] = json.loads(Path(facts["kept"]).read_text(encoding="utf-8"))
    return kept


def _settings_of(record: Record, facts: Mapping[str, Any]) -> Settings:
    return _settled(STRATEGIES[record.strategy].from_vars(_kept(facts)["settings"]), record)


def _settled(settings: Settings, record: Record) -> Settings:
    """With the release and the slot that preflight has found, where the settings do not name them."""
    if isinstance(settings, FlipBack):
        settings = settings.to(record.to_version)
    if isinstance(settings, BlueGreen) and record.slots:
        if isinstance(settings, SlotContract):
            settings = settings.to(record.to_version)
        return settings.for_slot(record.slots["idle"])
    return settings.to(record.to_version) if isinstance(settings, (Contract, Promotion, Rollback)) else settings


def _close(settings: Settings, remote: Remote, record: Record) -> tuple[str, dict[str, Any], str]:
    """The report of a rollout that has come to its end: what the user is told, the report, and where it is."""
    data = ending.report(settings, record, remote, end_witness(record))
    if record.lease is not None:
        ending.tell_ledgers(Fleet(settings, remote, record, record.check), data)
    return _written(record, data)


def _written(record: Record, data: dict[str, Any]) -> tuple[str, dict[str, Any], str]:
    path = ending.write_report(record, data)
    return f"{data['sentence']}\nReport: {path}", data, path


def _end_with_parent() -> None:
    """End when the playbook is gone: its tasks outlive it otherwise, and would go on with the fleet."""
    playbook = os.getppid()

    def watch() -> None:
        while os.getppid() == playbook:
            time.sleep(_PAUSE)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


_PHASES = {
    "roll_out": ActionModule._roll_out,
    "roll_on": ActionModule._roll_on,
    "begin_step": ActionModule._begin_step,
    "end_step": ActionModule._end_step,
    "judge": ActionModule._judge,
    "drain": ActionModule._drain,
    "drained": ActionModule._drained,
    "upgrade": ActionModule._upgrade,
    "upgraded": ActionModule._upgraded,
    "gate": ActionModule._gate,
    "put_back": ActionModule._put_back,
    "hook": ActionModule._hook,
    "hooked": ActionModule._hooked,
    "preview": ActionModule._preview,
    "flip": ActionModule._flip,
    "decide_back": ActionModule._decide_back,
    "report": ActionModule._report,
    "plan": ActionModule._plan,
    "status": ActionModule._status,
    "stop": ActionModule._stop,
}
