# Copyright (c) 2026, zerodrop.rollout contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A data migration: which steps a run may do, what it must refuse, and that nothing is done twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.zerodrop.rollout.plugins.module_utils._errors import BadInput, Refused
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._rollout.migration import (
    BEFORE,
    DONE,
    FAILED,
    RUNNING,
    STEPS,
    Migration,
    Step,
    Wish,
    after,
    before,
    closed,
    forbids_way_back,
    left,
    read,
    refuse_too_early,
    settled,
    taken_up,
)
from ansible_collections.zerodrop.rollout.plugins.plugin_utils._work import Work

ALL = frozenset(STEPS)


def wish(**changes: Any) -> Wish:
    default = Wish("run2", "2.0", "2.0", "1.0", False, False, ALL, frozenset({"1.0"}), True)
    return replace(default, **changes)


def migration(**states: str) -> Migration:
    steps = {name: Step(state, "run1", "db1") for name, state in states.items()}
    return Migration("2.0", "1.0", ("2.0",), 7, steps, contract=True)


def test_a_first_rollout_begins_with_the_expand() -> None:
    found = taken_up(None, wish())
    assert found is not None
    assert (found.name, found.from_version, found.to_versions, found.contract) == ("2.0", "1.0", ("2.0",), True)
    assert before(found, ALL, "2.0") == ["expand", "compat"]


def test_what_is_done_is_not_done_again_by_another_run() -> None:
    found = taken_up(migration(expand=DONE), wish(members=frozenset({"1.0", "2.0"})))
    assert found is not None
    assert before(found, ALL, "2.0") == ["compat"]
    found = taken_up(migration(expand=DONE, compat=DONE), wish())
    assert found is not None
    assert before(found, ALL, "2.0") == []


@pytest.mark.parametrize("step", [each for each in STEPS if each != "compat"])
@pytest.mark.parametrize("changes", [{}, {"back": True, "version": "1.0"}, {"version": "3.0", "name": "3.0"}])
def test_a_step_of_unknown_end_refuses_every_run(step: str, changes: dict[str, Any]) -> None:
    with pytest.raises(Refused, match=f"The {step} of the migration 2.0 was running on db1"):
        taken_up(migration(**{"expand": DONE, step: RUNNING}), wish(**changes))


def test_a_check_of_unknown_end_is_only_run_again() -> None:
    found = taken_up(migration(expand=DONE, compat=RUNNING), wish())
    assert found is not None
    assert before(found, ALL, "2.0") == ["compat"]


def test_the_operators_word_settles_it() -> None:
    unknown = migration(expand=RUNNING)
    ran = taken_up(unknown, wish(settle=("expand", "ran")))
    assert ran is not None
    assert ran.state("expand") == DONE
    again = taken_up(unknown, wish(settle=("expand", "not run")))
    assert again is not None
    assert before(again, ALL, "2.0") == ["expand", "compat"]


@pytest.mark.parametrize(("state", "what"), [({"expand": DONE}, "ran"), ({"expand": DONE}, "not run"), ({}, "not run")])
def test_a_word_about_what_is_known_is_refused(state: dict[str, str], what: str) -> None:
    with pytest.raises(BadInput, match="rollout_settle says"):
        settled(migration(**state), ("expand", what), "run2")


@pytest.mark.parametrize("state", [DONE, FAILED])
def test_no_way_back_over_a_contract_that_has_begun(state: str) -> None:
    found = migration(expand=DONE).mark("contract", Step(state, "run2"))
    for changes in ({"back": True, "version": "1.0"}, {"version": "1.0", "name": "1.0"}):
        with pytest.raises(Refused, match=r"1\.0 cannot serve any more"):
            taken_up(found, wish(**changes))
    assert forbids_way_back(found, "1.0")
    assert not forbids_way_back(found, "2.0")
    assert not forbids_way_back(migration(expand=DONE), "1.0")
    assert after(found, ALL, "1.0") == []


def test_a_contract_that_did_not_run_leaves_the_way_back_open() -> None:
    found = migration(expand=DONE).mark("contract", Step(RUNNING, "run1"))
    back = taken_up(found, wish(back=True, version="1.0", settle=("contract", "not run")))
    assert back is not None
    assert not back.contracted
    with pytest.raises(Refused, match=r"1\.0 cannot serve any more"):
        taken_up(found, wish(back=True, version="1.0", settle=("contract", "ran")))


def test_what_a_contract_made_impossible_stays_so_in_the_next_migration() -> None:
    contracted = migration(expand=DONE).mark("contract", Step(DONE, "run1"))
    found = taken_up(contracted, wish(name="3.0", version="3.0", from_version="2.0", members=frozenset({"2.0"})))
    assert found is not None
    assert found.steps == {}
    with pytest.raises(Refused, match=r"1\.0 cannot serve any more"):
        taken_up(found, wish(name="1.0", version="1.0"))


def test_an_open_contract_forbids_another_migration_but_not_a_correction() -> None:
    with pytest.raises(Refused, match=r"rollout_migration=2\.0"):
        taken_up(migration(expand=DONE, compat=DONE), wish(name="3.0", version="3.0"))
    found = taken_up(migration(expand=DONE, compat=DONE), wish(version="2.0.1", from_version="2.0"))
    assert found is not None
    assert (found.to_versions, found.from_version) == (("2.0", "2.0.1"), "1.0")
    assert before(found, ALL, "2.0.1") == []
    back, _finished = closed(migration(expand=DONE), "rolled_back", "2.0")
    other = taken_up(back, wish(name="3.0", version="3.0"))
    assert other is not None
    assert other.name == "3.0"


def test_the_way_back_takes_the_expand_back_and_makes_it_due_again() -> None:
    found = migration(expand=DONE, compat=DONE)
    assert after(found, ALL, "1.0") == ["sync_back", "expand_undo"]
    undone = found.mark("sync_back", Step(DONE, "r")).mark("expand_undo", Step(DONE, "r"))
    again = taken_up(undone, wish())
    assert again is not None
    assert before(again, ALL, "2.0") == ["expand", "compat"]
    assert after(migration(expand=FAILED), ALL, "1.0") == []


def test_members_on_the_new_version_without_an_expand_are_refused() -> None:
    with pytest.raises(Refused, match="has not run"):
        taken_up(None, wish(members=frozenset({"1.0", "2.0"})))
    found = taken_up(None, wish(members=frozenset({"1.0", "2.0"}), settle=("expand", "ran")))
    assert found is not None
    assert found.state("expand") == DONE


def test_when_a_contract_is_due() -> None:
    found = replace(migration(expand=DONE), age=100.0)
    assert left(found, 3600, False) == 3500
    assert left(found, 60, False) == 0
    assert left(found, 60, True) == 60
    with pytest.raises(Refused, match="3500 s too early"):
        refuse_too_early(found, "2.0", 3600)
    with pytest.raises(Refused, match="It is not known since when"):
        refuse_too_early(replace(found, age=None), "2.0", 3600)
    with pytest.raises(Refused, match=r"The members run 4\.0"):
        refuse_too_early(found, "4.0", 0)
    refuse_too_early(found, "2.0", 99)
    refuse_too_early(migration(contract=DONE), "2.0", 3600)


def test_the_newest_word_counts_and_the_least_age() -> None:
    def told(revision: int, age: float | None, **states: str) -> dict[str, Any]:
        found = replace(migration(**states), revision=revision)
        return {"migration": {"revision": revision, "told": found.to_dict(), "age": age}}

    ledgers = [told(3, 900.0, expand=RUNNING), told(4, 50.0, expand=DONE), told(4, 40.0, expand=DONE), None, {}]
    found = read(ledgers)
    assert found is not None
    assert (found.state("expand"), found.age) == (DONE, 40.0)
    assert read([None, {"migration": None}]) is None
    assert read([told(4, 50.0), told(4, None)]).age is None  # type: ignore[union-attr]


@given(st.lists(st.tuples(st.sampled_from(STEPS), st.sampled_from([RUNNING, DONE, FAILED])), max_size=12))
def test_whatever_happened_a_step_runs_only_when_it_is_not_done(words: list[tuple[str, str]]) -> None:
    found = migration()
    for number, (name, state) in enumerate(words):
        newer = found.mark(name, Step(state, f"run{number}"))
        assert newer.revision > found.revision
        found = newer
    for version in ("1.0", "2.0"):
        due = [*before(found, ALL, version), *after(found, ALL, version)]
        assert all(found.state(name) != DONE for name in due)
        assert not (found.contracted and {"sync_back", "expand_undo"} & set(due))
    assert Migration.from_dict(found.to_dict()) == found
    assert set(BEFORE) <= ALL


@pytest.mark.parametrize(
    ("value", "work"),
    [
        ("expand.yml", Work(tasks="expand.yml")),
        ("/srv/a b/x.yaml", Work(command=("/srv/a", "b/x.yaml"))),
        (["/srv/a b/x.yaml"], Work(tasks="/srv/a b/x.yaml")),
        ("/usr/bin/migrate 'up to' 3", Work(command=("/usr/bin/migrate", "up to", "3"))),
        (["migrate", "; reboot"], Work(command=("migrate", "; reboot"))),
        ('["migrate", "up"]', Work(command=("migrate", "up"))),
        ("", Work()),
    ],
)
def test_work_is_a_tasks_file_or_a_command(value: Any, work: Work) -> None:
    assert Work.parse(value, "rollout_expand") == work
    assert bool(work) is bool(value)


@pytest.mark.parametrize("wrong", ["migrate 'up", "-rf /", ["a", 1], ["a\nb"], "a\nb", "[1", {"a": 1}, 3, [""]])
def test_what_is_neither_is_refused(wrong: Any) -> None:
    with pytest.raises(BadInput, match="rollout_expand"):
        Work.parse(wrong, "rollout_expand")
